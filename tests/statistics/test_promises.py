"""What holds of every statistic: facts and back, what is asked first, limits, and that no site's numbers break it."""

from __future__ import annotations

import importlib
import json
import math
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.errors.statistics import SitesApart, TableTooLong, TableUneven, WrongQuestion
from p2pfl.roster import MOST_PEERS
from p2pfl.sharing.field import FIELDS
from p2pfl.statistics.basis import Basis
from p2pfl.statistics.correlation import Correlation
from p2pfl.statistics.cox import Cox
from p2pfl.statistics.crosstab import Crosstab
from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.facts import facts_of, question_of
from p2pfl.statistics.glm import Logistic, Poisson
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.means import Anova, TTest
from p2pfl.statistics.meta import Meta
from p2pfl.statistics.noise import LIMIT
from p2pfl.statistics.plan import SumPlan
from p2pfl.statistics.quantiles import Quantiles
from p2pfl.statistics.question import (
    MOST_LIMIT,
    MOST_RECORDS,
    Ask,
    Factor,
    OpenedSum,
    SiteTable,
    Statistic,
    StatisticResult,
)
from p2pfl.statistics.registry import STATISTICS
from p2pfl.statistics.scores import Calibration, Roc
from p2pfl.statistics.solve import Factored, Singular
from p2pfl.statistics.survival import KaplanMeier
from p2pfl.statistics.table_one import TableOne
from tests.examples import examples
from tests.statistics.hospitals import dealt, number, pooled, yes_no

X, Y, T, P = number("x", -10, 10), number("y", 0, 10), number("t", 0, 50), number("p", 0, 1)
E, ARM, OUT = yes_no("e"), Factor("arm", ("a", "b", "c")), yes_no("out")
GRID = (10.0, 20.0, 30.0, 40.0, 50.0)
QUESTIONS: tuple[Statistic, ...] = (
    Describe((X, ARM, Y), bins=4),
    TableOne(E, (X, ARM)),
    TableOne(E, (X, ARM), complete=True),
    Histogram(X, (-5.0, 0.0, 2.5)),
    Quantiles(X, (0.1, 0.5), 5),
    Quantiles(X, (0.9,), 4, "histogram"),
    Crosstab(E, ARM),
    Correlation((X, Y)),
    Correlation((X, Y), "spearman", 16),
    TTest(X, E),
    Anova(X, ARM, ("a", "c")),
    KaplanMeier(T, E, ("yes",), GRID, ARM),
    Linear(Y, (X, ARM)),
    Logistic(OUT, ("yes",), (X, ARM), ridge=0.25),
    Logistic(OUT, ("yes",), (E, ARM, Factor("z", ("no", "yes")))),
    Poisson(Y, (X, ARM), number("t", 0.001, 50)),
    Cox(T, E, ("yes",), (X, ARM), GRID),
    Cox(T, E, ("yes",), (X,), by_site=True),
    Roc(P, OUT, ("yes",), (0.25, 0.5, 0.75)),
    Calibration(P, OUT, ("yes",), (0.5,)),
    Meta("difference", X, E, ("no", "yes")),
)
each = pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.kind)


@cache
def table() -> SiteTable:
    draw = np.random.default_rng(11)
    n = 400
    x, arm = draw.uniform(-9, 9, n), draw.integers(0, 3, n).astype(float)
    p = 1 / (1 + np.exp(-(x / 5 + draw.normal(size=n))))
    columns = {
        "x": np.where(draw.uniform(size=n) < 0.1, np.nan, x),
        "y": np.minimum(draw.poisson(np.exp(x / 9)), 10).astype(float),
        "t": np.minimum(draw.exponential(20, n) + 0.01, 50),
        "p": p,
        "e": (draw.uniform(size=n) < 0.6).astype(float),
        "out": (draw.uniform(size=n) < p).astype(float),
        "arm": arm,
        "z": draw.integers(0, 2, n).astype(float),
    }
    return pooled(columns, {"z": ("no", "yes"), "e": E.levels, "out": OUT.levels, "arm": ARM.levels})


def sites(count: int = 4, seed: int = 0) -> list[SiteTable]:
    return [SiteTable(one.columns, one.levels, one.site, one.sites, True) for one in dealt(table(), count, seed)]


def asked(question: Statistic, tables: list[SiteTable]) -> list[Ask]:
    """The first site's, sum by sum."""
    seen: list[Ask] = []
    in_lockstep(question, tables, lambda asks: seen.append(asks[0]))
    return seen


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_kind_is_tried_here() -> None:
    assert {one.kind for one in QUESTIONS} == STATISTICS.keys()


@each
def test_a_question_is_facts_and_back(question: Statistic) -> None:
    """Facts of the ledger's own form, which has no floats; through JSON too."""
    facts = facts_of(question)
    assert question_of(codec.read_facts(codec.facts(facts))) == question
    assert question_of(json.loads(json.dumps(facts))) == question


STRANGE = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1 << 70,
        2.5,
        "",
        "x",
        "nan",
        "inf",
        "1e999",
        "1_0",
        "9" * 40,
        [],
        {},
        ["x"],
        [[1]],
        {"name": "x"},
    ]
)


@examples(150)
@given(question=st.sampled_from(QUESTIONS), data=st.data())
def test_facts_that_are_spoilt_somewhere_are_a_question_or_a_named_refusal(
    question: Statistic, data: st.DataObject
) -> None:
    facts: Any = json.loads(json.dumps(facts_of(question)))
    place = facts
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        place = inner
    if isinstance(place, dict) and data.draw(st.booleans()):
        del place[key]
        place["stranger"] = data.draw(STRANGE)
    else:
        place[key] = data.draw(STRANGE)
    try:
        found = question_of(facts)
    except WrongQuestion:
        return
    assert question_of(facts_of(found)) == found


@pytest.mark.parametrize("kind", [None, "", "median", 7, ["km"]])
def test_a_kind_that_is_not_known_is_refused(kind: object) -> None:
    with pytest.raises(WrongQuestion, match="cannot be asked"):
        question_of({"kind": kind})


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-2")
@each
def test_the_first_sum_counts_people_and_tells_nothing_else_of_them(question: Statistic) -> None:
    """So that who refuses a small group has shown nothing of it. A meta-analysis also opens who shows."""
    first = asked(question, sites())[0]
    others = [label for label, people in zip(first.labels, first.people, strict=True) if not people]
    assert others == ([f"shows site {place}" for place in range(4)] if question.kind == "meta" else [])


@each
def test_what_is_asked_does_not_depend_on_which_site_has_whom(
    question: Statistic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same totals: where sites round, those differ by as much, and are all digits here."""
    monkeypatch.setattr(Basis, "of", lambda factored: Basis.plain(len(factored.root())))
    if question.kind in ("meta",) or getattr(question, "by_site", False):
        return  # what these answer depends on it
    one, other = (asked(question, sites(seed=seed)) for seed in (0, 1))
    assert [ask.public for ask in one] == [ask.public for ask in other]


@each
def test_no_sum_over_the_largest_federation_can_wrap(question: Statistic) -> None:
    """With noise neither. A sum of reals over 32 sites was refused in the middle of its question."""
    for ask in asked(question, sites(20)):
        assert 0 < ask.limit <= MOST_LIMIT
        assert max(ask.limit, LIMIT) * MOST_PEERS <= FIELDS[61].half
        assert np.all(np.abs(ask.values) <= ask.limit)


def test_a_number_beyond_its_bound_is_cut_and_as_many_bits_are_used_as_there_are() -> None:
    plan = SumPlan("x").reals("small", ("",), 3e-9).reals("large", ("",), 5e11).counts("people", ("",))
    ask = plan.ask({"small": -3e-9, "large": 1e30, "people": 7})
    assert MOST_LIMIT / 4 < abs(ask.values[0]) <= ask.limit
    assert MOST_LIMIT / 2 - 1 < ask.limit <= MOST_LIMIT
    total = plan.read(OpenedSum(ask.values, 1))
    assert total.real("small") == pytest.approx(-3e-9, rel=1e-15)
    assert 5e11 <= total.real("large") <= 1.1e12
    assert total.count("people") == 7
    assert math.isclose(float(total.exact("small")[0]), -3e-9)


# ── what a site may do ────────────────────────────────────────────────────────────────────────────────────────


@examples(150)
@example(question=next(one for one in QUESTIONS if one.kind == "meta"), seed=0, after=1, wild=True)
@example(question=next(one for one in QUESTIONS if one.kind == "poisson"), seed=1, after=1, wild=True)
@given(question=st.sampled_from(QUESTIONS), seed=st.integers(0, 1 << 32), after=st.integers(0, 6), wild=st.booleans())
def test_whatever_a_site_adds_ends_in_a_result_or_a_named_error(
    question: Statistic, seed: int, after: int, wild: bool
) -> None:
    """From some sum on it adds anything up to the limit: to one number, or to all."""
    draw, tables = np.random.default_rng(seed), sites(3)
    running = [question.steps(one) for one in tables]
    asks, result, number_of = [next(one) for one in running], None, 0
    try:
        while result is None:
            total = np.sum([ask.values for ask in asks], axis=0)
            if number_of >= after:
                where = slice(None) if wild else draw.integers(total.size)
                total[where] += draw.integers(-asks[0].limit, asks[0].limit + 1, total.size)[where]
            following = []
            for one in running:
                try:
                    following.append(one.send(OpenedSum(total, 3)))
                except StopIteration as stopped:
                    result = stopped.value
            asks, number_of = following, number_of + 1
    except P2PFLError:
        return
    json.dumps(result.as_json(), allow_nan=False)
    assert result.tables()


def test_sites_that_are_asked_otherwise_are_told_apart() -> None:
    one, other = sites(2)
    narrow = SiteTable(other.columns, other.levels, 1, 3, True)
    with pytest.raises(SitesApart, match="went different ways"):
        in_lockstep(Meta("mean", Y), [one, narrow])


def test_a_table_is_of_one_length_and_not_of_any() -> None:
    with pytest.raises(TableUneven):
        pooled({"x": [1.0, 2.0], "y": [1.0]})
    endless = np.broadcast_to(np.zeros(1), MOST_RECORDS + 1)
    with pytest.raises(TableTooLong):
        SiteTable({"x": endless})


# ── systems ───────────────────────────────────────────────────────────────────────────────────────────────────


@examples(40)
@given(st.integers(0, 1 << 32), st.integers(1, 6))
def test_systems_are_solved_as_numpy_does_and_a_dependent_column_is_named(seed: int, size: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(size + 3, size)) * 10.0 ** np.arange(size)
    matrix, right = rows.T @ rows, np.arange(1.0, size + 1)
    assert Factored(matrix.tolist()).solve(right.tolist()) == pytest.approx(np.linalg.solve(matrix, right), rel=1e-6)
    assert np.array(Factored(matrix.tolist()).inverse()) @ matrix == pytest.approx(np.eye(size), abs=1e-6)
    double = np.column_stack([rows, rows.sum(1)])
    with pytest.raises(Singular) as caught:
        Factored((double.T @ double).tolist())
    assert caught.value.column <= size


# ── what is documented ────────────────────────────────────────────────────────────────────────────────────────

SPEC = Path(__file__).resolve().parents[2] / "docs/spec/statistics.md"


def keys(cls: type) -> list[str]:
    return [one.name for one in fields(cls)]


def inner(cls: type) -> list[type]:
    """The dataclasses of this place that a result holds."""
    named = re.findall(r"(p2pfl\.statistics\.\w+)\.(\w+)", str(list(get_type_hints(cls).values())))
    return [getattr(importlib.import_module(module), name) for module, name in named]


def results(cls: type = StatisticResult) -> list[type]:
    below = [one for sub in cls.__subclasses__() for one in (sub, *results(sub))]
    return sorted((one for one in below if one.kind), key=lambda one: one.kind)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("result", results(), ids=lambda one: one.kind)
def test_every_key_of_a_result_is_in_the_specification(result: type[StatisticResult]) -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", SPEC.read_text(), re.M))
    assert re.findall(r"`(\w+)`", rows[result.kind]) == keys(result)
    for one in inner(result):
        assert re.findall(r"`(\w+)`", rows[one.__name__]) == keys(one)
