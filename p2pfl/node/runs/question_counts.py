"""How many questions were asked about each record of a home, over all its studies: before the next one is.

Records are known by marks, 64 bits of a keyed digest of their cells, so that a file with some records more, or in
another order, is not new: what counts of a data set is the record about which the most was asked. A question that was
asked of the very same records before, in all of whose cells that it reads nothing has changed, opens nothing new, and
counts once. docs/adr/0056.

Records whose patients withdrew are asked about no more. Of each is kept which questions it was in, and of each of these
which columns it read: one behind them that differs from any by fewer people than the smallest group would tell of those
few, by subtraction. It is refused until as many have gone, or none that was asked about (gone.py). docs/adr/0107.

The site log says how many questions were counted. What these counts lack of them, since they are gone or older, was
asked of nobody knows which records: it counts for each, and of whoever withdrew before nothing can be said any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.home import ItemDamaged
from p2pfl.errors.questions import QuestionsLost, QuestionsSpent
from p2pfl.federation.table_columns import MOST_NAME
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.ledger.log import Log
from p2pfl.node.logs import Logs
from p2pfl.node.runs.gone import AnswerBefore, GoneCounts, GoneRecords
from p2pfl.node.site_index import SiteIndex
from p2pfl.node.studies import Elsewhere
from p2pfl.statistics.question import Statistic
from p2pfl.training.privacy.accounts import Marks, mark_of_each, marks_of

ITEM: Final = "accounts/questions"
MOST_HEAD: Final = 1 << 24
MOST_GROUPS: Final = 1 << 16
MARK_BYTES: Final = 8
PLACE_BYTES: Final = 4
NAME_BYTES: Final = 16
REFUSED_TIMES: Final = 3  # that a question counts that values refused
MOST_NAMES: Final = 4096  # questions whose repetition is free; the oldest are forgotten, and count again
_NUMBER: Final = codec.Whole((1 << 32) - 1)
_GROUPS: Final = codec.Many(codec.Row((_NUMBER, codec.Many(_NUMBER, MOST_GROUPS))), MOST_GROUPS)
_READ: Final = codec.Many(codec.Row((_NUMBER, codec.Many(codec.Text(MOST_NAME), MOST_GROUPS))), MOST_GROUPS)
HEAD: Final = codec.Row((_NUMBER, codec.Raw(MOST_NAMES * NAME_BYTES), _NUMBER, _NUMBER, _NUMBER, codec.Raw(MOST_HEAD)))


@dataclass(frozen=True, slots=True)
class AskedAlike:
    """Records of which the same was asked: how many times, and the numbers of the questions that they were in."""

    times: int = 0
    told: tuple[int, ...] = ()

    @property
    def newest(self) -> int:
        """The last question that they were in; 0: none."""
        return max(self.told, default=0)


@dataclass
class QuestionCounts:
    """By record, how many questions were asked. Pure: whoever changes it makes it durable before anything leaves.

    marks    (N,) ascending
    places   (N,) of each, in `groups`
    asked    names of question and records together, oldest first
    read     of each question that told something new the columns, by its number
    number   of the last question that was counted
    lost     how many of them nobody knows the records of, up to the question of number `lost_to`
    """

    marks: Marks = field(default_factory=lambda: np.array([], np.uint64))
    places: npt.NDArray[np.uint32] = field(default_factory=lambda: np.array([], np.uint32))
    groups: list[AskedAlike] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    read: dict[int, tuple[str, ...]] = field(default_factory=dict)
    number: int = 0
    lost: int = 0
    lost_to: int = 0

    @property
    def most(self) -> int:
        """How many questions were asked about the record about which the most were."""
        return self.lost + max((group.times for group in self.groups), default=0)

    def of(self, marks: Marks) -> int:
        """The same, of the records of `marks`."""
        places = np.unique(self.places[np.isin(self.marks, marks, assume_unique=True)])
        return self.lost + max((self.groups[place].times for place in places.tolist()), default=0)

    def check(self, name: bytes, marks: Marks, most: int, source: str) -> None:
        """Raises QuestionsSpent when the question `name` is a new one, and one too many."""
        if name not in self.asked and self.of(marks) >= most:
            raise QuestionsSpent(
                evidence=counted(marks.size, "record"), times=counted(self.of(marks), "time"), source=source
            )

    def told(self, marks: Marks, columns: Sequence[str]) -> tuple[list[AnswerBefore], npt.NDArray[np.uint32]]:
        """Of each question which of these records it was over, and which columns it read; of each record (N,) the last.

        0: none. One that came behind a loss was there before it, as far as anybody knows.
        """
        groups = [*self.groups, AskedAlike()]
        told = [frozenset(group.told) for group in groups]
        at = np.searchsorted(self.marks, marks)
        here = np.append(self.marks, np.uint64(0))[at] == marks
        places = np.where(here & (at < self.marks.size), np.append(self.places, 0)[at], len(groups) - 1)
        newest = np.array([group.newest for group in groups], np.uint32)[places]
        found = [
            AnswerBefore(np.array([number in one for one in told])[places], np.isin(columns, read))
            for number, read in self.read.items()
        ]
        if self.lost_to:
            found.append(AnswerBefore(newest > self.lost_to, np.ones(len(columns), np.bool_)))
        return found, newest

    def missing(self, number: int) -> None:
        """So many questions were counted, as the site log says: what is not known of any counts for each record."""
        if number > self.number:
            self.lost, self.lost_to, self.number = self.lost + number - self.number, number, number

    def add(self, name: bytes, marks: Marks, columns: Sequence[str] = (), times: int = 1) -> bool:
        """Count the question; False when it was counted before.

        columns   that it read; none: it told of nobody. The same ones of the same records tell nothing new
        """
        if name in self.asked:
            return False
        self.number += 1
        every = np.union1d(self.marks, marks)
        before = np.full(every.size, len(self.groups), np.int64)
        before[np.searchsorted(every, self.marks)] = self.places
        asked = np.isin(every, marks, assume_unique=True)
        told = (self.number,) if columns and marks.size and not self._knows(marks, columns) else ()
        self.read |= dict.fromkeys(told, tuple(sorted(columns)))
        groups, places = dict[AskedAlike, int](), np.zeros(every.size, np.uint32)
        for place in np.unique(before).tolist():
            group = self.groups[place] if place < len(self.groups) else AskedAlike()
            for rows, now in (
                ((before == place) & ~asked, group),
                ((before == place) & asked, AskedAlike(group.times + times, (*group.told, *told))),
            ):
                if rows.any():
                    places[rows] = groups.setdefault(now, len(groups))
        self.marks, self.places, self.groups = every, places, list(groups)
        self.asked = [*self.asked, name][-MOST_NAMES:]
        return True

    def _knows(self, marks: Marks, columns: Sequence[str]) -> bool:
        """A question behind the last loss read these columns of these records, and of no others."""
        alike = [one for one, read in self.read.items() if read == tuple(sorted(columns)) and one > self.lost_to]
        return any(
            np.array_equal(self.marks[np.array([number in group.told for group in self.groups])[self.places]], marks)
            for number in alike
        )

    def to_bytes(self) -> codec.Pieces:
        """As it lies in the home."""
        rows = [[group.times, list(group.told)] for group in self.groups]
        groups = codec.facts({"groups": rows, "read": [[number, list(read)] for number, read in self.read.items()]})
        head = (int(self.marks.size), b"".join(self.asked), self.number, self.lost, self.lost_to, groups)
        return codec.with_tail(head, self.marks.astype("<u8").tobytes(), self.places.astype("<u4").tobytes())

    @classmethod
    def from_bytes(cls, data: codec.Buffer) -> QuestionCounts:
        """Undo `to_bytes`. Raises Malformed."""
        head, tail = codec.split_tail(data, most=MOST_HEAD, items=len(HEAD.of))
        size, names, number, lost, lost_to, groups = HEAD.check(head, "counts of questions")
        if len(tail) != size * (MARK_BYTES + PLACE_BYTES) or len(names) % NAME_BYTES:
            raise codec.Malformed("no counts of questions: its parts have other lengths than it says")
        marks = np.frombuffer(tail[: size * MARK_BYTES], "<u8").astype(np.uint64)
        places = np.frombuffer(tail[size * MARK_BYTES :], "<u4").astype(np.uint32)
        if marks.size > 1 and not (marks[1:] > marks[:-1]).all():
            raise codec.Malformed("no counts of questions: marks that do not rise")
        held = codec.read_facts(groups, MOST_HEAD)
        if set(held) != {"groups", "read"}:
            raise codec.Malformed("no counts of questions: no groups, or not what was read")
        alike = [AskedAlike(times, tuple(told)) for times, told in _GROUPS.check(held["groups"], "groups")]
        read = {one: tuple(columns) for one, columns in _READ.check(held["read"], "read")}
        if {one for group in alike for one in group.told} != set(read) or len(read) < len(held["read"]):
            raise codec.Malformed("no counts of questions: one of which nobody knows what it read, or of whom")
        if not np.array_equal(np.unique(places), np.arange(len(alike))):
            raise codec.Malformed("no counts of questions: records of no group, or a group of no records")
        if max((lost_to, *(group.newest for group in alike))) > number:
            raise codec.Malformed("no counts of questions: one that was asked before it was counted")
        asked = [names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES)]
        return cls(marks, places, alike, asked, read, number, lost, lost_to)


def read_counts(home: Home, number: int = 0) -> QuestionCounts:
    """Those of this home; none before the first question. Raises QuestionsLost where they cannot be read.

    number   how many questions were counted, as its site logs say
    """
    try:
        data = home.read(ITEM)
        found = QuestionCounts() if data is None else QuestionCounts.from_bytes(data)
    except (ItemDamaged, codec.Malformed) as error:
        evidence = error.evidence if isinstance(error, ItemDamaged) else str(error)
        raise QuestionsLost(evidence=f"{ITEM}: {evidence}", home=home.path) from None
    found.missing(number)
    return found


@dataclass(frozen=True, slots=True)
class AskedOf:
    """One question about one site's records, as the budget of questions sees it.

    gone      records of the same file that are left out, since somebody withdrew
    least     at least so many patients of each count have gone since they were asked about, or none
    counted   how many questions were counted, as the site logs say
    """

    home: Home
    name: bytes
    statistic: Statistic
    marks: Marks
    most: int
    source: str
    gone: GoneRecords = field(default_factory=GoneRecords)
    least: int = 1
    counted: int = 0

    @classmethod
    def of(
        cls,
        home: Home,
        question: bytes,
        statistic: Statistic,
        records: Iterable[bytes],
        read: Iterable[bytes],
        most: int,
        source: str,
    ) -> AskedOf:
        """question: canonical facts.

        records   what names each record of this site
        read      of each record the cells that the answer hangs on, which may change while its name stays
        """
        marks, key = marks_of(home.records_key(), records), home.records_key().reveal()
        name = digest("asked", key, question, marks.tobytes(), *sorted(read))  # each, of records that are alike too
        return cls(home, name[:NAME_BYTES], statistic, marks, most, source)

    @property
    def columns(self) -> tuple[str, ...]:
        """That it reads."""
        return tuple(one.name for one in self.statistic.variables)

    def without(self, gone: GoneRecords, least: int) -> AskedOf:
        """The same question, where these records are left out of it."""
        return replace(self, gone=gone, least=least)

    def at(self, site: int, sites: int) -> AskedOf:
        """The same, of a site at that place among those that are asked."""
        return replace(self, gone=self.gone.at(site, sites))

    def check(self) -> None:
        """Raises QuestionsSpent, FewWithdrew, QuestionsLost."""
        self._check(read_counts(self.home, self.counted))

    def _check(self, counts: QuestionCounts) -> GoneCounts:
        counts.check(self.name, self.marks, self.most, self.source)
        return GoneCounts(self.statistic, self._answers(counts), self.least)

    def _answers(self, counts: QuestionCounts) -> list[GoneRecords]:
        """What answers that were given before hold of those who have gone. Raises QuestionsLost."""
        marks = mark_of_each(self.home.records_key(), self.gone.counted)
        told, newest = counts.told(marks, self.columns)
        if counts.lost_to and (newest <= counts.lost_to).any():
            evidence = f"{counted(counts.lost, 'question')} in the site log alone; and somebody has withdrawn"
            raise QuestionsLost(evidence=evidence, home=self.home.path)
        return self.gone.by_answer(told)

    def count(self) -> GoneCounts:
        """Count it, durably; asked under the lock under which it is counted. Raises as `check` does.

        Returns what has gone of its counts, for what it asks next.
        """
        with self.home.charging():
            counts = read_counts(self.home, self.counted)
            gone = self._check(counts)
            if counts.add(self.name, self.marks, self.columns):
                self.home.replace(ITEM, counts.to_bytes())
            return gone

    def count_refused(self) -> None:
        """A group of it was too small, or few went of one: that is an answer too, and one to bisect by.

        So it counts several times, but as one that read nothing: of nobody is more told than before.
        """
        with self.home.charging():
            counts = read_counts(self.home, self.counted)
            times = REFUSED_TIMES - (self.name in counts.asked)
            if counts.add(digest("refused", self.name)[:NAME_BYTES], self.marks, times=times):
                self.home.replace(ITEM, counts.to_bytes())


def counted_in_logs(home: Home, logs: Logs) -> int:
    """How many questions of this home were counted, as the site logs of its studies say."""
    return max([logs.questions(), *(other.questions() for _, other in Elsewhere(home, logs.others).site_logs())])


def counted_at(home: Home) -> int:
    """The same, for whoever looks at a home beside its processes."""
    logs = (Log.open(one, "site") for one in home.studies() if (one.folder / "ledger" / "site").is_dir())
    return max((SiteIndex(log).questions() for log in logs), default=0)
