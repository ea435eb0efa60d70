"""What a running peer tells, as lines on stderr: rounds, who is waited for and what to tell them, who broke a rule.

Quiet when all is well: one line a round. The last facts of each kind are kept for the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from p2pfl.cli.output import amount, duration, progress
from p2pfl.cli.reports import SMALL, dense_bytes
from p2pfl.node.progress import Progress
from p2pfl.roster import Roster

AGAIN_S: Final = 30.0  # so often is the same waiting said again
LATELY_S: Final = 10.0  # who was heard of since then is there, and only busy


class Watch:
    """An observer that prints. `command` is what a silent site's person should run."""

    def __init__(
        self,
        roster: Roster,
        rounds: int,
        command: str,
        *,
        max_epsilon: float = 0.0,
        tell: Callable[[str], None] = progress,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster, self._rounds, self._command, self._max_epsilon = roster, rounds, command, max_epsilon
        self._tell, self._now = tell, now
        self._waited: tuple[tuple[str, ...], float] = ((), 0.0)
        self._metric: float | None = None
        self._seen: set[str] = set()
        self._down: dict[str, str] = {}  # link down by peer, why; not told yet
        self._breaches: dict[tuple[str, str, str], float] = {}  # by peer, code and proof: when it was told
        self._ways: dict[str, str] = {}  # by peer: what was said of how its link runs
        self.paths: dict[str, dict[str, str]] = {}  # by peer: `path` and `via` of the latest link
        self.tls: dict[str, str] = {}
        self.rounds: list[dict[str, Any]] = []

    def __call__(self, told: Progress) -> None:
        """Print what `told` says, if it is worth a line."""
        line = getattr(self, f"_{told.kind}", None)
        if line is not None:
            line(told.facts)

    def _listening(self, facts: Mapping[str, Any]) -> None:
        address = facts.get("address")
        self._tell(f"listening at {address}" if address else "no port: this site dials the others")

    def _link_up(self, facts: Mapping[str, Any]) -> None:
        self.tls = {key: str(facts[key]) for key in ("version", "cipher", "group")}
        peer, way = facts["peer"], self._way(facts)
        if peer in self._seen:
            if self._down.pop(peer, None) is None or way != self._ways.get(peer, ""):
                self._tell(f"link to {peer} is back{way}")
        else:
            self._seen.add(peer)
            self._tell(f"link to {peer}: {facts['version']}, {facts['cipher']}, {facts['group']}{way}")
        self._ways[peer] = way
        self.paths[peer] = {key: str(facts.get(key, "")) for key in ("path", "via")}

    def _way(self, facts: Mapping[str, Any]) -> str:
        ways = {"proxy": ", through the proxy", "relay": f", through {facts.get('via')}"}
        return ways.get(facts.get("path", "direct"), "")

    def _link_down(self, facts: Mapping[str, Any]) -> None:
        # Told only when somebody waits: a link that is back at once, or a site that is done, is no news.
        self._down[facts["peer"]] = str(facts["reason"])

    def _refused(self, facts: Mapping[str, Any]) -> None:
        self._tell(f"no link with {facts.get('peer') or 'somebody'}:\n{facts['error'].render()}")

    def _charged(self, facts: Mapping[str, Any]) -> None:
        pass  # the round's line says ε

    def _abandoned(self, facts: Mapping[str, Any]) -> None:
        whom = ", ".join(facts["waited_for"]) or "nobody in particular"
        self._tell(f"round {facts['round']}  attempt {facts['attempt']} abandoned, waiting for {whom}; nothing is lost")

    def _left(self, facts: Mapping[str, Any]) -> None:
        whom = ", ".join(facts["lacking"]) or "nobody in particular"
        spent = "what this site sent is spent, and its sum may still come out" if facts["sent"] else "nothing was sent"
        self._tell(f"round {facts['round']}  attempt {facts['attempt']} left behind, waiting for {whom}; {spent}")

    def _caught_up(self, facts: Mapping[str, Any]) -> None:
        self._tell(f"round {facts['round']}  taken over from {facts['peer']}: finished while this site was away")

    def _change(self, facts: Mapping[str, Any]) -> None:
        steps = [
            *(f"{name} joins" for name in facts["added"]),
            *(f"{name} leaves" for name in facts["removed"]),
            *(f"{name} has another key" for name in facts["rotated"]),
            *([f"{facts['hub']} is the hub"] if facts.get("hub") else []),
        ]
        what = ", ".join(steps) or "other addresses"
        self._tell(f"approved: epoch {facts['epoch']}, not before round {facts['from_round']}: {what}")

    def _epoch(self, facts: Mapping[str, Any]) -> None:
        self._roster = facts["roster"]
        self._tell(f"epoch {facts['epoch']}  {len(self._roster.names)} sites: {', '.join(self._roster.names)}")

    def _breach(self, facts: Mapping[str, Any]) -> None:
        """Once in a while for each peer and kind: a liar does not fill anybody's screen."""
        peer, error, proof = facts["peer"], facts["error"], facts["proof"]
        at = self._breaches.get((peer, error.code, proof))
        if at is not None and self._now() - at < AGAIN_S:
            return
        self._breaches[(peer, error.code, proof)] = self._now()
        shown = f"proof {proof}: p2pfl ledger evidence" if proof else "no proof that others could check"
        line = f"{error.happened.rstrip('.')} ({error.code}: {error.evidence}); {shown}"
        self._tell(" ".join(line.split()))

    def _waiting(self, facts: Mapping[str, Any]) -> None:
        silent: Mapping[str, float | None] = facts.get("silent", {})
        missing: Mapping[str, str] = facts.get("missing", {})
        names = tuple(sorted({*silent, *missing}))
        for peer in [name for name in self._down if name in {*silent, *missing}]:
            self._tell(f"link to {peer} is down: {self._down.pop(peer)}; it is dialled again")
        before, at = self._waited
        if not names or (names == before and self._now() - at < AGAIN_S):
            return
        self._waited = (names, self._now())
        for name in names:
            self._tell(f"waiting for {name}: {self._state(name, silent, missing)}")
        if names == before and None in silent.values():
            self._tell("p2pfl doctor, in another terminal, says what stands in the way")

    def _state(self, name: str, silent: Mapping[str, float | None], missing: Mapping[str, str]) -> str:
        seen = silent.get(name)
        if name not in silent or (seen is not None and seen < LATELY_S):
            return f"{missing.get(name, 'its next message')} has not come yet"
        listed = ", ".join(map(str, self._roster[name].addresses))
        where = f"listed at {listed}" if listed else "it dials, and is listed nowhere"
        if seen is None:
            return f"never seen ({where}); there, run: {self._command}"
        return f"last seen {duration(seen)} ago ({where}); if it stopped, there run again: {self._command}"

    def _round(self, facts: Mapping[str, Any]) -> None:
        self.rounds.append(dict(facts))
        configuration = facts.get("configuration", {})
        purpose = configuration.get("purpose")
        number = int(facts["round"])
        parts = ["last model" if purpose == "evaluation" else "sum" if purpose == "sum" else f"round {number}"]
        parts.append(f"{len(facts['survivors'])} of {len(self._roster.names)} sites")
        parts += self._metric_part(facts.get("outcome", {}), "" if purpose == "evaluation" else " before it")
        spent = [float(text) for text in facts.get("epsilon", {}).values() if text]
        if any(spent):
            parts.append(f"ε {max(spent):.2f} of {self._max_epsilon:.2f}")
        parts.append(self._traffic(facts, configuration.get("parameters", 0) if purpose == "training" else 0))
        parts.append(f"{facts['seconds']:.1f} s")
        self._tell("  ".join(parts))

    def _metric_part(self, outcome: Mapping[str, Any], when: str) -> list[str]:
        """A round measures the model that it began with."""
        metric = metric_of(outcome)
        if metric is None:
            return []
        name, value = metric
        change = "" if self._metric is None else f" ({value - self._metric:+.3f})"
        self._metric = value
        return [f"{name}{when} {value:.3f}{change}"]

    def _traffic(self, facts: Mapping[str, Any], parameters: int) -> str:
        """What was sent; beside it, for a model large enough to compress, what a plain all-reduce of it would send."""
        sent = int(facts.get("bytes_sent", 0))
        if parameters < SMALL:
            return f"sent {amount(sent)}"
        dense = dense_bytes(len(self._roster.names), parameters, 1)
        return f"sent {amount(sent)} (dense {amount(dense)}, {100 * (sent / dense - 1):+.1f} %)"


def metric_of(outcome: Mapping[str, Any]) -> tuple[str, float] | None:
    """The metric of a round's outcome, as (name, value); None where there is none."""
    value = float(outcome.get("auc") or math.nan)
    return ("AUC", value) if math.isfinite(value) else None
