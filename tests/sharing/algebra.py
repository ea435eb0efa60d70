"""What a coalition can work out, by linear algebra over the field: an equation for each word that it saw.

Every PRG stream is an unknown of its own at every place, and so is every peer's word; a stream whose seed the coalition
holds is known, and leaves the equation. A tag is one equation over all places of its chunk. Shares of a seed tell
nothing until q−1 of one bundle are together; then the seed that they open is known. What the equations determine is
found by elimination, not by asking the code.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import Secret
from p2pfl.messages import Letter, open_letter
from p2pfl.sharing import events as e
from p2pfl.sharing import forms, prg, shamir
from p2pfl.sharing.chunks import ChunkSpan, Layout, Segment, plan
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.graph import makes
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

BITS = 31  # two forms for each tag
FIELD = FIELDS[BITS]
P = FIELD.p
Row = dict[int, int]  # unknown → coefficient mod P
Attempt = tuple[int, int]
Stream = tuple[str, str, str, Attempt, bytes]  # edge or self, from, to, where, the seed


@dataclass(frozen=True)
class Vector:
    """Of which streams one peer's masked vector is made."""

    author: str
    at: Attempt
    chosen: tuple[str, ...]
    streams: tuple[tuple[int, Stream], ...]  # sign, stream


class Watched(SimulatedFederation):
    """A federation that writes down what went into each masked vector, and every letter as it was carried."""

    def __init__(self, *arguments: int, **named: object) -> None:
        super().__init__(*arguments, **{"bits": BITS, **named})  # type: ignore[arg-type]
        self.vectors: dict[tuple[str, Attempt], Vector] = {}
        self.carried: list[tuple[str, str, Letter]] = []  # from, to, what; whether it arrived or not
        self.again: dict[tuple[str, int], int] = {}  # by peer and round: the round whose words it sums once more
        for peer in self.peers.values():
            quantise = peer._quantise

            def watched(
                effect: e.Quantise, peer: SimulatedPeer = peer, quantise: Callable[[e.Quantise], None] = quantise
            ) -> None:
                self._watch(peer, effect)
                quantise(effect)

            peer._quantise = watched  # type: ignore[method-assign]

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        self.carried.append((sender, to, letter))
        super()._carry(sender, to, letter)

    def _watch(self, peer: SimulatedPeer, effect: e.Quantise) -> None:
        assert peer.run is not None
        state, me, at = peer.run.rounds[effect.round].state, peer.name, (effect.round, effect.attempt)
        assert state.unmasking.deal is not None
        made = [(P - 1, ("edge", me, to, at, seed.reveal())) for to, seed in state.masking.edges.items()]
        received = [(1, ("edge", dealer, me, at, seed.reveal())) for dealer, seed in state.masking.received.items()]
        inside = [(sign, one) for sign, one in (*made, *received) if {one[1], one[2]} <= set(effect.survivors)]
        own: Stream = ("self", me, me, at, state.unmasking.deal.self_mask.reveal())
        self.vectors[(me, at)] = Vector(me, at, effect.survivors, (*inside, (1, own)))

    @cached_property
    def sets(self) -> dict[bytes, tuple[str, ...]]:
        """U by attempt digest."""
        found = {}
        for _, _, letter in self.carried:
            for one in inside_of(letter, self):
                if isinstance(one.message, m.Members):
                    found[attempt_digest(one)] = one.message.survivors
        return found

    @cached_property
    def dealt(self) -> dict[tuple[str, Attempt, int, bytes], bytes]:
        """By dealer, attempt, holder's place and share: the bundle that it is of."""
        found = {}
        for sender, to, letter in self.carried:
            if isinstance(letter.message, m.Share):
                place = self.roster.index(to)
                found[(sender, place_of(letter), place, letter.message.backup)] = letter.message.bundle
        return found

    def pieces(self, chosen: tuple[str, ...]) -> tuple[ChunkSpan, ...]:
        return plan(Layout((Segment(BITS, self.length),)), 1 if self.hub in chosen else len(chosen))


def place_of(letter: Letter) -> Attempt:
    return letter.envelope.round, letter.envelope.attempt


def inside_of(letter: Letter, world: Watched) -> Iterator[Letter]:
    """The letter, and all that ride in it."""
    yield letter
    message = letter.message
    wires: tuple[bytes, ...] = ()
    if isinstance(message, m.Evidence):
        wires = message.proof
    elif isinstance(message, m.Handed):
        wires = message.letters
    elif isinstance(message, m.Certificate):
        wires = (*message.ballots, *((message.members,) if message.members else ()))
    for wire in wires:
        with contextlib.suppress(Malformed):  # a liar may say that anything is a letter
            yield from inside_of(open_letter(wire, world.roster, m.Message), world)


# ── elimination ───────────────────────────────────────────────────────────────────────────────────────────────


def reduced(rows: Iterable[Row]) -> dict[int, Row]:
    """Row echelon form, by pivot: the lowest unknown of a row."""
    pivots: dict[int, Row] = {}
    for row in rows:
        left = dict(row)
        while left:
            unknown = min(left)
            if unknown not in pivots:
                inverse = pow(left[unknown], P - 2, P)
                pivots[unknown] = {key: value * inverse % P for key, value in left.items()}
                break
            _take(left, pivots[unknown], left[unknown])
    return pivots


def rank(rows: Iterable[Row]) -> int:
    return len(reduced(rows))


def _take(row: Row, other: Row, times: int) -> None:
    """row − times·other, in place."""
    for key, value in other.items():
        left = (row.get(key, 0) - times * value) % P
        if left:
            row[key] = left
        else:
            row.pop(key, None)


# ── what they saw ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Coalition:
    """`members` follow the protocol, or lie as `world` lets them, and pool all that they sent, drew and received.

    opened  names whose seed of one attempt somebody opened beside the protocol
    shared  (dealer, attempt, holder): a backup share that somebody showed beside the protocol
    fresh   a peer's words differ in each attempt, as stochastic rounding makes them; False: they are the same again
    """

    world: Watched
    members: Collection[str]
    opened: Collection[tuple[str, Attempt]] = ()
    shared: Collection[tuple[str, Attempt, str]] = ()
    edges: Collection[frozenset[str]] = ()  # pairs whose edges somebody opened beside the protocol
    fresh: bool = True
    seeds: set[bytes] = field(default_factory=set)  # that they hold
    _numbers: dict[object, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        world = self.world
        self.honest = [name for name in world.roster.names if name not in self.members]
        self.theirs = [letter for sender, to, letter in world.carried if {sender, to} & set(self.members)]
        self._gather_seeds()
        self._gather_shares()

    def _gather_seeds(self) -> None:
        for letter in self.theirs:
            message = letter.message
            if isinstance(message, m.Share) and message.edge:
                self.seeds.add(message.edge)
            elif isinstance(message, m.Reveal):
                self.seeds |= {seed for _, seed in message.seeds}
        for (name, at), vector in self.world.vectors.items():
            for _, (kind, one, other, _, seed) in vector.streams:
                told = kind == "edge" and frozenset((one, other)) in self.edges
                if name in self.members or (kind == "self" and (name, at) in self.opened) or told:
                    self.seeds.add(seed)

    def _gather_shares(self) -> None:
        """Shares of one bundle that they hold, or that were shown to them; q−1 of them are the seed."""
        world, held = self.world, defaultdict[bytes, dict[int, bytes]](dict)
        for sender, to, letter in world.carried:
            message, at = letter.message, place_of(letter)
            if isinstance(message, m.Share):
                extra = (sender, at, to) in self.shared
                if to in self.members or sender in self.members or extra:
                    held[message.bundle][world.roster.index(to)] = message.backup
        for letter in self.theirs:
            for one in inside_of(letter, world):
                place, at = world.roster.index(one.sender), place_of(one)
                for dealer, share, *_ in one.message.shares if isinstance(one.message, m.BackupShare) else ():
                    bundle = world.dealt.get((dealer, at, place, share))
                    if bundle is not None:
                        held[bundle][place] = share
        enough = world.roster.quorums.q - 1
        for shares in held.values():
            if len(shares) >= enough:
                self.seeds.add(shamir.combine(dict(sorted(shares.items())[:enough])))

    # ── equations ────────────────────────────────────────────────────────────────────────────────────────────

    def _unknown(self, what: object, place: int, *, mask: bool) -> int:
        """A number for the unknown: masks come before words, so that they are eliminated first."""
        numbers = self._numbers
        return numbers.setdefault((what, place), len(numbers) + (0 if mask else 1 << 40))

    def word(self, name: str, at: Attempt, place: int) -> Row:
        """x_i at one place."""
        if name in self.members:
            return {}
        which = at if self.fresh else self.world.again.get((name, at[0]), at[0])
        return {self._unknown((name, which), place, mask=False): 1}

    def masked(self, name: str, at: Attempt, place: int) -> Row:
        """y_i at one place, in what the coalition does not know."""
        vector = self.world.vectors[(name, at)]
        hidden = {
            self._unknown(stream, place, mask=True): sign
            for sign, stream in vector.streams
            if stream[4] not in self.seeds
        }
        return {**hidden, **self.word(name, at, place)}

    def _sum(self, chosen: Iterable[str], at: Attempt, place: int) -> Row:
        row: Row = {}
        for name in chosen:
            _take(row, self.masked(name, at, place), P - 1)
        return row

    def seen(self) -> dict[int, list[Row]]:
        """By round, an equation for each word and each tag that any letter of theirs tells of."""
        world, found = self.world, defaultdict[int, list[Row]](list)
        done: set[object] = set()
        for letter in self.theirs:
            for one in inside_of(letter, world):
                told = _told(one)
                if told in done or told is None:
                    continue
                done.add(told)
                found[one.envelope.round] += self._rows(one)
        for (name, at), _ in world.vectors.items():
            if name in self.members:
                found[at[0]] += [self.masked(name, at, place) for place in range(world.length)]
        return found

    def _rows(self, letter: Letter) -> Iterator[Row]:
        world, message, at = self.world, letter.message, place_of(letter)
        author = message.author if isinstance(message, m.Opened) else letter.sender
        if isinstance(message, (m.Chunk, m.Opened)) and (author, at) in world.vectors:
            piece = world.pieces(world.vectors[(author, at)].chosen)[message.index]
            yield from (self.masked(author, at, place) for place in range(piece.start, piece.stop))
        elif isinstance(message, m.SumChunk) and message.attempt_digest in world.sets:
            chosen = world.sets[message.attempt_digest]
            piece = world.pieces(chosen)[message.index]
            yield from (self._sum(chosen, at, place) for place in range(piece.start, piece.stop))
        elif isinstance(message, m.Total):
            # Masked or not: the certified attempt's sum, whose seeds are open.
            chosen = self.decided.get(at, ())
            yield from (self._sum(chosen, at, place) for place in range(world.length if chosen else 0))
        elif isinstance(message, m.Tags) and (author, at) in world.vectors:
            for piece in world.pieces(world.vectors[(author, at)].chosen):
                for weights in weights_of(message.challenge, piece.count):
                    row: Row = {}
                    for place, weight in enumerate(weights, piece.start):
                        _take(row, self.masked(author, at, place), (P - weight) % P)
                    yield row

    @cached_property
    def decided(self) -> dict[Attempt, tuple[str, ...]]:
        """U of each attempt for which q members' SURVIVORS were ever carried."""
        voters: dict[tuple[Attempt, bytes], set[str]] = defaultdict(set)
        for _, _, letter in self.world.carried:
            if isinstance(letter.message, m.Ballot) and letter.message.survivors:
                voters[(place_of(letter), letter.message.attempt_digest)].add(letter.sender)
        enough = self.world.roster.quorums.q
        return {at: self.world.sets[digest] for (at, digest), names in voters.items() if len(names) >= enough}

    # ── what follows ─────────────────────────────────────────────────────────────────────────────────────────

    def allowed(self, number: int) -> list[Row]:
        """What they may know of round `number`: of its certified attempt, the sums over the honest peers."""
        rows = []
        for at, chosen in self.decided.items():
            inside = [name for name in chosen if name in self.honest]
            assert len(inside) >= 2, f"a sum over {inside} alone"
            for place in range(self.world.length if at[0] == number else 0):
                row: Row = {}
                for name in inside:
                    _take(row, self.word(name, at, place), P - 1)
                rows.append(row)
        return rows

    def determined(self, rows: Iterable[Row]) -> list[Row]:
        """The combinations of honest words that the rows give away: what is left without any mask."""
        return [row for pivot, row in reduced(rows).items() if pivot >= 1 << 40]

    def learns_only_the_certified_sums(self) -> bool:
        """What they can work out lies, in every round, in the span of the certified sums."""
        for number, rows in self.seen().items():
            allowed = self.allowed(number)
            if rank([*allowed, *self.determined(rows)]) != rank(allowed):
                return False
        return True


def _told(letter: Letter) -> object:
    """Names what a letter tells of words; None for one that tells of none. The same thing twice is told once."""
    message, at = letter.message, place_of(letter)
    if isinstance(message, (m.Chunk, m.SumChunk)):
        return type(message).__name__, letter.sender, at, message.index, message.attempt_digest
    if isinstance(message, m.Opened):
        return "Chunk", message.author, at, message.index, message.attempt_digest
    if isinstance(message, m.Tags):
        return "Tags", letter.sender, at, message.challenge
    return ("Total", at) if isinstance(message, m.Total) else None


def weights_of(challenge: bytes, count: int) -> list[list[int]]:
    """Of each form, the weight of each word of a chunk of `count` words."""
    columns = next(side for side in range(1, count + 1) if side * side >= count)
    left, right = forms.coefficients(challenge, FIELD)
    return [
        [int(u[k // columns]) * int(v[k % columns]) % P for k in range(count)]
        for u, v in zip(left.tolist(), right.tolist(), strict=True)
    ]


# ── are the equations those of the code? ──────────────────────────────────────────────────────────────────────


def equations_hold(world: Watched, honest: Collection[str]) -> dict[str, int]:
    """Check every word and tag that an honest peer sent against its equation, with true seeds and words: how many."""
    checked: dict[str, int] = defaultdict(int)
    for sender, _, letter in world.carried:
        message, at = letter.message, place_of(letter)
        if sender not in honest:
            continue
        if isinstance(message, m.Chunk):
            piece = world.pieces(world.vectors[(sender, at)].chosen)[message.index]
            said = FIELD.from_bytes(bytes(message.words)).tolist()
            assert said == [_true(world, sender, at, place) for place in range(piece.start, piece.stop)]
        elif isinstance(message, m.SumChunk):
            chosen = world.sets[message.attempt_digest]
            piece = world.pieces(chosen)[message.index]
            said = FIELD.from_bytes(bytes(message.words)).tolist()
            places = range(piece.start, piece.stop)
            assert said == [sum(_true(world, name, at, place) for name in chosen) % P for place in places]
        elif isinstance(message, m.Tags):
            said, true = FIELD.from_bytes(message.tags).tolist(), []
            for piece in world.pieces(world.vectors[(sender, at)].chosen):
                words = [_true(world, sender, at, place) for place in range(piece.start, piece.stop)]
                each = weights_of(message.challenge, piece.count)
                true += [sum(w * x for w, x in zip(weights, words, strict=True)) % P for weights in each]
            assert said == true
        else:
            continue
        checked[type(message).__name__] += 1
    return checked


def _true(world: Watched, name: str, at: Attempt, place: int) -> int:
    """y_i at one place, from the streams that the specification names."""
    value, names = int(world.update(name, at[0])[0].words[place]), world.roster.names
    vector = world.vectors[(name, at)]
    assert len(vector.streams) == len(vector.chosen)
    for sign, (kind, one, other, _, seed) in vector.streams:
        i, j = names.index(one), names.index(other)
        assert kind == "self" or (makes(i, j, len(names)) and sign == (P - 1 if one == name else 1))
        run = world.peers[names[0]].run_id
        context = prg.context(run, world.roster.epoch, at[0], at[1], (i, j), 0)
        key = prg.stream_key(Secret(seed, "a seed"), "prg/edge" if kind == "edge" else "prg/self", context)
        value += sign * int(prg.expand(key, FIELD, place, 1)[0])
    return value % P
