"""What a coalition can work out, by linear algebra over the field: an equation for each word that it saw.

Every PRG stream is an unknown of its own, and so is every peer's word; a stream whose seed the coalition holds is
known, and leaves the equation. What the equations determine is found by elimination, not by asking the code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

from p2pfl import messages as m
from p2pfl.keys import Secret
from p2pfl.sharing import events as e
from p2pfl.sharing import prg
from p2pfl.sharing.chunks import Layout, Segment, plan
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.graph import outgoing
from p2pfl.sharing.state import ATTEMPT_ITEM, restore
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

BITS = 61
P = FIELDS[BITS].p
Row = dict[Hashable, int]  # unknown → coefficient mod P
Attempt = tuple[int, int]


class Watched(SimulatedFederation):
    """A federation whose deals are written down, so that each equation can be checked against the true values."""

    def __init__(self, *arguments: int, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.self_masks: dict[tuple[str, Attempt], bytes] = {}
        for peer in self.peers.values():
            self._watch(peer)

    def _watch(self, peer: SimulatedPeer) -> None:
        persist = peer._do[e.Persist]

        def watched(effect: e.Persist) -> None:
            for item, data in effect.items:
                if item == ATTEMPT_ITEM and data is not None:
                    state = restore(peer.setting(), data)
                    if state.deal is not None:
                        self.self_masks[(peer.name, (state.round, state.attempt))] = state.deal.self_mask.reveal()
            persist(effect)

        peer._do[e.Persist] = watched


def rank(rows: Iterable[Row]) -> int:
    """The rank of the rows over the field."""
    return len(reduced(rows))


def reduced(rows: Iterable[Row]) -> dict[Hashable, Row]:
    """Gauss-Jordan, by pivot: the masks are eliminated first, so that what is left without a mask is what is known."""
    pivots: dict[Hashable, Row] = {}
    for row in rows:
        left = dict(row)
        for unknown in sorted(left, key=_masks_first):
            if left.get(unknown) and unknown in pivots:
                left = _minus(left, pivots[unknown], left[unknown])
        while left:
            unknown = min(left, key=_masks_first)
            if unknown not in pivots:
                inverse = pow(left[unknown], P - 2, P)
                pivots[unknown] = {key: value * inverse % P for key, value in left.items()}
                break
            left = _minus(left, pivots[unknown], left[unknown])
    return pivots


def _masks_first(unknown: Hashable) -> tuple[int, str]:
    kind = unknown[0] if isinstance(unknown, tuple) else ""
    return ("edge", "self", "x").index(kind), repr(unknown)


def _minus(row: Row, other: Row, times: int) -> Row:
    result = {key: (row.get(key, 0) - times * other.get(key, 0)) % P for key in {*row, *other}}
    return {key: value for key, value in result.items() if value}


@dataclass
class Coalition:
    """`members` follow the protocol and pool all that they sent, drew and received."""

    world: Watched
    members: Collection[str]
    extra: Collection[Hashable] = ()  # unknowns that somebody opened beside the protocol
    fresh: bool = True  # a peer's words differ in each attempt, as stochastic rounding makes them
    known: set[Hashable] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = self.world.roster.names
        for to, letter in self.world.log:
            message, sender = letter.message, letter.sender
            at = (letter.envelope.round, letter.envelope.attempt)
            if isinstance(message, m.Share) and message.edge and to is not None and {sender, to} & set(self.members):
                self.known.add(("edge", sender, to, at))
            if isinstance(message, m.Reveal):
                self.known |= {("self", name, at) for name, _ in message.seeds}
        self.known |= {("self", name, at) for name, at in self.world.self_masks if name in self.members}
        self.known |= {("x", name, self._x_of(at)) for name in self.members for _, at in self.world.self_masks}
        self.known |= set(self.extra)
        self.honest = [name for name in names if name not in self.members]

    def _x_of(self, at: Attempt) -> Hashable:
        return at if self.fresh else at[0]

    def masked_word(self, name: str, at: Attempt) -> Row:
        """y_i of one place, as an equation in what the coalition does not know."""
        names = self.world.roster.names
        here = names.index(name)
        row: Row = {("x", name, self._x_of(at)): 1, ("self", name, at): 1}
        for far in range(len(names)):
            if far in outgoing(here, len(names)):
                row[("edge", name, names[far], at)] = P - 1
            elif far != here:
                row[("edge", names[far], name, at)] = 1
        return {unknown: value for unknown, value in row.items() if unknown not in self.known}

    def sum_word(self, at: Attempt) -> Row:
        row: Row = {}
        for name in self.world.roster.names:
            row = _minus(row, self.masked_word(name, at), P - 1)
        return row

    def seen(self) -> dict[int, list[Row]]:
        """By chunk of the layout, everything that reached a member about one word of it, over all attempts."""
        names = self.world.roster.names
        pieces = plan(Layout((Segment(BITS, self.world.length),)), len(names))
        found: dict[int, list[Row]] = defaultdict(list)
        for to, letter in self.world.log:
            message, at = letter.message, (letter.envelope.round, letter.envelope.attempt)
            if isinstance(message, m.Chunk) and (to in self.members or letter.sender in self.members):
                found[message.index].append(self.masked_word(letter.sender, at))
            elif isinstance(message, m.SumChunk):  # to all
                found[message.index].append(self.sum_word(at))
            elif isinstance(message, m.Root) and letter.sender in self.members:
                for piece in pieces:
                    found[piece.index].append(self.masked_word(letter.sender, at))
        return found

    def determined(self, rows: list[Row]) -> list[Row]:
        """The combinations of honest words that the rows give away: what is left without any mask."""
        return [row for row in reduced(rows).values() if row and all(unknown[0] == "x" for unknown in row)]  # type: ignore[index]

    def certified(self) -> list[Row]:
        """What they may know: of each certified attempt, the sum over the honest peers."""
        ballots: dict[Attempt, set[str]] = defaultdict(set)
        for _, letter in self.world.log:
            if isinstance(letter.message, m.Ballot) and letter.message.survivors:
                ballots[(letter.envelope.round, letter.envelope.attempt)].add(letter.sender)
        enough = self.world.roster.quorums.q
        return [{("x", name, self._x_of(at)): 1 for name in self.honest}
                for at, voters in ballots.items() if len(voters) >= enough]  # fmt: skip

    def learns_only_the_certified_sums(self) -> bool:
        """True when, at every place, what they can work out lies in the span of the certified sums."""
        allowed = self.certified()
        return all(rank([*allowed, *self.determined(rows)]) == rank(allowed) for rows in self.seen().values())

    # ── are the equations those of the code? ─────────────────────────────────────────────────────────────────

    def equations_hold(self) -> int:
        """Check every chunk that was sent against its equation, with true seeds and words. Returns how many."""
        world, names, checked = self.world, self.world.roster.names, 0
        seeds = {(letter.sender, to, (letter.envelope.round, letter.envelope.attempt)): letter.message.edge
                 for to, letter in world.log if isinstance(letter.message, m.Share)}  # fmt: skip
        pieces = plan(Layout((Segment(BITS, world.length),)), len(names))
        nobody = Coalition(world, ())
        nobody.known.clear()
        for _, letter in world.log:
            message, at = letter.message, (letter.envelope.round, letter.envelope.attempt)
            if not isinstance(message, m.Chunk):
                continue
            place = pieces[message.index].start
            value = 0
            for unknown, times in nobody.masked_word(letter.sender, at).items():
                value += times * self._true(unknown, seeds, place)  # type: ignore[arg-type]
            assert int(FIELDS[BITS].from_bytes(message.words)[0]) == value % P
            checked += 1
        return checked

    def _true(self, unknown: tuple[object, ...], seeds: dict[tuple[object, ...], bytes], place: int) -> int:
        world, names = self.world, self.world.roster.names
        kind, *who, at = unknown
        assert isinstance(at, tuple)
        if kind == "x":
            return int(world.update(str(who[0]), at[0])[0].words[place])
        i, j = (names.index(str(who[0])), names.index(str(who[-1])))
        seed = seeds[(*who, at)] if kind == "edge" else world.self_masks[(str(who[0]), at)]
        run = world.peers[names[0]].run
        context = prg.context(run, world.roster.epoch, at[0], at[1], (i, j), 0)
        key = prg.stream_key(Secret(seed), "prg/edge" if kind == "edge" else "prg/self", context)
        return int(prg.expand(key, FIELDS[BITS], place, 1)[0])
