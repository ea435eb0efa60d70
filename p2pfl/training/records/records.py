"""The records of a site: a view of a map-style dataset, read when they are needed, split into trained and held out.

A folder of 100 000 scans never lies in memory: a batch reads its own records. What a dataset says of itself (its
length, the shapes of its records) is held to, since a record that changes shape or a number that is not finite would
otherwise end in the middle of a pass that is paid for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.counts import counted
from p2pfl.errors.training import RecordMisfit, TooFewRecords
from p2pfl.keys import Secret

LEAST_RECORDS: Final = 20
LEAST_TRAINED: Final = 2  # records that the check of a model at start needs
HELD_OUT: Final = 0.25
TRAINED, HELD, LEFT_OUT = range(3)  # what becomes of a record, as the task's process is told

Batch = tuple[NDArray[Any], NDArray[Any]]  # x (B, …), y (B, …)


class Dataset(Protocol):
    """What `Task.dataset` returns: any map-style dataset of (x, y), such as a `torch.utils.data.Dataset`.

    x and y are tensors, arrays or numbers, of the same shapes and types for every record. It may also have:
    `identity(row) -> bytes`   names the record, the same at every reading: by its hash it is held out, or trained on.
                               Without it, the bytes of (x, y) name it, and every record is read once at start.
    `patient(row) -> bytes`    names whose record it is, empty where nobody knows: all records of a patient are held out
                               together, or none; with `privacy.unit: patient` they are sampled and clipped as one.
    `batch(rows) -> (x, y)`    several records at once, where that is faster: as many rows as were asked for, in order.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> tuple[Any, Any]: ...


@runtime_checkable
class _Identified(Protocol):
    def identity(self, row: int, /) -> bytes: ...


@runtime_checkable
class _OfPatients(Protocol):
    def patient(self, row: int, /) -> bytes: ...


@runtime_checkable
class _Batched(Protocol):
    def batch(self, rows: NDArray[np.int64], /) -> tuple[Any, Any]: ...


@runtime_checkable
class WritesMasks(Protocol):
    """A dataset of volumes, which can put what a model says of one back into the grid of its file."""

    def name(self, row: int, /) -> str:
        """The name of the record's file."""

    def mask_file(self, row: int, classes: NDArray[np.uint8], /) -> bytes:
        """The file of a mask: the model's class of each voxel ► .nii.gz in the grid of the record's own file."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """A dataset that lies in memory: x (N, …), y (N, …), and each record's own bytes."""

    x: NDArray[Any]
    y: NDArray[Any]
    identities: Sequence[bytes]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.identities):
            raise ValueError(f"{len(self.x)} inputs, {len(self.y)} labels, {len(self.identities)} identities")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self.x[row], self.y[row]

    def identity(self, row: int) -> bytes:
        """The bytes that name the record."""
        return self.identities[row]

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The records at `rows`."""
        return self.x[rows], self.y[rows]


@dataclass(frozen=True, slots=True)
class PatientArrays(Arrays):
    """Such a dataset that knows whose each record is; a name is empty where nobody does."""

    patients: Sequence[bytes]

    def patient(self, row: int) -> bytes:
        """The bytes that name whose record it is."""
        return self.patients[row]


class Records:
    """Records `rows` (all of them, when None) of a dataset called `source` in errors."""

    def __init__(self, dataset: Dataset, source: str = "the dataset", rows: NDArray[np.int64] | None = None) -> None:
        self._dataset, self.source = dataset, source
        self._length = len(dataset)
        self._rows = np.arange(self._length, dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Their places in the dataset.    (N,)"""
        return self._rows

    def at(self, rows: NDArray[np.int64]) -> Records:
        """The records at `rows` of these."""
        return Records(self._dataset, self.source, self._rows[rows])

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """x (B, …) and y (B, …) of the records at `rows`, B ≥ 1. Raises RecordMisfit."""
        wanted = self._rows[rows]
        if len(self._dataset) != self._length:
            self._refuse(f"the dataset had {self._length} records at start, and has {len(self._dataset)}")
        if isinstance(self._dataset, _Batched):
            x, y = self._dataset.batch(wanted)
            pair = np.asarray(x), np.asarray(y)
        else:
            pair = self._stacked(wanted)
        for part, what in zip(pair, ("input", "label"), strict=True):
            if part.shape[:1] != (len(wanted),):  # each row is clipped by itself: a record of two would count twice
                self._refuse(f"`batch` gives {what}s of shape {part.shape} for {counted(len(wanted), 'record')}")
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                odd = next(place for place, one in enumerate(part) if not np.isfinite(one).all())
                self._refuse(f"record {wanted[odd] + 1}: its {what} holds a number that is not finite")
        return pair

    def _stacked(self, wanted: NDArray[np.int64]) -> Batch:
        read = [tuple(np.asarray(part) for part in self._dataset[int(row)]) for row in wanted]
        for row, parts in zip(wanted, read, strict=True):
            if len(parts) != 2:
                self._refuse(f"record {row + 1} has {len(parts)} parts, not (input, label)")
            for part, first, what in zip(parts, read[0], ("input", "label"), strict=True):
                if (part.shape, part.dtype) != (first.shape, first.dtype):
                    seen, other = f"{part.shape} of {part.dtype}", f"{first.shape} of {first.dtype}"
                    self._refuse(f"record {row + 1}: its {what} is {seen}, that of record {wanted[0] + 1} {other}")
        return np.stack([x for x, _ in read]), np.stack([y for _, y in read])

    def _refuse(self, evidence: str) -> None:
        raise RecordMisfit(evidence=evidence, source=self.source)

    def digest(self) -> bytes:
        """Names these records in their order: by the identity of each, and by what it holds where all lie in memory.

        Scans are not read for it: where a dataset gives them identities, the same identities are the same records.
        """
        state = hashlib.sha256()
        for row in range(len(self)):
            name = self.identity(row)
            state.update(len(name).to_bytes(8, "big") + name)
        for part in (self._dataset.x, self._dataset.y) if isinstance(self._dataset, Arrays) else ():
            held = np.ascontiguousarray(part[self._rows])
            state.update(f"{held.dtype.str}{held.shape}".encode())
            state.update(held.reshape(-1).view(np.uint8).data)
        return state.digest()

    def identity(self, row: int) -> bytes:
        """The bytes that name the record at `row`, the same at every reading."""
        at = int(self._rows[row])
        if isinstance(self._dataset, _Identified):
            return self._dataset.identity(at)
        x, y = (np.asarray(part) for part in self._dataset[at])
        return x.tobytes() + y.tobytes()

    @property
    def masks(self) -> WritesMasks | None:
        """The dataset, where it writes masks, and its rows are these."""
        return self._dataset if isinstance(self._dataset, WritesMasks) else None

    @property
    def has_patients(self) -> bool:
        """The dataset knows whose each record is."""
        return isinstance(self._dataset, _OfPatients)

    def names(self) -> Iterator[bytes]:
        """What names each record, and whose it is where the dataset knows patients: 32 bytes each, in any order."""
        for row in range(len(self)):
            yield hashlib.sha256(b"record\0" + self.identity(row)).digest()
            if isinstance(self._dataset, _OfPatients):
                yield hashlib.sha256(b"patient\0" + self.patient(row)).digest()

    def patient(self, row: int) -> bytes:
        """The bytes that name whose record it is; those of the record, where nobody knows the patient."""
        return self.told_patient(row) or self.identity(row)

    def told_patient(self, row: int) -> bytes:
        """The bytes that name whose record it is; empty where nobody knows."""
        return self._dataset.patient(int(self._rows[row])) if isinstance(self._dataset, _OfPatients) else b""


@dataclass(frozen=True, slots=True)
class SiteRecords:
    """A site's records, split into those that it trains on and those that only measure."""

    train: Records
    held_out: Records


def hold_out(records: Records, key: Secret, part: float = HELD_OUT) -> SiteRecords:
    """Split by a keyed hash of whose each record is: a patient's records stay together, as equal records do, and later
    additions move no record.

    key    32 secret bytes of this site, kept for its lifetime; without them nobody can tell which were held out
    Raises TooFewRecords.
    """
    return divide(records, held_out(owners_of(records), key, records.source, part))


def owners_of(records: Records) -> NDArray[np.uint8]:
    """SHA-256 of whose each record is.    (N, 32)"""
    named = b"".join(hashlib.sha256(records.patient(row)).digest() for row in range(len(records)))
    return np.frombuffer(named, np.uint8).reshape(len(records), hashlib.sha256().digest_size)


def held_out(owners: NDArray[np.uint8], key: Secret, source: str, part: float = HELD_OUT) -> NDArray[np.bool_]:
    """Which of the records are held out, by whose they are (N, 32): who chooses sees no record.    (N,)

    Raises TooFewRecords, with `source` as the name of the records.
    """
    if len(owners) < LEAST_RECORDS:
        evidence = f"{counted(len(owners), 'record')}, at least {LEAST_RECORDS} are needed"
        raise TooFewRecords(evidence=evidence, path=source)
    limit = int(part * 2.0**64)
    named = [row.tobytes() for row in owners]
    marks = [hmac.digest(key.reveal(), name, "sha256")[:8] for name in named]
    held = np.array([int.from_bytes(mark, "big") < limit for mark in marks])
    if np.count_nonzero(~held) < LEAST_TRAINED:  # equal records stay together, so nearly all may be held out
        evidence = f"{len(owners)} records, {len(set(named))} of them different"
        raise TooFewRecords(evidence=f"{evidence}, leave {np.count_nonzero(~held)} to train on", path=source)
    return held


def check_enough(count: int, trained: int, source: str) -> None:
    """Raises TooFewRecords where so few are left, `trained` of them to train on."""
    if count < LEAST_RECORDS or trained < LEAST_TRAINED:
        left = f"{counted(count, 'record')} {'is' if count == 1 else 'are'} left, {trained} of them to train on"
        evidence = f"{left}; at least {LEAST_RECORDS} are needed"
        raise TooFewRecords(evidence=evidence, path=source)


def divide(records: Records, held: NDArray[np.bool_]) -> SiteRecords:
    """The records of which `held` (N,) says that they are held out, and the others."""
    return SiteRecords(records.at(np.flatnonzero(~held)), records.at(np.flatnonzero(held)))
