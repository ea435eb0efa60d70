"""Statistics as sums: what each site packs into a vector, and what the summed vector says.

Exact: Decimal and integers in, so that the order of sites and the machine do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Final

from p2pfl.errors.sharing import NothingToAverage

DIGITS: Final = 50  # of intermediate sums: products of two 61-bit totals have 38


def mean_parts(values: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    """(Σx, count): one site's vector for a mean."""
    with localcontext(prec=DIGITS):
        return sum(values, Decimal(0)), Decimal(len(values))


def mean_of(total: Sequence[Decimal]) -> Decimal:
    """The mean over all sites, from the sum of their `mean_parts`. Raises NothingToAverage when there is no value."""
    values, count = total
    if count < 1:
        raise NothingToAverage(evidence=f"{count} values at all sites together")
    return values / count


def variance_parts(values: Sequence[Decimal]) -> tuple[Decimal, Decimal, Decimal]:
    """(Σx, Σx², count): one site's vector for a variance."""
    with localcontext(prec=DIGITS):
        return sum(values, Decimal(0)), sum((x * x for x in values), Decimal(0)), Decimal(len(values))


def variance_of(total: Sequence[Decimal]) -> Decimal:
    """The sample variance (divisor count − 1) over all sites. Raises NothingToAverage below two values.

    (count·Σx² − (Σx)²) / (count·(count − 1)): exact up to the one division, so nothing cancels.
    """
    values, squares, count = total
    if count <= 1:
        raise NothingToAverage(evidence=f"{count} values at all sites together, wanted 2 or more")
    with localcontext(prec=DIGITS):
        return (count * squares - values * values) / (count * (count - 1))
