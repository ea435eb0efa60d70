"""Records whose patients withdrew their consent, and which nothing is computed of any more.

They are known as the privacy accounts know theirs: by marks, 64 bits of a keyed digest of what names a record, or whose
it is. So a list of those who withdrew names nobody, and a record that comes back in another file, in another order or
study, is left out there too. Two records whose marks meet by chance are both left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Buffer, Malformed
from p2pfl.keys import Secret
from p2pfl.training.privacy.accounts import MARK_BYTES, Marks, mark_of, marks_of
from p2pfl.training.records.records import Records, SiteRecords, check_enough

NOBODY: Final = hashlib.sha256(b"patient\0").digest()  # in place of a patient's name, where a record has none


def patient_name(patient: bytes) -> bytes:
    """What names a patient, 32 bytes, as in `Records.names`."""
    return hashlib.sha256(b"patient\0" + patient).digest()


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Marks of records and of patients, under the key of a home.

    marks   (N,) ascending
    """

    key: Secret = field(repr=False)
    marks: Marks = field(default_factory=lambda: np.array([], np.uint64))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Withdrawn) and np.array_equal(self.marks, other.marks)

    def __hash__(self) -> int:
        return hash(self.marks.tobytes())

    def marks_of(self, names: Iterable[bytes]) -> Marks:
        """Those of what is to be left out; records of no named patient are no patient's."""
        return marks_of(self.key, (name for name in names if name != NOBODY))

    def more(self, marks: Marks) -> Withdrawn:
        """These, and those of `marks`."""
        return Withdrawn(self.key, np.union1d(self.marks, marks))

    def among(self, names: Iterable[bytes], of_each: int = 1) -> NDArray[np.bool_]:
        """Which records are left out, by what names each: `of_each` names of one record behind one another.    (N,)"""
        if not self.marks.size:
            return np.zeros(sum(1 for _ in names) // of_each, np.bool_)
        held = self.to_bytes()
        known = {held[at : at + MARK_BYTES] for at in range(0, len(held), MARK_BYTES)}
        out = np.array([mark_of(self.key, name) in known for name in names], np.bool_)
        return np.asarray(out.reshape(-1, of_each).any(axis=1), np.bool_)

    def left(self, site: SiteRecords) -> SiteRecords:
        """The others of a site's records, trained on or held out as before. Raises TooFewRecords."""
        if not self.marks.size:  # then no record is read for it
            return site
        kept = SiteRecords(self._of(site.train), self._of(site.held_out))
        if len(kept.train) + len(kept.held_out) < len(site.train) + len(site.held_out):
            check_enough(len(kept.train) + len(kept.held_out), len(kept.train), site.train.source)
        return kept

    def _of(self, records: Records) -> Records:
        out = self.among(records.names(), 1 + records.has_patients)
        return records.at(np.flatnonzero(~out)) if out.any() else records

    def to_bytes(self) -> bytes:
        """For the home, which seals it."""
        return self.marks.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, key: Secret, data: Buffer) -> Withdrawn:
        """Undo `to_bytes`. Raises Malformed."""
        if len(data) % MARK_BYTES:
            raise Malformed(f"{len(data)} bytes are no marks")
        marks = np.frombuffer(data, "<u8").astype(np.uint64)
        if not (marks[1:] > marks[:-1]).all():
            raise Malformed("marks that do not rise")
        return cls(key, marks)


@runtime_checkable
class LeavesOut(Protocol):
    """A trainer that leaves records out of its next pass, and of what it measures from then on."""

    def leave_out(self, withdrawn: Withdrawn) -> None: ...
