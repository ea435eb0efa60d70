"""A whole federation in one process and in virtual time: the real rounds, a seeded network, deaths, returns and liars.

The network keeps TLS's and the mesh's promises (letters of one pair arrive in order, once, from the process that
sent them to the process that they were sent to) and no others: delays differ by orders of magnitude, groups of sites
lose sight of one another for a while, and what was on its way to a process that dies is lost.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl import messages
from p2pfl.codec import Malformed
from p2pfl.errors.round import MalformedMessage, WrongSender
from p2pfl.keys import Identity, digest
from p2pfl.messages import Letter, Message
from p2pfl.roster import Member, Roster
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.prg import expand
from p2pfl.simulate.clock import VirtualClock
from p2pfl.simulate.peer import SimulatedPeer

# What a liar sends to one peer where an honest site would send one letter: nothing, that letter, others.
Lie = Callable[[SimulatedPeer, str, Letter[Message]], Iterable[Letter[Message]]]


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to a simulated federation. `death` is the chance, per effect, that the process dies before it."""

    death: float = 0.0
    deaths: int = 0  # most in all
    away_s: tuple[float, float] = (0.1, 60.0)
    delay_s: tuple[float, float] = (0.001, 0.5)
    partition: float = 0.0  # chance, per letter, that the sites fall into two groups that do not hear each other
    partitions: int = 0  # most in all
    apart_s: tuple[float, float] = (0.1, 60.0)
    overtaking: float = 0.0  # chance, per signed letter, that it overtakes bulk before it, as on a link that is full


CALM = Weather()
STEPS_A_PAIR: Final = 400  # far more than the letters that two sites exchange in a few rounds
MOST_OPENED: Final = 8192  # letters that are remembered by their bytes …
LARGE_BYTES: Final = 64 << 10
MOST_LARGE: Final = 16  # … and those above this size, such as the set of an attempt or a certificate


class SimulatedFederation:
    """`peers` peers that sum `length` words a round, for `rounds` rounds. The same seed gives the same run."""

    def __init__(
        self,
        peers: int,
        *,
        rounds: int = 1,
        length: int = 50,
        bits: int = 61,
        seed: int = 0,
        weather: Weather = CALM,
        lies: Mapping[str, Lie] | None = None,
        hub: str | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.clock = VirtualClock()
        self.weather = weather
        self.length, self.bits, self.rounds = length, bits, rounds
        self.deaths = self.partitions = 0
        self.lies = dict(lies or {})
        self.log: list[
            tuple[str | None, Letter[Message]]
        ] = []  # to whom (None: all others), everything that left a process
        identities = [Identity(self.draw(32)) for _ in range(peers)]
        called = names or [f"site-{k}" for k in range(peers)]
        members = tuple(Member(name, identity.key) for name, identity in zip(called, identities, strict=True))
        self.roster, self.hub = Roster(1, members), hub
        run = digest("run", b"simulated")
        self.peers = {
            member.name: SimulatedPeer(self, member.name, identity, self.roster, run, rounds, bits)
            for member, identity in zip(members, identities, strict=True)
        }
        self._packed: tuple[Letter[Message], bytes] | None = None
        self._opened, self._large = (
            functools.lru_cache(most)(lambda wire: messages.open_letter(wire, self.roster, messages.Message))
            for most in (MOST_OPENED, MOST_LARGE)
        )
        self._last: dict[tuple[str, str], tuple[float, float]] = {}  # when the last signed letter arrives, and the last
        self._apart: dict[frozenset[str], float] = {}  # when a pair that is apart meets again

    @property
    def now(self) -> float:
        return self.clock.now

    def draw(self, count: int) -> bytes:
        return self.random.randbytes(count)

    def begin(self) -> None:
        """Let every process start within the first second."""
        for peer in self.peers.values():
            self.clock.at(self.random.uniform(0, 1), lambda peer=peer: self.start(peer))  # type: ignore[misc]

    def run(self, most_steps: int = 0) -> None:
        """Start everyone and go on until nothing is left to do. Raises RuntimeError past `most_steps`."""
        self.begin()
        self.settle(most_steps)

    def settle(self, most_steps: int = 0) -> None:
        """Go on until nothing is left to do. Raises RuntimeError past `most_steps` (0: a million, or more)."""
        most_steps = most_steps or max(1_000_000, STEPS_A_PAIR * len(self.peers) ** 2)
        for _ in range(most_steps):
            if not self.clock.step():
                return
        raise RuntimeError(f"still running after {most_steps} steps")

    def update(self, name: str, number: int) -> tuple[e.Vector, ...]:
        """The words that `name` sums in round `number`: (length,) uniform words, a function of the two."""
        key = digest("simulated update", name.encode(), number.to_bytes(8, "big"))
        return (e.Vector(self.bits, expand(key, FIELDS[self.bits], 0, self.length)),)

    def expected(self, number: int, survivors: Iterable[str] | None = None) -> list[int]:
        """The true sum of round `number` over `survivors` (None: all sites), computed with Python's integers."""
        names = self.roster.names if survivors is None else survivors
        rows = [self.update(name, number)[0].words.tolist() for name in names]
        return [sum(column) % FIELDS[self.bits].p for column in zip(*rows, strict=True)]

    # ── the world of a peer ──────────────────────────────────────────────────────────────────────────────────

    def dies(self, peer: SimulatedPeer) -> bool:
        """Decides about one death, and about the return."""
        if self.deaths >= self.weather.deaths or self.random.random() >= self.weather.death:
            return False
        self.deaths += 1
        self.clock.at(self.now + self.random.uniform(*self.weather.away_s), lambda: self.start(peer))
        return True

    def died(self, peer: SimulatedPeer) -> None:
        """The others notice that its links have ended."""
        for other in self.peers.values():
            if other is not peer and other.alive:
                self._down(other, peer.name)

    def _down(self, hearer: SimulatedPeer, name: str) -> None:
        there, here = hearer.incarnation, self.peers[name].incarnation

        def down() -> None:
            gone = not self.peers[name].alive or self._apart.get(frozenset((name, hearer.name)), 0.0) > self.now
            if hearer.incarnation == there and self.peers[name].incarnation == here and gone:
                hearer.feed(e.LinkDown(self.now, name))

        self.clock.at(self.now + self.random.uniform(*self.weather.delay_s), down)

    def entries(self, name: str) -> int:
        """How many the ledger of `name` holds, as its hello says."""
        return self.peers[name].disk.entries

    def timer(self, peer: SimulatedPeer, event: e.Event) -> None:
        incarnation = peer.incarnation
        self.clock.at(event.now, lambda: peer.feed(event) if peer.incarnation == incarnation else None)

    def sent(self, to: str | None, letter: Letter[Message]) -> None:
        """Write down what left a process, before it is carried anywhere."""
        self.log.append((to, letter))

    def carry(self, sender: str, to: str, letter: Letter[Message]) -> None:
        """Take a letter, or what a liar makes of it, from one process to another, behind those that left before it.

        A signed letter may overtake bulk, and nothing overtakes a signed letter (`Weather.overtaking`).
        """
        lie = self.lies.get(sender)
        for each in (letter,) if lie is None else lie(self.peers[sender], to, letter):
            self._carry(sender, to, each)

    def _carry(self, sender: str, to: str, letter: Letter[Message]) -> None:
        source, target = self.peers[sender], self.peers[to]
        if not target.alive:
            return
        self._weather_turns()
        here, there = source.incarnation, target.incarnation
        wire = self._wire(letter)

        def arrive() -> None:
            if target.alive and target.incarnation == there and (source.incarnation == here or not source.alive):
                self._deliver(sender, target, wire)

        self.clock.at(self._arrival(sender, to, signed=letter.message.signed), arrive)

    def _wire(self, letter: Letter[Message]) -> bytes:
        """Its bytes: one object for all to whom it goes."""
        if self._packed is None or self._packed[0] is not letter:
            self._packed = (letter, letter.wire)
        return self._packed[1]

    def _deliver(self, sender: str, target: SimulatedPeer, wire: bytes) -> None:
        """What inbox.py does with a payload of a link: only its peer's own authentic letters go on.

        A letter never changes, so who gets the same bytes gets the same one: n sites read what is said to all once.
        """
        try:
            letter = (self._opened if len(wire) <= LARGE_BYTES else self._large)(wire)
        except Malformed as error:
            target.breach(MalformedMessage(peer=sender, evidence=str(error)))
            return
        if letter.sender != sender:
            target.breach(WrongSender(peer=sender, evidence=f"a {type(letter.message).__name__} of {letter.sender}"))
            return
        target.feed(e.Received(self.now, letter))

    def _arrival(self, sender: str, to: str, *, signed: bool) -> float:
        """When it arrives: behind all that left before it, or behind what of that is `signed`."""
        low, high = self.weather.delay_s
        begins = max(self.now, self._apart.get(frozenset((sender, to)), 0.0))
        last_signed, last = self._last.get((sender, to), (0.0, 0.0))
        overtakes = signed and self.weather.overtaking and self.random.random() < self.weather.overtaking
        time = max(begins + self.random.uniform(low, high), last_signed if overtakes else last)
        self._last[(sender, to)] = (time if signed else last_signed, max(last, time))
        return time

    def _weather_turns(self) -> None:
        """Decides about one partition: every pair across it is apart, and both ends are told when it meets again."""
        if self.partitions >= self.weather.partitions or self.random.random() >= self.weather.partition:
            return
        self.partitions += 1
        names = list(self.roster.names)
        group = self.random.sample(names, self.random.randint(1, len(names) - 1))
        heals = self.now + self.random.uniform(*self.weather.apart_s)
        for here in group:
            for there in (name for name in names if name not in group):
                self._apart[frozenset((here, there))] = heals
                self._down(self.peers[here], there)
                self._down(self.peers[there], here)
                self.clock.at(heals, lambda pair=(here, there): self._meet(*pair))  # type: ignore[misc]

    def _meet(self, one: str, other: str) -> None:
        here, there = self.peers[one], self.peers[other]
        if here.alive and there.alive:
            self._link(here, there)
            self._link(there, here)

    def start(self, peer: SimulatedPeer) -> None:
        """A process starts: its links come up one by one, each on both ends, before anything crosses it."""
        if peer.alive:
            return
        peer.boot()
        for other in self.peers.values():
            if other is not peer and other.alive:
                self._link(peer, other)
                self._link(other, peer)
        peer.begin()

    def _link(self, teller: SimulatedPeer, hearer: SimulatedPeer) -> None:
        there, here = hearer.incarnation, teller.incarnation

        def up() -> None:
            if hearer.incarnation == there and teller.incarnation == here:
                hearer.feed(e.LinkUp(self.now, teller.name, here))

        self.clock.at(self._arrival(teller.name, hearer.name, signed=False), up)
