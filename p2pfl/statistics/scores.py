"""How good an existing score is: its ROC curve and AUC, and whether a predicted probability is what comes to pass.

The score is cut into bins by public edges. The AUC is that of the bins' order, pairs in one bin counting a half;
`error` says how far from it the AUC of the score itself is at most.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NotConverged, NothingMeasured, NoVariation, OutcomeSeparated, SingularDesign
from p2pfl.statistics.checks import check_columns, check_increasing, check_level, refuse
from p2pfl.statistics.glm import LogisticLikelihood, is_any
from p2pfl.statistics.newton import maximise
from p2pfl.statistics.plan import SumPlan, cells, present
from p2pfl.statistics.question import (
    Ask,
    Cost,
    Factor,
    Floats,
    OpenedSum,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.tails import chi2_tail, normal_quantile

MOST_EDGES: Final = 1024
CUT: Final = 1e-6  # a probability nearer to 0 or 1 counts as this near, in the logit of the recalibration
MOST_LOGIT: Final = math.log((1 - CUT) / CUT)
SLOPE_STEPS: Final = 25


@dataclass(frozen=True)
class _Scored(Statistic):
    """`score`, whose higher values speak for the `positive` levels of `outcome`, in bins: [edge, next edge)."""

    score: Quantity
    outcome: Factor
    positive: tuple[str, ...]
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables)
        check_level(self.kind, self.outcome, self.positive)
        check_increasing(self.kind, "edges", self.edges, least=1, most=MOST_EDGES)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.score, self.outcome)

    @property
    def _bounds(self) -> tuple[float, ...]:
        """The edges of all bins: below the first edge and above the last lie bins too."""
        return (self.score.low, *self.edges, self.score.high)

    def _read(self, table: SiteTable) -> tuple[int, Floats, Floats]:
        """Records; of the complete ones the score and 0 or 1."""
        score, codes = table.read(self.score), table.read(self.outcome)
        known = present(score, codes)
        return known.size, score[known], is_any(codes[known], self.outcome, self.positive)

    def _bins_of(self, score: Floats) -> Floats:
        return np.searchsorted(np.array(self.edges), score, side="right").astype(np.float64)

    def _who(self) -> SumPlan:
        plan = SumPlan("who").counts("records", ("", "complete", "missing"), moves=1)
        plan.counts("outcome", ("without", "with"), moves=1)
        plan.total(("records", 0), [("records", 1), ("records", 2)])
        return plan.total(("records", 1), [("outcome", 0), ("outcome", 1)])

    def _bins(self, count: int) -> SumPlan:
        """Of each bin: everybody, without and with the outcome."""
        bins = len(self.edges) + 1
        plan = SumPlan("bins").counts("all", [f"bin {at}" for at in range(bins)], count, moves=1)
        labels = [f"bin {at} {end}" for at in range(bins) for end in ("without", "with")]
        plan.counts("bins", labels, count, moves=1)
        for at in range(bins):
            plan.total(("all", at), [("bins", 2 * at), ("bins", 2 * at + 1)])
        return plan

    def _opened(self, table: SiteTable, records: int, score: Floats, y: Floats) -> _Counting:
        """(missing, (bins,) without, (bins,) with the outcome, variance of the noise on each of those).

        Raises NothingMeasured, NoVariation.
        """
        who, positives = self._who(), int(y.sum())
        mine = {"records": [records, y.size, records - y.size], "outcome": [y.size - positives, positives]}
        total = who.read((yield who.ask(mine)))
        _, complete, missing = total.counts("records")
        if not complete:
            raise NothingMeasured(evidence=f"{missing} records", columns=f"{self.score.name} and {self.outcome.name}")
        events = total.counts("outcome")[1]
        if events in (0, complete):
            raise NoVariation(evidence=f"{events} of {complete} have the outcome", column=self.outcome.name)
        plan = self._bins(table.most(complete))
        counts = cells([self._bins_of(score), y], (len(self.edges) + 1, 2))
        opened = plan.read((yield plan.ask({"all": counts.sum(1), "bins": counts})))
        found = np.array(opened.counts("bins"), np.float64).reshape(-1, 2)
        return missing, found[:, 0], found[:, 1], opened.noise("bins")[0]


_Counting = Generator[Ask, OpenedSum, tuple[int, Floats, Floats, float]]


# ── ROC ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RocResult(StatisticResult):
    """At each threshold, a score at or above it speaks for the outcome. `se` and the 95 % interval are DeLong's."""

    kind: ClassVar[str] = "roc"
    score: str
    outcome: str
    with_outcome: int
    without_outcome: int
    missing: int
    auc: float
    error: float
    se: float
    low: float
    high: float
    thresholds: tuple[float, ...]
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]

    def tables(self) -> tuple[TextTable, ...]:
        title = f"{self.score} for {self.outcome}: {self.with_outcome} with, {self.without_outcome} without"
        row = (self.auc, self.error, self.se, self.low, self.high)
        steps = tuple(zip(self.thresholds, self.sensitivity, self.specificity, strict=True))
        return (
            TextTable(title, ("AUC", "± by bins", "se", "95 % from", "to"), (row,)),
            TextTable("", ("threshold", "sensitivity", "specificity"), steps),
        )


@dataclass(frozen=True)
class Roc(_Scored):
    kind: ClassVar[str] = "roc"
    unbounded: ClassVar[str] = ""
    held: ClassVar[tuple[str, ...]] = ("se", "low", "high")

    def cost(self) -> Cost:
        return Cost(2, self._who().width + self._bins(1).width)

    def steps(self, table: SiteTable) -> Steps:
        missing, without, having, noise = yield from self._opened(table, *self._read(table))
        n, p = without.sum(), having.sum()
        below = np.cumsum(without) - without
        above = p - np.cumsum(having)
        of_positive, of_negative = (below + without / 2) / n, (above + having / 2) / p  # DeLong et al. 1988: V10, V01
        auc = float(having @ of_positive / p)
        parts = [
            float(weight @ (placed - auc) ** 2 / (total - 1) / total) if total > 1 else math.nan
            for weight, placed, total in ((having, of_positive, p), (without, of_negative, n))
        ]
        # One more with the outcome in a bin moves the AUC by (V10 − AUC) / p, one without by (V01 − AUC) / n.
        by_noise = noise * float(((of_positive - auc) ** 2).sum() / p**2 + ((of_negative - auc) ** 2).sum() / n**2)
        se = math.sqrt(sum(parts) + by_noise)
        wide = normal_quantile(0.975) * se
        return RocResult(
            score=self.score.name,
            outcome=f"{self.outcome.name} {', '.join(self.positive)}",
            with_outcome=int(p),
            without_outcome=int(n),
            missing=missing,
            auc=auc,
            error=float(having @ without / (2 * n * p)),
            se=se,
            low=max(auc - wide, 0.0),
            high=min(auc + wide, 1.0),
            thresholds=self.edges,
            sensitivity=tuple((having[::-1].cumsum()[::-1][1:] / p).tolist()),
            specificity=tuple((without.cumsum()[:-1] / n).tolist()),
        )


# ── calibration ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Of [low, high): mean prediction, share with the outcome and its 95 % interval (Wilson's); NaN of nobody."""

    low: float
    high: float
    count: int
    events: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


@dataclass(frozen=True)
class CalibrationResult(StatisticResult):
    """How predictions and outcomes agree.

    intercept, slope  of a logistic regression of the outcome on the prediction's logit: 0 and 1 where they do; NaN
                      where that has no answer
    hosmer_lemeshow   has as many degrees of freedom as bins with anybody in them, since the score was made elsewhere
    """

    kind: ClassVar[str] = "calibration"
    score: str
    outcome: str
    count: int
    missing: int
    events: int
    expected: float
    brier: float
    intercept: float
    slope: float
    hosmer_lemeshow: float
    freedom: int
    p: float
    bins: tuple[CalibrationBin, ...]

    def tables(self) -> tuple[TextTable, ...]:
        title = f"{self.score} for {self.outcome}: {self.count} records, {self.missing} with a value missing"
        row = (self.events, self.expected, self.brier, self.intercept, self.slope, self.p)
        header = ("events", "expected", "Brier", "intercept", "slope", "Hosmer and Lemeshow's p")
        inner = tuple(
            (b.low, b.high, b.count, b.predicted, b.observed, b.observed_low, b.observed_high) for b in self.bins
        )
        columns = ("from", "to", "count", "predicted", "observed", "95 % from", "to")
        return TextTable(title, header, (row,)), TextTable("", columns, inner)


@dataclass(frozen=True)
class Calibration(_Scored):
    """`score` is a predicted probability."""

    kind: ClassVar[str] = "calibration"
    unbounded: ClassVar[str] = "its slope is a regression by steps, whose weights no bound is known of before"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.score.low < self.score.high <= 1:
            refuse(self.kind, f"{self.score.name} must be a probability, within 0 and 1")
        if not self.score.low < self.edges[0] or not self.edges[-1] < self.score.high:
            refuse(self.kind, f"the edges must lie between the bounds of {self.score.name}")

    def cost(self) -> Cost:
        return Cost(3 + SLOPE_STEPS, self._who().width + self._bins(1).width + len(self.edges) + 2 + 6 * SLOPE_STEPS)

    def steps(self, table: SiteTable) -> Steps:
        records, score, y = self._read(table)
        missing, without, having, _ = yield from self._opened(table, records, score, y)
        counts = without + having
        plan = SumPlan("predictions").reals("Σp", [f"bin {at}" for at in range(counts.size)], counts.sum())
        plan.reals("Σ(p − y)²", ("",), counts.sum())
        sums = np.bincount(self._bins_of(score).astype(np.int64), score, counts.size)
        total = plan.read((yield plan.ask({"Σp": sums, "Σ(p − y)²": ((score - y) ** 2).sum()})))
        intercept, slope = yield from self._recalibrated(score, y, int(counts.sum()))
        predicted, brier = np.array(total.reals("Σp")), total.real("Σ(p − y)²") / float(counts.sum())
        held = counts > 0
        spread = predicted[held] * (1 - predicted[held] / counts[held])
        with np.errstate(divide="ignore", invalid="ignore"):
            chi2 = float(((having[held] - predicted[held]) ** 2 / spread).sum())
        bins = zip(self._bounds, self._bounds[1:], counts, having, predicted, strict=False)
        return CalibrationResult(
            score=self.score.name,
            outcome=f"{self.outcome.name} {', '.join(self.positive)}",
            count=int(counts.sum()),
            missing=missing,
            events=int(having.sum()),
            expected=float(predicted.sum()),
            brier=brier,
            intercept=intercept,
            slope=slope,
            hosmer_lemeshow=chi2,
            freedom=int(held.sum()),
            p=chi2_tail(chi2, int(held.sum())) if math.isfinite(chi2) else math.nan,
            bins=tuple(_bin(low, high, int(n), int(d), float(sum_)) for low, high, n, d, sum_ in bins),
        )

    def _recalibrated(self, score: Floats, y: Floats, count: int) -> Generator[Ask, OpenedSum, tuple[float, float]]:
        """(intercept, slope); NaN where the regression has no answer."""
        cut = np.clip(score, CUT, 1 - CUT)
        z = np.column_stack([np.ones(score.size), np.log(cut / (1 - cut)) / MOST_LOGIT])
        likelihood = LogisticLikelihood(("intercept", "logit"), z, y, count)
        try:
            fit = yield from maximise(likelihood, [0.0, 0.0], SLOPE_STEPS, [0.0, 0.0], coarse=True)
        except (NotConverged, OutcomeSeparated, SingularDesign):
            return math.nan, math.nan
        return fit.estimates[0], fit.estimates[1] / MOST_LOGIT


def _bin(low: float, high: float, count: int, events: int, predicted: float) -> CalibrationBin:
    if not count:
        return CalibrationBin(low, high, 0, 0, math.nan, math.nan, math.nan, math.nan)
    z, share = normal_quantile(0.975), events / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    wide = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return CalibrationBin(low, high, count, events, predicted / count, share, middle - wide, middle + wide)
