"""What is past its time goes, what is not stays, a ledger always; what went is noted, and the rest verifies."""

from __future__ import annotations

import datetime
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.cli.main import run
from p2pfl.codec import Malformed
from p2pfl.errors.home import KeptForever, KeptLonger
from p2pfl.home import Home, notes
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import StartEntry
from p2pfl.ledger.verify import verify
from p2pfl.node import retention
from p2pfl.node.epochs import AGREED
from tests.home.home_fixtures import Crash, Strike
from tests.node.runs.homes import Place, finished, places, summed

LAST = date(2023, 11, 14)  # the homes' clock stands at 1 700 000 000
EVIDENCE = "state/evidence/0123456789abcdef"
AVERAGES = "state/averages/0123456789abcdef"
ANSWER, CURVES, MODEL = "state/answer", "state/curves", "checkpoints/model"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home with a round in its logs, its model, and one item of each other kind."""
    mine, other = places(tmp_path)
    other.home.close()
    made = mine.started()
    model, outcome = summed(made, 1)
    finished(mine, made, 1, model, outcome)
    for item in (EVIDENCE, ANSWER, AVERAGES, CURVES):
        mine.home.replace(item, b"{}")
    mine.home.replace(AGREED, mine.federation.raw)
    return mine


def left(home: Home) -> set[str]:
    items = (EVIDENCE, ANSWER, AVERAGES, CURVES, MODEL, "state/residual")
    return {item for item in items if home.read(item) is not None}


def prune(home: Home, *names: str, today: date, dry: bool = False) -> dict[str, list[str]]:
    return retention.prune(home, names, today, 1, dry=dry)


@pytest.mark.claim("HOME-16")
def test_a_ledger_is_removed_by_nothing_and_verifies_when_all_else_is_gone(place: Place) -> None:
    far, before = date(2123, 1, 1), verify(place.home)
    with pytest.raises(KeptForever):
        prune(place.home, "models", "ledger", today=far)
    assert MODEL in left(place.home), "and nothing that was named beside it"
    assert set(prune(place.home, today=far)) == {"evidence", "models", "figures", "answers"}
    assert left(place.home) == set()
    assert verify(place.home) == before, "each finding, and both roots"
    assert {one.options["kind"]: one.options["items"] for one in notes.pending(place.home)} == {
        "evidence": 1,
        "models": 3,
        "figures": 1,
        "answers": 1,
    }
    place.home.close()


@pytest.mark.claim("HOME-16")
@pytest.mark.parametrize("clock", [60, 1 << 62], ids=["1970", "beyond every date"])
def test_a_start_with_a_wrong_clock_lets_nothing_go(place: Place, clock: int) -> None:
    log = Log.open(place.home, "site")
    log.append(StartEntry(time=clock, salt=bytes(16), version="1", python="3", incarnation="00").record)
    log.close()
    found = retention.last_entry(place.home)
    assert found is not None
    assert found >= LAST
    assert prune(place.home, today=LAST + datetime.timedelta(days=1)) == {}
    place.home.close()


@pytest.mark.claim("HOME-16")
def test_nothing_goes_on_the_last_day_of_its_years_and_who_names_it_is_refused(place: Place) -> None:
    day = datetime.timedelta(days=1)
    over = retention.after_years(LAST, 1)
    assert over == date(2024, 11, 15)
    with pytest.raises(KeptLonger):
        prune(place.home, "answers", today=over - day)
    assert prune(place.home, today=over - day) == {}
    before = left(place.home)
    assert prune(place.home, today=over, dry=True) == {"answers": [ANSWER]}
    assert left(place.home) == before and not notes.pending(place.home)
    assert prune(place.home, "answers", today=over) == {"answers": [ANSWER]}
    assert left(place.home) == before - {ANSWER}
    place.home.close()


def test_years_are_counted_from_the_last_round_where_nothing_came_behind_it(tmp_path: Path) -> None:
    """A site that took no part in it has it from the others, and nothing newer of its own."""
    mine, other = places(tmp_path)
    other.home.close()
    run, later = mine.started(), datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
    model, outcome = summed(run, 1)
    finished(mine, run, 1, model, outcome, time_ms=int(later.timestamp()) * 1000)
    assert retention.last_entry(mine.home) == later.date()
    mine.home.close()


@pytest.mark.claim("HOME-16")
def test_proofs_and_the_ledger_are_kept_for_six_years_whatever_a_site_sets(place: Place) -> None:
    for name in ("evidence", "ledger"):
        with pytest.raises(KeptLonger):
            retention.set_years(place.home, name, 5, 1)
    retention.set_years(place.home, "models", 0, 1)
    retention.set_years(place.home, "evidence", 10, 1)
    years = {one.kind.name: one.years for one in retention.held_by(place.home)}
    assert years == {"ledger": 6, "evidence": 10, "models": 0, "figures": 6, "answers": 1}
    assert set(prune(place.home, today=LAST + datetime.timedelta(days=1))) == {"models"}
    assert [one.command for one in notes.pending(place.home)] == ["retention set", "retention set", "retention prune"]
    place.home.close()


def test_a_process_that_dies_within_a_deletion_leaves_the_rest_for_the_next_one(place: Place) -> None:
    far, home = date(2123, 1, 1), place.home
    home.disk.fault = counted = Strike(Crash)
    prune(home, "answers", today=far)
    for at in range(3 * counted.seen):
        home.disk.fault = Strike(Crash, at)
        try:
            prune(home, today=far)
        except Crash:
            key = KeyFile(home.path.parent / "keys" / f"{home.name}.key")
            home.close()
            home = Home.open(home.path, unlock=[key])
            told = {one.options["kind"] for one in notes.pending(home)}
            assert MODEL in left(home) or "models" in told, "what went was noted before"
    home.disk.fault = Strike(Crash, 10**6)
    prune(home, today=far)
    assert left(home) == set()
    home.close()


@pytest.mark.parametrize(
    "facts", [{"models": -1}, {"models": 101}, {"models": True}, {"evidence": 5}, {"records": 1}, {"models": "1"}]
)
def test_years_of_another_form_are_none(facts: dict[str, Any]) -> None:
    assert retention.parse_years(codec.facts({"models": 1, "ledger": 6})) == {"models": 1, "ledger": 6}
    with pytest.raises(Malformed):
        retention.parse_years(codec.facts(facts))


@pytest.mark.parametrize(
    ("day", "years", "until"),
    [
        (date(2026, 3, 31), 6, date(2032, 4, 1)),
        (date(2024, 2, 28), 1, date(2025, 3, 1)),  # from 29 February on
        (date(2023, 12, 31), 0, date(2024, 1, 1)),
    ],
)
def test_years_are_whole_ones_behind_the_last_day(day: date, years: int, until: date) -> None:
    assert retention.after_years(day, years) == until


def test_a_person_sees_what_is_kept_sets_it_and_deletes_what_is_past(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert run(["retention", *arguments, "--home", str(place.home.path), "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    assert told("prune", "--dry-run", status=1)["error"]["code"] == "P2P-HOME-003", "a process works in it"
    place.home.close()
    assert told("show")["studies"]["trial"]["models"] == {"years": 6, "until": "2029-11-15", "items": 3}
    assert told("prune", "ledger", status=2)["error"]["code"] == "P2P-HOME-014"
    assert told("prune", "evidence", status=2)["error"]["code"] == "P2P-HOME-013"
    assert told("set", "figures", "0")["years"] == 0
    assert told("prune", "figures", "--dry-run")["gone"] == {"trial": {"figures": [CURVES]}}
    assert told("prune", "figures")["gone"] == {"trial": {"figures": [CURVES]}}
    assert run(["retention", "show", "--home", str(place.home.path)]) == 0
    assert "ledger      6 years  until 2029-11-15  never deleted" in capsys.readouterr().out


def test_a_kind_that_one_study_must_still_keep_goes_in_none(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    retention.set_years(place.home, "figures", 0, 1)
    place.home.close()
    key = KeyFile(place.home.path.parent / "keys" / f"{place.home.name}.key")
    with Home.open(place.home.path, unlock=[key], write=False) as home:
        with home.enter_study("lungs") as lungs:
            lungs.replace(AGREED, place.federation.raw)
        assert run(["retention", "prune", "figures", "--home", str(home.path)]) == 2
        assert "P2P-HOME-013" in capsys.readouterr().err
        assert CURVES in left(home), "of the study that comes first"
