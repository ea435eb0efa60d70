"""A site that came too late for a question's roll call: all begin anew with it, or it is told so; it does not crash."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from p2pfl.errors.questions import SitesChanged
from p2pfl.node.runs.statistics import Inquiry
from p2pfl.peer import statistics
from p2pfl.peer.attendance import Attendance
from p2pfl.statistics.describe import Describe
from tests.federation.sample import NAMES
from tests.node.runs.test_statistics import AGE, csv, federation

LATE, *REST = NAMES


def asks_late(monkeypatch: pytest.MonkeyPatch, *sets: Sequence[str]) -> None:
    """A question at LATE, whose sums are over these sets in turn. Nothing of its records is bound or counted."""
    left, done = list(sets), list[str]()
    roll_call = (np.array([3]), np.array([False, True]))

    async def run(run_id: bytes, source: Any, rounds: int) -> None:
        source.answer = SimpleNamespace(survivors=tuple(left.pop(0)), totals=roll_call, sums=("one",), round=1)

    monkeypatch.setattr(statistics, "SumRun", lambda *given: SimpleNamespace(answer=None))
    monkeypatch.setattr(statistics, "Cohort", lambda *given: SimpleNamespace(check=lambda over: done.append("bound")))
    logs, inquiry = SimpleNamespace(count=lambda run_id: 0), Inquiry.of(Describe((AGE,)), federation(), os.urandom)
    facts: dict[str, Any] = {
        "node": SimpleNamespace(name=LATE, clocks=SimpleNamespace(draw=os.urandom), logs=logs, run=run),
        "inquiry": inquiry,
        "records": inquiry.read(csv(), None, False),
        "budget": SimpleNamespace(check=lambda: None, count=lambda: done.append("counted")),
    }
    asking, plain = object.__new__(statistics._Asking), dict[str, Any](patience_s=1.0, noise=None, charge=None)
    plain["attendance"] = Attendance()
    monkeypatch.setattr(Attendance, "is_over", lambda *given: False)  # two of three would be too few
    for name, fact in (facts | plain | {"marks": (), "over": (), "rounds": [], "noised": []}).items():
        setattr(asking, name, fact)
    try:
        asyncio.run(asking.through())
    finally:
        assert done == []


def test_a_question_begins_anew_with_a_site_that_was_late_for_its_roll_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended in a ValueError, as a bug, and the others waited for it where one of them had died meanwhile."""
    with pytest.raises(statistics._OtherSites):
        asks_late(monkeypatch, REST, NAMES)


def test_a_site_without_which_the_question_goes_on_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SitesChanged) as caught:
        asks_late(monkeypatch, REST, REST)
    assert "came too late" in caught.value.render()
