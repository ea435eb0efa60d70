"""Integers and decimals ► words and back, exactly: what `p2pfl sum` adds up. Floats on a scale are in quantiser.py.

A value beyond its limit is refused where it is; settings under which a sum could wrap cannot be built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.sharing import LimitInvalid, SumCouldWrap, ValueNotFinite, ValueOverLimit
from p2pfl.sharing.field import Field, Words
from p2pfl.sharing.quantiser import largest

MOST_DECIMALS: Final = 18  # digits after the point
DECIMAL_DIGITS: Final = 60


@dataclass(frozen=True)
class FixedPoint:
    """Decimals as words, exact: for `p2pfl sum`, where a value over the limit is refused and never clipped.

    A value v travels as the integer v·10^decimals (half to even, where it has more decimals).
    limit     largest absolute value at any peer
    decimals  digits after the point, 0 … 18
    Raises LimitInvalid, and SumCouldWrap when n·limit·10^decimals > (p−1)/2.
    """

    field: Field
    n: int
    limit: Decimal
    decimals: int

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= MOST_DECIMALS:
            raise LimitInvalid(evidence=f"decimals is {self.decimals}, wanted 0 to {MOST_DECIMALS}", setting="decimals")
        if not (self.limit.is_finite() and self.limit > 0):
            raise LimitInvalid(evidence=f"limit is {self.limit}", setting="limit")
        if self.largest > largest(self.field, self.n):
            room = largest(self.field, self.n)
            evidence = f"limit·10^{self.decimals} is {self.largest}, room for {room}"
            raise SumCouldWrap(evidence=evidence, n=self.n, p=self.field.p)

    @property
    def largest(self) -> int:
        """limit·10^decimals, rounded up: no value within the limit rounds beyond it."""
        with localcontext(prec=DECIMAL_DIGITS):
            return int(self.limit.scaleb(self.decimals).to_integral_value(ROUND_CEILING))

    def encode(self, values: Sequence[Decimal | int | float | str] | npt.NDArray[Any]) -> Words:
        """(m,) words for the values. Floats count as the shortest decimal that names them (repr).

        Raises ValueOverLimit, ValueNotFinite; neither shows a value.
        """
        listed = values.tolist() if isinstance(values, np.ndarray) else values
        integers = [self._integer(value, place, len(listed)) for place, value in enumerate(listed)]
        return self.field.encode(np.array(integers, np.int64))

    def decode(self, words: Words) -> tuple[Decimal, ...]:
        """The exact decimals that (m,) words of the unmasked sum stand for."""
        return decimals_of(words, self.field, self.decimals)

    def within(self, words: Words, survivors: int) -> bool:
        """True when no number of the unmasked sum exceeds survivors × limit, as none of honest peers can."""
        integers = self.field.centred(words)
        return not integers.size or int(np.abs(integers).max()) <= survivors * self.largest

    def _integer(self, value: Decimal | int | float | str, place: int, count: int) -> int:
        evidence = f"value {place} of {count}"
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            exact = Decimal(repr(plain) if isinstance(plain, float) else plain)
        except InvalidOperation:
            raise ValueNotFinite(evidence=evidence) from None
        if not exact.is_finite():
            raise ValueNotFinite(evidence=evidence)
        if exact.copy_abs() > self.limit:
            raise ValueOverLimit(evidence=f"{evidence}; the limit is {self.limit}")
        with localcontext(prec=DECIMAL_DIGITS):
            return int(exact.quantize(Decimal((0, (1,), -self.decimals)), ROUND_HALF_EVEN).scaleb(self.decimals))


def decimals_of(words: Words, field: Field, decimals: int) -> tuple[Decimal, ...]:
    """The exact decimals that (m,) words stand for, with so many digits after the point."""
    with localcontext(prec=DECIMAL_DIGITS):
        return tuple(Decimal(each).scaleb(-decimals) for each in field.centred(words).tolist())
