"""Tables of groups, tests between them and correlations over sites are what scipy says of all records together."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.questions import GroupTooSmall
from p2pfl.errors.statistics import EmptyGroup, NothingMeasured, NoVariation, TooFewForModel, WrongQuestion
from p2pfl.statistics.correlation import Correlation
from p2pfl.statistics.crosstab import Crosstab
from p2pfl.statistics.describe import Describe
from p2pfl.statistics.means import Anova, TTest
from p2pfl.statistics.quantiles import Quantiles
from p2pfl.statistics.question import Factor, OpenedSum, Quantity, SiteTable
from p2pfl.statistics.table_one import TableOne, TableOneResult
from tests.examples import examples
from tests.statistics.hospitals import (
    DIABETES,
    HEART,
    diabetes,
    hearts,
    number,
    over,
    pooled,
    refused,
    together,
    yes_no,
)

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
AB = Factor("group", ("a", "b"))
ABC = Factor("group", ("a", "b", "c"))


def by(table: SiteTable, column: str, group: str) -> list[np.ndarray]:
    values, codes = table.columns[column], table.columns[group]
    return [values[(codes == level) & ~np.isnan(values)] for level in range(len(table.levels[group]))]


# ── table one ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
def test_table_one_of_four_hospitals_is_that_of_all_their_patients() -> None:
    sex, columns = HEART["sex"], (HEART["age"], HEART["chol"], HEART["cp"], HEART["thal"])
    found = over(TableOne(sex, columns), hearts())  # type: ignore[arg-type]
    table = together(hearts())
    for one in found.quantities:
        women, men = by(table, one.name, "sex")
        assert one.counts == (women.size, men.size)
        assert one.means == pytest.approx((women.mean(), men.mean()), rel=1e-12)
        assert one.sds == pytest.approx((women.std(ddof=1), men.std(ddof=1)), rel=1e-11)
        spread = math.sqrt((women.var(ddof=1) + men.var(ddof=1)) / 2)
        assert one.difference == pytest.approx(abs(women.mean() - men.mean()) / spread, rel=1e-10)
    for one in found.factors:
        assert sum(map(sum, one.counts)) + sum(one.missing) == 920


def few_missing(*, again: bool = False) -> SiteTable:
    """Of sixty records three lack x, and a fourth its group; `again`: three more lack x."""
    x, group = np.arange(60.0), np.repeat([0.0, 1.0], 30)
    x[[3, 31, 32, *((10, 11, 40) if again else ())]], group[8] = np.nan, np.nan
    return pooled({"x": x, "group": group}, {"group": ("a", "b")})


def of_small_cells(question: TableOne, table: SiteTable) -> TableOneResult:
    """As one site with the rule on small groups."""
    steps = question.steps(table)
    ask = next(steps)
    while True:
        try:
            if np.any((ask.values[ask.people] > 0) & (ask.values[ask.people] < 5)):
                ask = steps.throw(GroupTooSmall(evidence="a few", query="table-one", least=5))
            else:
                ask = steps.send(OpenedSum(ask.values, 1))
        except StopIteration as ended:
            found: TableOneResult = ended.value
            return found


@pytest.mark.claim("STAT-2")
def test_a_few_missing_values_end_a_table_one_of_complete_records_too() -> None:
    question = TableOne(AB, (number("x", 0, 60),))
    for one in (question, replace(question, complete=True)):
        with pytest.raises(GroupTooSmall):
            of_small_cells(one, few_missing())


def test_a_table_one_of_complete_records_is_of_them_alone_and_counts_the_others() -> None:
    question, held = TableOne(AB, (number("x", 0, 60),)), few_missing(again=True)
    known = ~(np.isnan(held.columns["x"]) | np.isnan(held.columns["group"]))
    kept = replace(held, columns={name: values[known] for name, values in held.columns.items()})
    found, bare = of_small_cells(replace(question, complete=True), held), over(question, kept)
    assert found.left_out == 7 and "7 records with a value missing are left out" in found.tables()[0].title
    assert found.records == bare.records == (26, 27)
    assert found.quantities[0].means == pytest.approx(bare.quantities[0].means, rel=1e-12)
    assert not any("missing" in str(row[0]) for row in found.tables()[0].rows)
    assert over(replace(question, complete=True), held).left_out == 7


def test_were_the_few_left_out_uncounted_two_tables_would_tell_their_values() -> None:
    """One of sixty lacks a laboratory value: her group and x follow from a table with that column, and one without."""
    table = few_missing()
    lab = np.where(np.arange(60) == 20, np.nan, np.arange(60) % 9)
    held = replace(table, columns={"x": np.arange(60.0), "group": np.repeat([0.0, 1.0], 30), "lab": lab})
    x, other = number("x", 0, 60), number("lab", 0, 10)
    one, two = TableOne(AB, (x, other), complete=True), TableOne(AB, (x,))
    with pytest.raises(GroupTooSmall):
        of_small_cells(one, held)
    (without, *_), (whole, *_) = over(one, held).quantities, of_small_cells(two, held).quantities
    sums = [[n * mean for n, mean in zip(each.counts, each.means, strict=True)] for each in (without, whole)]
    assert np.subtract(sums[1], sums[0]) == pytest.approx([20, 0], abs=1e-9)


def test_what_a_refusal_names_is_said_in_the_columns_own_words() -> None:
    labels = next(TableOne(AB, (number("bmi", 0, 60), yes_no("smoker"))).steps(few_missing_of("bmi", "smoker"))).labels
    assert {"bmi missing: a", "bmi known: b", "smoker a, missing", "smoker b, yes", "groups missing"} <= set(labels)
    alone = next(Describe((number("bmi", 0, 60),)).steps(few_missing_of("bmi", "smoker"))).labels
    assert alone == ("records", "bmi known", "bmi missing")


def few_missing_of(*names: str) -> SiteTable:
    table = few_missing()
    columns = {name: np.nan_to_num(table.columns["x"]) % 2 for name in names}
    levels = {"smoker": ("no", "yes"), **table.levels}
    return replace(table, columns={**table.columns, **columns}, levels=levels)


def test_the_standardised_difference_of_two_levels_is_austins() -> None:
    codes, group = [0.0] * 30 + [1.0] * 10 + [0.0] * 12 + [1.0] * 28, [0.0] * 40 + [1.0] * 40
    table = pooled({"x": codes, "group": group}, {"x": ("no", "yes"), "group": ("a", "b")})
    (one,) = over(TableOne(AB, (yes_no("x"),)), table).factors
    p, q = 10 / 40, 28 / 40
    assert one.difference == pytest.approx(abs(p - q) / math.sqrt((p * (1 - p) + q * (1 - q)) / 2), rel=1e-12)


def test_of_three_groups_the_difference_is_the_mean_over_pairs() -> None:
    draw = np.random.default_rng(5)
    group = np.repeat([0.0, 1.0, 2.0], 30)
    table = pooled({"x": draw.normal(size=90) + group, "group": group}, {"group": ("a", "b", "c")})
    (one,) = over(TableOne(ABC, (number("x", -9, 9),)), table).quantities
    m, v = np.array(one.means), np.array(one.sds) ** 2
    apart = [abs(m[i] - m[j]) / math.sqrt((v[i] + v[j]) / 2) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert one.difference == pytest.approx(np.mean(apart), rel=1e-12)


# ── quantiles ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
@examples(40)
@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    st.sampled_from(["histogram", "bisection"]),
)
def test_a_quantile_lies_in_the_bin_that_is_told(values: list[float], probabilities: list[float], method: str) -> None:
    """The smallest value that ⌈p·n⌉ do not exceed, as sorted values have it."""
    found = over(Quantiles(number("x", 0, 100), tuple(probabilities), 7, method), pooled({"x": values}))
    assert found.error == 100 / 2**7 / 2
    for one in found.quantiles:
        rank = max(math.ceil(one.p * len(values) - 1e-12), 1)
        true = sorted(values)[rank - 1]
        assert one.low <= true <= one.high
        assert abs(one.value - true) <= found.error * (1 + 1e-12)


def test_a_tenth_of_ten_values_is_the_first_of_them() -> None:
    """0.1 is a decimal; as a binary fraction it is a little more, and 0.1 · 10 would round up to the second."""
    for method in ("histogram", "bisection"):
        (found,) = over(Quantiles(number("x", 0, 16), (0.1,), 4, method), pooled({"x": range(1, 11)})).quantiles  # type: ignore[arg-type]
        assert found.high == 1.0


def test_both_ways_to_quantiles_agree_on_cholesterol() -> None:
    asked = (HEART["chol"], (0.05, 0.25, 0.5, 0.75, 0.95), 10)
    ways = [over(Quantiles(*asked, method), hearts()) for method in ("histogram", "bisection")]  # type: ignore[arg-type]
    assert ways[0] == ways[1]
    values = together(hearts()).columns["chol"]
    true = np.quantile(values[~np.isnan(values)], asked[1], method="inverted_cdf")
    assert [one.value for one in ways[0].quantiles] == pytest.approx(true, abs=ways[0].error)


# ── crosstab ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
def test_chest_pain_by_disease_has_scipys_chi_squared() -> None:
    found = over(Crosstab(HEART["cp"], HEART["num"]), hearts())  # type: ignore[arg-type]
    chi2, p, freedom, expected = stats.chi2_contingency(np.array(found.counts), correction=False)
    assert (found.chi2, found.p) == pytest.approx((chi2, p), rel=1e-12)
    assert (found.freedom, found.least_expected) == (freedom, pytest.approx(expected.min(), rel=1e-12))
    assert found.cramers_v == pytest.approx(stats.contingency.association(np.array(found.counts)), rel=1e-12)


@examples(40)
@given(st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any))
def test_a_two_by_two_table_has_fishers_p_and_says_which_test_to_read(counts: list[int]) -> None:
    """χ² unless a cell expects fewer than five."""
    rows = np.repeat([0.0, 0.0, 1.0, 1.0], counts)
    columns = np.repeat([0.0, 1.0, 0.0, 1.0], counts)
    table = pooled({"x": rows, "y": columns}, {"x": ("no", "yes"), "y": ("no", "yes")})
    found = over(Crosstab(yes_no("x"), yes_no("y")), table)
    square = np.array(counts).reshape(2, 2)
    assert found.counts == tuple(map(tuple, square.tolist()))
    assert found.fisher_p == pytest.approx(stats.fisher_exact(square)[1], rel=1e-6)
    if square.sum(0).all() and square.sum(1).all():
        chi2, p, _, expected = stats.chi2_contingency(square, correction=False)
        assert (found.chi2, found.p) == pytest.approx((chi2, p), rel=1e-9, abs=1e-12)
        assert found.test == ("fisher" if expected.min() < 5 else "chi2")
    else:
        assert (found.test, found.freedom) == ("none", 0)


def test_a_large_table_with_few_in_its_cells_is_told_to_join_levels() -> None:
    table = pooled(
        {"group": [0.0, 1, 2, 0, 1, 2], "y": [0.0, 1, 0, 1, 0, 1]}, {"group": ABC.levels, "y": ("no", "yes")}
    )
    assert over(Crosstab(ABC, yes_no("y")), table).test == "none"


# ── tests of means ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
def test_welchs_t_of_heart_rates_is_scipys() -> None:
    found = over(TTest(HEART["thalach"], HEART["exang"]), hearts())  # type: ignore[arg-type]
    one, other = by(together(hearts()), "thalach", "exang")
    true = stats.ttest_ind(one, other, equal_var=False)
    interval = true.confidence_interval(0.95)
    told = (found.t, found.freedom, found.p, found.low, found.high)
    assert told == pytest.approx((true.statistic, true.df, true.pvalue, *interval), rel=1e-9)
    assert found.missing == 920 - one.size - other.size


@pytest.mark.claim("STAT-1")
def test_analysis_of_variance_is_scipys_and_welchs_is_statsmodels() -> None:
    oneway = pytest.importorskip("statsmodels.stats.oneway", reason="statsmodels is not installed")
    found = over(Anova(HEART["age"], HEART["num"]), hearts())  # type: ignore[arg-type]
    groups = by(together(hearts()), "age", "num")
    true = stats.f_oneway(*groups)
    assert (found.f, found.p) == pytest.approx((true.statistic, true.pvalue), rel=1e-9)
    welch = oneway.anova_oneway(groups, use_var="unequal", welch_correction=True)
    assert (found.welch_f, found.welch_freedom) == pytest.approx((welch.statistic, welch.df_denom), rel=1e-9)
    assert found.welch_p == pytest.approx(welch.pvalue, rel=1e-9)


def test_a_t_test_may_name_two_levels_of_many() -> None:
    found = over(TTest(HEART["age"], HEART["cp"], ("4", "1")), hearts())  # type: ignore[arg-type]
    groups = by(together(hearts()), "age", "cp")
    assert found.t == pytest.approx(stats.ttest_ind(groups[3], groups[0], equal_var=False).statistic, rel=1e-9)
    assert [one.level for one in found.groups] == ["4", "1"]


# ── correlation ───────────────────────────────────────────────────────────────────────────────────────────────

MEASURED = tuple(one for one in DIABETES.values() if isinstance(one, Quantity))


@pytest.mark.claim("STAT-1")
def test_correlations_of_diabetes_are_scipys() -> None:
    found = over(Correlation(MEASURED), diabetes())
    for one in found.pairs:
        true = stats.pearsonr(diabetes().columns[one.first], diabetes().columns[one.second])
        assert (one.r, one.p) == pytest.approx((true.statistic, true.pvalue), rel=1e-9)
        assert (one.low, one.high) == pytest.approx(tuple(true.confidence_interval(0.95)), rel=1e-9)


def test_rank_correlations_are_scipys_of_the_values_on_their_grid() -> None:
    """On a grid as fine as the measurements themselves that is Spearman's of the values."""
    columns = (number("age", 0, 128), number("bp", 0, 256), number("progress", 0, 512))
    found = over(Correlation(columns, "spearman", 512), diabetes())
    table = diabetes().columns
    for one in found.pairs:
        fine = {c.name: np.floor(table[c.name] / (c.high / 512)) for c in columns}
        assert one.r == pytest.approx(stats.spearmanr(fine[one.first], fine[one.second]).statistic, rel=1e-9)
    true = stats.spearmanr(table["age"], table["progress"]).statistic
    assert next(one.r for one in found.pairs if (one.first, one.second) == ("age", "progress")) == pytest.approx(true)


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────────────────

X = number("x", 0, 9)


def of(x: list[float], group: list[float]) -> SiteTable:
    return pooled({"x": x, "group": group}, {"group": ("a", "b")})


def test_a_group_with_nobody_is_named() -> None:
    nobody = of([1.0, 2, 3, np.nan], [0, 0, 0, 1])
    for question in (TTest(X, AB), Anova(X, AB)):
        assert "group b of group" in str(refused(EmptyGroup, question, nobody))
    refused(EmptyGroup, TableOne(AB, (X,)), of([1, 2, 3], [0, 0, 0]))


def test_too_few_and_no_variation_are_told_apart() -> None:
    refused(TooFewForModel, TTest(X, AB), of([1, 2, 3], [0, 0, 1]))
    refused(NoVariation, TTest(X, AB), of([3, 3, 3, 3], [0, 0, 1, 1]))
    refused(TooFewForModel, Correlation((X, number("y", 0, 9))), pooled({"x": [1, 2], "y": [2, 1]}))
    constant = refused(NoVariation, Correlation((X, number("y", 0, 9))), pooled({"x": [1, 2, 4], "y": [2.1] * 3}))
    assert "y does not vary" in str(constant)


@pytest.mark.parametrize(
    "question",
    [
        Quantiles(X),
        Quantiles(X, method="histogram"),
        Crosstab(yes_no("x"), yes_no("y")),
        Correlation((X, number("y", 0, 9))),
    ],
    ids=lambda one: one.kind,
)
def test_values_that_are_all_missing_are_named(question: Quantiles) -> None:
    levels = {"x": ("no", "yes"), "y": ("no", "yes")} if isinstance(question, Crosstab) else {}
    assert "x" in str(refused(NothingMeasured, question, pooled({"x": [np.nan] * 5, "y": [1.0] * 5}, levels)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Quantiles(X, (1.5,)),
        lambda: Quantiles(X, ()),
        lambda: Quantiles(X, halvings=31),
        lambda: Quantiles(X, method="guess"),
        lambda: Crosstab(Factor("x", ("a",)), AB),
        lambda: Crosstab(AB, AB),
        lambda: TTest(X, ABC),
        lambda: TTest(X, ABC, ("a", "z")),
        lambda: Anova(X, ABC, ("a",)),
        lambda: TableOne(Factor("group", ("a",)), (X,)),
        lambda: Correlation((X,)),
        lambda: Correlation((X, number("y", 0, 1)), "kendall"),
        lambda: Correlation((X, number("y", 0, 1)), "spearman"),
    ],
)
def test_a_question_about_groups_that_cannot_be_is_refused(ask: object) -> None:
    with pytest.raises(WrongQuestion):
        ask()  # type: ignore[operator]


def test_a_bisection_shows_no_more_than_two_counts_a_step() -> None:
    question = Quantiles(X, (0.5,), halvings=6)
    assert (question.cost().sums, question.cost().numbers) == (7, 3 + 12)
    spans = [one.high - one.low for one in over(question, pooled({"x": [1.0, 2, 3]})).quantiles]
    assert all(after <= before for before, after in pairwise([9.0, *spans]))
