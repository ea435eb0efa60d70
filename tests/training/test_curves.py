"""Curves for people: no point is of fewer patients than agreed, and the area under them is that of the measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from p2pfl.federation.table_schema import TableSchema
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.curves import curves_of
from tests.federation.sample import TABLE

TASK = TaskChoice(table=TableSchema.parse(TABLE, "task.yaml"))


def counts(n: int, apart: float, seed: int = 1) -> list[int]:
    draw = np.random.default_rng(seed)
    label = (draw.random(n) < 0.4).astype(np.int64)
    score = 1.0 / (1.0 + np.exp(-(draw.normal(size=n) + apart * (label - 0.5))))
    return [int(one) for one in Binary().count(score, label)]


@pytest.mark.claim("REPORT-3")
@pytest.mark.parametrize("least", [0, 5, 20])
def test_every_step_is_of_at_least_so_many_patients_of_either_class(least: int) -> None:
    total = counts(600, 2.0)
    curves = curves_of(TASK, total, least)
    assert curves is not None
    assert curves["least"] == max(least, 5)
    n, m = sum(total[:128]), sum(total[128:256])
    steps = np.diff(np.array(curves["roc"]), axis=0) * [n, m]
    assert steps.min() >= max(least, 5) - 0.01
    assert curves["roc"][-1] == [1.0, 1.0]


def test_the_curve_has_the_area_of_the_measure_and_scores_mean_what_they_say() -> None:
    total = counts(20_000, 2.0)
    curves = curves_of(TASK, total)
    assert curves is not None
    across, up = np.array(curves["roc"]).T
    area = float(np.sum(np.diff(across) * (up[1:] + up[:-1]) / 2))
    assert area == pytest.approx(Binary().figures(total)["auc"].value, abs=0.005)
    said = [one[0] for one in curves["calibration"]]
    assert said == sorted(said)
    assert all(low <= share <= high for _, share, low, high in curves["calibration"])


def test_few_patients_another_label_or_a_false_total_give_no_curve() -> None:
    assert curves_of(TASK, counts(15, 1.0)) is None
    assert curves_of(TASK, [0] * Binary.size) is None
    assert curves_of(TASK, [-1] * Binary.size) is None
    assert curves_of(TASK, [1, 2, 3]) is None
    assert curves_of(TaskChoice(python="mine"), counts(600, 2.0)) is None


def test_where_patients_may_have_several_records_there_is_no_curve() -> None:
    """Five records in a group may be one patient's: a step of the curve would be hers."""
    assert TASK.table is not None
    of_patients = replace(TASK, table=replace(TASK.table, patient="who"))
    assert curves_of(TASK, counts(600, 2.0)) is not None
    assert curves_of(of_patients, counts(600, 2.0)) is None
