"""Every kind of question between five real processes, on one real study's patients, against one table of them all."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lifelines", reason="lifelines, of the extra [dev], is not installed")

from lifelines.datasets import load_gbsg2

from p2pfl.statistics.registry import STATISTICS
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S
from tests.end_to_end.test_statistics import of, pooled, same

# German Breast Cancer Study Group 2 (Schumacher et al. 1994), 686 patients. The score is made up, of nodes and size.
TASK = """\
label:
  outcome: {binary: [alive, dead], positive: [dead]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
columns:
  age: {number: years, low: 18, high: 100, centre: 50, scale: 10}
  size: {number: mm, low: 0, high: 130, centre: 25, scale: 15}
  nodes: {number: nodes, low: 0, high: 60, centre: 5, scale: 5}
  hormones: {code: ["no", "yes"]}
  grade: {code: [low, middle, high]}
asked:
  time: {number: days, low: 1, high: 2700}
  died: {code: [alive, dead]}
  score: {number: chance, low: 0, high: 1}
"""
GRADES = {"I": "low", "II": "middle", "III": "high"}
GRID = [450.0, 900.0, 1350.0, 2700.0]
DEAD: dict[str, Any] = {"positive": ["dead"]}
ASKED = (
    of("describe", columns=["age", "size", "grade"]),
    of("table-one", group="hormones", columns=["age", "grade"]),
    of("histogram", column="age", edges=[45.0, 60.0]),
    of("quantiles", column="age", probabilities=[0.5], halvings=6),
    of("crosstab", rows="hormones", columns="died"),
    of("correlation", columns=["age", "size", "nodes"]),
    of("ttest", column="size", group="hormones"),
    of("anova", column="nodes", group="grade"),
    of("km", time="time", event="died", grid=GRID, group="hormones", **DEAD),
    of("linear", outcome="size", covariates=["age", "nodes", "grade"]),
    of("logistic", outcome="died", covariates=["age", "nodes", "hormones"], **DEAD),
    of("poisson", outcome="nodes", covariates=["age", "grade"]),
    of("cox", time="time", event="died", covariates=["nodes", "hormones"], grid=GRID, **DEAD),
    of("roc", score="score", outcome="died", edges=[0.3, 0.5], **DEAD),
    of("calibration", score="score", outcome="died", edges=[0.3, 0.5], **DEAD),
    of("meta", measure="difference", column="size", group="hormones", levels=["no", "yes"]),
)
ROUNDED = ("logistic", "poisson", "cox", "calibration")
# What is compared are figures; that small groups are not opened is what test_looks.py and others are about.
RULES = (f"statistics.standing=[{', '.join(STATISTICS)}]", "statistics.minimum_cell=1")


def dealt(count: int) -> list[bytes]:
    """The patients in turn to so many hospitals."""
    rows = []
    for one in load_gbsg2().to_dict("records"):
        outcome = "dead" if one["cens"] else "alive"
        score = 1 / (1 + math.exp(1.2 - 0.1 * one["pnodes"] - 0.01 * one["tsize"]))
        held = [one["age"], one["tsize"], one["pnodes"], one["horTh"], GRADES[one["tgrade"]]]
        rows.append([*held, one["time"], outcome, round(score, 4), outcome])
    files = []
    for place in range(count):
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["age", "size", "nodes", "hormones", "grade", "time", "died", "score", "outcome"])
        writer.writerows(rows[place::count])
        files.append(out.getvalue().encode())
    return files


def test_every_kind_there_is_is_asked_here() -> None:
    assert {question["kind"] for question in ASKED} == set(STATISTICS)


@pytest.mark.claim("STAT-1")
def test_each_kind_of_question_is_answered_as_of_one_table(make: MakeSites, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    sites = make(5, *RULES, task=str(tmp_path / "task.yaml"))
    held = dict(zip(sites.names, dealt(5), strict=True))
    for name, raw in held.items():
        sites[name].folder.mkdir(exist_ok=True)
        (sites[name].folder / "records.csv").write_bytes(raw)
    orders = [{"ask": question, "patience_s": PATIENCE_S, "shows_own": True} for question in ASKED]
    running = sites.linked(lambda name: orders, {})
    for question in ASKED:
        answers = [process.given() for process in running.values()]
        assert all(answer["survivors"] == sites.names for answer in answers), question["kind"]
        assert all(answer["result"] == answers[0]["result"] for answer in answers), question["kind"]
        if question["kind"] != "meta":  # of each site's own estimates: there is no pooled one
            whole = pooled(sites, held, sites.names, question)
            alike = rounded if question["kind"] in ROUNDED else same
            assert alike(answers[0]["result"], whole), question["kind"]


def rounded(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Of a regression whose steps are rounded: estimates within a thousandth of their errors (docs/adr/0096)."""
    if one["statistic"] == "calibration":
        told = [[answer.pop(name) for name in ("intercept", "slope")] for answer in (one, other)]
        return told[0] == pytest.approx(told[1], abs=1e-3) and same(one, other)
    rows = list(zip(one["coefficients"], other["coefficients"], strict=True))
    apart = [abs(mine["estimate"] - theirs["estimate"]) / theirs["se"] for mine, theirs in rows]
    return max(apart) < 1e-3 and (one["count"], one["missing"]) == (other["count"], other["missing"])
