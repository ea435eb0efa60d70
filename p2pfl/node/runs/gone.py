"""Those who withdrew, as a question would have counted them: by how much it differs from answers that hold them.

Two answers over records of which some have gone meanwhile differ by what these add to each. So the question is run over
the records that are left out, as it is over the others, and whatever count of people they make up is nobody, or the
smallest group: of each answer that was given before, in those columns alone that were asked about. docs/adr/0107.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from p2pfl.errors.questions import FewWithdrew, GroupTooSmall
from p2pfl.node.runs.patients import PatientCounts, layers_of
from p2pfl.statistics.plan import present
from p2pfl.statistics.question import OpenedSum, SiteTable, Statistic


@dataclass(frozen=True)
class AnswerBefore:
    """An answer that was given before: which of those who have gone it was over, and which of the columns it read.

    rows   (N,)
    read   (C,)
    """

    rows: npt.NDArray[np.bool_]
    read: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GoneRecords:
    """The records that a question leaves out, since somebody withdrew.

    table     their asked columns
    counted   what the counts of questions know each by
    whose     of each what names its patient; of nobody's, itself
    """

    table: SiteTable = field(default_factory=lambda: SiteTable({}))
    counted: tuple[bytes, ...] = field(default=(), repr=False)
    whose: tuple[bytes, ...] = field(default=(), repr=False)

    def at(self, site: int, sites: int) -> GoneRecords:
        """The same at that place among the sites that are asked."""
        return replace(self, table=replace(self.table, site=site, sites=sites))

    def held(self, rows: npt.NDArray[np.bool_], cells: npt.NDArray[np.bool_]) -> GoneRecords:
        """Of these records those of `rows` (N,), of their cells those of `cells` (N, C): what an answer holds."""
        places = np.flatnonzero(rows).tolist()
        columns = {
            name: np.where(cells[rows, at], values[rows], np.nan)
            for at, (name, values) in enumerate(self.table.columns.items())
        }
        counted, whose = (tuple(one[place] for place in places) for one in (self.counted, self.whose))
        return GoneRecords(replace(self.table, columns=columns, layers=layers_of(whose)), counted, whose)

    def by_answer(self, told: Sequence[AnswerBefore]) -> list[GoneRecords]:
        """What each answer that was given before holds of these: as it read them, and as all answers together did.

        One of ages and one of sexes over the same people go together with one of ages by sex.
        """
        if not self.whose or not told:
            return []
        every = np.any([np.outer(one.rows, one.read) for one in told], axis=0)
        held = {
            (one.rows.tobytes(), cells.tobytes()): self.held(one.rows, cells)
            for one in told
            if one.rows.any()
            for cells in (np.outer(one.rows, one.read), every & one.rows[:, np.newaxis])
        }
        return list(held.values())

    @property
    def patients(self) -> list[int]:
        """How many have a value of each column, of all of them, and how many there are."""
        columns = list(self.table.columns.values())
        every = np.ones(len(self.whose), np.bool_)
        having = [*map(present, columns), *([present(*columns)] if columns else []), every]
        return [len({self.whose[row] for row in np.flatnonzero(has)}) for has in having]


class GoneCounts:
    """A question of the records that it leaves out, in step with that of the others, for each answer of before."""

    def __init__(self, statistic: Statistic, answers: Sequence[GoneRecords], least: int) -> None:
        """Raises FewWithdrew."""
        self._least, self._error = least, FewWithdrew(evidence="answers that were given before hold them", least=least)
        if any(0 < patients < least for one in answers for patients in one.patients):
            raise self._error
        tables = [one.table for one in answers]
        self._patients = [PatientCounts(statistic, table) for table in tables]
        self._running = [statistic.steps(table) for table in tables]
        self.asks = [next(one) for one in self._running]
        if (few := self.few()) is not None:
            raise few

    def few(self) -> FewWithdrew | None:
        """Of a count that is asked now some have gone, and fewer than the smallest group."""
        for ask, patients in zip(self.asks, self._patients, strict=True):
            some, least = ask.values[ask.people] != 0, ask.least(self._least)
            if (some & (patients.of(ask)[ask.people] < least)).any():
                return self._error
        return None

    def follow(self, opened: OpenedSum | GroupTooSmall) -> None:
        """Go on to what the question asks next."""
        for patients in self._patients:
            patients.follow(opened)
        self.asks = [
            one.throw(opened) if isinstance(opened, GroupTooSmall) else one.send(opened) for one in self._running
        ]
