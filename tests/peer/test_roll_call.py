"""A question's roll call, at one site: who came too late is told so, and who refuses is not named by its silence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from p2pfl.errors import P2PFLError
from p2pfl.errors.privacy_units import UnitsMixed
from p2pfl.errors.questions import FewWithdrew, QuestionRefused, QuestionsLost, QuestionsSpent, SitesChanged
from p2pfl.errors.round import AnotherCohort
from p2pfl.errors.training import StudiesUnheard
from p2pfl.node.runs.question_counts import read_counts
from p2pfl.node.runs.statistics import Inquiry
from p2pfl.peer import statistics
from p2pfl.peer.attendance import Attendance
from p2pfl.statistics.describe import Describe, Histogram
from tests.federation.sample import NAMES
from tests.home.home_fixtures import make
from tests.node.runs.test_gone import ask, asked_of
from tests.node.runs.test_statistics import AGE, csv, federation

LATE, *REST = NAMES


def asks(
    monkeypatch: pytest.MonkeyPatch,
    *sets: Sequence[str],
    bound_to: Sequence[str] = (),
    charge: Any = None,
    refused: Sequence[int] = (),
    few: FewWithdrew | None = None,
) -> list[tuple[Any, tuple[bool, ...]]]:
    """A question at LATE, whose sums are over these sets in turn. Nothing of its records is bound or counted.

    bound_to   the sites over which its data were summed before
    refused    numbers of the rounds in which another site refuses
    few        its roll call is over, and of those who withdrew a few are in the sum that comes
    Returns what this site said in each round: which part it was, and its flags. `said` is also an attribute of what is
    raised, and `done`: what was counted.
    """
    left, done, said = list(sets), list[str](), list[tuple[Any, tuple[bool, ...]]]()

    async def run(run_id: bytes, source: Any, rounds: int) -> None:
        asked, parts = source.given[:2]
        assert asked.marks == (), "nothing is bound"
        flags = tuple(bool(word) for word in parts[-1].vector.words)
        part = asked.of["statistic"]["part"]
        others = len(said) in refused
        ends = (0, len(flags) - 1)  # of a roll call, in which others have enough records; of a consent it is one
        raised = np.array([flag or (others if at in ends else True) for at, flag in enumerate(flags)])
        said.append((part, flags))
        totals = (np.array([3]), raised) if part == "roll call" else (raised,)
        source.answer = SimpleNamespace(survivors=tuple(left.pop(0)), totals=totals, sums=("one",), round=1)

    def check(over: Sequence[str]) -> None:
        if bound_to and tuple(over) != tuple(bound_to):
            raise AnotherCohort(query="age", evidence=f"then over {', '.join(bound_to)}")

    monkeypatch.setattr(statistics, "SumRun", lambda *given: SimpleNamespace(answer=None, given=given))
    monkeypatch.setattr(statistics, "Cohort", lambda *given: SimpleNamespace(check=check))
    logs, inquiry = SimpleNamespace(count=lambda run_id: 0), Inquiry.of(Describe((AGE,)), federation(), os.urandom)
    facts: dict[str, Any] = {
        "node": SimpleNamespace(name=LATE, clocks=SimpleNamespace(draw=os.urandom), logs=logs, run=run),
        "inquiry": inquiry,
        "records": inquiry.read(csv(), None, False),
        "budget": SimpleNamespace(
            check=lambda: None, count=lambda: done.append("counted"), count_refused=lambda: done.append("refused")
        ),
    }
    asking, plain = object.__new__(statistics._Asking), dict[str, Any](patience_s=1.0, noise=None, charge=charge)
    plain["attendance"] = Attendance()
    monkeypatch.setattr(Attendance, "is_over", lambda *given: False)  # two of three would be too few
    for name, fact in (facts | plain | {"marks": (), "over": (), "rounds": [], "noised": [], "bound": False}).items():
        setattr(asking, name, fact)
    asking.over = NAMES if few is not None else ()
    try:
        ask = next(inquiry.statistic.steps(asking.records.table))
        asyncio.run(asking.through() if few is None else asking._open(2, ask, ask.values, few))
    except Exception as error:
        error.said, error.done = said, done  # type: ignore[attr-defined]
        raise
    finally:
        assert "counted" not in done
    return said


def test_a_question_begins_anew_with_a_site_that_was_late_for_its_roll_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended in a ValueError, as a bug, and the others waited for it where one of them had died meanwhile."""
    with pytest.raises(statistics._OtherSites):
        asks(monkeypatch, REST, NAMES)


def test_a_site_without_which_the_question_goes_on_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SitesChanged) as caught:
        asks(monkeypatch, REST, REST)
    assert "came too late" in caught.value.render()


# ── who refuses ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-4")
def test_data_of_another_set_of_sites_refuse_by_a_flag_and_not_by_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site told nobody, and the others went on without it: they saw whose rule it was, and bound their data."""
    with pytest.raises(AnotherCohort) as caught:
        asks(monkeypatch, NAMES, bound_to=NAMES[:2])
    assert caught.value.said == [("roll call", (False, False, True))]  # type: ignore[attr-defined]


@pytest.mark.claim("STAT-4")
def test_over_fewer_sites_than_all_each_is_asked_again_before_anything_is_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AnotherCohort) as caught:
        asks(monkeypatch, NAMES[:2], NAMES[:2], bound_to=NAMES)
    (roll_call, flags), consent = caught.value.said  # type: ignore[attr-defined]
    assert (roll_call, flags[-1]) == ("roll call", False)
    assert consent == ("consent", (True,))


@pytest.mark.claim("STAT-4")
@pytest.mark.parametrize("sets", [[NAMES], [NAMES[:2]] * 2], ids=["all", "fewer"])
def test_where_another_site_refuses_the_question_ends_here_with_no_name(
    monkeypatch: pytest.MonkeyPatch, sets: Sequence[Sequence[str]]
) -> None:
    with pytest.raises(QuestionRefused):
        asks(monkeypatch, *sets, refused=[len(sets) - 1])


@pytest.mark.claim("STAT-4")
@pytest.mark.parametrize("error", [UnitsMixed, StudiesUnheard, QuestionsLost])
def test_a_rule_of_the_account_refuses_in_the_roll_call_as_every_other_does(
    monkeypatch: pytest.MonkeyPatch, error: type[P2PFLError]
) -> None:
    """The site was missing from the roll call."""

    def check() -> None:
        raise error.__new__(error)

    with pytest.raises(error) as caught:
        asks(monkeypatch, NAMES, charge=SimpleNamespace(check=check))
    assert caught.value.said == [("roll call", (True, False, False))]  # type: ignore[attr-defined]


@pytest.mark.claim("HOME-15", "STAT-4")
def test_a_later_sum_of_few_who_went_is_refused_by_a_flag_of_its_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    few = FewWithdrew(evidence="answers that were given before hold them", least=5)
    with pytest.raises(FewWithdrew) as caught:
        asks(monkeypatch, NAMES, few=few)
    ((part, flags),) = caught.value.said  # type: ignore[attr-defined]
    assert (part, flags[-1]) == ("guard 2", True)
    assert caught.value.done == ["refused"]  # type: ignore[attr-defined]


@pytest.mark.claim("HOME-15", "STAT-5")
def test_refusals_that_tell_the_ages_of_who_went_end_with_the_budget(tmp_path: Path) -> None:
    """Of five who went the youngest is 41 and the oldest 53: a cut between them was refused, and cost nothing."""
    with make(tmp_path) as home:
        ask(home, Describe((AGE,)))
        found = []
        for cut in range(42, 54):
            question = Histogram(AGE, (0.0, float(cut), 120.0))
            asking = object.__new__(statistics._Asking)
            asking.budget, asking.charge = asked_of(home, question, (11, 12, 14, 17, 23), most=10), None
            found.append(type(asking._refusal()))
        assert found == 3 * [FewWithdrew] + 9 * [QuestionsSpent]
        assert read_counts(home).most == 1 + 3 * 3


@pytest.mark.claim("HOME-15")
def test_a_refused_question_is_no_answer_that_whoever_goes_next_is_compared_with(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        ask(home, Describe((AGE,)))
        asking = object.__new__(statistics._Asking)
        asking.budget, asking.charge = asked_of(home, Describe((AGE,)), (6,)), None
        assert isinstance(asking._refusal(), FewWithdrew)
        ask(home, Describe((AGE,)), 7, 8, 9, 10)
