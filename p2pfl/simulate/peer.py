"""One peer of a simulated federation: the real `Round`, a disk that is a dict, and death between any two effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.keys import Identity, digest
from p2pfl.messages import Letter
from p2pfl.roster import Roster
from p2pfl.sharing import events as e
from p2pfl.sharing.course import Course
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, SUMS_ITEM, Setting, total_digest


class World(Protocol):
    """What a simulated peer may touch."""

    @property
    def now(self) -> float: ...
    def sent(self, to: str | None, letter: Letter) -> None: ...
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

    def __init__(
        self, world: World, name: str, identity: Identity, roster: Roster, run: bytes, rounds: int, bits: int
    ) -> None:
        self.world, self.name, self.identity = world, name, identity
        self.roster, self.run, self.rounds, self.bits = roster, run, rounds, bits
        self.disk = Disk()
        self.alive = False
        self.incarnation = b""
        self.course: Course | None = None
        self.error: P2PFLError | None = None  # what ended its last process, if that was not death
        self._do: dict[type[Any], Callable[[Any], None]] = {
            e.Send: self._send,
            e.Persist: self._persist,
            e.SetTimer: lambda effect: self.world.timer(self, effect.event),
            e.Quantise: self._quantise,
            e.Apply: self._apply,
            e.Finished: self._finished,
            e.Noted: lambda effect: self.disk.notes.append((effect.kind, effect.facts)),
            e.Stop: self._stop,
        }
        self._next: list[e.Event] = []

    @property
    def final_round(self) -> int:
        return len(self.disk.ledger)

    def setting(self) -> Setting:
        manifest = digest("manifest")
        return Setting(self.run, self.roster, self.name, self.identity, self.incarnation, manifest, self.world.draw)

    @property
    def round(self) -> Round | None:
        """The round under way."""
        return self.course.current if self.course is not None else None

    def boot(self) -> None:
        """A new process on the same disk; its links may come up now."""
        self.alive, self.incarnation, self.error = True, self.world.draw(16), None
        self.course = Course(self.setting(), self.final_round)

    def begin(self) -> None:
        """Take up what the disk says was going on, or the next round."""
        self._mortal(self._resume)

    def kill(self) -> None:
        """The process is gone; the disk stays."""
        self.alive, self.course, self._next = False, None, []

    def end(self, error: P2PFLError) -> None:
        """The process ends with an error."""
        self.error = error
        self.kill()

    def feed(self, event: e.Event) -> None:
        """Hand an event to the rounds, and do what they answer."""
        if self.alive:
            self._mortal(lambda: self._feed(event))

    def _mortal(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Died:
            self.kill()
        except P2PFLError as error:  # ends a node, too: with an exit status, and a text that names who is at fault
            self.end(error)

    def _feed(self, event: e.Event) -> None:
        if self.course is not None:
            self._carry_out(self.course.handle(event))

    def _carry_out(self, effects: list[e.Effect]) -> None:
        """Do all of it, then what follows from it, before anything else comes in."""
        for effect in effects:
            if self.world.dies(self):
                raise Died
            self._do[type(effect)](effect)
        while self._next:
            follow = self._next.pop(0)
            self._feed(follow)

    def _resume(self) -> None:
        if self.course is not None:
            self._carry_out(self.course.resume(self.disk.items))
            self._begin()

    def _begin(self) -> None:
        course = self.course
        if course is None or course.final_round >= self.rounds:
            return
        self._carry_out(course.begin(self.world.now))
        if course.wants_update:
            configuration = codec.facts({"field": str(self.bits)})
            epsilon = f"{0.1 * (course.final_round + 1):.4f}"
            proposal = e.Proposal(self.disk.model, configuration, b"", 20_000, 0, epsilon, digest("head"))
            self._feed(e.UpdateReady(self.world.now, course.final_round + 1, proposal))

    # ── effects ──────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, effect: e.Send) -> None:
        self.world.sent(effect.to, effect.letter)
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
        after = digest("model", self.disk.model, total_digest(effect.vectors))
        self._next.append(e.Applied(self.world.now, after, {}))

    def _stop(self, effect: e.Stop) -> None:
        raise effect.error

    def _finished(self, effect: e.Finished) -> None:
        course, done = self.course, self.round
        if course is None or done is None:
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
        self._carry_out(course.finished())
        self._begin()
