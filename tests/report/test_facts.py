"""What a report says follows from verified entries alone, whatever stands in them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.home import Home
from p2pfl.ledger.witness import HeldNotes
from p2pfl.report import words
from p2pfl.report.facts import facts_of
from p2pfl.report.reported import LedgerFacts, ReportedRound
from p2pfl.report.study import Beside, StudyReport, report_of
from tests.ledger.sample import filled, look
from tests.report.sample import Sample
from tools import checklist

A_ROUND = ReportedRound(
    entry=0, run="", round=1, attempt=0, epoch=1, at="", purpose="sum", survivors=(), absent=(), left_out=(), metric="",
    figures={}, unmeasured="", refused="", epsilon={}, model_before="", model_after="", parameters=0, name="", what="",
    part="", signed_by=(),
)  # fmt: skip


def told(home: Home, *, audit: bool = False) -> StudyReport:
    return report_of(home, HeldNotes(), Beside(), "p2pfl", "2026-01-01 00:00:00Z", audit=audit)


def of(folder: Path, sample: Sample, *, audit: bool = False) -> StudyReport:
    with sample.write_into(folder) as home:
        return told(home, audit=audit)


def test_a_study_is_told_with_its_sites_rounds_figures_and_signers(tmp_path: Path) -> None:
    report = of(tmp_path, Sample(absent={2: ["ucl"]}, names=("charite", "ham", "st-olav", "ucl")))
    ledger = report.ledger
    assert report.verified
    assert (ledger.federation, ledger.epoch, ledger.count_trained, len(ledger.trained)) == ("rare-disease", 1, 3, 4)
    assert {one.name: one.in_rounds for one in ledger.sites} == {"charite": 3, "ham": 3, "st-olav": 3, "ucl": 2}
    first, second, *_ = ledger.rounds
    assert (first.figures["auc"].value, first.figures["auc"].low) == (0.871, 0.82)
    assert (second.absent, second.figures, second.unmeasured) == (("ucl",), {}, "not every site is in the sum")
    assert second.signed_by == ("charite", "ham", "st-olav")
    assert ledger.privacy is not None
    assert (ledger.privacy.epsilon, ledger.privacy.delta, ledger.privacy.max_epsilon) == (2.5, 1e-5, 3.0)
    assert [note.kind for note in ledger.incidents] == ["breach"]
    assert report.dense_bytes == 2 * 3 / 4 * 4 * 5000


def test_what_looks_have_spent_of_this_sites_held_out_records_is_told(tmp_path: Path) -> None:
    for name in ("none", "looks"):
        (tmp_path / name).mkdir()
    assert of(tmp_path / "none", Sample()).ledger.held_out is None
    looks = [look("0", "0.6"), look("0.6", "0.9", alone="1.25"), look("0.9", "0.9", charged=False, alone="1.25")]
    report = of(tmp_path / "looks", Sample(own=looks))
    assert report.verified
    wanted = {"looks": 2, "epsilon": 0.9, "epsilon_alone": 1.25, "delta": 1e-5, "max_epsilon": 1.0}
    assert report.as_json()["held_out"] == wanted


def test_sums_are_told_by_their_questions_and_over_whom(tmp_path: Path) -> None:
    ledger = of(tmp_path, Sample(rounds=0, questions=("mean age", "lactate"))).ledger
    assert [(one.first.name, one.first.what, one.last.survivors) for one in ledger.questions] == [
        ("mean age", "2 decimals, none above 1000", ("charite", "st-olav", "ucl")),
        ("lactate", "2 decimals, none above 1000", ("charite", "st-olav", "ucl")),
    ]
    assert not ledger.trained


def test_the_parts_of_a_statistic_are_one_question_which_says_whether_it_was_opened() -> None:
    asked = [("age", ""), ("t", "roll call"), ("t", "guard 1"), ("t", "sum 1"), ("t", "roll call"), ("t", "guard 1")]
    rounds = [replace(A_ROUND, entry=at, name=name, part=part) for at, (name, part) in enumerate(asked)]
    found = LedgerFacts(rounds=tuple(rounds)).questions
    told = [([one.entry for one in question.parts], question.answered) for question in found]
    assert told == [([0], True), ([1, 2, 3], True), ([4, 5], False)]


def test_without_privacy_epsilon_is_unbounded_and_never_a_number(tmp_path: Path) -> None:
    report = of(tmp_path, Sample(unit="none"))
    assert report.ledger.privacy is not None
    assert (report.ledger.privacy.epsilon, report.ledger.privacy.max_epsilon) == (None, None)
    assert {one.epsilon for one in report.ledger.sites} == {None}
    json.dumps(report.as_json(), allow_nan=False)


def test_an_empty_ledger_has_empty_facts(tmp_path: Path) -> None:
    assert facts_of([], []).sites == ()
    with Sample().write_into(tmp_path) as home:
        made = told(home)
    assert made.ledger.sites


@pytest.mark.parametrize(
    "odd",
    [
        {"figures": {"auc": "high"}, "metric": 7},
        {"figures": {"auc": ["nan", None, "inf"]}, "metric": ["auc"]},
        {"figures": [1, 2], "unmeasured": {"why": 1}, "refused": None},
        {},
    ],
)
def test_an_outcome_of_another_form_is_left_out_and_no_error(odd: dict[str, object], tmp_path: Path) -> None:
    report = of(tmp_path, Sample(outcome=odd, configuration={"parameters": "many", "vectors": [1], "name": {}}))
    assert report.ledger.rounds[0].figures == {}
    assert report.ledger.rounds[0].parameters == 0


@pytest.mark.claim("REPORT-2")
def test_no_entry_is_told_behind_those_that_were_verified(tmp_path: Path) -> None:
    """The chain ends where it breaks: what stands behind is in no report, and the finding is."""
    with filled(tmp_path) as home:
        whole = told(home)
        last = sorted((home.path / "ledger/federation").glob("*.segment"))[-1]
        data = bytearray(last.read_bytes())
        data[-20] ^= 1
        last.write_bytes(bytes(data))
        cut = told(home)
    assert whole.verified
    assert not cut.verified
    assert 0 < len(cut.ledger.rounds) < len(whole.ledger.rounds)
    assert cut.as_json()["verified"] is False
    assert cut.as_json()["findings"]


def test_the_audit_names_the_entries_of_this_ledger_that_back_each_safeguard(tmp_path: Path) -> None:
    report = of(tmp_path, Sample(), audit=True)
    assert report.audit is not None
    by = {row.requirement: row for row in report.audit}
    (activity,) = (row for name, row in by.items() if name.startswith("(a)(1)(ii)(D)"))
    assert activity.evidence["site"] == {"start": (0,), "operator": (1,), "charge": (2,), "breach": (3,)}
    (agreement,) = (row for row in report.audit if row.kinds == ("agreement", "operator"))
    assert agreement.evidence == {"federation": {}, "site": {"operator": (1,)}}
    assert {kind for row in report.audit for kind in row.kinds} >= {"genesis", "round", "charge"}


def test_the_audits_commands_are_of_this_site_and_name_others_of_its_study(tmp_path: Path) -> None:
    report = of(tmp_path, Sample(), audit=True)
    assert report.audit is not None
    text = " ".join(f"{row.does} {row.check} {row.yours}" for row in report.audit)
    assert f"p2pfl status --home {report.site}" in text
    assert "mayo" not in text
    others = {one.name for one in report.ledger.sites} - {report.site}
    assert set(re.findall(r"p2pfl peers (?:propose remove|revoke) ([a-z-]+)", text)) <= {report.site, *others}


def test_the_checklist_in_the_package_is_that_of_the_document() -> None:
    assert checklist.FILE.read_text(encoding="utf-8") == checklist.page(), "python -m tools.checklist"
    rows = checklist.rows()
    assert len(rows) > 50
    assert {"GDPR", "Technical safeguards, 164.312"} <= {row["rules"] for row in rows}
    assert not [row for row in rows if "**" in str(row) or "](" in str(row) or "`" in str(row)]


def test_what_epsilon_bounds_is_bayes_rule_with_its_odds() -> None:
    assert words.at_most(0.5, 0.0) == 0.5
    assert words.at_most(0.5, math.log(3)) == pytest.approx(0.75)
    assert words.at_most(0.01, 2.0) == pytest.approx(0.0694, abs=1e-4)
    assert words.at_most(0.5, math.inf) == words.at_most(0.5, 1e9) == 1.0
    assert [words.percent(one) for one in (0.5, 0.0694, 0.9990, 0.99999, 1.0)] == [
        "50 %", "6.9 %", "99.9 %", "99.9990 %", "100 %",
    ]  # fmt: skip
    assert words.rarely(1e-5) == "1e-05 (1 in 100 000)"
