"""What a sum came to, kept in the home from before its round is final until its caller has it.

A process may die when the sum is final and nobody was told: the others have gone, and no later round gives the number
again. So the same call of a later process is answered from here. One answer is kept at a time, sealed like everything
in the home: the caller's word, or the next sum of this home, ends it. Words lie there as they are in memory, with how
they are read: numbers are made of them once, for the caller. Many words are not written a second time: their masked
sums are on the disk since READY, so the answer holds the keys that open these, and their words only once they must go.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from p2pfl import codec
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.home import AnswerLost, ItemDamaged
from p2pfl.home import Home
from p2pfl.home.journal import SMALL_BYTES
from p2pfl.keys import SEED_BYTES, digest
from p2pfl.node.logs import Logs
from p2pfl.node.runs.cohort import flat
from p2pfl.node.runs.readings import ReadAs, Summed, SumValue
from p2pfl.roster import MOST_PEERS
from p2pfl.sharing.digests import bulk_digest
from p2pfl.sharing.events import Words
from p2pfl.sharing.field import bytes_of
from p2pfl.sharing.masked_sums import MaskedSums
from p2pfl.sharing.masking import unmask
from p2pfl.sharing.snapshot import read_vectors
from p2pfl.sharing.state import SUMS_ITEMS

ITEM: Final = "state/answer"
MOST_HEAD: Final = 1 << 16  # bytes before the numbers: MOST_PEERS sites, a few readings, a key for each of both
RUN_BYTES: Final = 64  # a run, packed, before what the home keeps of it


@dataclass(frozen=True)
class Answer:
    """The checked sum of one call.

    asked      names the call: `name_of`
    run        the round is of this run
    sites      how many of the survivors have values, where that was counted before; else 0
    sums       of each vector; none where the sum lies beyond what its sites may put in
    masked     of which words on the disk these were made, if they stay there: of the first segments of those
    """

    asked: bytes
    run: bytes
    round: int
    survivors: tuple[str, ...]
    sites: int
    sums: tuple[Summed, ...]
    masked: MaskedSums | None = None

    @functools.cached_property
    def totals(self) -> tuple[SumValue, ...]:
        """The numbers of each vector, read when they are first asked for."""
        return tuple(one.read() for one in self.sums)


def name_of(key: bytes, of: bytes, terms: Sequence[Any], values: Sequence[Any]) -> bytes:
    """32 bytes that name one call: its federation, its terms, and the values as they were given, in their order.

    key   this home's secret for queries: nobody else finds values by trying
    Numbers are hashed where they lie, as all bulk is (docs/adr/0067).
    """
    return digest("answer", key, of, repr(tuple(terms)).encode(), *(_bytes_of(one) for one in values))


def _bytes_of(values: Any) -> bytes:
    array = flat(values)
    if array.dtype == object or array.dtype.kind in "US":
        return "\0".join(map(str, array.tolist())).encode()
    return array.dtype.str.encode() + bulk_digest(np.ascontiguousarray(array).data)


def keep(home: Home, answer: Answer) -> None:
    """It is durable with the record that is about to be signed, in the place of whatever answer was kept before."""
    home.replace(ITEM, packed(answer), soon=True)


def packed(answer: Answer) -> codec.Pieces:
    """As it lies in the home; its words are not copied, and many not written where the disk has what they are of."""
    rows = tuple(one.reading.row for one in answer.sums)
    head = (answer.asked, answer.run, answer.round, answer.survivors, answer.sites, rows)
    words = [bytes_of(one.words) for one in answer.sums]
    if answer.masked is not None and sum(map(len, words)) > SMALL_BYTES:
        of = answer.masked
        short = codec.with_tail((*head, (of.item, of.attempt_digest, of.keys[: len(rows)])))
        if short.size <= MOST_HEAD:
            return short
    return codec.with_tail(head, *words)


def kept(home: Home, logs: Logs, called: bytes) -> Answer | None:
    """The answer to that call, if its round is final and nobody has fetched it yet.

    Raises AnswerLost where it cannot be read any more, once: the next call finds none, and sums anew.
    """
    try:
        data = home.read(ITEM)
        head = None if data is None else _head(data)[0]
    except (ItemDamaged, codec.Malformed) as error:
        raise _lost(home, error) from None  # of whichever call: its name is gone too
    if data is None or head is None or head[0] != called:
        return None  # of another call: whether its words can still be had is no matter of this one
    _, run, number, survivors, *_ = head
    if not any((one["round"], one["survivors"]) == (number, list(survivors)) for one in logs.rounds(run)):
        return None
    try:
        return read_answer(data, home.read)
    except (ItemDamaged, codec.Malformed) as error:
        raise _lost(home, error, f"; round {number}, over {', '.join(survivors)}, of whom each was given it") from None


def _lost(home: Home, error: Exception, where: str = "") -> AnswerLost:
    """The answer is let go with this error: it would answer every such call from now on, and say nothing else."""
    home.remove(ITEM)
    found = f"{error.happened} {error.evidence}" if isinstance(error, ItemDamaged) else str(error)
    return AnswerLost(evidence=f"{found}{where}", name=home.name, path=home.path)


def hold_words(home: Home, going: Iterable[str]) -> None:
    """Before these items are written over or removed: an answer that is made of one of them holds its words itself.

    Durable on return. Where it or they are damaged nobody can read the answer any more, and nothing changes.
    """
    with suppress(ItemDamaged, codec.Malformed):
        if (data := home.read(ITEM)) is None:
            return
        *_, of = _head(data)[0]
        if isinstance(of, MaskedSums) and of.item in going:
            home.replace(ITEM, packed(replace(read_answer(data, home.read), masked=None)))


def read_answer(data: codec.Buffer, read: Callable[[str], bytes | None] = lambda item: None) -> Answer:
    """Undo `packed`; the words are views of `data`, or made of masked ones. Raises Malformed, and what `read` raises.

    read   gives an item of the home
    """
    (asked, run, number, survivors, sites, rows, masked), tail = _head(data)
    readings = [ReadAs.of_row(row) for row in rows]
    if masked is not None:
        sums = [*map(Summed, readings, _unmasked(masked, run, readings, read))]
        return Answer(asked, run, number, survivors, sites, tuple(sums), masked)
    sums = []
    for reading in readings:
        size = reading.words * reading.field.word_bytes
        sums.append(_summed(reading, tail[:size]))
        tail = tail[size:]
    if len(tail):
        raise codec.Malformed(f"no answer: {len(tail)} bytes behind its last word")
    return Answer(asked, run, number, survivors, sites, tuple(sums))


def _head(data: codec.Buffer) -> tuple[tuple[Any, ...], memoryview]:
    """The fields of an answer, the last one what it is made of or None; and its words. Raises Malformed."""
    head, tail = codec.split_tail(data, most=MOST_HEAD, items=MOST_PEERS)
    try:
        asked, run, number, survivors, sites, rows, *of = head
    except (TypeError, ValueError):
        raise codec.Malformed("no answer") from None
    places = isinstance(asked, bytes) and isinstance(run, bytes) and type(number) is int and type(sites) is int
    named = isinstance(survivors, tuple) and all(isinstance(one, str) for one in survivors)
    if not (places and named and isinstance(rows, tuple) and len(of) < 2):
        raise codec.Malformed("no answer: a field of another type")
    return (asked, run, number, survivors, sites, rows, _masked(of[0], len(rows)) if of else None), tail


def _masked(row: Any, vectors: int) -> MaskedSums:
    try:
        item, attempt, keys = row
        keyed = bool(keys) and len(keys) == vectors and all(_is_key(key) for one in keys for key in one)
    except (TypeError, ValueError):
        raise codec.Malformed("no answer: of no masked sums") from None
    if not (item in SUMS_ITEMS and isinstance(attempt, bytes) and keyed):
        raise codec.Malformed("no answer: of no masked sums")
    return MaskedSums(item, attempt, keys)


def _is_key(key: Any) -> bool:
    return isinstance(key, bytes) and len(key) == SEED_BYTES


def _unmasked(
    of: MaskedSums, run: bytes, readings: Sequence[ReadAs], read: Callable[[str], bytes | None]
) -> list[Words]:
    """The words of each vector: the masked ones, less what the keys give."""
    data = read(of.item)
    held, inner = (b"", b"") if data is None else codec.split_tail(data, most=RUN_BYTES, items=0)
    vectors = read_vectors(inner, of.attempt_digest) if held == run else ()
    shapes = [(one.bits, one.words.size) for one in vectors[: len(readings)]]
    if shapes != [(reading.bits, reading.words) for reading in readings]:
        raise codec.Malformed("no answer: the masked sums that it is of are gone")
    return [
        unmask(vector.words, keys, field=reading.field, out=reading.field.zeros(reading.words))
        for vector, reading, keys in zip(vectors, readings, of.keys, strict=False)
    ]


def _summed(reading: ReadAs, data: memoryview) -> Summed:
    try:
        return Summed(reading, reading.field.from_bytes(data, reading.words, peer="this home"))
    except RemoteProtocolError as error:
        raise codec.Malformed(f"no answer: {error.happened}") from None


def forget(home: Home) -> None:
    """The caller has it."""
    home.remove(ITEM, soon=True)
