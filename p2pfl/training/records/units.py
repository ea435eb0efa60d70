"""Privacy units: what is sampled, clipped and counted as one, a record or all records of a patient.

The gradient of a patient is the **mean** of those of the records. A sum would be clipped for whoever has many records,
and left whole for whoever has few: its length, so the learning rate and max_grad_norm that suit it, would follow the
number of somebody's records. The mean is as long as a record's, so settings found with `unit: record` carry over, and
one patient weighs as much as another. The bound holds for either: the clip is on the unit.

Memory holds the gradients of a few records at a time (local.py, `at_once`), so a patient's may come in several pieces.
What a piece has of a unit that is not complete is added to what the next piece has of it; only whole units are clipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.errors.privacy_units import PatientMissing, PatientsUnknown
from p2pfl.training.records.records import Records

PATIENT = "patient"
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UnitPiece:
    """Records whose gradients are in memory at the same time.

    rows        their places among the site's records    (R,)
    places      for each, which of the step's units it belongs to, ascending    (R,)
    shares      for each, its part of the unit's mean    (R,) float32
    ends_open   the next piece has more records of the last unit
    """

    rows: Rows
    places: Rows
    shares: NDArray[np.float32]
    ends_open: bool


@dataclass(frozen=True, slots=True)
class Units:
    """Records by unit: those of unit u are order[starts[u]:starts[u + 1]].    (N,), (U + 1,)"""

    order: Rows
    starts: Rows

    @classmethod
    def of(cls, records: Records, unit: str) -> Units:
        """The units of `records`, in the order of their first records. Raises PatientsUnknown, PatientMissing."""
        if unit != PATIENT:
            return cls(np.arange(len(records), dtype=np.int64), np.arange(len(records) + 1, dtype=np.int64))
        named = [records.told_patient(row) for row in range(len(records))]
        unnamed = [row for row, patient in enumerate(named) if not patient]
        if named and len(unnamed) == len(named):
            raise PatientsUnknown(evidence=f"{len(named)} records, of no named patient", source=records.source)
        if unnamed:
            told = ", ".join(str(records.rows[row] + 1) for row in unnamed[:3])
            raise PatientMissing(evidence=f"{len(unnamed)} of them, first {told}", source=records.source)
        held: dict[bytes, list[int]] = {}
        for row, patient in enumerate(named):
            held.setdefault(patient, []).append(row)
        order = [row for rows in held.values() for row in rows]
        return cls(np.array(order, np.int64), np.cumsum([0, *map(len, held.values())], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def digest(self) -> bytes:
        """Names which records are one unit."""
        return hashlib.sha256(self.starts.astype("<i8").tobytes() + self.order.astype("<i8").tobytes()).digest()

    def pieces(self, chosen: Rows, at_once: int, copies: int = 1) -> Iterator[UnitPiece]:
        """The records of the units `chosen` (B,), at most `at_once` at a time; one empty piece where there are none.

        copies   of each record, which are of its unit too
        """
        sizes = copies * (self.starts[chosen + 1] - self.starts[chosen])  # (B,)
        places = np.repeat(np.arange(len(chosen), dtype=np.int64), sizes)  # (R,)
        within = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = self.order[self.starts[chosen][places] + within // copies]
        shares = (1.0 / sizes)[places].astype(np.float32)
        for start in range(0, max(1, len(rows)), at_once):
            end = start + at_once
            is_open = end < len(rows) and places[end] == places[end - 1]
            yield UnitPiece(rows[start:end], places[start:end], shares[start:end], bool(is_open))


class UnitGradients:
    """In one step: the gradients of whole units, from those of their records, piece by piece."""

    def __init__(self) -> None:
        self._open: list[torch.Tensor] = []  # for each parameter, what came so far of a unit that is not complete

    def gather(self, piece: UnitPiece, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Each parameter's `grad_sample` (R, …) becomes that of the units that are complete now.    (U, …), U ≥ 0"""
        if not len(piece.rows):
            return
        device = parameters[0].device
        places = torch.from_numpy(piece.places - piece.places[0]).to(device)
        shares = torch.from_numpy(piece.shares).to(device)
        count, still_open = int(places[-1]) + 1, list[torch.Tensor]()
        for number, p in enumerate(parameters):
            found: torch.Tensor = p.grad_sample  # type: ignore[attr-defined]
            weighted = found * shares.view(-1, *[1] * (found.dim() - 1)).to(found.dtype)
            units = found.new_zeros((count, *found.shape[1:])).index_add_(0, places, weighted)
            if self._open:
                units[0] += self._open[number]
            if piece.ends_open:
                still_open.append(units[-1].clone())
                units = units[:-1]
            p.grad_sample = units  # type: ignore[attr-defined]
        self._open = still_open
