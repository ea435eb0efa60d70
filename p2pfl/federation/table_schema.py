"""What a task on a table is: columns, label, model and public constants, from YAML that peers.yaml holds in full.

    columns:
      age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
      sex: {code: [female, male]}
    label:
      relapse: {binary: ["no", "yes"], positive: ["yes"]}
    model: linear
    learning_rate: 0.01
    expected_batch: 2.0
    patient: patient_id                   # the column that says whose a record is; may be left out
    asked:                                # columns that statistics may ask of and no model sees; may be left out
      months: {number: months, low: 0, high: 240}
      died: {code: [alive, dead]}

The first key of a row is its kind (table_columns.py, table_labels.py). All that does not fit is told at once, with line
and column. Nothing here needs numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.federation import strict_yaml
from p2pfl.federation.misfits import Misfits
from p2pfl.federation.readers import Table, Word, YamlNode, decimal, whole, wrong
from p2pfl.federation.table_columns import Column, is_column_name, read_asked, read_columns
from p2pfl.federation.table_labels import Label, read_label

MOST_HIDDEN: Final = 4096
MOST_TOLD: Final = 6  # of the columns that are only asked, on a line for people
TOP_KEYS: Final = ("columns", "label", "model", "learning_rate", "expected_batch", "patient", "asked")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A task on a table, whole. `hidden` units make an MLP; 0: the model is linear.

    patient   the column that names whose a record is, which no model sees; empty where there is none
    asked     columns that statistics may ask of: no training reads them, and they are no part of what names a record
              there
    """

    columns: tuple[Column, ...]
    label: Label
    hidden: int
    learning_rate: float
    expected_batch: float
    patient: str = ""
    asked: tuple[Column, ...] = ()

    @classmethod
    def parse(cls, raw: bytes, source: str) -> TableSchema:
        """The schema in a file of its own. Raises leaves of errors.federation with line and column."""
        return cls.read(strict_yaml.read_yaml(raw, source))

    @classmethod
    def read(cls, top: Table) -> TableSchema:
        """The schema that a table of YAML holds. Raises TableUnfit, which tells all that does not fit."""
        found = Misfits(top.place)
        found.only(top, TOP_KEYS)
        columns = read_columns(top, found)
        label = read_label(top, {one.name for one in columns}, found)
        hidden = found.read(top, "model", _read_model, 0)
        rate = found.read(top, "learning_rate", decimal(0, 1000), 0.0)
        batch = found.read(top, "expected_batch", decimal(0, 1e6), 0.0)
        patient = found.read(top, "patient", _read_patient, "") if "patient" in top.rows else ""
        learned = {one.name for one in (*columns, *(label.columns if label is not None else ()))}
        asked = read_asked(top, learned, found)
        if patient and patient in learned | {one.name for one in asked}:
            what = "is a column that the model sees, or the label, or one that may be asked"
            found.add(top.node("patient").place, f"{patient} {what}")
        found.refuse_any()
        if label is None:
            raise ValueError("a label that could not be read, and no misfit")
        return cls(columns, label, hidden, rate, batch, patient, asked)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that a training reads, the label's last: a file with these and no others trains."""
        patient = (self.patient,) if self.patient else ()
        return (*patient, *(one.name for one in self.columns), *(one.name for one in self.label.columns))

    @property
    def described(self) -> tuple[Column, ...]:
        """Every column of which it is known what it may hold, those that are only asked last."""
        return (*self.columns, *self.label.columns, *self.asked)

    @property
    def asking(self) -> str:
        """What is asked and not learned, to stand behind `summary`; nothing where there is no such column."""
        names = [one.name for one in self.asked]
        more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
        return f"; asked, not learned: {', '.join(names[:MOST_TOLD])}{more}" if names else ""

    @property
    def summary(self) -> str:
        """One line for people about the model."""
        model = f"an MLP of {self.hidden} hidden units" if self.hidden else "a linear model"
        return f"{len(self.columns)} columns, {model} of {self.label.summary}"


def _read_patient(node: YamlNode, key: str) -> str:
    if isinstance(node, Word) and is_column_name(node.text):
        return node.text
    wrong(node, key, "the name of a column")


def _read_model(node: YamlNode, key: str) -> int:
    """`linear`, or `{mlp: UNITS}`, as the number of hidden units. Raises WrongValue."""
    if isinstance(node, Word) and node.text == "linear":
        return 0
    if isinstance(node, Table) and list(node.rows) == ["mlp"]:
        return whole(1, MOST_HIDDEN)(node.rows["mlp"][1], f"{key}.mlp")
    wrong(node, key, f"linear, or {{mlp: UNITS}} with 1 to {MOST_HIDDEN} hidden units")
