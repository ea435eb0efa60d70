"""A withdrawal: kept under the home's key, taken up before the next pass, noted without a name, never given back."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.home import ItemDamaged, WithdrawalsLost
from p2pfl.federation import Federation
from p2pfl.home import Home, notes
from p2pfl.home.keyslots import KeyFile
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.progress import unseen
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.runs.site_tables import read_records
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.withdrawals import ITEM, read_withdrawn, withdraw
from p2pfl.training.privacy.accounts import marks_of
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.records.given_table import GivenTable
from p2pfl.training.records.withdrawn import Withdrawn, patient_name
from p2pfl.training.tasks.heart import heart
from tests.federation.sample import peers_yaml
from tests.home.home_fixtures import Crash, Strike, make
from tests.node.runs.homes import FourOf, Place, beside, places, summed
from tests.training.test_columns import GOOD
from tests.training.test_columns import file as csv_file

RECORDS = tuple(bytes([row]) * 32 for row in range(6))


@dataclass
class Leaves(FourOf):
    """It leaves out who withdrew, and names the records that each pass was over."""

    brings: tuple[bytes, ...] = RECORDS
    over: list[tuple[bytes, ...]] = field(default_factory=list)

    def leave_out(self, withdrawn: Withdrawn) -> None:
        out = withdrawn.among(self.brings).tolist()
        self.brings = tuple(name for name, is_out in zip(self.brings, out, strict=True) if not is_out)

    def inputs(self, model: np.ndarray, rounds_before: int) -> bytes:
        self.records = b"".join(self.brings)
        return super().inputs(model, rounds_before)

    def train(self, *given: object) -> np.ndarray:  # type: ignore[override]
        self.over.append(self.brings)
        return super().train(*given)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    mine, other = places(tmp_path, "privacy.max_epsilon=9.0")
    other.home.close()
    mine.trainer, mine.draw = Leaves(), os.urandom
    return mine


def over(run: TrainingRun) -> list[tuple[bytes, ...]]:
    assert isinstance(run.trainer, Leaves)
    return run.trainer.over


@pytest.mark.claim("HOME-15")
def test_a_running_site_takes_a_withdrawal_up_at_its_next_pass_and_keeps_it(place: Place) -> None:
    run = place.started()
    summed(run, 1)
    told = withdraw(beside(place), RECORDS[:1], 1_700_000_000)
    assert (told.given, told.new, told.used) == (1, 1, 1)
    summed(run, 2)
    assert over(run) == [RECORDS, RECORDS[1:]]
    place.trainer = Leaves()
    again = place.started()
    assert again.trainer.brings == RECORDS[1:], "before its first pass"  # type: ignore[attr-defined]
    assert (withdraw(beside(place), RECORDS[:1], 1_700_000_001).new, len(notes.pending(place.home))) == (0, 1)
    place.home.close()


@pytest.mark.claim("HOME-15")
def test_the_account_of_whoever_withdrew_stays_and_that_of_the_others_goes_on(place: Place) -> None:
    run = place.started()
    summed(run, 1)
    spent = float(run.passes.spent())
    withdraw(beside(place), RECORDS[:2], 1_700_000_000)
    summed(run, 2)
    key = place.home.records_key()
    groups = {len(group.marks): group for group in read_accounts(place.home).groups}
    assert np.array_equal(groups[2].marks, marks_of(key, RECORDS[:2]))
    assert (groups[2].account.passes, groups[4].account.passes) == (1, 2), "nothing is given back, nothing begun anew"
    assert float(run.passes.spent()) > spent
    place.home.close()


@pytest.mark.claim("HOME-15")
def test_the_site_log_says_how_many_and_nothing_of_the_home_says_who(place: Place) -> None:
    who = b"Ada Lovelace, 10 December 1815"
    withdraw(beside(place), [patient_name(who), *RECORDS[:2]], 1_700_000_000)
    (note,) = notes.pending(place.home)
    assert (note.command, dict(note.options)) == ("withdraw", {"records": 3, "times": 1})
    kept = b"".join(place.home.read(item) or b"" for item in ("accounts/withdrawn", "membership/notes"))
    assert not any(one in kept for one in (who, patient_name(who), patient_name(who)[:8], RECORDS[0][:8]))
    place.home.close()


def test_a_process_that_dies_within_a_withdrawal_leaves_the_old_list_or_the_new_one(tmp_path: Path) -> None:
    home = make(tmp_path)
    withdraw(home, RECORDS[:1], 1)
    strike = Strike(Crash)
    home.disk.fault = strike
    withdraw(home, RECORDS[1:2], 2)
    for at in range(strike.seen):
        home.disk.fault = Strike(Crash, at)
        before = read_withdrawn(home).marks.size
        with pytest.raises(Crash):
            withdraw(home, [bytes([100 + at]) * 32], 3)
        home.close()
        home = Home.open(home.path, unlock=[KeyFile(tmp_path / "keys" / "charite.key")])
        assert read_withdrawn(home).marks.size in (before, before + 1)
    home.close()


def test_a_withdrawal_that_died_untold_is_told_by_the_next_and_none_twice(tmp_path: Path) -> None:
    home = make(tmp_path)
    strike = Strike(Crash)
    home.disk.fault = strike
    withdraw(home, RECORDS[:1], 2)
    for at in range(strike.seen):
        home.disk.fault = Strike(Crash, at)
        with pytest.raises(Crash):
            withdraw(home, [bytes([100 + at]) * 32], 3)
        home.disk.fail("dead")
        home.close()
        home = Home.open(home.path, unlock=[KeyFile(tmp_path / "keys" / "charite.key")])
        withdraw(home, [bytes([100 + at]) * 32], 4)
        assert sum(int(one.options["records"]) for one in notes.pending(home)) == read_withdrawn(home).marks.size
    home.close()


@pytest.mark.claim("HOME-15")
def test_the_site_log_grows_as_much_whether_or_not_somebody_withdrew(tmp_path: Path) -> None:
    """Every peer is told how long it is, and shown hashes of it: of one entry a round, which no try tells."""
    grown, folders = [], [tmp_path / "nobody", tmp_path / "somebody"]
    for folder in folders:
        folder.mkdir()
        place, other = places(folder, "privacy.max_epsilon=9.0")
        other.home.close()
        place.trainer, place.draw = Leaves(), os.urandom
        run = place.started()
        change = PendingChange(place.home, run.logs, place.federation, unseen)
        change._look()
        before = len(run.logs.site)
        if folder == folders[1]:
            withdraw(beside(place), RECORDS[:1], 1_700_000_000)
        change._look()
        assert len(run.logs.site) == before, "before a round is final nothing is noted"
        change._acts_at -= 1  # a round has become final
        change._look()
        change.take_acts()  # as the process ends
        grown.append(len(run.logs.site) - before)
        last = codec.read_facts(run.logs.site[before].record)
        assert [act["command"] for act in last["acts"]] == (["withdraw"] if folder == folders[1] else [])
        assert run.logs.withdrawn() == len(last["acts"])
        assert notes.pending(place.home) == []
        place.home.close()
    assert grown == [1, 1]


@pytest.mark.claim("HOME-15")
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "older"])
def test_nobody_who_withdrew_comes_back_with_a_list_that_is_lost_or_older(place: Place, lost: bool) -> None:
    withdraw(beside(place), RECORDS[:1], 1_700_000_000)
    older = (place.home.path / ITEM).read_bytes()
    withdraw(beside(place), RECORDS[1:2], 1_700_000_001)
    run = place.started()
    changes = PendingChange(place.home, run.logs, place.federation, unseen)
    changes._acts_at -= 1
    changes.take_acts()
    summed(run, 1)
    if lost:
        (place.home.path / ITEM).unlink()
    else:
        (place.home.path / ITEM).write_bytes(older)
    with pytest.raises(WithdrawalsLost, match="no longer knows"):
        summed(run, 2)
    place.trainer = Leaves()
    with pytest.raises(WithdrawalsLost):
        place.started()
    withdraw(beside(place), RECORDS[:2], 1_700_000_002)
    assert place.started().trainer.brings == RECORDS[2:]  # type: ignore[attr-defined]
    assert notes.pending(place.home) == []
    place.home.close()


@pytest.mark.claim("HOME-15")
def test_questions_are_asked_of_nobody_who_withdrew(tmp_path: Path) -> None:
    schema = Federation.parse(peers_yaml()).task.table
    assert schema is not None
    schema = dataclasses.replace(schema, patient="who")
    table = GivenTable(
        b"who,age,sex,ill\nada,61,male,no\nada,62,male,no\nbob,48,female,yes\n?,50,male,no\ncy,51,male,no\n"
    )
    every = read_records(schema, ["age"], table)
    assert every.table.columns["age"].tolist() == [61, 62, 48, 50, 51]
    with make(tmp_path) as home:
        withdraw(home, [patient_name(b"ada"), every.names[4]], 1)
        left = read_records(schema, ["age"], table, withdrawn=read_withdrawn(home))
    assert left.table.columns["age"].tolist() == [48, 50]
    assert left.names == every.names[2:4]
    assert left.counted == every.counted[2:4]
    assert left.gone.counted == every.counted[:2] + every.counted[4:]
    assert left.gone.patients == [2, 2, 2]  # ada, and cy
    assert codec.unpack(left.names[0], most=1000, items=9)


def test_a_column_map_may_name_the_column_of_patients_in_a_question_too(tmp_path: Path) -> None:
    schema = Federation.parse(peers_yaml()).task.table
    assert schema is not None
    schema = dataclasses.replace(schema, patient="who")
    table, mapped = GivenTable(b"PatNr,age,sex,ill\nada,61,male,no\n"), MapFile.of(b"columns: {PatNr: who}\n", "map")
    with make(tmp_path) as home:
        withdraw(home, [patient_name(b"ada")], 1)
        assert not read_records(schema, ["age"], table, mapped, withdrawn=read_withdrawn(home)).names


@pytest.mark.claim("HOME-15")
@pytest.mark.parametrize(
    ("written", "mapped"),
    [
        (b"age,sex,ill\n61.0,male,no\n54.50,female,yes\n-0,male,no\n,male,no\n", None),
        (b"age,sex,ill\n6.1e1,male,no\n+54.5,female,yes\n0,male,no\nNA,male,no\n", None),
        (
            b"age,sex,ill\n61,m,no\n54.5,w,yes\n0,m,no\nk.A.,m,no\n",
            b"codes: {sex: {m: male, w: female}}\nmissing: [k.A.]",
        ),
        (
            b"Alter;sex;ill\n61,0;male;no\n54,5;female;yes\n0,0;male;no\n;male;no\n",
            b"columns: {Alter: age}\ndecimal: comma",
        ),
    ],
    ids=["61.0", "6.1e1", "their codes", "decimal commas"],
)
def test_a_record_is_the_same_however_a_file_writes_its_cells(
    tmp_path: Path, written: bytes, mapped: bytes | None
) -> None:
    schema = Federation.parse(peers_yaml()).task.table
    assert schema is not None
    first = read_records(
        schema, ["age"], GivenTable(b"age,sex,ill\n61,male,no\n54.5,female,yes\n0,male,no\n,male,no\n")
    )
    given = None if mapped is None else MapFile.of(mapped + b"\n", "map")
    again = read_records(schema, ["age"], GivenTable(written), given)
    assert (again.names, again.read) == (first.names, first.read)
    with make(tmp_path) as home:
        withdraw(home, first.names[:2], 1)
        left = read_records(schema, ["age"], GivenTable(written), given, withdrawn=read_withdrawn(home))
    assert len(left.names) == 2


def test_who_withdrew_stays_out_when_the_export_is_read_with_its_decimal_commas(tmp_path: Path) -> None:
    points = GivenTable(csv_file(GOOD))
    commas = GivenTable(csv_file(tuple(cell.replace(".", ",") for cell in GOOD), delimiter=";"))
    mapped = MapFile.of(b"decimal: comma\n", "map")
    with make(tmp_path) as home:
        withdraw(home, read_records(heart(), ["age"], points).names, 1)
        out = read_withdrawn(home)
        assert not read_records(heart(), ["age"], points, withdrawn=out).names
        assert not read_records(heart(), ["age"], commas, mapped, withdrawn=out).names


@pytest.mark.parametrize("deed", [False, True])
def test_the_log_of_a_process_that_repeats_the_last_one_grows_alike_by_any_deed(tmp_path: Path, deed: bool) -> None:
    """What repeats the process before is held back: an empty entry of acts was, a full one not."""
    place, other = places(tmp_path, "privacy.max_epsilon=9.0")
    other.home.close()
    place.draw = os.urandom
    sizes = []
    for number in range(3):
        logs = place.logs()
        logs.started(bytes(16))
        changes = PendingChange(place.home, logs, place.federation, unseen)
        if deed and number == 2:
            notes.put(beside(place), "predict", 1_700_000_000, {"model": "ab" * 32})
        changes._acts_at -= 1  # rounds were taken over
        changes.take_acts()
        sizes.append(len(logs.site))
        logs.close()
    place.home.close()
    assert [after - before for before, after in pairwise(sizes)] == [2, 2]


def test_damaged_notes_end_a_process_as_it_starts_and_not_after_a_round(place: Place) -> None:
    notes.put(place.home, "predict", 1_700_000_000, {"model": "ab" * 32})
    file = place.home.path / notes.NOTES
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    logs = place.logs()
    with pytest.raises(ItemDamaged, match="membership/notes"):
        PendingChange(place.home, logs, place.federation, unseen)
    place.home.close()
