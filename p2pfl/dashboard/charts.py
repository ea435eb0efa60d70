"""Small curves as geometry; a template draws them with attributes that the page's policy allows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 560.0
HEIGHT: Final = 130.0
LEFT: Final = 66.0  # for the numbers of the axis, which a phone shows larger
PAD: Final = 8.0


@dataclass(frozen=True, slots=True)
class Chart:
    """points, band: as `points` of SVG. marks: (x, y) of each value. ticks: (y, text). limit: y of a line, or None.

    alt   what it shows, in words
    """

    points: str
    band: str
    marks: tuple[tuple[float, float], ...]
    ticks: tuple[tuple[float, str], ...]
    first: str
    last: str
    limit: float | None
    alt: str


def _numbers(*values: float) -> list[str]:
    """Each in three digits, all with as many decimals as the one that needs most: 0.922 and 0.820; 54.5 and 0."""
    told = [f"{value:.3g}" for value in values]
    decimals = max((len(text.partition(".")[2]) for text in told if "e" not in text), default=0)
    return [
        text if value == 0 or "e" in text else f"{value:.{decimals}f}" for value, text in zip(values, told, strict=True)
    ]


def chart(
    rows: Sequence[tuple[int, float, float | None, float | None]],
    title: str,
    limit: float | None = None,
    base: float | None = None,
) -> Chart | None:
    """rows: (place, value, low, high), in order; limit: a line across; base: where the axis begins, else at the lowest.

    None without rows.
    """
    if not rows:
        return None
    values = [part for part in (*(part for row in rows for part in row[1:]), limit, base) if part is not None]
    low, high = min(values), max(values)
    low, high = (low - 0.5, high + 0.5) if high == low else (low, high)
    places = [row[0] for row in rows]
    wide = max(places[-1] - places[0], 1)

    def x(place: int) -> float:
        return round(LEFT + PAD + (WIDTH - LEFT - 2 * PAD) * (place - places[0]) / wide, 1)

    def y(value: float) -> float:
        return round(PAD + (HEIGHT - 2 * PAD) * (high - value) / (high - low), 1)

    banded = [row for row in rows if row[2] is not None and row[3] is not None]
    top = [f"{x(row[0])},{y(row[3] or 0.0)}" for row in banded]
    bottom = [f"{x(row[0])},{y(row[2] or 0.0)}" for row in reversed(banded)]
    ends = f"{rows[0][1]:.3g} at {places[0]}, {rows[-1][1]:.3g} at {places[-1]}"
    return Chart(
        points=" ".join(f"{x(row[0])},{y(row[1])}" for row in rows),
        band=" ".join([*top, *bottom]) if len(banded) > 1 else "",
        marks=tuple((x(row[0]), y(row[1])) for row in rows[-60:]),
        ticks=tuple(zip((y(high), y(low)), _numbers(high, low), strict=True)),
        first=str(places[0]),
        last=str(places[-1]),
        limit=None if limit is None else y(limit),
        alt=f"{title}: {ends}" + (f"; the limit is {limit:g}" if limit is not None else ""),
    )
