"""What a sum came to, kept in the home from before its round is final until its caller has it.

A process may die when the sum is final and nobody was told: the others have gone, and no later round gives the number
again. So the same call of a later process is answered from here. One answer is kept at a time, sealed like everything
in the home: the caller's word, or the next sum of this home, ends it. Words lie there as they are in memory, with how
they are read: numbers are made of them once, for the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from p2pfl import codec
from p2pfl.errors import RemoteProtocolError
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.node.logs import Logs
from p2pfl.node.runs.cohort import flat
from p2pfl.node.runs.readings import ReadAs, Summed, SumValue
from p2pfl.roster import MOST_PEERS
from p2pfl.sharing.field import bytes_of

ITEM: Final = "state/answer"
MOST_HEAD: Final = 1 << 14  # bytes before the numbers: the names of MOST_PEERS sites, and a few readings


@dataclass(frozen=True)
class Answer:
    """The checked sum of one call.

    asked      names the call: `name_of`
    run        the round is of this run
    sites      how many of the survivors have values, where that was counted before; else 0
    sums       of each vector; none where the sum lies beyond what its sites may put in
    """

    asked: bytes
    run: bytes
    round: int
    survivors: tuple[str, ...]
    sites: int
    sums: tuple[Summed, ...]

    @functools.cached_property
    def totals(self) -> tuple[SumValue, ...]:
        """The numbers of each vector, read when they are first asked for."""
        return tuple(one.read() for one in self.sums)


def name_of(key: bytes, of: bytes, terms: Sequence[Any], values: Sequence[Any]) -> bytes:
    """32 bytes that name one call: its federation, its terms, and the values as they were given, in their order.

    key   this home's secret for queries: nobody else finds values by trying
    """
    return digest("answer", key, of, repr(tuple(terms)).encode(), *(_bytes_of(one) for one in values))


def _bytes_of(values: Any) -> bytes:
    array = flat(values)
    if array.dtype == object or array.dtype.kind in "US":
        return "\0".join(map(str, array.tolist())).encode()
    return array.dtype.str.encode() + np.ascontiguousarray(array).tobytes()


def keep(home: Home, answer: Answer) -> None:
    """It is durable with the record that is about to be signed, in the place of whatever answer was kept before."""
    home.replace(ITEM, packed(answer), soon=True)


def packed(answer: Answer) -> codec.Pieces:
    """As it lies in the home; its words are not copied."""
    rows = tuple(one.reading.row for one in answer.sums)
    head = (answer.asked, answer.run, answer.round, answer.survivors, answer.sites, rows)
    return codec.with_tail(head, *(bytes_of(one.words) for one in answer.sums))


def kept(home: Home, logs: Logs, called: bytes) -> Answer | None:
    """The answer to that call, if its round is final and nobody has fetched it yet. Raises ItemDamaged, Malformed."""
    data = home.read(ITEM)
    found = None if data is None else read_answer(data)
    if found is None or found.asked != called:
        return None
    at = (found.round, list(found.survivors))
    return found if any((one["round"], one["survivors"]) == at for one in logs.rounds(found.run)) else None


def read_answer(data: codec.Buffer) -> Answer:
    """Undo `packed`; the words are views of `data`. Raises Malformed."""
    head, tail = codec.split_tail(data, most=MOST_HEAD, items=MOST_PEERS)
    try:
        asked, run, number, survivors, sites, rows = head
    except (TypeError, ValueError):
        raise codec.Malformed("no answer") from None
    places = isinstance(asked, bytes) and isinstance(run, bytes) and type(number) is int and type(sites) is int
    named = isinstance(survivors, tuple) and all(isinstance(one, str) for one in survivors)
    if not (places and named and isinstance(rows, tuple)):
        raise codec.Malformed("no answer: a field of another type")
    sums = []
    for reading in map(ReadAs.of_row, rows):
        size = reading.words * reading.field.word_bytes
        sums.append(_summed(reading, tail[:size]))
        tail = tail[size:]
    if len(tail):
        raise codec.Malformed(f"no answer: {len(tail)} bytes behind its last word")
    return Answer(asked, run, number, survivors, sites, tuple(sums))


def _summed(reading: ReadAs, data: memoryview) -> Summed:
    try:
        return Summed(reading, reading.field.from_bytes(data, reading.words, peer="this home"))
    except RemoteProtocolError as error:
        raise codec.Malformed(f"no answer: {error.happened}") from None


def forget(home: Home) -> None:
    """The caller has it."""
    home.remove(ITEM, soon=True)
