"""Liars with two faces: each runs two real processes under one key, and shows to each peer what it likes of either.

Both faces are told everything; they deal, vote and answer on their own, so that for each letter of one there is mostly
one of the other at the same place. What a `Script` makes of that is carried, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Protocol

from p2pfl import messages as m
from p2pfl.errors import P2PFLError
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.state import Phase
from p2pfl.simulate import Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.algebra import Attempt, Coalition, Row, place_of
from tests.simulate.summing_again import SummingAgain

Standing = tuple[int, int, Phase]  # round, attempt, phase


class Script(Protocol):
    """What liars make of the letters of their processes."""

    def say(self, face: int, liar: str, to: str, letter: Letter) -> Iterable[Letter]:
        """What is sent to one peer when a face has this letter for it."""

    def saw(self, name: str, before: Standing | None, after: Standing | None) -> None:
        """A process has gone on: what waited for that may be shown."""


class Behind:
    """The world of a second face: it shares everything with the first, and sends through the script."""

    def __init__(self, world: TwoFaced, liar: str) -> None:
        self._world, self._liar = world, liar
        self.length, self.hub = world.length, world.hub

    @property
    def now(self) -> float:
        return self._world.now

    def sent(self, to: str | None, letter: Letter) -> None:
        """It is written down when it is carried."""

    def carry(self, sender: str, to: str, letter: Letter) -> None:
        self._world.cast(1, sender, to, letter)

    def timer(self, peer: SimulatedPeer, event: e.Event) -> None:
        self._world.timer(peer, event)

    def dies(self, peer: SimulatedPeer) -> bool:
        return False

    def died(self, peer: SimulatedPeer) -> None:
        """Its first face has died, and told everybody."""

    def update(self, name: str, number: int) -> tuple[e.Vector, ...]:
        return self._world.update(name, number)

    def draw(self, count: int) -> bytes:
        return self._world.draw(count)

    def entries(self, name: str) -> int:
        return self._world.entries(name)


class Shameless(SimulatedPeer):
    """A liar's process: no error ends it, not even a proof against itself."""

    twin: Shameless | None = None
    same_process = True  # its second face speaks as the same process

    def end(self, error: P2PFLError) -> None:
        self._next.clear()

    def _check_fairness(self) -> None:
        """It stops for nothing."""

    def _mortal(self, act: Callable[[], None]) -> None:
        try:
            super()._mortal(act)
        except Exception:  # what a liar told itself may well be too much for its own program
            self._next.clear()

    def boot(self) -> None:
        super().boot()
        if self.twin is not None:
            self.twin.boot()
            if self.same_process:
                self.twin.incarnation = self.incarnation
                assert self.twin.run is not None
                self.twin.run = type(self.twin.run)(
                    self.twin.context(), self.twin.final_round, self.twin.disk.last, self.world.now
                )

    def begin(self) -> None:
        super().begin()
        if self.twin is not None:
            self.twin.begin()

    def kill(self) -> None:
        super().kill()
        if self.twin is not None:
            self.twin.kill()

    def feed(self, event: e.Event) -> None:
        super().feed(event)
        if self.twin is not None and not isinstance(event, e.Tick):
            self.twin.feed(event)


class TwoFaced(SummingAgain):
    """A federation in which `liars` have two faces, and a script says what they show."""

    def __init__(self, peers: int, liars: Iterable[str], *, rounds: int, seed: int, weather: Weather) -> None:
        super().__init__(peers, rounds=rounds, seed=seed, length=peers, weather=weather)
        self.liars = frozenset(liars)
        self.script: Script | None = None
        self.twins: dict[str, Shameless] = {}
        for name in sorted(self.liars):
            first = self.peers[name]
            # On a disk of its own.
            second = Shameless(Behind(self, name), name, first.identity, self.roster, first.run_id, rounds, self.bits)
            first.__class__ = Shameless
            assert isinstance(first, Shameless)
            first.twin = self.twins[name] = second

    @property
    def honest(self) -> list[str]:
        return [name for name in self.peers if name not in self.liars]

    def standing(self, name: str) -> Standing | None:
        """Where the current round of a process stands."""
        run = self.peers[name].run
        current = run.current if run is not None else None
        return (current.number, current.attempt, current.phase) if current is not None else None

    # ── what is said ─────────────────────────────────────────────────────────────────────────────────────────

    def sent(self, to: str | None, letter: Letter) -> None:
        if letter.sender not in self.liars:
            super().sent(to, letter)

    def carry(self, sender: str, to: str, letter: Letter) -> None:
        if sender in self.liars:
            self.cast(0, sender, to, letter)
        else:
            super().carry(sender, to, letter)

    def cast(self, face: int, liar: str, to: str, letter: Letter) -> None:
        """One face of a liar has a letter for one peer."""
        if self.script is None or to in self.liars:  # they have no secrets from one another
            if face == 0:
                self.show(liar, to, letter)
            return
        for each in self.script.say(face, liar, to, letter):
            self.show(liar, to, each)

    def show(self, liar: str, to: str, letter: Letter) -> None:
        """A liar's letter leaves for one peer."""
        self.log.append((to, letter))
        self._carry(liar, to, letter)

    def _deliver(self, sender: str, target: SimulatedPeer, wire: bytes) -> None:
        before = self.standing(target.name)
        super()._deliver(sender, target, wire)
        if self.script is not None:
            self.script.saw(target.name, before, self.standing(target.name))


class Pooled(Coalition):
    """What the liars know: what honest sites told any of them, and what they drew. Their own claims tell nothing."""

    @cached_property
    def decided(self) -> dict[Attempt, tuple[str, ...]]:
        """U of each attempt for which q members voted, the liars counted: they can complete a certificate unseen."""
        voters: dict[tuple[Attempt, bytes], set[str]] = defaultdict(lambda: set(self.members))
        for _, _, letter in self.world.carried:
            if isinstance(letter.message, m.Ballot) and letter.message.survivors:
                voters[(place_of(letter), letter.message.attempt_digest)].add(letter.sender)
        enough, sets = self.world.roster.quorums.q, self.world.sets
        return {at: sets[named] for (at, named), names in voters.items() if len(names) >= enough and named in sets}

    def masked(self, name: str, at: Attempt, place: int) -> Row:
        return {} if name in self.members else super().masked(name, at, place)

    def _rows(self, letter: Letter) -> Iterable[Row]:  # type: ignore[override]
        author = letter.message.author if isinstance(letter.message, m.Opened) else letter.sender
        told = letter.sender not in self.members and author not in self.members
        return super()._rows(letter) if told else ()
