"""A running peer as lines on stderr: rounds, silent sites and what to tell their people, broken rules.

One line a round when all is well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Final, assert_never

from p2pfl.cli.options import PEERS, is_default
from p2pfl.cli.output import amount, duration, progress
from p2pfl.cli.wording import SMALL, dense_bytes, unmeasured_text
from p2pfl.errors.round import LedgersDiffer, PeersFileDiffers
from p2pfl.node import progress as events
from p2pfl.node.progress import Progress
from p2pfl.report import words
from p2pfl.roster import Roster

AGAIN_S: Final = 30.0  # seconds before the same wait is said again
HELD_OUT_CHANGED: Final = """\
this site's held-out records are not those that the study counted first: the next round ends the metric at all sites.
If the file is the wrong one, stop now (Ctrl-C), and join again with the right one"""
LATELY_S: Final = 10.0  # seconds since the last word within which a site counts as present, and busy


@dataclass(frozen=True, slots=True)
class Here:
    """Which study of which home this process is of, as its own command line said."""

    peers_file: Path = PEERS
    home: Path | None = None

    def command(self, verb: str) -> str:
        """`p2pfl verb` with what it cannot find by itself."""
        study = f" --peers {quote(str(self.peers_file))}" if self.peers_file != PEERS else ""
        default = self.home is None or is_default(self.home)
        return f"p2pfl {verb}{study}" + ("" if default else f" --home {quote(str(self.home))}")


def braced(words: str) -> str:
    """`words` as a part of a command that is formatted once more."""
    return words.replace("{", "{{").replace("}", "}}")


class Watch:
    """An observer that prints. `command` is what a silent site's person should run, {peers} in place of peers.yaml."""

    def __init__(
        self,
        roster: Roster,
        command: str,
        *,
        here: Here | None = None,
        max_epsilon: float = 0.0,
        tell: Callable[[str], None] = progress,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster, self._command, self._max_epsilon = roster, command, max_epsilon
        self._tell, self._now, self._here = tell, now, here or Here()
        self._first = frozenset(roster.names)  # the sites that the file lists that this one was started with
        self._number = 0  # of the round under way
        self._waited: tuple[tuple[str, ...], float] = ((), 0.0)
        self._metric: float | None = None
        self._seen: set[str] = set()
        self._down: dict[str, str] = {}  # why each link is down, by peer, where it has not been said yet
        self._refused: dict[str, str] = {}  # by peer that is there and that this site does not agree with, the code
        self._breaches: dict[tuple[str, str, str], float] = {}  # when each was said, by peer, code and proof
        self._ways: dict[str, str] = {}  # what was said of how each link runs, by peer
        self.paths: dict[str, dict[str, str]] = {}  # `path` and `via` of the latest link, by peer
        self.tls: dict[str, str] = {}
        self.rounds: list[events.RoundFinal] = []

    def __call__(self, event: Progress) -> None:  # noqa: C901  one case an event
        """Print what `event` says, if it is worth a line."""
        match event:
            case events.Listening():
                listens = event.address != events.NO_PORT
                self._tell(f"listening at {event.address}" if listens else "no port: this site dials the others")
            case events.LinkCameUp():
                self._link_up(event)
            case events.LinkWentDown():
                # Said only once somebody waits: a link that is back at once, or a site that is done, needs no line.
                self._down[event.peer] = event.reason.rstrip(".")  # an error's sentence, which goes on here
            case events.LinkRefused():
                if event.peer is not None and isinstance(event.error, (PeersFileDiffers, LedgersDiffer)):
                    self._refused[event.peer] = event.error.code
                self._tell(f"no link with {event.peer or 'somebody'}:\n{event.error.render()}")
            case events.StillWaiting():
                self._waiting(event)
            case events.PassCharged() | events.PassStepped() | events.PassTrained():
                pass  # the round's line says ε and how long it took
            case events.PassRepeated(number):
                self._tell(f"round {number}  the pass that was cut short is repeated as it was: its charge stands")
            case events.PassWasCut(number, how):
                self._tell(f"round {number}  the task's process: {how}; the pass is made again")
            case events.PersonalLost(layers, why):
                self._tell(f"this site's own layers ({layers}) begin from their first values: {why}")
            case events.HeldOutChanged():
                self._tell(HELD_OUT_CHANGED)
            case events.PhaseEntered():
                self._number = event.round
            case events.AttemptAbandoned():
                self._abandoned(event)
            case events.RoundLeft():
                self._left(event)
            case events.RoundsTakenOver(number, peer):
                self._tell(f"round {number}  taken over from {peer}: finished while this site was away")
            case events.ModelLacking(model, why):
                self._tell(f"model {model} is fetched from another site: {why}")
            case events.SumLost(item, why):
                self._tell(f"{item} cannot be read: {why}; who lacks that sum has it from another site")
            case events.ChangeApproved():
                self._change(event)
            case events.EpochBegan():
                self._roster = event.roster
                self._tell(f"epoch {event.epoch}  {len(event.sites)} sites: {', '.join(event.sites)}")
            case events.RuleBroken():
                self._breach(event)
            case events.RoundFinal():
                self._round(event)
            case _:
                assert_never(event)

    def _link_up(self, event: events.LinkCameUp) -> None:
        self.tls = {"version": event.version, "cipher": event.cipher, "group": event.group}
        peer = event.peer
        self._refused.pop(peer, None)
        way = {"proxy": ", through the proxy", "relay": f", through {event.via}"}.get(event.path, "")
        if peer in self._seen:
            if self._down.pop(peer, None) is None or way != self._ways.get(peer, ""):
                self._tell(f"link to {peer} is back{way}")
        else:
            self._seen.add(peer)
            self._tell(f"link to {peer}: {event.version}, {event.cipher}, {event.group}{way}")
        self._ways[peer] = way
        self.paths[peer] = {"path": event.path, "via": event.via}

    def _abandoned(self, event: events.AttemptAbandoned) -> None:
        self._tell(
            f"round {event.round}  attempt {event.attempt} abandoned{_waiting(event.waited_for)}; nothing is lost"
        )

    def _left(self, event: events.RoundLeft) -> None:
        spent = "what this site sent is spent, and its sum may still come out" if event.sent else "nothing was sent"
        self._tell(f"round {event.round}  attempt {event.attempt} left behind{_waiting(event.lacking)}; {spent}")

    def _change(self, event: events.ChangeApproved) -> None:
        steps = [
            *(f"{name} joins" for name in event.added),
            *(f"{name} leaves" for name in event.removed),
            *(f"{name} has another key" for name in event.rotated),
            *([f"{event.hub} is the hub"] if event.hub else []),
            *(f"{name} goes on from an older home" for name in event.recovered),
        ]
        what = ", ".join(steps) or "other addresses"
        when = (
            f"not before round {event.from_round}" if event.from_round > self._number else "with one of the next rounds"
        )
        self._tell(f"approved: epoch {event.epoch}, {when}: {what}")

    def _breach(self, event: events.RuleBroken) -> None:
        """One line in AGAIN_S seconds for each peer, code and proof: a liar fills nobody's screen."""
        error, proof = event.error, event.proof
        which = (event.peer, error.code, proof)
        at = self._breaches.get(which)
        if at is not None and self._now() - at < AGAIN_S:
            return
        self._breaches[which] = self._now()
        shown = f"proof {proof}: p2pfl ledger evidence" if proof else "no proof that others could check"
        line = f"{error.happened.rstrip('.')} ({error.code}: {error.evidence}); {shown}"
        self._tell(" ".join(line.split()))

    def _waiting(self, event: events.StillWaiting) -> None:
        names = tuple(sorted({*event.silent, *event.missing}))
        for peer in [name for name in self._down if name in names]:
            self._tell(f"link to {peer} is down: {self._down.pop(peer)}; it is dialled again")
        before, at = self._waited
        if not names or (names == before and self._now() - at < AGAIN_S):
            return
        self._waited = (names, self._now())
        for name in names:
            self._tell(f"waiting for {name}: {self._state(name, event)}")
        if names == before and None in event.silent.values():
            self._tell(f"{self._here.command('doctor')}, in another terminal, says what stands in the way")

    def _state(self, name: str, event: events.StillWaiting) -> str:
        seen = event.silent.get(name)
        if name not in event.silent or (seen is not None and seen < LATELY_S):
            return f"{event.missing.get(name, 'its next message')} has not come yet"
        listed = ", ".join(map(str, self._roster[name].addresses))
        where = f"listed at {listed}" if listed else "it dials, and is listed nowhere"
        command = self._command_at(name)
        if name in self._refused:
            return f"it is there, and no link comes up: {self._refused[name]}, above"
        if seen is None:
            return f"never seen ({where}); there, run: {command}"
        return f"last seen {duration(seen)} ago ({where}); if it stopped, there run again: {command}"

    def _command_at(self, name: str) -> str:
        """What is run at that site; one that has joined since has no file of the epoch that this one began with."""
        if name in self._first:
            return self._command.format(peers=quote(self._here.peers_file.name))
        file = f"peers-{self._roster.epoch}.yaml"
        command = self._command.format(peers=quote(file))
        return f"{command}   ({file}: of epoch {self._roster.epoch}, by p2pfl peers adopt CHANGE -o {file})"

    def _round(self, event: events.RoundFinal) -> None:
        self.rounds.append(event)
        purpose = event.configuration.get("purpose")
        parts = ["last model" if purpose == "evaluation" else _summed(event)]
        parts.append(f"{len(event.survivors)} of {len(self._roster.names)} sites")
        parts += self._metric_part(event, "" if purpose == "evaluation" else " before it")
        spent = [float(text) for text in event.epsilon.values() if text]
        if math.inf in spent:
            parts.append("NO privacy")
        elif any(spent):
            parts.append(f"ε {max(spent):.2f} of {self._max_epsilon:.2f}")
        parts.append(self._traffic(event.bytes_sent, _parameters(event.configuration)))
        parts.append(f"{event.seconds:.1f} s{', both since it was taken up here' if event.taken_up else ''}")
        self._tell("  ".join(parts))

    def _metric_part(self, event: events.RoundFinal, when: str) -> list[str]:
        """A round measures the model that it began with, or says why it measures nothing, and who is away."""
        metric = metric_of(event.outcome)
        if metric is None:
            unmeasured = event.outcome.get("unmeasured", "")
            away = [name for name in self._roster.names if name not in event.survivors]
            label = label_of(str(event.outcome.get("metric", "")))
            return [f"no {label}: {unmeasured_text(unmeasured, away)}"] if unmeasured else []
        name, value = metric
        change = "" if self._metric is None else f" ({value - self._metric:+.3f})"
        self._metric = value
        noised = " with noise" if event.outcome.get("private") else ""
        return [f"{name}{when} {value:.3f}{change}{noised}"]

    def _traffic(self, sent: int, parameters: int) -> str:
        """What was sent; beside it, for a model large enough to compress, what a plain all-reduce of it would send."""
        if parameters < SMALL:
            return f"sent {amount(sent)}"
        dense = dense_bytes(len(self._roster.names), parameters, 1)
        return f"sent {amount(sent)} (dense {amount(dense)}, {100 * (sent / dense - 1):+.1f} %)"


def _summed(event: events.RoundFinal) -> str:
    """What a round was: a sum, a part of a statistic, or one of a training."""
    if event.configuration.get("purpose") != "sum":
        return f"round {event.round}"
    statistic = event.configuration.get("statistic")
    return str(statistic.get("part")) if isinstance(statistic, Mapping) else "sum"


def _waiting(names: Sequence[str]) -> str:
    return f", waiting for {', '.join(names)}" if names else ""


def _parameters(configuration: Mapping[str, Any]) -> int:
    """Parameters of the model that the round trained; 0 where it trained none."""
    return int(configuration.get("parameters", 0)) if configuration.get("purpose") == "training" else 0


def metric_of(outcome: Mapping[str, Any]) -> tuple[str, float] | None:
    """The metric of a round's outcome, as (what people call it, value); None where there is none."""
    name = outcome.get("metric", "")
    value = float(outcome.get("figures", {}).get(name, ("",))[0] or math.nan)
    return (label_of(name), value) if math.isfinite(value) else None


def label_of(figure: str) -> str:
    """What people call a figure."""
    return words.label(figure) or "metric"
