"""Whoever withdrew is left out of what is trained on and of what is measured, by record and by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from p2pfl.codec import Malformed
from p2pfl.errors.training import TooFewRecords
from p2pfl.keys import Secret
from p2pfl.training.local import Trainer
from p2pfl.training.privacy.account import Account
from p2pfl.training.process.parting import Parting
from p2pfl.training.records.records import HELD, LEFT_OUT, TRAINED, Batch, PatientArrays, Records, SiteRecords, hold_out
from p2pfl.training.records.withdrawn import NOBODY, Withdrawn, patient_name
from tests.training.settings import Small, arrays, privacy

KEY, SEED = Secret(bytes(32)), Secret(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Watched(PatientArrays):
    """It notes which rows are read."""

    read: set[int]

    def batch(self, rows: np.ndarray) -> Batch:
        self.read.update(rows.tolist())
        return PatientArrays.batch(self, rows)


def records(count: int = 80) -> tuple[Records, set[int]]:
    """Two records a patient; the last four are of no named patient."""
    made, seen = arrays(count, (4,)), set[int]()
    patients = [f"patient-{row // 2}".encode() if row < count - 4 else b"" for row in range(count)]
    return Records(Watched(made.x, made.y, made.identities, patients, seen)), seen


def withdrawn(*names: bytes) -> Withdrawn:
    none = Withdrawn(KEY)
    return none.more(none.marks_of(names))


def of_rows(site: SiteRecords) -> set[int]:
    return {*site.train.rows.tolist(), *site.held_out.rows.tolist()}


@pytest.mark.claim("HOME-15")
def test_all_records_of_a_patient_are_left_out_and_the_others_stay_where_they_were() -> None:
    every, _ = records()
    site = hold_out(every, KEY)
    left = withdrawn(patient_name(b"patient-3"), patient_name(b"patient-9")).left(site)
    assert of_rows(site) - of_rows(left) == {6, 7, 18, 19}
    assert set(left.held_out.rows) <= set(site.held_out.rows) and set(left.train.rows) <= set(site.train.rows)
    assert withdrawn(patient_name(b"patient-nobody")).left(site) == site, "who is not there costs nobody anything"


def test_a_record_is_left_out_alone_and_those_of_no_named_patient_are_no_patients() -> None:
    every, _ = records()
    site = hold_out(every, KEY)
    names = list(every.at(np.array([79])).names())
    assert of_rows(site) - of_rows(withdrawn(*names).left(site)) == {79}, "it is its own patient"
    assert not withdrawn(NOBODY).marks.size


@pytest.mark.claim("HOME-15")
def test_the_next_pass_and_the_next_measure_read_no_record_that_was_left_out() -> None:
    every, seen = records()
    site, private = hold_out(every, KEY), privacy(sample_rate=0.9, steps_per_round=6, max_epsilon=1e6)
    trainer, account = Trainer(task=Small(), site=site, privacy=private), Account()
    model = trainer.initial(bytes(32))

    def read() -> set[int]:
        seen.clear()
        trainer.train(model, account.charge(private), SEED)
        trainer.evaluate(model)
        return set(seen)

    before, names, counted = trainer.inputs(model), list(trainer.held_out_names()), trainer.evaluate(model).sum()
    out = {int(site.train.rows[0]), int(site.held_out.rows[0])}
    assert out <= read() and counted
    trainer.leave_out(withdrawn(*(next(every.at(np.array([row])).names()) for row in out)))
    assert not out & read()
    assert trainer.inputs(model) != before, "a pass that was begun with them is not repeated"
    assert trainer.units == len(site.train) - 1
    assert len(list(trainer.held_out_names())) == len(names) - 2, "a record's name and its patient's"


def test_too_few_that_are_left_end_the_training_by_name() -> None:
    every, _ = records(22)
    site = hold_out(every, KEY)
    names = [next(every.at(np.array([row])).names()) for row in range(3)]
    assert len(of_rows(withdrawn(*names[:2]).left(site))) == 20
    with pytest.raises(TooFewRecords) as refused:
        withdrawn(*names).left(site)
    assert "19 records are left" in refused.value.evidence


def test_a_task_in_its_process_is_told_of_each_record_what_becomes_of_it() -> None:
    names = [bytes([row]) * 32 for row in range(40)]
    held = np.arange(40) % 4 == 0
    parting = Parting(withdrawn(names[0], names[3]))
    parting.read(held, b"".join(names))
    parts = parting.parts("records.csv")
    assert [parts[0], parts[1], parts[3], parts[4]] == [LEFT_OUT, TRAINED, LEFT_OUT, HELD]
    assert parting.counts == (38, 9)
    assert list(parting.held_out_names()) == [names[row] for row in range(4, 40, 4)]
    assert not parting.changes(withdrawn(names[0], names[3], patient_name(b"not here")))
    assert parting.changes(withdrawn(*names[:4])) and parting.parts("records.csv")[1] == LEFT_OUT
    assert parting.changes(withdrawn(*names[:21]))
    with pytest.raises(TooFewRecords):
        parting.parts("records.csv")


def test_a_list_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    some = withdrawn(*(bytes([one]) for one in range(5)))
    assert Withdrawn.from_bytes(KEY, some.to_bytes()) == some != withdrawn(b"\0")
    for broken in (some.to_bytes()[:-1], some.to_bytes()[8:16] * 2, some.to_bytes()[::-1]):
        with pytest.raises(Malformed):
            Withdrawn.from_bytes(KEY, broken)
