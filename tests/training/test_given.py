"""A task and records that a caller in Python hands over: the task that was agreed, records in any form."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from p2pfl.errors.from_python import DataNotRecords, FrameUnsupported, TaskNotAgreed, TaskNotGiven
from p2pfl.errors.training import MissingColumn, TaskFileChanged
from p2pfl.federation.table_schema import TableSchema
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.training.given import agreed_task, label_of, records_of
from p2pfl.training.tasks.table import TableTask
from tests.federation.sample import LABELLED, TABLE
from tests.training.settings import Small, read

SCHEMA = TableSchema.parse(TABLE, "task.yaml")
OTHER = TableSchema.parse(LABELLED[0], "task.yaml")
SMALL = TaskChoice(python="small")
FILE = b'from tests.training.settings import Small\n\n\nclass Own(Small):\n    name = "own"\n'


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own_task_of_a_test.py"
    path.write_bytes(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


def test_a_given_task_is_the_agreed_one(file: Path) -> None:
    import own_task_of_a_test as own  # type: ignore[import-not-found]

    pinned = TaskChoice(file="own.py", cls="Own", sha256=hashlib.sha256(FILE).digest())
    given = own.Own()
    assert agreed_task(pinned, given) is given
    assert agreed_task(SMALL, given := Small()) is given
    assert agreed_task(TaskChoice(SCHEMA), given := TableTask(SCHEMA)) is given
    assert isinstance(agreed_task(TaskChoice(SCHEMA), None), TableTask)
    file.write_bytes(FILE + b"# edited since\n")
    with pytest.raises(TaskFileChanged):
        agreed_task(pinned, own.Own())


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        (TaskChoice(python="other"), "its name is small, agreed is other"),
        (TaskChoice(SCHEMA), "describes a table"),
        (TaskChoice(file="own.py", cls="Own", sha256=bytes(32)), "its class is Small, agreed is Own of own.py"),
    ],
    ids=["another name", "a table", "another class"],
)
def test_another_task_than_the_agreed_one_is_refused(choice: TaskChoice, why: str) -> None:
    with pytest.raises(TaskNotAgreed) as caught:
        agreed_task(choice, Small())
    assert why in caught.value.evidence


def test_a_table_with_another_description_a_missing_task_and_a_class_are_refused() -> None:
    with pytest.raises(TaskNotAgreed):
        agreed_task(TaskChoice(SCHEMA), TableTask(OTHER))
    with pytest.raises(TaskNotGiven):
        agreed_task(SMALL, None)
    with pytest.raises(TaskNotAgreed) as caught:
        agreed_task(SMALL, Small)  # type: ignore[arg-type]
    assert "no p2pfl.Task" in caught.value.evidence


def test_a_class_of_no_file_is_not_one_that_is_pinned() -> None:
    own = type("Own", (Small,), {"__module__": "typed_at_a_prompt"})
    with pytest.raises(TaskNotAgreed) as caught:
        agreed_task(TaskChoice(file="own.py", cls="Own", sha256=bytes(32)), own())
    assert "is in no file" in caught.value.evidence


def test_tasks_of_one_name_are_told_apart_by_text_and_numbers() -> None:
    class Faster(Small):
        learning_rate = 0.5

    class Kin(Small):
        pass

    by_hand = Small()
    by_hand.learning_rate = 0.5
    labels = [label_of(SMALL, one) for one in (Small(), Faster(), Kin(), by_hand)]
    assert len(set(labels)) == 4 and all(one.startswith("python:small:") for one in labels)
    assert label_of(SMALL, Small()) == labels[0]
    assert label_of(TaskChoice(SCHEMA), TableTask(SCHEMA)) == "table"


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_frame_is_read_as_the_csv_that_it_came_from(tmp_path: Path) -> None:
    """With blanks, which make pandas keep whole numbers as floats."""
    pandas = pytest.importorskip("pandas", reason="records as a DataFrame")
    schema = TableSchema.parse(TABLE.replace(b"[female, male]", b'["0", "1"]'), "task.yaml")
    raw = "age,sex,ill\n" + "".join(
        f"{row + 20},{row % 2 if row % 5 else ''},{'yes' if row % 3 else 'no'}\n" for row in range(40)
    )
    (tmp_path / "their.csv").write_text(raw)
    frame = pandas.read_csv(tmp_path / "their.csv")
    assert frame["sex"].dtype.kind == "f"
    task = TableTask(schema)
    by_path, by_frame = records_of(task, str(tmp_path / "their.csv")), records_of(task, frame)
    assert all(np.array_equal(*parts) for parts in zip(read(by_path), read(by_frame), strict=True))
    assert by_path.digest() == by_frame.digest()  # the same are held out
    with pytest.raises(MissingColumn) as caught:
        records_of(task, frame.rename(columns={"age": "Alter", "ill": "krank"}))
    assert "columns age, ill" in caught.value.happened
    (tmp_path / "map.yaml").write_text("columns: {Alter: age}\n")
    mapped = records_of(task, frame.rename(columns={"age": "Alter"}), tmp_path / "map.yaml")
    assert mapped.digest() == by_path.digest()


def test_the_map_beside_a_path_is_taken(tmp_path: Path) -> None:
    (tmp_path / "their.csv").write_text("Alter,sex,ill\n30,male,yes\n")
    (tmp_path / "their.columns.yaml").write_text("columns: {Alter: age}\n")
    assert len(records_of(TableTask(SCHEMA), tmp_path / "their.csv")) == 1


def test_a_task_of_ones_own_reads_a_frame_by_a_hook() -> None:
    pandas = pytest.importorskip("pandas", reason="records as a DataFrame")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "label": [0, 1]})

    class Hooked(Small):
        name: ClassVar[str] = "hooked"

        def from_frame(self, frame, columns=None, *, labelled=True):  # type: ignore[no-untyped-def]
            x = torch.tensor(frame[["a", "b"]].to_numpy(), dtype=torch.float32)
            return TensorDataset(x, torch.tensor(frame["label"].to_numpy()))

    assert read(records_of(Hooked(), frame))[0].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    with pytest.raises(FrameUnsupported):
        records_of(Small(), frame)


@pytest.mark.parametrize(
    "data",
    [(np.zeros(3), np.zeros(3)), iter([1]), 7, {"x": 1}, None],
    ids=["arrays", "an iterator", "a number", "a mapping", "nothing"],
)
def test_what_is_no_records_is_refused(data: object) -> None:
    with pytest.raises(DataNotRecords):
        records_of(Small(), data)
