"""What every question of a kind must be: named once, so that a parameter out of range is told in the same words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NoReturn

from p2pfl.errors.statistics import WrongQuestion
from p2pfl.statistics.question import Factor, Quantity, Variable

MOST_BOUND: Final = 1e15  # of a column: its square is far from where floats end


def refuse(kind: str, evidence: str) -> NoReturn:
    raise WrongQuestion(kind=kind, evidence=evidence)


def check_columns(kind: str, variables: Sequence[Variable], *, least: int = 1, most: int = 64) -> None:
    """As many columns as belong there, no name twice, bounds and levels that can be. Raises WrongQuestion."""
    names = [one.name for one in variables]
    if not least <= len(names) <= most:
        refuse(kind, f"{len(names)} columns, wanted {least} to {most}")
    for place, name in enumerate(names):
        if name in names[:place]:
            refuse(kind, f"{name} is named twice")
    for one in variables:
        if isinstance(one, Factor) and (not one.levels or len(set(one.levels)) < len(one.levels)):
            refuse(kind, f"{one.name} has no levels, or one of them twice")
        if isinstance(one, Quantity) and not (-MOST_BOUND <= one.low < one.high <= MOST_BOUND):
            refuse(kind, f"the bounds of {one.name} are {one.low:g} and {one.high:g}")


def check_increasing(kind: str, what: str, values: Sequence[float], *, least: int, most: int = 4096) -> None:
    """Finite numbers, each above the one before. Raises WrongQuestion."""
    if not least <= len(values) <= most:
        refuse(kind, f"{len(values)} {what}, wanted {least} to {most}")
    if not all(map(math.isfinite, values)) or any(after <= before for before, after in pairwise(values)):
        refuse(kind, f"{what} must be finite, each above the one before")


def check_between(kind: str, what: str, value: float, low: float, high: float) -> None:
    """Raises WrongQuestion."""
    if not low <= value <= high:
        refuse(kind, f"{what} is {value:g}, wanted {low:g} to {high:g}")


def check_level(kind: str, factor: Factor, levels: Sequence[str]) -> None:
    """`levels` are some of the factor's, not none and not all. Raises WrongQuestion."""
    strange = [one for one in levels if one not in factor.levels]
    if strange:
        refuse(kind, f"{factor.name} has no level {strange[0]}: known are {', '.join(factor.levels)}")
    if not levels or len(set(levels)) >= len(factor.levels):
        refuse(kind, f"{factor.name}: name some of its levels, not none and not all")
