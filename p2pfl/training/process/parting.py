"""Which records of a task's process train, which measure, and which are left out: decided beside it, not in it.

The process says what names each record, and is told a number for each. The keys by which records are held out, and by
which those of whoever withdrew are known, stay here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.task_process import TaskAnswerUnusable
from p2pfl.training.process.wire import NAME_BYTES
from p2pfl.training.records.records import HELD, LEFT_OUT, TRAINED, check_enough
from p2pfl.training.records.withdrawn import Withdrawn


class Parting:
    """The records that a process has said that it has; the same ones after it was started again."""

    def __init__(self, withdrawn: Withdrawn) -> None:
        self._withdrawn = withdrawn
        self._names: bytes | None = None
        self._held = self._kept = np.zeros(0, np.bool_)  # of each record: it is held out; it is not left out

    def read(self, held: NDArray[np.bool_], names: bytes) -> None:
        """The process has these: which of them are held out (N,); what names each, k times 32 bytes of each.

        Raises TaskAnswerUnusable when they are not those of before.
        """
        if self._names not in (None, names):
            raise unusable_now("other records than before")
        self._names, self._held = names, held

    def parts(self, source: str) -> NDArray[np.uint8]:
        """Of each record TRAINED, HELD or LEFT_OUT (N,). Raises TooFewRecords, with `source` as their name."""
        kept = ~self._out(self._withdrawn)
        if not kept.all():
            check_enough(int(kept.sum()), int((kept & ~self._held).sum()), source)
        self._kept = kept
        return np.where(kept, np.where(self._held, HELD, TRAINED), LEFT_OUT).astype(np.uint8)

    @property
    def counts(self) -> tuple[int, int]:
        """How many records are not left out, and how many of these are held out."""
        return int(self._kept.sum()), int((self._kept & self._held).sum())

    def changes(self, withdrawn: Withdrawn) -> bool:
        """From now on these are left out; True when that parts the records in another way."""
        self._withdrawn = withdrawn
        return not np.array_equal(self._out(withdrawn), ~self._kept)

    def _out(self, withdrawn: Withdrawn) -> NDArray[np.bool_]:
        return withdrawn.among(self._every_name(), self._of_each)

    @property
    def _of_each(self) -> int:
        """Names of one record."""
        return max(1, len(self._names or b"") // NAME_BYTES // max(1, len(self._held)))

    def _every_name(self) -> Iterator[bytes]:
        return each_name(self._names or b"")

    def names(self) -> Iterator[bytes]:
        """What names each record that is not left out, and each patient: 32 bytes. They stay at the site."""
        return self._of(self._kept)

    def held_out_names(self) -> Iterator[bytes]:
        """Those of them that are of records held out."""
        return self._of(self._kept & self._held)

    def _of(self, wanted: NDArray[np.bool_]) -> Iterator[bytes]:
        return (name for place, name in enumerate(self._every_name()) if wanted[place // self._of_each])


def each_name(names: bytes) -> Iterator[bytes]:
    """What a process says of its records' names, one behind the other: NAME_BYTES each."""
    return (names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES))


def unusable_now(what: str) -> TaskAnswerUnusable:
    """The error for a task that is another one, after its process was started again."""
    return TaskAnswerUnusable(evidence="the process was started again, and the task is another one now", what=what)
