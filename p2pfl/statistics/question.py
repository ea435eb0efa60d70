"""What is asked, what one site adds to each sum, and what comes out: the whole of what others see of this place.

A statistic is a frozen dataclass of public parameters, equal at all sites. Its `steps` run at every site in step: each
`Ask` that they yield is summed over the same sites, and the sum is sent in. What is asked next (width, limit, counts)
follows from the parameters and from the sums so far alone, never from this site's records; neither does an error that
is raised after the first sum. So no site can be told apart by what it asks, or by when it refuses.

Two promises that the rules on small groups build on. Every count of people that an Ask opens, or that follows from it
and the sums before, is an entry, or a sum of entries, marked in `people`: complements too (a Quantity is taken for a
number: one of few values is better described as a Factor, which is counted). No other number is opened of a group
of people whose count was not opened in an Ask before it, so that who refuses a count has shown nothing of the group.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.statistics import ColumnNotInTable, LevelsDiffer, TableTooLong, TableUneven, ValueOutsideBounds

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]
Facts = dict[str, Any]

MOST_SITES: Final = 200  # that a federation may have
MOST_LIMIT: Final = ((1 << 61) - 2) // 2 // MOST_SITES  # of one site: the sum over all is itself in the 61-bit field
CROWD: Final = 2  # of a level beside a number, in a regression by steps
MOST_RECORDS: Final = 1 << 24  # of one site: the limit of a count before any total is known


# ── columns, and one site's table ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Quantity:
    """A column of measured numbers, plausible from `low` to `high` (the schema's bounds, which are public)."""

    name: str
    low: float
    high: float

    @property
    def centre(self) -> float:
        return self.low + (self.high - self.low) / 2

    @property
    def half(self) -> float:
        """Half the width of the bounds: (x − centre) / half lies in [−1, 1]."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Factor:
    """A column of codes: one of `levels`, the first of which is the reference of a regression."""

    name: str
    levels: tuple[str, ...]


Variable = Quantity | Factor


@dataclass(frozen=True)
class SiteTable:
    """One site's records as the schema read them. Secret, all of it but the names of the columns and levels.

    columns    by name: (records,) float64, NaN where missing; a code is the index of its level
    levels     of every column of codes, the schema's, in its order
    site, sites  this site's place among the sites that are asked, and how many there are
    shows_own  this site agrees that its own estimates are opened under its name (meta-analysis alone asks for that)
    noised     noise is added to each sum: so no limit follows from a count that was opened before, which has noise too
    layers     places of records, one of each patient in each layer, where some patient has several; else ()
    least      the smallest group: who shows an estimate of its own shows none of fewer patients
    Raises TableTooLong, TableUneven.
    """

    columns: Mapping[str, Floats] = field(repr=False)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    site: int = 0
    sites: int = 1
    shows_own: bool = False
    noised: bool = False
    layers: tuple[Integers, ...] = field(default=(), repr=False)
    least: int = 1

    def __post_init__(self) -> None:
        if self.records > MOST_RECORDS:
            raise TableTooLong(evidence=f"most are {MOST_RECORDS}")
        if len({values.size for values in self.columns.values()}) > 1:
            raise TableUneven(evidence=f"{len(self.columns)} columns")

    @property
    def records(self) -> int:
        return max((values.size for values in self.columns.values()), default=0)

    def by_layer(self) -> list[SiteTable]:
        """Tables in which each patient has one record at most; `least` is 0: a layer shows what the whole does."""
        return [
            replace(self, columns={name: values[rows] for name, values in self.columns.items()}, layers=(), least=0)
            for rows in self.layers
        ]

    def most(self, opened: int) -> int:
        """The most records that one site may have in a sum, after `opened` of all sites were counted."""
        return MOST_RECORDS if self.noised else max(opened, 1)

    def read(self, variable: Variable) -> Floats:
        """(records,) float64: the column, NaN where missing.

        Raises ColumnNotInTable, LevelsDiffer, ValueOutsideBounds; none shows a value.
        """
        if variable.name not in self.columns:
            raise ColumnNotInTable(evidence=f"it has {', '.join(sorted(self.columns))}", column=variable.name)
        values = self.columns[variable.name]
        if isinstance(variable, Factor):
            known = self.levels.get(variable.name, ())
            if known != variable.levels:
                told = f"asked of {', '.join(variable.levels)}; the schema has {', '.join(known) or 'a number there'}"
                raise LevelsDiffer(evidence=told, column=variable.name)
            low, high = 0.0, len(known) - 1.0
        else:
            if variable.name in self.levels:
                told = f"asked as a number; the schema has the levels {', '.join(self.levels[variable.name])}"
                raise LevelsDiffer(evidence=told, column=variable.name)
            low, high = variable.low, variable.high
        if np.any((values < low) | (values > high)):
            raise ValueOutsideBounds(evidence=f"plausible is {low:g} to {high:g}", column=variable.name)
        return values


# ── one sum ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MovedBlock:
    """A block of consecutive entries, and how far adding or removing one record moves it at most.

    first, size   its place among the entries
    bits          of fixed point; 0: integers
    by            in L2, in units of 2^bits; ∞: nothing bounds it, and no noise is enough
    """

    first: int
    size: int
    bits: int
    by: float


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One sum over all sites: what this site adds to it, and what all must agree on.

    name    of the sum, unique within the statistic; public
    values  (w,) int64, secret: this site's. Reals are in fixed point already, so that the sum is exact
    limit   largest absolute value that one site may add, at most MOST_LIMIT; public
    people  (w,) bool, public: this entry counts people, and the rule on small cells holds for it
    parts   (place of a total, places of its parts), public: the total is the sum of the parts, at each site and in the
            sum. Who may not see one part may not see the others and the total together
    labels  (w,) what each number is; public
    moved   how far one record moves each block, public: what noise is calibrated to
    own     each site fills a slot of its own, which the sum opens under its name; those who do not agree leave zeros
    crowded   (w,) such a count must be of CROWD times the smallest group: later sums weigh these people anew, step by
            step; public
    """

    name: str
    values: Integers = field(repr=False)
    limit: int
    people: Truths
    parts: tuple[tuple[int, tuple[int, ...]], ...] = ()
    labels: tuple[str, ...] = field(default=(), repr=False)
    own: bool = False
    moved: tuple[MovedBlock, ...] = ()
    crowded: tuple[bool, ...] = ()

    def least(self, cell: int) -> Integers:
        """(people,) of each count of people, how many it must be of where the smallest group is `cell`."""
        crowded = np.array(self.crowded or [False] * self.values.size, np.bool_)[self.people]
        return np.where(crowded, CROWD * cell, cell).astype(np.int64)

    @property
    def public(self) -> tuple[object, ...]:
        """What must be equal at all sites."""
        told = self.name, self.values.size, self.limit, self.people.tolist(), self.parts, self.labels, self.own
        return (*told, self.moved, self.crowded)


@dataclass(frozen=True, slots=True, eq=False)
class OpenedSum:
    """The sum of one Ask over `sites` sites: (w,) int64, equal at all of them.

    deviations   (w,) of the noise on each entry, in people or in what the reals are of; None: the sum is exact
    """

    values: Integers
    sites: int
    deviations: Floats | None = None


# ── the statistic ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Cost:
    """The most that a statistic opens: sums one after the other, and numbers in all of them together."""

    sums: int
    numbers: int


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows for people: cells are text, numbers or None (a blank)."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]


def as_json(value: object) -> Any:
    """A value of a result as JSON has it: a dataclass is a map of its fields; what is not finite is None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [as_json(one) for one in value]
    if is_dataclass(value):
        return {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
    return value


@dataclass(frozen=True)
class StatisticResult(ABC):
    """What came out, the same at every site. A float that is not defined is NaN."""

    kind: ClassVar[str]  # of the statistic

    def as_json(self) -> Facts:
        """Text, numbers, truth values, None (not defined), lists and maps of those; keys as in the specification."""
        found: Facts = as_json(self)
        return {"statistic": self.kind, **found}

    @abstractmethod
    def tables(self) -> tuple[TextTable, ...]:
        """The same for people."""

    def named(self, sites: Sequence[str]) -> StatisticResult:
        """The result with the names of sites in place of their places, where it tells of single ones."""
        return self


Steps = Generator[Ask, OpenedSum, StatisticResult]


@dataclass(frozen=True)
class Statistic(ABC):
    """A question: its public parameters. Raises WrongQuestion where they fit no question.

    unbounded   why it cannot be asked with noise; empty where each of its sums says how far one record moves it
    held        of an answer with noise: keys whose standard errors, intervals and p hold the noise beside the sampling
    not_held    keys whose p or interval is about who was sampled alone
    """

    kind: ClassVar[str]  # stable: how the command, peers.yaml and the ledger name it
    unbounded: ClassVar[str] = "one record may move its sums by more than any bound that is known before"
    held: ClassVar[tuple[str, ...]] = ()
    not_held: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def variables(self) -> tuple[Variable, ...]:
        """Every column that is read."""

    @property
    def together(self) -> tuple[tuple[Variable, ...], ...]:
        """Sets of columns, of the records with a value in each of which it sums something. All of them at once."""
        return (self.variables,) if len(self.variables) > 1 else ()

    @abstractmethod
    def cost(self) -> Cost:
        """The most that this opens; known before anything is."""

    @abstractmethod
    def steps(self, table: SiteTable) -> Steps:
        """What this site adds to each sum, in turn; returns the result.

        In place of a sum that would count too few people GroupTooSmall is thrown in, at all sites alike: who can say
        something without that sum goes on, or returns; else the question ends.
        Raises leaves of errors.statistics: before the first sum of what is wrong at this site, after it of what is
        wrong with the sums, at all sites alike.
        """
