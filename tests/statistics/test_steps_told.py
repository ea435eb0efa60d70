"""What the steps of a regression tell of a few people beside a number: attacks by whoever reads every opened sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest

from p2pfl.statistics.basis import INFORMATION_BITS, SCORE_BITS, Basis
from p2pfl.statistics.cox import Cox, GridLikelihood
from p2pfl.statistics.glm import Logistic, LogisticLikelihood
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.newton import Evaluated
from p2pfl.statistics.question import Factor, Floats, SiteTable, Statistic
from tests.statistics.hospitals import number, pooled, yes_no

WARD, DEAD, AGE, MONTHS = (
    Factor("ward", ("a", "b", "c")),
    yes_no("dead"),
    number("age", 0, 120),
    number("months", 0, 48),
)
FIVE = np.array([43.0, 47, 61, 62, 78])  # of ward c; it is known that they are from 40 to 79
SITES, SD = 4, 1 / math.sqrt(12)  # of a number that was rounded to whole ones


def wards() -> list[SiteTable]:
    draw, tables = np.random.default_rng(3), []
    for site in range(SITES):
        age, ward = draw.integers(30, 90, 200).astype(float), draw.integers(0, 2, 200).astype(float)
        dead = (draw.uniform(size=200) < 1 / (1 + np.exp(-(age - 60) / 15 - ward + 0.5))).astype(float)
        if site == 1:
            age, ward, dead = np.append(age, FIVE), np.append(ward, [2.0] * 5), np.append(dead, [1.0] * 5)
        levels = {"ward": WARD.levels, "dead": DEAD.levels}
        tables.append(SiteTable({"age": age, "ward": ward, "dead": dead}, levels, site, SITES))
    return tables


def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[float], Basis, Evaluated]]:
    """Of each step, as the first site reads it: where it was, in which coordinates, what came out. All of it public."""
    found: list[tuple[list[float], Basis, Evaluated]] = []
    read = LogisticLikelihood.read

    def seen(self: LogisticLikelihood, beta: list[float], name: str, total: Any) -> Evaluated | None:
        whole = read(self, beta, name, total)
        if whole is not None and [beta] not in [[one[0]] for one in found]:
            found.append((list(beta), self._basis, whole))
        return whole

    monkeypatch.setattr(LogisticLikelihood, "read", seen)
    in_lockstep(Logistic(DEAD, ("yes",), (AGE, WARD), ridge=1.0), wards())
    return found


def blurred(basis: Basis, one: int, other: int) -> float:
    """How far an information in z is off, by rounding at four sites: the standard deviation."""
    if not basis.coarse:
        return 1e-10
    first, second = basis.lower[one], basis.lower[other]
    size = range(len(first))
    parts = [first[i] * second[j] + (first[j] * second[i] if i != j else 0) for i in size for j in size if i <= j]
    return math.hypot(*parts) * math.sqrt(SITES) * SD * 2.0**-INFORMATION_BITS


def candidates(steps: Sequence[tuple[list[float], Basis, Evaluated]]) -> list[list[int]]:
    """Which five ages the ward may have: the first step tells their sum, each one behind it three equations more."""
    (beta, _, first), *later = steps
    mean = 1 / (1 + math.exp(-beta[0]))
    weight, (age, c) = mean * (1 - mean), (1, 3)
    together = round(60 * first.information[age][c] / weight) + 60 * 5
    a, b, d, e = np.meshgrid(*[np.arange(40, 80)] * 4, indexing="ij", sparse=True)
    last = together - (a + b + d + e)
    found = np.argwhere((a <= b) & (b <= d) & (d <= e) & (e <= last) & (last < 80)) + 40
    found = np.column_stack([found, together - found.sum(1)])
    for beta, basis, whole in later:
        z = (found - 60) / 60
        mean_of = 1 / (1 + np.exp(-(beta[0] + beta[age] * z + beta[c])))
        weights = mean_of * (1 - mean_of)
        score = math.hypot(*basis.lower[c]) * math.sqrt(SITES) * SD * 2.0**-SCORE_BITS if basis.coarse else 1e-10
        fits = abs(weights.sum(1) - whole.information[c][c]) < 3 * blurred(basis, c, c)
        fits &= abs((weights * z).sum(1) - whole.information[age][c]) < 3 * blurred(basis, age, c)
        fits &= abs((1 - mean_of).sum(1) - whole.gradient[c]) < 3 * score
        found = found[fits]
    return found.tolist()


@pytest.mark.claim("STAT-10")
def test_steps_beside_a_number_leave_open_who_of_a_ward_has_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five people already; the guard asks for ten, of whom there are thousands of times as many."""
    left = candidates(opened(monkeypatch))
    assert FIVE.tolist() in left
    assert len(left) > 15


def test_were_steps_opened_with_all_digits_two_would_tell_every_age_of_a_ward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogisticLikelihood, "refine", lambda likelihood, basis: None)
    steps = opened(monkeypatch)
    assert candidates(steps[:3]) == [FIVE.tolist()]


def followed() -> list[SiteTable]:
    """At 36 months the five leave, and nobody else."""
    draw, tables = np.random.default_rng(5), []
    for site in range(SITES):
        age = draw.integers(30, 90, 240).astype(float)
        months = np.clip(np.ceil(draw.exponential(14, 240) * np.exp(-(age - 60) / 60) / 12) * 12, 12, 48)
        dead, stays = (draw.uniform(size=240) < 0.7).astype(float), months != 36
        age, months, dead = age[stays], months[stays], dead[stays]
        if site == 1:
            age, months, dead = np.append(age, FIVE), np.append(months, [36.0] * 5), np.append(dead, [1.0] * 5)
        tables.append(SiteTable({"age": age, "months": months, "dead": dead}, {"dead": DEAD.levels}, site, SITES))
    return tables


def left_of_a_span(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Which five ages left at 36 months: by the differences of two rows at each step."""
    steps: dict[tuple[float, ...], tuple[float, float, float, list[float], list[float]]] = {}
    read = GridLikelihood.read

    def seen(self: GridLikelihood, beta: list[float], name: str, total: Any) -> Evaluated | None:
        plan = self._plan(beta, name)
        found = plan.read(total)
        apart = [found.real(f"{one} 2") - found.real(f"{one} 3") for one in ("Σw", "Σwz", "Σwzz")]
        grain = [math.hypot(*(2.0 ** -plan.bits(f"{one} {row}") for row in (2, 3))) for one in ("Σw", "Σwz", "Σwzz")]
        off = [one * math.sqrt(SITES) * SD if self._basis.coarse else 1e-9 for one in grain]
        steps[tuple(beta)] = (self._shift[0], self._basis.lower[0][0], self.life.centre[0], apart, off)
        return read(self, beta, name, total)

    monkeypatch.setattr(GridLikelihood, "read", seen)
    in_lockstep(Cox(MONTHS, DEAD, ("yes",), (AGE,), (12.0, 24.0, 36.0, 48.0)), followed())
    (_, (*_, first, _)), *later = steps.items()
    together = round(60 * first[1] + 300)
    squares = round(3600 * first[2] + 2 * 60 * together - 5 * 3600)
    found = np.array(with_sums(together, squares))
    for (beta,), (shift, lower, centre, apart, off) in later:
        z = (found - 60) / 60
        weights, u = np.exp(beta * (z - centre)), (z - shift) / lower
        for power in range(3):
            fits: Floats = abs((weights * u**power).sum(1) - apart[power]) < 3 * off[power]
            found, weights, u = found[fits], weights[fits], u[fits]
    return [tuple(one) for one in found.tolist()]


def with_sums(together: int, squares: int) -> list[tuple[int, ...]]:
    """Five ages from 40 to 79, rising, with that sum and that sum of squares."""
    found = []
    for three in combinations_with_replacement(range(40, 80), 3):
        rest, left = together - sum(three), squares - sum(one * one for one in three)
        root = math.isqrt(max(2 * left - rest * rest, 0))
        if root * root == 2 * left - rest * rest and not (rest + root) % 2:
            low, high = (rest - root) // 2, (rest + root) // 2
            if three[-1] <= low and high < 80:
                found.append((*three, low, high))
    return found


@pytest.mark.claim("STAT-10")
def test_steps_of_cox_leave_open_who_of_those_who_left_was_how_old(monkeypatch: pytest.MonkeyPatch) -> None:
    left = left_of_a_span(monkeypatch)
    assert tuple(FIVE.tolist()) in left
    assert len(left) > 5


def test_were_steps_of_cox_opened_with_all_digits_they_would_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GridLikelihood, "refine", lambda likelihood, basis: None)
    assert left_of_a_span(monkeypatch) == [tuple(FIVE.tolist())]


# ── how many people each count must be of ─────────────────────────────────────────────────────────────────────


def least(statistic: Statistic, name: str = "who") -> dict[str, int]:
    """By label, of how many people a count must be where the smallest group is five."""
    held: dict[str, int] = {}

    def look(asks: Any) -> None:
        if asks[0].name == name:
            labels = [label for label, people in zip(asks[0].labels, asks[0].people, strict=True) if people]
            held.update(zip(labels, asks[0].least(5).tolist(), strict=True))

    draw = np.random.default_rng(1)
    codes = {"ward": draw.integers(0, 3, 300), "sex": draw.integers(0, 2, 300), "dead": draw.integers(0, 2, 300)}
    columns = {"age": draw.integers(30, 90, 300), "months": draw.integers(1, 5, 300) * 12, **codes}
    levels = {"ward": WARD.levels, "dead": DEAD.levels, "sex": ("f", "m")}
    in_lockstep(statistic, [pooled({n: v.astype(float) for n, v in columns.items()}, levels)], look)
    return held


@pytest.mark.claim("STAT-10")
def test_beside_a_number_a_level_must_be_of_twice_the_smallest_group() -> None:
    sex, grid = Factor("sex", ("f", "m")), (12.0, 24.0, 36.0, 48.0)
    beside = least(Logistic(DEAD, ("yes",), (AGE, WARD, sex)))
    assert {beside[label] for label in beside if "with" in label} == {5}  # with an outcome they are counted, no more
    assert {beside[label] for label in ("records complete", "records missing")} == {5}
    assert {beside[label] for label in beside if "ward" in label and "with" not in label} == {10}
    assert set(least(Cox(MONTHS, DEAD, ("yes",), (AGE, WARD), grid), "leavers").values()) == {10}
    assert set(least(Cox(MONTHS, DEAD, ("yes",), (AGE,), grid), "leavers").values()) == {10}
    assert least(Cox(MONTHS, DEAD, ("yes",), (AGE, WARD), by_site=True))["ward c"] == 10
    for exact in (Logistic(DEAD, ("yes",), (WARD, sex)), Linear(AGE, (MONTHS, WARD))):
        assert set(least(exact).values()) == {5}
