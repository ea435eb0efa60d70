"""What the sites agree on about the model that comes out, before there is one."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.federation.table_labels import BinaryLabel
from p2pfl.federation.table_schema import TableSchema


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """`threshold`: the probability from which `predict` says yes; no record chose it. `licence`: an SPDX name."""

    threshold: float | None
    licence: str | None

    def fit(self, schema: TableSchema | None) -> bool:
        """A threshold is of the probability of yes: a described label is of that kind, or there is none."""
        return self.threshold is None or schema is None or isinstance(schema.label, BinaryLabel)
