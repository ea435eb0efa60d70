"""One secure sum as a run of one round: integers and decimals exactly, floats on a declared scale. Nothing is clipped.

A value over the limit is refused at its own site, before anything is dealt. A static input differs from a fresh
update: two answers over sets that differ by one site are that site's value. So every answer is noted in the site log
with its name and its sites, and a query of the same name over other sites is refused (DESIGN §4.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.books import Books
from p2pfl.errors.round import AnotherCohort, LimitMissing
from p2pfl.errors.sharing import ValueOverLimit
from p2pfl.keys import digest
from p2pfl.ledger import entry as entries
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import FixedPoint, Quantiser, largest
from p2pfl.source import Offer

Total = npt.NDArray[Any] | tuple[Decimal, ...]
NO_MODEL: Final = digest("model", b"none")
EXACT_BITS: Final = 61


@dataclass(frozen=True)
class Encoded:
    """A vector as words, the facts that all sites must share about it, and the way back from the sum."""

    vector: e.Vector
    configuration: codec.Facts
    decode: Callable[[e.Words, int, bytes], Total]


def encode(
    values: Any,
    *,
    peers: int,
    bits: int,
    limit: float | Decimal | None,
    decimals: int | None,
    draw: Callable[[int], bytes],
) -> Encoded:
    """Words for `values`: exact when they are integers or `decimals` is given, else floats on the scale of `limit`.

    values    numpy array (m,), torch tensor (any shape, flattened), or a sequence of numbers
    limit     largest absolute value at any site; the same at all of them
    decimals  digits after the point that count; the sum is then exact, of Decimals
    Raises LimitMissing, ValueOverLimit, ValueNotFinite, SumCouldWrap.
    """
    if decimals is not None:
        return _decimals(values, peers, limit, decimals)
    array = _flat(values)
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return _integers(array, peers, limit)
    return _floats(array, peers, bits, limit, draw)


def _flat(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):  # a torch tensor, without importing torch for it
        values = values.detach().cpu().numpy()
    return np.asarray(values).reshape(-1)


def _decimals(values: Any, peers: int, limit: float | Decimal | None, decimals: int) -> Encoded:
    field = FIELDS[EXACT_BITS]
    room = Decimal(largest(field, peers)).scaleb(-decimals)
    most = room if limit is None else Decimal(str(limit))
    grid = FixedPoint(field, peers, most, decimals)
    listed = _flat(values).tolist() if hasattr(values, "detach") or isinstance(values, np.ndarray) else list(values)
    words = grid.encode(listed)
    facts = {"as": "decimals", "decimals": decimals, "limit": str(most), "length": len(listed), "field": EXACT_BITS}
    return Encoded(e.Vector(EXACT_BITS, words), facts, lambda total, survivors, seed: grid.decode(total))


def _integers(array: npt.NDArray[Any], peers: int, limit: float | Decimal | None) -> Encoded:
    field = FIELDS[EXACT_BITS]
    most = largest(field, peers) if limit is None else int(limit)
    FixedPoint(field, peers, Decimal(most), 0)  # refuses a limit under which a sum could wrap
    values = array.astype(np.int64)
    if array.size and (int(array.max()) > most or int(array.min()) < -most):
        raise ValueOverLimit(evidence=f"one of {array.size} integers; the limit is {most}")
    facts = {"as": "integers", "limit": str(most), "length": int(array.size), "field": EXACT_BITS}
    words = field.encode(values)
    return Encoded(e.Vector(EXACT_BITS, words), facts, lambda total, survivors, seed: field.centred(total))


def _floats(
    array: npt.NDArray[Any], peers: int, bits: int, limit: float | Decimal | None, draw: Callable[[int], bytes]
) -> Encoded:
    if limit is None:
        raise LimitMissing(evidence=f"{array.size} values of type {array.dtype}, limit=None")
    most, size = float(limit), int(array.size)
    grid = Quantiser(FIELDS[bits], peers, 0.0, most, False)
    floats = array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    words, clipped = grid.quantise(floats, bytes(32), draw(32))
    if clipped.count:
        raise ValueOverLimit(evidence=f"{clipped.count} of {size} floats; the limit is {most:g}")
    facts = {"as": "floats", "limit": repr(most), "length": size, "field": bits}

    def decode(total: e.Words, survivors: int, seed: bytes) -> Total:
        return grid.dequantise_sum(total, survivors, seed, size)

    return Encoded(e.Vector(bits, words), facts, decode)


class SumRun:
    """The source of one sum of one or more vectors: `name` is what the sites call it, and they must agree on it."""

    def __init__(self, name: str, parts: Sequence[Encoded], books: Books, run: bytes, mark: bytes) -> None:
        self.name, self.parts, self.books, self.run, self.mark = name, tuple(parts), books, run, mark
        self.totals: tuple[Total, ...] = ()
        self.survivors: tuple[str, ...] = ()

    def propose(self, number: int) -> Offer:
        """Offer the vector, if no answer of this name was given over other sites. Raises AnotherCohort."""
        members = self._members()
        for facts in self._answers():
            if facts["query"] == self.name and facts["members"] != members:
                evidence = f"then over {', '.join(facts['members'])}; now over {', '.join(members)}"
                raise AnotherCohort(query=self.name, evidence=evidence)
        vectors = [part.configuration for part in self.parts]
        payload = sum(part.vector.words.nbytes for part in self.parts)
        return Offer(NO_MODEL, {"purpose": "sum", "name": self.name, "vectors": vectors}, b"", "", payload)

    def _members(self) -> list[str]:
        genesis = codec.read_facts(self.books.federation[0].record)
        return [name for name, _ in genesis["peers"]]

    def _answers(self) -> list[codec.Facts]:
        held = (codec.read_facts(one.record) for one in self.books.site.records())
        return [facts for facts in held if facts.get("kind") == "query"]

    def words(self, attempt_digest: bytes, supports: dict[str, bytes]) -> tuple[e.Vector, ...]:
        """The vectors, the same in every attempt; the cohort is noted before the first of it leaves."""
        data = digest("query data", self.mark, *(part.vector.words.tobytes() for part in self.parts))
        members, number = self._members(), self.books.final_round(self.run) + 1
        self.books.note(
            entries.query(time=self.books.time, run=self.run, round=number, query=self.name, data=data, members=members)
        )
        return tuple(part.vector for part in self.parts)

    def apply(self, effect: e.Apply, number: int) -> tuple[bytes, codec.Facts]:
        """Read the sum. The ledger holds its digest; its value goes to those who asked."""
        self.survivors = effect.survivors
        count = len(effect.survivors)
        pairs = zip(self.parts, effect.vectors, strict=True)
        self.totals = tuple(part.decode(vector.words, count, effect.attempt_digest) for part, vector in pairs)
        return NO_MODEL, {}

    def keep(self, number: int) -> None:
        """A sum changes nothing on the disk."""

    def adopt(self, number: int) -> None:
        """A sum changes nothing on the disk."""
