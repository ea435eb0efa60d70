"""The default task: heart disease from 13 fields of UCI Heart Disease. It is the schema heart.yaml."""

from __future__ import annotations

from importlib import resources
from typing import Final

from p2pfl.federation.table_schema import TableSchema

FILE: Final = "heart.yaml"
TEXT: Final = resources.files("p2pfl.training.tasks").joinpath(FILE).read_bytes()


def heart() -> TableSchema:
    """The schema, as `peers create` writes it without --task."""
    return TableSchema.parse(TEXT, FILE)
