"""Descriptions of tables that tests read records with."""

from __future__ import annotations

from dataclasses import replace

from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.tasks.heart import heart


def of_heart(*names: str) -> TableSchema:
    """Heart disease from these columns alone."""
    return replace(heart(), columns=tuple(one for one in heart().columns if one.name in names))


def described(
    *columns: str, label: str = 'ill: {binary: ["no", "yes"], positive: ["yes"]}', **others: str
) -> TableSchema:
    """A table whose columns and label are written as in a file."""
    model, rate, batch = (others.get(key, word) for key, word in DEFAULTS.items())
    lines = ["columns:", *(f"  {one}" for one in columns), "label:", f"  {label}"]
    lines += [f"model: {model}", f"learning_rate: {rate}", f"expected_batch: {batch}"]
    return TableSchema.parse("\n".join(lines).encode(), "task.yaml")


DEFAULTS = {"model": "linear", "learning_rate": "0.01", "expected_batch": "2.0"}
