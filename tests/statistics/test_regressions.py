"""Regressions over sites are statsmodels' and scikit-learn's of all records; what has no answer says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from p2pfl.errors.statistics import (
    EmptyGroup,
    NotConverged,
    NothingMeasured,
    NoVariation,
    OutcomeSeparated,
    SingularDesign,
    TooFewForModel,
    WrongQuestion,
)
from p2pfl.statistics.design import Design
from p2pfl.statistics.glm import Logistic, LogisticLikelihood, Poisson, wald
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.newton import Fit
from p2pfl.statistics.question import Factor, OpenedSum, Quantity, SiteTable, Variable
from p2pfl.statistics.solve import triangle
from tests.statistics.hospitals import (
    DIABETES,
    HEART,
    cancer,
    diabetes,
    hearts,
    nearly,
    number,
    over,
    pooled,
    refused,
    together,
    yes_no,
)

models = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
SICK = ("1", "2", "3", "4")


def complete(table: SiteTable, variables: Sequence[Variable]) -> tuple[np.ndarray, np.ndarray]:
    """(which records have all columns, their design matrix as a statistician writes it)."""
    columns = [table.columns[one.name] for one in variables]
    known = ~np.isnan(columns).any(0)
    found = [np.ones(int(known.sum()))]
    for one, values in zip(variables, columns, strict=True):
        if isinstance(one, Quantity):
            found.append(values[known])
        else:
            found += [(values[known] == level).astype(float) for level in range(1, len(one.levels))]
    return known, np.stack(found, axis=1)


def told(found: Any, what: str) -> list[float]:
    return [getattr(one, what) for one in found.coefficients]


@pytest.mark.claim("STAT-1")
def test_linear_regression_of_diabetes_is_statsmodels() -> None:
    covariates = tuple(one for name, one in DIABETES.items() if name != "progress")
    found = over(Linear(DIABETES["progress"], covariates), diabetes())  # type: ignore[arg-type]
    _, x = complete(diabetes(), covariates)
    true = models.OLS(diabetes().columns["progress"], x).fit()
    assert [one.name for one in found.coefficients] == ["intercept", "age", "sex=2", "bmi", "bp", "s5"]
    assert told(found, "estimate") == pytest.approx(true.params, rel=1e-9)
    assert told(found, "se") == pytest.approx(true.bse, rel=1e-9)
    assert told(found, "p") == pytest.approx(true.pvalues, rel=1e-7, abs=1e-200)
    assert np.array(found.covariance) == pytest.approx(true.cov_params(), rel=1e-8)
    interval = np.stack([told(found, "low"), told(found, "high")], axis=1)
    assert interval == pytest.approx(true.conf_int(), rel=1e-8)
    for mine, theirs in (
        (found.r_squared, true.rsquared),
        (found.r_squared_adjusted, true.rsquared_adj),
        (found.sigma, np.sqrt(true.scale)),
        (found.f, true.fvalue),
        (found.f_p, true.f_pvalue),
    ):
        assert mine == pytest.approx(theirs, rel=1e-9)


@pytest.mark.claim("STAT-1")
def test_logistic_regression_of_heart_disease_at_four_hospitals_is_statsmodels() -> None:
    covariates = tuple(HEART[name] for name in ("age", "sex", "cp", "thalach", "exang", "oldpeak"))
    found = over(Logistic(HEART["num"], SICK, covariates), hearts(), coarse=True)  # type: ignore[arg-type]
    table = together(hearts())
    known, x = complete(table, covariates)
    true = models.Logit((table.columns["num"][known] > 0).astype(float), x).fit(disp=0, method="newton", tol=1e-14)
    assert (found.count, found.missing) == (known.sum(), 920 - known.sum())
    nearly(found, true.params, true.bse)
    assert told(found, "p") == pytest.approx(true.pvalues, abs=1e-3)
    assert (found.loglik, found.aic) == pytest.approx((true.llf, true.aic), abs=0.01)
    assert found.null_loglik == pytest.approx(true.llnull, rel=1e-9)


def test_logistic_regression_of_columns_in_very_unlike_units_is_statsmodels() -> None:
    """Areas up to 2 500 beside a smoothness below 0.2: steps are taken in the schema's scale."""
    covariates = (number("mean_texture", 0, 50), number("mean_smoothness", 0, 0.3), number("mean_area", 0, 5000))
    found = over(Logistic(yes_no("malignant"), ("yes",), covariates), cancer(), coarse=True)
    _, x = complete(cancer(), covariates)
    true = models.Logit(cancer().columns["malignant"], x).fit(disp=0, method="newton", maxiter=100, tol=1e-10)
    nearly(found, true.params, true.bse)
    assert found.steps <= 12


def test_a_ridge_is_scikit_learns_on_columns_scaled_by_the_schema() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    covariates = (number("mean_texture", 0, 50), number("mean_area", 0, 5000))
    found = over(Logistic(yes_no("malignant"), ("yes",), covariates, ridge=0.5), cancer(), coarse=True)
    z = np.stack([(cancer().columns[one.name] - one.centre) / one.half for one in covariates], axis=1)
    true = linear_model.LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    true.fit(z, cancer().columns["malignant"])
    slopes = true.coef_[0] / [one.half for one in covariates]
    apart = (np.array(told(found, "estimate")[1:]) - slopes) / told(found, "se")[1:]
    assert np.abs(apart).max() < 1e-3


@pytest.mark.claim("STAT-1")
def test_poisson_regression_with_an_exposure_is_statsmodels() -> None:
    draw = np.random.default_rng(3)
    age, arm, years = draw.uniform(20, 90, 700), draw.integers(0, 3, 700).astype(float), draw.uniform(0.1, 9, 700)
    events = draw.poisson(years * np.exp(-3 + 0.03 * age + 0.4 * (arm == 2))).astype(float)
    table = pooled({"age": age, "arm": arm, "years": years, "events": events}, {"arm": ("a", "b", "c")})
    covariates = (number("age", 0, 120), Factor("arm", ("a", "b", "c")))
    found = over(Poisson(number("events", 0, 1000), covariates, number("years", 0.01, 20)), table, coarse=True)
    _, x = complete(table, covariates)
    true = models.GLM(events, x, models.families.Poisson(), exposure=years).fit(tol=1e-14)
    nearly(found, true.params, true.bse)
    assert found.loglik - found.null_loglik == pytest.approx(true.llf - true.llnull, abs=0.01)
    plain = over(Poisson(number("events", 0, 1000), covariates), table, coarse=True)
    true = models.GLM(events, x, models.families.Poisson()).fit(tol=1e-14)
    nearly(plain, true.params, true.bse)


@pytest.mark.claim("STAT-1")
def test_regressions_of_codes_alone_are_statsmodels_to_their_last_digits() -> None:
    """What their steps tell is counted before, so none is rounded."""
    covariates = tuple(HEART[name] for name in ("sex", "cp"))
    found = over(Logistic(HEART["num"], SICK, covariates), hearts())  # type: ignore[arg-type]
    table = together(hearts())
    known, x = complete(table, covariates)
    true = models.Logit((table.columns["num"][known] > 0).astype(float), x).fit(disp=0, method="newton", tol=1e-14)
    assert told(found, "estimate") == pytest.approx(true.params, rel=1e-8)
    assert told(found, "se") == pytest.approx(true.bse, rel=1e-8)
    assert told(found, "p") == pytest.approx(true.pvalues, rel=1e-6, abs=1e-12)
    assert (found.loglik, found.null_loglik, found.aic) == pytest.approx((true.llf, true.llnull, true.aic), rel=1e-9)


# ── which counts follow from the sums ─────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-2")
def test_steps_of_codes_alone_tell_each_combination_which_is_counted_first() -> None:
    """The weighted products of six steps are equations enough for how many have each of eight combinations."""
    draw = np.random.default_rng(8)
    names = ("a", "b", "c")
    factors = tuple(Factor(name, ("no", "yes")) for name in names)
    codes = {name: draw.integers(0, 2, 300).astype(float) for name in names}
    z = np.column_stack([np.ones(300), *codes.values()])
    likelihood = LogisticLikelihood(("intercept", *names), z, np.zeros(300), 300)
    kinds = np.array([(1, a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)], float)
    equations, opened = [], []
    for _ in range(6):
        beta = draw.normal(size=4)
        ask = likelihood.ask(beta.tolist(), "step")
        found = likelihood.read(beta.tolist(), "step", OpenedSum(ask.values, 1))
        assert found is not None
        mean = 1 / (1 + np.exp(-kinds @ beta))
        for i, j in triangle(4):
            equations.append(mean * (1 - mean) * kinds[:, i] * kinds[:, j])
            opened.append(found.information[i][j])
    solved, _, rank, _ = np.linalg.lstsq(np.array(equations), np.array(opened), rcond=None)
    assert rank == 8
    table = pooled({**codes, "out": draw.integers(0, 2, 300)}, dict.fromkeys((*names, "out"), ("no", "yes")))
    who = next(Logistic(OUT, ("yes",), factors).steps(table))
    counted = {label: n for label, n in zip(who.labels, who.values, strict=True) if label.startswith("combinations")}
    assert list(counted.values()) == np.rint(solved).tolist()
    assert who.people.all()
    with_a_number = next(Logistic(OUT, ("yes",), (*factors, X)).steps(made_too(table)))
    assert not [label for label in with_a_number.labels if label.startswith("combinations")]


def made_too(table: SiteTable) -> SiteTable:
    return SiteTable({**table.columns, "x": noise(1, table.records)}, table.levels)


def test_so_many_combinations_that_nobody_may_be_told_are_refused() -> None:
    many = tuple(Factor(f"code{place}", ("a", "b", "c", "d")) for place in range(7))
    with pytest.raises(WrongQuestion) as caught:
        Logistic(OUT, ("yes",), many)
    assert "16384 combinations" in caught.value.evidence
    assert Linear(Y, many).cost().sums == 2


# ── what has no answer ────────────────────────────────────────────────────────────────────────────────────────

X, Y = number("x", 0, 10), number("y", 0, 10)
XY = (X, Y)
OUT = yes_no("out")


def made(**columns: Sequence[float]) -> SiteTable:
    levels = {"out": ("no", "yes"), "arm": ("a", "b")}
    return pooled(columns, {name: levels[name] for name in columns if name in levels})


def noise(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 10, count)


def test_a_constant_column_is_named() -> None:
    flat = made(x=[3.3] * 40, y=noise(1), out=noise(2) > 5, outcome=noise(3))
    for question in (
        Linear(number("outcome", 0, 10), (Y, X)),
        Logistic(OUT, ("yes",), (Y, X)),
        Poisson(number("outcome", 0, 10), (Y, X)),
    ):
        assert "no single solution: x is constant" in str(refused(SingularDesign, question, flat))


def test_a_column_that_follows_from_others_is_named() -> None:
    x = noise(1)
    double = made(x=x, y=10 - x, out=noise(2) > 5, outcome=noise(3))
    for question in (Linear(number("outcome", 0, 10), XY), Logistic(OUT, ("yes",), XY)):
        assert "no single solution: y" in str(refused(SingularDesign, question, double))


@pytest.mark.parametrize("all_of", [True, False], ids=["all", "one level"])
def test_separated_outcomes_are_named_and_a_ridge_has_an_answer(all_of: bool) -> None:
    """All of them by a number, or those of one level alone: then the likelihood itself has a limit."""
    x = noise(1)
    arm = np.arange(40) % 2.0
    out = (x > 5) if all_of else (arm == 1) | (noise(2) > 5)
    table = made(x=x, arm=arm, out=out)
    covariates = (X, Factor("arm", ("a", "b")))
    error = refused(OutcomeSeparated, Logistic(OUT, ("yes",), covariates), table)
    assert f"coefficient of {'x' if all_of else 'arm=b'} grows" in str(error)
    assert over(Logistic(OUT, ("yes",), covariates, ridge=1.0), table, coarse=True).converged


def test_a_level_without_events_separates_a_poisson_regression() -> None:
    arm = np.arange(40) % 2.0
    table = made(arm=arm, events=np.where(arm == 1, 0, np.floor(noise(4) / 3)))
    error = refused(OutcomeSeparated, Poisson(number("events", 0, 10), (Factor("arm", ("a", "b")),)), table)
    assert "arm=b" in str(error)


def test_a_coefficient_of_which_rounding_left_no_variance_has_no_test() -> None:
    rows, _ = wald(Design((X,)), Fit([0.5, 1.0], [[0.0, 0.0], [0.0, -1e-20]], -1.0, -2.0, 3))
    assert [(one.se, np.isnan(one.p)) for one in rows] == [(0.0, True), (0.0, True)]


def test_groups_and_outcomes_with_nobody_are_named() -> None:
    covariates = (Factor("arm", ("a", "b")),)
    nobody = made(arm=[0.0] * 9, out=[0.0, 1, 0] * 3, y=noise(1, 9))
    assert "group b of arm" in str(refused(EmptyGroup, Logistic(OUT, ("yes",), covariates), nobody))
    assert "group b of arm" in str(refused(EmptyGroup, Linear(Y, covariates), nobody))
    well = made(x=noise(1, 9), out=[0.0] * 9, y=[2.0] * 9)
    assert "out does not vary" in str(refused(NoVariation, Logistic(OUT, ("yes",), (X,)), well))
    assert "y does not vary" in str(refused(NoVariation, Linear(Y, (X,)), well))


def test_fewer_records_than_parameters_are_counted() -> None:
    few = made(x=[1.0, 2, np.nan], y=[2.0, 5, 3], out=[0.0, 1, 1])
    error = refused(TooFewForModel, Linear(Y, (X,)), few)
    assert "2 complete records, 2 parameters" in error.evidence
    refused(TooFewForModel, Logistic(OUT, ("yes",), XY), few)
    refused(NothingMeasured, Linear(Y, (X,)), made(x=[np.nan] * 4, y=[1.0] * 4))


def test_too_few_steps_are_told() -> None:
    table = made(x=noise(1), out=noise(2) > 5)
    assert "in 2 steps" in str(refused(NotConverged, Logistic(OUT, ("yes",), (X,), most_steps=2), table))


def test_a_step_that_is_too_long_is_halved() -> None:
    """From the mean's rate the first Poisson step overshoots the bound of what a site may add."""
    x = np.array([0.0] * 60 + [10.0] * 2)
    events = np.array([0.0, 0, 0, 1] * 15 + [900.0, 950])
    found = over(Poisson(number("events", 0, 1000), (X,), most_steps=60), made(x=x, events=events), coarse=True)
    true = models.GLM(events, np.stack([np.ones(62), x], axis=1), models.families.Poisson()).fit(tol=1e-14)
    nearly(found, true.params, true.bse)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Linear(Y, ()),
        lambda: Linear(Y, (Y,)),
        lambda: Linear(Y, (Factor("arm", ("a",)),)),
        lambda: Linear(Y, tuple(number(f"x{place}", 0, 1) for place in range(64))),
        lambda: Logistic(OUT, ("maybe",), (X,)),
        lambda: Logistic(OUT, ("no", "yes"), (X,)),
        lambda: Logistic(OUT, (), (X,)),
        lambda: Logistic(OUT, ("yes",), (X,), ridge=-1.0),
        lambda: Logistic(OUT, ("yes",), (X,), most_steps=0),
        lambda: Poisson(number("y", -1, 5), (X,)),
        lambda: Poisson(Y, (X,), number("years", 0, 5)),
    ],
)
def test_a_regression_that_cannot_be_asked_is_refused(ask: object) -> None:
    with pytest.raises(WrongQuestion):
        ask()  # type: ignore[operator]
