"""One site as a live view: links, the round by phase, bars for steps and words, metric, ε, who is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pfl.cli.live.words import bar, joined, left_of, phase_of, plain
from p2pfl.cli.output import amount, duration
from p2pfl.cli.watch import metric_of
from p2pfl.node import progress as events
from p2pfl.node.progress import Moment, Progress

if TYPE_CHECKING:
    from p2pfl.federation import Federation
    from p2pfl.mesh.events import LinkStatus

WAY: Final = 2  # the column that gives way where the terminal is narrow
TRIP: Final = 3
MOST_MISSING: Final = 3  # sites that the last line names
PERCENT: Final = 10_000  # pieces of words above which a bar counts in parts of a hundred


class SiteView:
    """What a running site shows. An observer of its events; `look` is told what its links and its round are now."""

    def __init__(self, federation: Federation, verb: str, now: Callable[[], float] = time.monotonic) -> None:
        self._federation, self._verb, self._now = federation, verb, now
        self._rounds = federation.rounds if verb in ("join", "run") else 0  # one more measures the last model
        self.name = ""
        self._sites = federation.roster.names
        self._links: Mapping[str, LinkStatus] = {}
        self._moment = Moment("", 0, {}, (0, 0))
        self._attempt = 0
        self._step: tuple[int, int] = (0, 0)
        self._metric: tuple[str, float] | None = None
        self._epsilon = ""
        self._final: list[float] = []  # seconds of each round that this process saw
        self._last = 0  # the latest final round
        self._begun = now()

    def look(self, links: Mapping[str, LinkStatus], moment: Moment) -> None:
        """Links and round, at this moment."""
        self._links, self._moment = links, moment

    def __call__(self, event: Progress) -> None:
        """An event of the node."""
        match event:
            case events.PassCharged(epsilon=epsilon) | events.PassRepeated(epsilon=epsilon):
                self._epsilon, self._step = epsilon, (0, 0)
            case events.PassStepped(step=step, steps=steps):
                self._step = (step, steps)
            case events.PassTrained():
                self._step = (0, 0)
            case events.PhaseEntered(attempt=attempt):
                self._attempt = attempt
            case events.EpochBegan(sites=sites):
                self._sites = tuple(sites)
            case events.RoundFinal():
                self._metric = metric_of(event.outcome) or self._metric
                self._epsilon = event.epsilon.get(self.name, "") or self._epsilon
                if not event.taken_up:  # what is left of a round says nothing of the next
                    self._final.append(event.seconds)
                self._last = event.round

    def render(self, now: float, doing: str) -> RenderableType:
        """The view at `now`."""
        return Group(self._head(now), self._phase(doing), self._table(now), self._missing(now))

    def _head(self, now: float) -> Text:
        number, of = self._moment.round, self._rounds
        parts = [plain(self.name or self._federation.name, "bold"), plain(self._verb)]
        if number and number > of > 0:
            parts.append(plain("measuring the last model"))
        elif number:
            parts.append(plain(f"round {number} of {of}" if of else f"round {number}"))
        if self._attempt:
            parts.append(plain(f"attempt {self._attempt}", "yellow"))
        if self._metric is not None:
            parts.append(plain(f"{self._metric[0]} {self._metric[1]:.3f}"))
        if self._epsilon and self._epsilon != "inf":
            parts.append(plain(f"ε {float(self._epsilon):.2f} of {self._federation.privacy.max_epsilon:.2f}"))
        parts.append(plain(duration(now - self._begun), "dim"))
        parts.append(plain(left_of(sum(self._final), len(self._final), len(self._final) + of - self._last), "dim"))
        return joined(parts)

    def _phase(self, doing: str) -> Text:
        moment = self._moment
        if doing or not (self._links or moment.phase):
            return plain(doing or "starting", "cyan")
        came, of = moment.bulk
        scale = 100 if of > PERCENT else of
        counted = {
            "training": bar(*self._step, "steps"),
            "mask": bar(came * scale // max(1, of), scale, "pieces" if scale == of else "%"),
        }
        counted["gather"] = counted["mask"]
        return joined([plain(phase_of(moment.phase), "cyan"), counted.get(moment.phase, Text())])

    def _table(self, now: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for column in range(6):
            right, gives_way = column == TRIP, column == WAY
            table.add_column(justify="right" if right else "left", no_wrap=not gives_way, overflow="ellipsis")
        for peer in self._sites:
            if peer != self.name and self._links:
                table.add_row(*self._row(peer, now))
        return table

    def _row(self, peer: str, now: float) -> list[Text]:
        link = self._links.get(peer)
        if link is None:
            return [plain(peer), plain("not dialled", "dim")]
        if link.path is None:
            seen = "never seen" if link.last_seen is None else f"last seen {duration(now - link.last_seen)} ago"
            why = link.last_error.code if link.last_error else ""
            return [plain(peer), plain("down", "red"), plain(why), Text(), plain(seen), Text()]
        way = link.path.kind if link.path.kind == "direct" else f"{link.path.kind} {link.path.via}"
        trip = "" if link.rtt_s is None else f"{1000 * link.rtt_s:.1f} ms"
        moved = [plain(f"sent {amount(link.bytes_sent)}", "dim"), plain(f"got {amount(link.bytes_received)}", "dim")]
        return [plain(peer), plain("up", "green"), plain(way), plain(trip), *moved]

    def _missing(self, now: float) -> Text:
        missing = self._moment.missing
        if not missing:
            return Text()
        named = [f"{peer} ({what})" for peer, what in list(missing.items())[:MOST_MISSING]]
        more = f" and {len(missing) - MOST_MISSING} more" if len(missing) > MOST_MISSING else ""
        return plain(f"waiting for {', '.join(named)}{more}", "yellow")
