"""One peer of a simulated federation: the real `Round`, a disk that is a dict, and death between any two effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from p2pfl import codec
from p2pfl.keys import Identity, digest
from p2pfl.messages import Letter
from p2pfl.roster import Roster
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, SUMS_ITEM, Phase, Setting, total_digest


class World(Protocol):
    """What a simulated peer may touch."""

    @property
    def now(self) -> float: ...
    def carry(self, sender: str, to: str, letter: Letter) -> None: ...
    def timer(self, peer: SimulatedPeer, event: e.Event) -> None: ...
    def dies(self, peer: SimulatedPeer) -> bool: ...
    def update(self, name: str, number: int) -> tuple[e.Vector, ...]: ...
    def draw(self, count: int) -> bytes: ...


class Died(Exception):
    """The simulated process was killed here."""


@dataclass
class Disk:
    """What outlives a process: sealed items and the federation log, one record for each final round."""

    items: dict[str, bytes] = field(default_factory=dict)
    ledger: list[bytes] = field(default_factory=list)
    totals: list[tuple[e.Vector, ...]] = field(default_factory=list)  # beside the ledger, for the test to look at
    notes: list[tuple[str, codec.Facts]] = field(default_factory=list)

    @property
    def model(self) -> bytes:
        """The model is a digest chain over the sums that were applied."""
        record = codec.read_facts(self.ledger[-1]) if self.ledger else {}
        return bytes.fromhex(record["model_after"]) if record else digest("model")


class SimulatedPeer:
    """Drives one `Round` after another, as node.py does with real sockets and a real home."""

    def __init__(self, world: World, name: str, identity: Identity, roster: Roster, run: bytes, rounds: int) -> None:
        self.world, self.name, self.identity = world, name, identity
        self.roster, self.run, self.rounds = roster, run, rounds
        self.disk = Disk()
        self.alive = False
        self.incarnation = b""
        self.round: Round | None = None
        self.previous: Round | None = None
        self.early: list[Letter] = []
        self.sent: list[Letter] = []  # everything that ever left this peer, over all its processes
        self._do: dict[type[Any], Callable[[Any], None]] = {
            e.Send: self._send,
            e.Persist: self._persist,
            e.SetTimer: lambda effect: self.world.timer(self, effect.event),
            e.Quantise: self._quantise,
            e.Apply: self._apply,
            e.Finished: self._finished,
            e.Noted: lambda effect: self.disk.notes.append((effect.kind, effect.facts)),
        }
        self._next: list[e.Event] = []

    @property
    def final_round(self) -> int:
        return len(self.disk.ledger)

    def setting(self) -> Setting:
        manifest = digest("manifest")
        return Setting(self.run, self.roster, self.name, self.identity, self.incarnation, manifest, self.world.draw)

    def boot(self) -> None:
        """A new process on the same disk; its links may come up now."""
        self.alive, self.incarnation = True, self.world.draw(16)
        self.round, self.previous, self.early = None, None, []
        items = self.disk.items
        if FINAL_ITEM in items:
            kept = Round.finished(self.setting(), items[FINAL_ITEM])
            self.previous = kept if kept.number == self.final_round else None

    def begin(self) -> None:
        """Take up what the disk says was going on, or the next round."""
        self._mortal(lambda: self._begin(self.disk.items.get(ATTEMPT_ITEM)))

    def kill(self) -> None:
        """The process is gone; the disk stays."""
        self.alive, self.round, self.previous, self._next = False, None, None, []

    def feed(self, event: e.Event) -> None:
        """Hand an event to the round; a letter to the round that it belongs to."""
        if self.alive:
            self._mortal(lambda: self._feed(event))

    def _mortal(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Died:
            self.kill()

    def _feed(self, event: e.Event) -> None:
        if isinstance(event, e.Received):
            number = event.letter.envelope.round
            if self.previous is not None and number == self.previous.number:
                self._run(self.previous, event)
            elif self.round is None or number > self.round.number:
                self.early.append(event.letter)
            elif number == self.round.number:
                self._run(self.round, event)
            return
        if isinstance(event, e.LinkUp) and self.previous is not None:
            self._run(self.previous, event)
        if self.round is not None:
            self._run(self.round, event)

    def _run(self, machine: Round, event: e.Event) -> None:
        self._carry_out(machine.handle(event))
        while self._next:
            follow = self._next.pop(0)
            current = self.round
            if current is not None:
                self._carry_out(current.handle(follow))

    def _carry_out(self, effects: list[e.Effect]) -> None:
        for effect in effects:
            if self.world.dies(self):
                raise Died
            self._do[type(effect)](effect)

    def _begin(self, snapshot: bytes | None = None) -> None:
        effects: list[e.Effect] = []
        if snapshot is not None:
            self.round, effects = Round.restored(self.setting(), snapshot, self.disk.items.get(SUMS_ITEM))
            if self.round.number <= self.final_round:
                self.round, effects = None, []
        if self.round is None and self.final_round < self.rounds:
            self.round = Round(self.setting(), self.final_round + 1)
            self._next.append(e.Begin(self.world.now))
        self._carry_out(effects)
        while self._next and self.round is not None:
            self._carry_out(self.round.handle(self._next.pop(0)))
        self._propose()
        held, self.early = self.early, []
        for letter in held:
            self._feed(e.Received(self.world.now, letter))

    def _propose(self) -> None:
        if self.round is None or self.round.phase not in (Phase.SHARE, Phase.BALLOT):
            return
        configuration = codec.facts({"field": "61"})
        epsilon = f"{0.1 * self.round.number:.4f}"
        proposal = e.Proposal(self.disk.model, configuration, b"", 20_000, 0, epsilon, digest("head"))
        self._run(self.round, e.UpdateReady(self.world.now, proposal))

    # ── effects ──────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, effect: e.Send) -> None:
        self.sent.append(effect.letter)
        others = [name for name in self.roster.names if name != self.name]
        for name in others if effect.to is None else [effect.to]:
            self.world.carry(self.name, name, effect.letter)

    def _persist(self, effect: e.Persist) -> None:
        for item, data in effect.items:
            if data is None:
                self.disk.items.pop(item, None)
            else:
                self.disk.items[item] = data
        self._next.append(effect.stored(self.world.now))

    def _quantise(self, effect: e.Quantise) -> None:
        words = self.world.update(self.name, effect.round)
        self._next.append(e.WordsReady(self.world.now, effect.round, effect.attempt, words))

    def _apply(self, effect: e.Apply) -> None:
        self.disk.items["applied"] = total_digest(effect.vectors)
        after = digest("model", self.disk.model, total_digest(effect.vectors))
        self._next.append(e.Applied(self.world.now, after, {}))

    def _finished(self, effect: e.Finished) -> None:
        done = self.round
        if done is None:
            return
        self.disk.items[FINAL_ITEM] = done.keepsake()
        if self.world.dies(self):
            raise Died
        self.disk.ledger.append(effect.record)
        self.disk.totals.append(done.state.total)
        if self.world.dies(self):
            raise Died
        self.disk.items.pop(ATTEMPT_ITEM, None)
        self.disk.items.pop(SUMS_ITEM, None)
        self.previous, self.round = done, None
        self._begin()
