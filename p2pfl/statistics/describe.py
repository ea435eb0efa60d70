"""Each column by itself: count, missing, mean, variance, between which edges the extremes lie; levels of codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NothingMeasured
from p2pfl.statistics.checks import check_between, check_columns, check_increasing
from p2pfl.statistics.plan import SumPlan, Totals, present, scaled, tally
from p2pfl.statistics.question import (
    Cost,
    Factor,
    Floats,
    Integers,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)

MOST_BINS: Final = 4096


# ── moments ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one column in one group: how many, mean, sample variance (divisor count − 1); NaN where there are too few.

    noise   variance of the mean by the noise on the sums that it is made of; 0 where they are exact
    """

    count: int
    mean: float
    variance: float
    noise: float = 0.0

    @property
    def sd(self) -> float:
        return math.sqrt(self.variance)

    @property
    def mean_variance(self) -> float:
        """Of the mean, by who was sampled and by the noise."""
        return self.variance / self.count + self.noise

    @property
    def freedom(self) -> float:
        """Degrees of freedom of `mean_variance` (Satterthwaite): the noise's part is known, not estimated."""
        sampled = self.variance / self.count
        return (self.count - 1) * (self.mean_variance / sampled) ** 2 if sampled else math.inf

    @classmethod
    def of(
        cls, quantity: Quantity, count: int, first: Fraction, second: Fraction, noise: tuple[float, float] = (0.0, 0.0)
    ) -> Moments:
        """From Σz and Σz² of z = (x − centre) / half, exactly, so that nothing cancels but what rounding left.

        noise   variances of the noise on Σz and on the count; Σz / count has both, to first order
        """
        if not count:
            return cls(0, math.nan, math.nan)
        middle = float(first / count)
        spread = max(second - first * first / count, Fraction(0))
        variance = quantity.half**2 * float(spread / (count - 1)) if count > 1 else math.nan
        by_noise = quantity.half**2 * (noise[0] + middle**2 * noise[1]) / count**2
        return cls(count, quantity.centre + quantity.half * middle, variance, by_noise)


def powers(values: Floats, quantity: Quantity) -> tuple[float, float]:
    """(Σz, Σz²) of this site's `values`, which have no NaN."""
    z = scaled(values, quantity.centre, quantity.half)
    return float(z.sum()), float(z @ z)


# ── describe ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class DescribedQuantity:
    """`low_bin` and `high_bin`: between which edges the smallest and the largest value lie; () without bins, and with
    noise: a bin that nobody is in has a count of its own then."""

    name: str
    count: int
    missing: int
    mean: float
    variance: float
    sd: float
    low_bin: tuple[float, ...] = ()
    high_bin: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribedFactor:
    name: str
    count: int
    missing: int
    levels: tuple[str, ...]
    counts: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Described(StatisticResult):
    kind: ClassVar[str] = "describe"
    records: int
    quantities: tuple[DescribedQuantity, ...]
    factors: tuple[DescribedFactor, ...]

    def tables(self) -> tuple[TextTable, ...]:
        header = ("column", "count", "missing", "mean", "sd", "min from", "min to", "max from", "max to")
        rows = [
            (one.name, one.count, one.missing, one.mean, one.sd, *(one.low_bin or (None, None)))
            + (one.high_bin or (None, None))
            for one in self.quantities
        ]
        levels = [
            (one.name, level, count, share)
            for one in self.factors
            for level, count, share in zip(
                (*one.levels, "missing"), (*one.counts, one.missing), (*one.shares, None), strict=True
            )
        ]
        found = [TextTable(f"{self.records} records", header, tuple(rows))] if rows else []
        if levels:
            found.append(
                TextTable(
                    f"{self.records} records", ("column", "level", "count", "share of those known"), tuple(levels)
                )
            )
        return tuple(found)


@dataclass(frozen=True)
class Describe(Statistic):
    """`bins` equal bins over the schema's bounds tell between which edges the extremes lie; 0: they are not told.

    With noise the bins are not summed: an empty one would look as if somebody were in it, and each takes noise.
    """

    kind: ClassVar[str] = "describe"
    unbounded: ClassVar[str] = ""
    columns: tuple[Variable, ...]
    bins: int = 0

    def __post_init__(self) -> None:
        check_columns(self.kind, self.columns, most=256)
        check_between(self.kind, "bins", self.bins, 0, MOST_BINS)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return self.columns

    @property
    def together(self) -> tuple[tuple[Variable, ...], ...]:
        """None: each column is summed by itself."""
        return ()

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return tuple(one for one in self.columns if isinstance(one, Quantity))

    def cost(self) -> Cost:
        who, moments = self._who(), 2 * len(self.quantities)
        return Cost(2 if moments else 1, who.width + moments)

    def steps(self, table: SiteTable) -> Steps:
        if table.noised and self.bins:
            return (yield from replace(self, bins=0).steps(table))
        columns = [(one, table.read(one)) for one in self.columns]
        who, counts = self._who(), dict[str, object](records=table.records)
        for one, values in columns:
            known = values[present(values)]
            counts[f"known:{one.name}"] = [known.size, values.size - known.size]
            if self._inner(one):
                counts[f"levels:{one.name}"] = (
                    tally(known, len(one.levels)) if isinstance(one, Factor) else self._binned(one, known)
                )
        total = who.read((yield who.ask(counts)))
        known_of = {one.name: total.counts(f"known:{one.name}")[0] for one in self.columns}
        if not any(known_of.values()):
            raise NothingMeasured(
                evidence=f"{total.count('records')} records", columns=", ".join(one.name for one in self.columns)
            )
        moments: dict[str, Moments] = {}
        if self.quantities:
            plan = SumPlan("moments")
            for one in self.quantities:
                plan.reals(one.name, ("Σz", "Σz²"), table.most(known_of[one.name]), moves=math.sqrt(2))
            sums = {one.name: powers(v[present(v)], one) for one, v in columns if isinstance(one, Quantity)}
            second = plan.read((yield plan.ask(sums)))
            for one in self.quantities:
                of_z, of_squares = second.exact(one.name)
                moments[one.name] = Moments.of(one, known_of[one.name], of_z, of_squares)
        return self._described(total, moments)

    def _who(self) -> SumPlan:
        plan = SumPlan("who").counts("records", ("",), moves=1)
        for one in self.columns:
            plan.counts(f"known:{one.name}", ("", "missing"), moves=1)
            plan.total(("records", 0), [(f"known:{one.name}", 0), (f"known:{one.name}", 1)])
            if labels := self._inner(one):
                plan.counts(f"levels:{one.name}", labels, moves=1)
                plan.total((f"known:{one.name}", 0), [(f"levels:{one.name}", place) for place in range(len(labels))])
        return plan

    def _inner(self, one: Variable) -> tuple[str, ...]:
        """What the known values of a column are counted by."""
        return one.levels if isinstance(one, Factor) else tuple(f"bin {place}" for place in range(self.bins))

    def _edges(self, one: Quantity) -> Floats:
        return np.linspace(one.low, one.high, self.bins + 1)

    def _binned(self, one: Quantity, known: Floats) -> Integers:
        return np.histogram(known, self._edges(one))[0].astype(np.int64)

    def _described(self, total: Totals, moments: dict[str, Moments]) -> Described:
        quantities, factors = list[DescribedQuantity](), list[DescribedFactor]()
        for one in self.columns:
            known, missing = total.counts(f"known:{one.name}")
            if isinstance(one, Factor):
                counts = tuple(total.counts(f"levels:{one.name}"))
                shares = tuple(count / known if known else math.nan for count in counts)
                factors.append(DescribedFactor(one.name, known, missing, one.levels, counts, shares))
                continue
            found = moments[one.name]
            bins = (
                [place for place, count in enumerate(total.counts(f"levels:{one.name}")) if count] if self.bins else []
            )
            edges = self._edges(one).tolist()
            ends = [(edges[place], edges[place + 1]) for place in (bins[0], bins[-1])] if bins else [(), ()]
            of = (found.mean, found.variance, found.sd)
            quantities.append(DescribedQuantity(one.name, known, missing, *of, *ends))
        return Described(total.count("records"), tuple(quantities), tuple(factors))


# ── histogram ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class HistogramResult(StatisticResult):
    """`counts` of [edge, next edge), the last bin with its upper edge; `below` and `above` them."""

    kind: ClassVar[str] = "histogram"
    column: str
    records: int
    missing: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int

    def tables(self) -> tuple[TextTable, ...]:
        edges = (-math.inf, *self.edges, math.inf)
        rows = zip(edges, edges[1:], (self.below, *self.counts, self.above), strict=False)
        shown = tuple((low, high, count) for low, high, count in rows if count or math.isfinite(high - low))
        return (TextTable(f"{self.column}, {self.missing} missing", ("from", "to", "count"), shown),)


@dataclass(frozen=True)
class Histogram(Statistic):
    kind: ClassVar[str] = "histogram"
    unbounded: ClassVar[str] = ""
    column: Quantity
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables)
        check_increasing(self.kind, "edges", self.edges, least=2, most=MOST_BINS)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.column,)

    def cost(self) -> Cost:
        return Cost(1, self._plan().width)

    def steps(self, table: SiteTable) -> Steps:
        values = table.read(self.column)
        known = values[present(values)]
        below, above = int((known < self.edges[0]).sum()), int((known > self.edges[-1]).sum())
        counts = np.histogram(known, self.edges)[0]
        plan, missing = self._plan(), values.size - known.size
        total = plan.read((yield plan.ask({"records": table.records, "bins": [missing, below, above, *counts]})))
        missing, below, above, *bins = total.counts("bins")
        if missing == total.count("records"):
            raise NothingMeasured(evidence=f"{missing} records", columns=self.column.name)
        of = (self.column.name, total.count("records"), missing, self.edges, tuple(bins), below, above)
        return HistogramResult(*of)

    def _plan(self) -> SumPlan:
        labels = (
            "missing",
            "below",
            "above",
            *(f"{low:g} to {high:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)),
        )
        plan = SumPlan("histogram").counts("records", ("",), moves=1).counts("bins", labels, moves=1)
        return plan.total(("records", 0), [("bins", place) for place in range(len(labels))])
