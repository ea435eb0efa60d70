"""What a sum came to, kept in the home from before its round is final until its caller has it.

A process may die when the sum is final and nobody was told: the others have gone, and no later round gives the number
again. So the same call of a later process is answered from here. One answer is kept at a time, sealed like everything
in the home: the caller's word, or the next sum of this home, ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.node.logs import Logs
from p2pfl.node.runs.cohort import flat
from p2pfl.sharing.field import bytes_of

SumValue = npt.NDArray[Any] | tuple[Decimal, ...]
ITEM: Final = "state/answer"
MOST_HEAD: Final = 1 << 12  # bytes before the numbers
MOST_ITEMS: Final = 128  # sites, or vectors
DECIMALS: Final = "decimals"
KINDS: Final = ("<i8", "<f8", "<f4")  # of numpy, in which sums come


@dataclass(frozen=True, slots=True)
class Answer:
    """The checked sum of one call.

    asked      names the call: `name_of`
    run        the round is of this run
    sites      how many of the survivors have values, where that was counted before; else 0
    totals     of each vector; none where the sum lies beyond what its sites may put in
    """

    asked: bytes
    run: bytes
    round: int
    survivors: tuple[str, ...]
    sites: int
    totals: tuple[SumValue, ...]


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
    """It is durable, in the place of whatever answer was kept before."""
    sizes, pieces = [], []
    for total in answer.totals:
        kind, piece = _packed(total)
        sizes.append((kind, len(piece)))
        pieces.append(piece)
    head = (answer.asked, answer.run, answer.round, answer.survivors, answer.sites, tuple(sizes))
    home.replace(ITEM, codec.with_tail(head, *pieces))


def _packed(total: SumValue) -> tuple[str, codec.Buffer]:
    """How the numbers are written, and their bytes."""
    if isinstance(total, tuple):
        return DECIMALS, "\0".join(map(str, total)).encode("ascii")
    little = np.ascontiguousarray(total, total.dtype.newbyteorder("<"))
    return little.dtype.str, bytes_of(little)


def kept(home: Home, logs: Logs, called: bytes) -> Answer | None:
    """The answer to that call, if its round is final and nobody has fetched it yet. Raises ItemDamaged, Malformed."""
    data = home.read(ITEM)
    found = None if data is None else read_answer(data)
    if found is None or found.asked != called:
        return None
    at = (found.round, list(found.survivors))
    return found if any((one["round"], one["survivors"]) == at for one in logs.rounds(found.run)) else None


def read_answer(data: codec.Buffer) -> Answer:
    """Undo what `keep` wrote. Raises Malformed."""
    head, tail = codec.split_tail(data, most=MOST_HEAD, items=MOST_ITEMS)
    try:
        asked, run, number, survivors, sites, sizes = head
        totals = []
        for kind, size in sizes:
            totals.append(_total(kind, tail[:size]))
            tail = tail[size:]
        return Answer(bytes(asked), bytes(run), int(number), tuple(map(str, survivors)), int(sites), tuple(totals))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise codec.Malformed(f"no answer: {type(error).__name__}") from None


def _total(kind: str, data: memoryview) -> SumValue:
    if kind == DECIMALS:
        return tuple(Decimal(one) for one in bytes(data).decode("ascii").split("\0")) if data else ()
    if kind not in KINDS:
        raise ValueError(kind)
    return np.frombuffer(data, kind).copy()


def forget(home: Home) -> None:
    """The caller has it."""
    if home.place(ITEM).exists():
        home.remove(ITEM)
