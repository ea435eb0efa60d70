"""`p2pfl demo --kill hungary@3`: one site dies in the middle of a round, and the others go on without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from p2pfl.cli import output
from p2pfl.errors.people import WrongUse

LEAST_SITES: Final = 4  # with three, no round completes while one is away


@dataclass(frozen=True, slots=True)
class Death:
    """Which site is killed, as it trains for which round, and whether it is started again."""

    site: str
    round: int
    returns: bool = True

    @classmethod
    def parse(cls, text: str) -> tuple[str, int]:
        """`SITE@ROUND`, for click."""
        site, at, number = text.rpartition("@")
        if not (at and site and number.isascii() and number.isdigit() and 0 < int(number[:6]) == int(number)):
            raise click.BadParameter(f"{text!r} is not SITE@ROUND, such as hungary@3")
        return site, int(number)

    def check(self, names: Sequence[str], rounds: int) -> None:
        """Raises WrongUse unless the demo has that site, that round, and a quorum without it."""
        if self.site not in names:
            raise WrongUse(evidence=f"--kill {self.site}: the sites are {', '.join(names)}", verb=" demo")
        if len(names) < LEAST_SITES:
            evidence = f"--kill with {len(names)} sites: while one is away no round completes; --peers {LEAST_SITES}"
            raise WrongUse(evidence=evidence, verb=" demo")
        if self.round > rounds:
            raise WrongUse(evidence=f"--kill in round {self.round} of {rounds}", verb=" demo")


class Dying:
    """A death as it happens: told each event of each peer, it kills, and later starts again."""

    def __init__(self, death: Death | None, kill: Callable[[str], None], start: Callable[[str], None]) -> None:
        self._death, self._kill, self._start = death, kill, start
        self.killed = self.started = False

    def heed(self, peer: str, event: Mapping[str, Any]) -> None:
        """An event of a peer."""
        death, kind = self._death, event.get("event")
        if death is None:
            return
        if not self.killed and peer == death.site and kind == "charged" and event.get("round") == death.round:
            self.killed = True
            output.progress(f"  {death.site} is killed as it trains for round {death.round} (kill -9)")
            self._kill(death.site)
        elif self.killed and not self.started and death.returns and peer != death.site and kind == "round":
            if int(event.get("round", 0)) < death.round:
                return
            self.started = True
            output.progress(f"  {death.site} is started again: round {death.round} is final without it")
            self._start(death.site)

    def facts(self) -> dict[str, object] | None:
        """What `--json` says of it."""
        if self._death is None:
            return None
        return {"site": self._death.site, "round": self._death.round, "returned": self.started}
