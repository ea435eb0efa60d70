"""How many questions were asked about each record of a home, over all its studies: before the next one is.

Records are known by marks, 64 bits of a keyed digest of their cells, so that a file with some records more, or in
another order, is not new: what counts of a data set is the record about which the most was asked. A question that was
asked of the very same records before, in all of whose cells that it reads nothing has changed, opens nothing new, and
counts once. docs/adr/0056.

Records whose patients withdrew are asked about no more. A question behind the first that differs by fewer of them than
the smallest group would tell of those few, by subtraction: it is refused until as many have gone, or none that was
asked about. docs/adr/0063.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.questions import FewWithdrew, QuestionsSpent
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.training.privacy.accounts import Marks, marks_of

ITEM: Final = "accounts/questions"
MOST_HEAD: Final = 1 << 17
MARK_BYTES: Final = 8
COUNT_BYTES: Final = 4
NAME_BYTES: Final = 16
REFUSED_TIMES: Final = 3  # that a question counts of which a group was too small
MOST_NAMES: Final = 4096  # questions whose repetition is free; the oldest are forgotten, and count again
HEAD: Final = codec.Row((codec.Whole(1 << 32), codec.Raw(MOST_NAMES * NAME_BYTES)))  # how many marks, and `asked`


@dataclass
class QuestionCounts:
    """By record, how many questions were asked. Pure: whoever changes it makes it durable before anything leaves.

    marks    (N,) ascending
    counts   (N,) of each
    asked    names of question and records together, oldest first
    """

    marks: Marks = field(default_factory=lambda: np.array([], np.uint64))
    counts: npt.NDArray[np.uint32] = field(default_factory=lambda: np.array([], np.uint32))
    asked: list[bytes] = field(default_factory=list)

    def of(self, marks: Marks) -> int:
        """How many questions were asked about the record of `marks` about which the most were."""
        here = np.isin(self.marks, marks, assume_unique=True)
        return int(self.counts[here].max()) if here.any() else 0

    def check(self, name: bytes, marks: Marks, most: int, source: str) -> None:
        """Raises QuestionsSpent when the question `name` is a new one, and one too many."""
        if name not in self.asked and self.of(marks) >= most:
            raise QuestionsSpent(
                evidence=counted(marks.size, "record"), times=counted(self.of(marks), "time"), source=source
            )

    def check_gone(self, gone: Sequence[Sequence[Marks]], least: int) -> None:
        """Raises FewWithdrew when fewer than `least` patients who were asked about have gone since, of any of `gone`.

        gone   by column: of each patient, records with a value there
        """
        every = [marks for patients in gone for marks in patients]
        known = set(np.intersect1d(np.concatenate(every), self.marks).tolist()) if every else set()
        for patients in gone:
            few = sum(not known.isdisjoint(marks.tolist()) for marks in patients)
            if 0 < few < least:
                raise FewWithdrew(evidence="answers that were given before hold them", least=least)

    def forget(self, gone: Marks) -> bool:
        """The next question is compared with one that was asked without these; True when any was known."""
        stays = ~np.isin(self.marks, gone, assume_unique=True)
        self.marks, self.counts = self.marks[stays], self.counts[stays]
        return not bool(stays.all())

    def add(self, name: bytes, marks: Marks, times: int = 1) -> bool:
        """Count the question; False when it was counted before."""
        if name in self.asked:
            return False
        every = np.union1d(self.marks, marks)
        counts = np.zeros(every.size, np.uint32)
        counts[np.searchsorted(every, self.marks)] = self.counts
        counts[np.searchsorted(every, marks)] += times
        self.marks, self.counts = every, counts
        self.asked = [*self.asked, name][-MOST_NAMES:]
        return True

    def to_bytes(self) -> codec.Pieces:
        """As it lies in the home."""
        head = (int(self.marks.size), b"".join(self.asked))
        return codec.with_tail(head, self.marks.astype("<u8").tobytes(), self.counts.astype("<u4").tobytes())

    @classmethod
    def from_bytes(cls, data: codec.Buffer) -> QuestionCounts:
        """Undo `to_bytes`. Raises Malformed."""
        head, tail = codec.split_tail(data, most=MOST_HEAD, items=2)
        size, names = HEAD.check(head, "counts of questions")
        if len(tail) != size * (MARK_BYTES + COUNT_BYTES) or len(names) % NAME_BYTES:
            raise codec.Malformed("no counts of questions: its parts have other lengths than it says")
        marks = np.frombuffer(tail[: size * MARK_BYTES], "<u8").astype(np.uint64)
        counts = np.frombuffer(tail[size * MARK_BYTES :], "<u4").astype(np.uint32)
        if marks.size > 1 and not (marks[1:] > marks[:-1]).all():
            raise codec.Malformed("no counts of questions: marks that do not rise")
        asked = [names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES)]
        return cls(marks, counts, asked)


def read_counts(home: Home) -> QuestionCounts:
    """Those of this home; none before the first question."""
    data = home.read(ITEM)
    return QuestionCounts() if data is None else QuestionCounts.from_bytes(data)


@dataclass(frozen=True, slots=True)
class AskedOf:
    """One question about one site's records, as the budget of questions sees it.

    gone      marks of records of the same file that are left out, since somebody withdrew
    gone_of   the same by column and patient
    least     at least so many patients of each column have gone since they were asked about, or none
    """

    home: Home
    name: bytes
    marks: Marks
    most: int
    source: str
    gone: Marks = field(default_factory=lambda: np.array([], np.uint64))
    gone_of: tuple[tuple[Marks, ...], ...] = ()
    least: int = 1

    @classmethod
    def of(
        cls, home: Home, question: bytes, records: Iterable[bytes], read: Iterable[bytes], most: int, source: str
    ) -> AskedOf:
        """question: canonical facts.

        records   what names each record of this site
        read      of each record the cells that the answer hangs on, which may change while its name stays
        """
        marks, key = marks_of(home.records_key(), records), home.records_key().reveal()
        name = digest("asked", key, question, marks.tobytes(), *sorted(read))  # each, of records that are alike too
        return cls(home, name[:NAME_BYTES], marks, most, source)

    def without(self, gone_of: Iterable[Iterable[Sequence[bytes]]], least: int) -> AskedOf:
        """The same question, where records of these names are left out of it: by column, and of each patient."""
        key, named = self.home.records_key(), [list(patients) for patients in gone_of]
        marks = tuple(tuple(marks_of(key, names) for names in patients) for patients in named)
        every = marks_of(key, (name for patients in named for names in patients for name in names))
        return replace(self, gone=every, gone_of=marks, least=least)

    def check(self) -> None:
        """Raises QuestionsSpent, FewWithdrew."""
        self._check(read_counts(self.home))

    def _check(self, counts: QuestionCounts) -> None:
        counts.check(self.name, self.marks, self.most, self.source)
        counts.check_gone(self.gone_of, self.least)

    def count(self) -> None:
        """Count it, durably; asked under the lock under which it is counted. Raises QuestionsSpent, FewWithdrew."""
        with self.home.charging():
            counts = read_counts(self.home)
            self._check(counts)
            forgot = counts.forget(self.gone)
            if counts.add(self.name, self.marks) or forgot:
                self.home.replace(ITEM, counts.to_bytes())

    def count_refused(self) -> None:
        """A group of it was too small: that is an answer too, and one to bisect by. So it counts several times."""
        with self.home.charging():
            counts = read_counts(self.home)
            if counts.add(digest("refused", self.name)[:NAME_BYTES], self.marks, REFUSED_TIMES - 1):
                self.home.replace(ITEM, counts.to_bytes())
