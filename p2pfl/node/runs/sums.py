"""One secure sum as a run of one round: integers and decimals exactly, floats on a declared scale. Nothing is clipped.

A value over the limit is refused at its own site, before anything is dealt; a sum beyond as many limits as it has sites
is refused by all. The data are locked to the first set of sites that they are summed over (cohort.py). Some words of
each sum are random: the ledger holds a digest of the whole, which nobody can try small numbers against.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.round import LimitMissing, SumLeftBehind, TooFewContribute
from p2pfl.errors.sharing import ValueOverLimit
from p2pfl.keys import Draw, digest
from p2pfl.node.logs import Logs
from p2pfl.node.runs.answers import Answer
from p2pfl.node.runs.cohort import Cohort, flat
from p2pfl.node.runs.readings import DECIMALS, FLAGS, FLOATS, INTEGERS, NOTHING, ReadAs, Summed
from p2pfl.node.source import PATIENCE_S, ModelStore, Offer
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.fixed_point import FixedPoint
from p2pfl.sharing.quantiser import Quantiser, largest
from p2pfl.sharing.room import Room

NO_MODEL: Final = digest("model", b"none")
EXACT_BITS: Final = 61
SALT_WORDS: Final = 5  # of the 61-bit field
BEYOND: Final = "the sum lies beyond what its sites may put in: it is not opened to anybody"


class MakeWords(Protocol):
    """Gives the words of a vector."""

    def __call__(self, out: e.Words | None = None) -> e.Words:
        """Where they are made anew, in `out`, if it is given."""


@dataclass(frozen=True)
class Encoded:
    """A vector as words, the facts that all sites must share about it, and how the words of the sum are read.

    words   gives the words, the same in every attempt: those of floats are not kept beside the floats
    begun   of words that may be made a few at a time: begun(out)(n) writes those before number n into `out`
    """

    words: MakeWords
    configuration: codec.Facts
    reading: ReadAs
    within: Callable[[e.Words, int], bool]  # (words of the sum, survivors): as many sites may have put that in
    begun: Callable[[e.Words], Callable[[int], object]] | None = None

    @property
    def spent(self) -> Encoded:
        """The same without its words."""
        field = self.reading.field
        return replace(self, words=lambda out=None: field.zeros(0), begun=None)

    @property
    def vector(self) -> e.Vector:
        """The words, with their field."""
        return e.Vector(self.reading.bits, self.words())

    def vector_in(self, room: Room) -> e.Vector:
        """The same; words that are made each time are the room's first ones, and made as they are masked."""
        out = room.first()
        if out is not None and self.begun is not None:
            return e.Vector(self.reading.bits, out, made=self.begun(out))
        return e.Vector(self.reading.bits, self.words(out))

    @property
    def shape(self) -> tuple[int, int]:
        """(bits, words)."""
        return self.reading.bits, self.reading.words

    @property
    def zeros(self) -> e.Vector:
        """As many words, all 0."""
        return e.Vector(self.reading.bits, self.reading.field.zeros(self.reading.words))


def held(
    words: e.Words, configuration: codec.Facts, reading: ReadAs, within: Callable[[e.Words, int], bool]
) -> Encoded:
    """Words that are there already, and may be needed by another attempt: nobody writes to them."""
    words.flags.writeable = False
    return Encoded(lambda out=None: words, configuration, reading, within)


def encode(
    values: Any,
    *,
    peers: int,
    bits: int,
    limit: float | Decimal | None,
    decimals: int | None,
    draw: Draw,
) -> Encoded:
    """Words for `values`: exact when they are integers or `decimals` is given, else floats on the scale of `limit`.

    values    numpy array (m,), torch tensor (any shape, flattened), or a sequence of numbers; floats of a large array
              are rounded when an attempt asks for the words, so they must not change until the sum is there
    limit     largest absolute value at any site; the same at all of them
    decimals  digits after the point that count; the sum is then exact, of Decimals
    Raises LimitMissing, ValueOverLimit, ValueNotFinite, SumCouldWrap.
    """
    if decimals is not None:
        return _decimals(values, peers, limit, decimals)
    array = flat(values)
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return _integers(array, peers, limit)
    return _floats(array, peers, bits, limit, draw)


def _decimals(values: Any, peers: int, limit: float | Decimal | None, decimals: int) -> Encoded:
    field = FIELDS[EXACT_BITS]
    room = Decimal(largest(field, peers)).scaleb(-decimals)
    most = room if limit is None else Decimal(str(limit))
    grid = FixedPoint(field, peers, most, decimals)
    listed = flat(values).tolist() if hasattr(values, "detach") or isinstance(values, np.ndarray) else list(values)
    words = grid.encode(listed)
    facts = {"as": "decimals", "decimals": decimals, "limit": str(most), "length": len(listed), "field": EXACT_BITS}
    reading = ReadAs(DECIMALS, EXACT_BITS, len(listed), str(decimals))
    return held(words, facts, reading, grid.within)


def _integers(array: npt.NDArray[Any], peers: int, limit: float | Decimal | None) -> Encoded:
    field = FIELDS[EXACT_BITS]
    most = largest(field, peers) if limit is None else int(limit)
    grid = FixedPoint(field, peers, Decimal(most), 0)  # refuses a limit under which a sum could wrap
    values = array.astype(np.int64)
    if array.size and (int(array.max()) > most or int(array.min()) < -most):
        raise ValueOverLimit(evidence=f"one of {array.size} integers; the limit is {most}")
    facts = {"as": "integers", "limit": str(most), "length": int(array.size), "field": EXACT_BITS}
    words = field.encode(values)
    reading = ReadAs(INTEGERS, EXACT_BITS, int(array.size))
    return held(words, facts, reading, grid.within)


def _floats(array: npt.NDArray[Any], peers: int, bits: int, limit: float | Decimal | None, draw: Draw) -> Encoded:
    if limit is None:
        raise LimitMissing(evidence=f"{array.size} values of type {array.dtype}, limit=None")
    most, size = float(limit), int(array.size)
    grid = Quantiser(FIELDS[bits], peers, 0.0, most, False)
    floats = array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    over = grid.count_over(floats)
    if over:
        raise ValueOverLimit(evidence=f"{over} of {size} floats; the limit is {most:g}")
    facts = {"as": "floats", "limit": repr(most), "length": size, "field": bits}
    rounding = draw(32)

    def check(cut: int) -> None:
        if cut:
            raise ValueOverLimit(evidence=f"{cut} of {size} floats, which have changed; the limit is {most:g}")

    def words(out: e.Words | None = None) -> e.Words:
        rounded, cut = grid.quantise(floats, bytes(32), rounding, out)
        check(cut)
        return rounded

    def begun(out: e.Words) -> Callable[[int], object]:
        making = grid.begin(floats, rounding, out)
        return lambda stop: check(making.upto(stop))

    return Encoded(words, facts, ReadAs(FLOATS, bits, size, repr(grid.step)), grid.within_bound, begun)


def too_few(query: str, sites: int, least: int) -> TooFewContribute:
    """The error for a statistic of too few sites."""
    told = counted(sites, "site")
    return TooFewContribute(query=query, what=f"{told} with a value", least=least, evidence=told)


def salt(draw: Draw) -> Encoded:
    """Uniform words that ride in every sum: whoever has the sum has them, whoever has its digest alone has not.

    draw   the system's generator
    A sum of few small numbers is guessed from a plain digest of it in seconds; with 300 bits of salt it is not.
    """
    words = np.array([_uniform(draw) for _ in range(SALT_WORDS)], FIELDS[EXACT_BITS].dtype)
    facts = {"as": "salt", "length": SALT_WORDS, "field": EXACT_BITS}
    reading = ReadAs(NOTHING, EXACT_BITS, SALT_WORDS)
    return held(words, facts, reading, lambda *_: True)


def flags(raised: npt.NDArray[np.bool_], draw: Draw) -> Encoded:
    """Words that tell of each flag whether any site raised it, and not how many did, or which.

    raised   (w,) bool: this site's
    draw     the system's generator
    Who raises a flag adds a uniform word, who does not adds 0. One uniform word in a sum makes it uniform, so that all
    sums with one or more look alike; it is 0 then with a chance of 2⁻⁶¹. The sum decodes to (w,) bool.
    """
    field = FIELDS[EXACT_BITS]
    words = np.array([_uniform(draw) if one else 0 for one in raised.tolist()], field.dtype)
    facts = {"as": "flags", "length": int(raised.size), "field": EXACT_BITS}
    return held(words, facts, ReadAs(FLAGS, EXACT_BITS, int(raised.size)), lambda *_: True)


def _uniform(draw: Draw) -> int:
    """A word of the 61-bit field, uniform to within 2⁻¹³¹."""
    return int.from_bytes(draw(24), "big") % FIELDS[EXACT_BITS].p


def nothing() -> str:
    """A sum of exact numbers is charged to no account."""
    return ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. `name` is what the sites call it, and they must agree on it.

    marks   of the data in the parts (cohort.mark_of)
    least   the fewest sites over which it is answered
    only    the sites that were counted for it; empty: nobody was. Over any others it is void: zeros are summed, and
            all know at once that it goes on otherwise
    aside   sites that are not counted, whether they are there or not (peer/attendance.py)
    sites   how many of those have values
    called  names the call (answers.name_of): what it comes to is kept under it
    charge  charges what it costs of this site's records, once, and says ε behind it: called when its round begins here,
            and not before enough others are there
    leaves  called before the first word of the parts leaves, in whichever attempt
    of      what the sites agree beside that, where this sum is a part of something; it names `only` and `aside`
    """

    name: str
    marks: tuple[bytes, ...]
    least: int
    only: tuple[str, ...] = ()
    sites: int = 0
    called: bytes = b""
    charge: Callable[[], str] = nothing
    leaves: Callable[[], object] = nothing
    of: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    aside: tuple[str, ...] = ()

    def counted(self, sites: Sequence[str]) -> tuple[str, ...]:
        """Those of a round's sites whose values are in its sum."""
        return tuple(name for name in sites if name not in self.aside)


class SumRun:
    """The source of one sum of one or more vectors."""

    models: ModelStore | None = None  # a sum is applied to nothing

    def __init__(
        self,
        asked: Asked,
        parts: Sequence[Encoded],
        logs: Logs,
        run: bytes,
        salt: Encoded,
        keep: Callable[[Answer], None],
    ) -> None:
        """salt: from `salt`, drawn for this sum alone. keep: makes its answer durable before its round is final."""
        self.name, self.parts, self.logs, self.run = asked.name, (*parts, salt), logs, run
        self._asked, self._cohort, self._keep = asked, Cohort(logs, run, asked.name, asked.marks), keep
        self.answer: Answer | None = None
        self.patience_s = PATIENCE_S

    @property
    def question(self) -> codec.Facts:
        """What the sites agree that they sum: the configuration of its round."""
        vectors = [part.configuration for part in self.parts]
        return {"purpose": "sum", "name": self.name, **self._asked.of, "vectors": vectors}

    def length(self, asked: int) -> int:
        """A sum has as many rounds as it was asked for."""
        return asked

    def missed(self, before: int) -> bool:
        """Of the rounds that the ledger holds behind the first `before`, one answers this very question."""
        return any(record["configuration"] == self.question for record in self.logs.rounds(self.run)[before:])

    def propose(self, number: int, base: int) -> Offer:
        """Offer the vector. What a sum rests on is not a model, but the sums before it are named all the same.

        Raises PassWouldOverspend where it is charged, and more than the budget holds.
        """
        payload = sum(part.reading.words * part.reading.field.word_bytes for part in self.parts)
        return Offer(NO_MODEL, self.question, b"", self._asked.charge(), payload, self.patience_s)

    def shape(self, number: int) -> tuple[tuple[int, int], ...]:
        """(bits, words) of each vector."""
        return tuple(part.shape for part in self.parts)

    def words(self, effect: e.Quantise) -> tuple[e.Vector, ...]:
        """The vectors, the same in every attempt; the cohort is bound before the first of it leaves.

        Raises AnotherCohort when any of the data were summed over other sites, or may have been; TooFewContribute.
        """
        asked = self._asked
        sites = asked.counted(effect.survivors)
        if self._is_void(sites) or self.logs.home.name not in sites:
            *void, salt = self.parts
            return (*(part.zeros for part in void), salt.vector)
        if len(sites) < asked.least:
            raise too_few(self.name, len(sites), asked.least)
        self._cohort.bind(effect, sites)
        asked.leaves()
        if tuple(room.shape for room in effect.rooms) != self.shape(effect.round):
            return tuple(part.vector for part in self.parts)
        return tuple(part.vector_in(room) for part, room in zip(self.parts, effect.rooms, strict=True))

    def _is_void(self, sites: tuple[str, ...]) -> bool:
        """Other sites than these were counted for the sum."""
        return bool(self._asked.only and sites != self._asked.only)

    def apply(self, effect: e.Apply) -> tuple[bytes, codec.Facts]:
        """Check and keep the sum. The ledger holds its digest; its value goes to those who asked this very question.

        A site that was away is given the round that it missed first.
        """
        if codec.read_facts(effect.configuration) != self.question:
            return NO_MODEL, {}
        count, asked = len(effect.survivors), self._asked
        counted = asked.counted(effect.survivors)
        is_void = self._is_void(counted)
        pairs = list(zip(self.parts, effect.vectors, strict=True))
        # What is certified is summed in no other attempt: the words make room for the numbers.
        self.parts = tuple(part.spent for part in self.parts)
        sums: tuple[Summed, ...] = ()
        within = all(part.within(vector.words, count) for part, vector in pairs)
        if within and not is_void:  # the last one is the salt
            sums = tuple(Summed(part.reading, one.words, one.room) for part, one in pairs[:-1])
        self.answer = Answer(asked.called, self.run, effect.round, counted, asked.sites, sums, effect.masked)
        if not is_void:  # of a void one nothing is told: the question goes on
            self._keep(self.answer)
        return NO_MODEL, {} if within else {"refused": BEYOND}

    def left(self, effect: e.LeftBehind) -> None:
        """Raises SumLeftBehind, which tells the caller who waits for the sum."""
        said = "this site's vector was sent, and its sum may still come out" if effect.sent else "nothing was sent"
        lacking = f"waited for {', '.join(effect.lacking)}" if effect.lacking else "no site was named as missing"
        raise SumLeftBehind(round=effect.round, sent=said, evidence=lacking)
