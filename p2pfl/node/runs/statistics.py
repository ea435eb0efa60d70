"""A question about the sites' tables, as sums: what each part of it puts in, and what stops it before more is opened.

Part by part, each a round of its own, all over the sites of the first:
    roll call   how many sites have a value of each column, and a record with all of them where those are summed
                together; whether any site refuses, by its rules, or since its data were summed over other sites.
                Binds nothing
    consent     where the roll call was not over all of them: whether any data were summed over others than these sites
    guard       before every sum that counts people: which counts are of enough people at one site alone, so that their
                total is; then whether anybody at all is in those that are not. If so the question ends here
    sum         what the statistic asks
With noise (question_noise.py) the roll call says nothing of the data but that some were summed over other sites, and
there is no guard.
A guard opens no count: it tells of each whether some site has enough, never how many do, or which (sums.flags).
docs/adr/0056.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.questions import (
    ColumnNotAsked,
    GroupTooSmall,
    NoTableDescribed,
    QuestionRefused,
    QuestionTooLarge,
    QuestionUnfit,
)
from p2pfl.federation import Federation
from p2pfl.keys import Draw, digest
from p2pfl.ledger.federation_kinds import ROLL_CALL
from p2pfl.node.question_file import called, text_of
from p2pfl.node.runs.cohort import mark_of
from p2pfl.node.runs.question_noise import QuestionNoise, aside_fact, over_facts
from p2pfl.node.runs.readings import FLAGS
from p2pfl.node.runs.site_tables import AskedRecords, read_records
from p2pfl.node.runs.sums import Encoded, encode, flags, too_few
from p2pfl.statistics.noise import LIMIT
from p2pfl.statistics.plan import present
from p2pfl.statistics.question import MOST_RECORDS, Ask, Integers, SiteTable, Statistic, Truths, Variable
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.records.withdrawn import Withdrawn

MOST_QUESTION: Final = 2048  # bytes of its facts: they stand in the record of its roll call
LABELS_TOLD: Final = 12
CONSENT: Final = "consent"


@dataclass(frozen=True, slots=True)
class Part:
    """One round of a question: what all sites agree that it is, and what this one puts in."""

    of: Mapping[str, Any]
    parts: list[Encoded]

    @property
    def said(self) -> bytes:
        """Names what all agree on, and what this site puts in: of flags which are raised, whatever it drew for them."""
        words = [one.words() != 0 if one.reading.kind == FLAGS else one.words() for one in self.parts]
        return digest("said in a part", codec.facts(self.of), *(one.tobytes() for one in words))


@dataclass(frozen=True)
class Inquiry:
    """A question under one peers.yaml. facts: what people agree on; called: how it is named to them.

    aside   sites that are not counted in it any more (peer/attendance.py)
    """

    statistic: Statistic
    facts: Mapping[str, Any]
    called: str
    federation: Federation
    draw: Draw
    aside: tuple[str, ...] = ()

    @property
    def noise(self) -> QuestionNoise | None:
        """On its sums; None where they are exact."""
        return QuestionNoise.of(self.federation)

    @classmethod
    def of(cls, statistic: Statistic, federation: Federation, draw: Draw, aside: tuple[str, ...] = ()) -> Inquiry:
        """Raises NoTableDescribed, QuestionUnfit where its columns are not those that peers.yaml describes."""
        told = text_of(statistic, federation)
        return cls(statistic, told, called(told), federation, draw, aside)

    def read(
        self, data: Any, columns: MapFile | None, shows_own: bool, withdrawn: Withdrawn | None = None
    ) -> AskedRecords:
        """This site's records, without those that are `withdrawn`.

        Raises what reading them raises, and what the statistic says of this site's table.
        """
        schema = self.federation.task.table
        if schema is None:
            raise NoTableDescribed(evidence=f"task: {self.federation.task.label}", source=self.federation.source)
        wanted, noise = [one.name for one in self.statistic.variables], self.noise
        how = {"noised": noise is not None, "one_each": noise is not None and noise.one_each}
        records = read_records(schema, wanted, data, columns, shows_own=shows_own, withdrawn=withdrawn, **how)
        records = replace(records, table=replace(records.table, least=self.federation.statistics.minimum_cell))
        next(self.statistic.steps(records.table))  # what is wrong here is told before anything is asked
        return records

    @property
    def name(self) -> bytes:
        """32 bytes that name the question."""
        return digest("question", codec.facts(self.facts))

    def check(self) -> None:
        """What the agreed rules say without any data.

        Raises ColumnNotAsked, QuestionTooLarge, QuestionUnfit, NoiseUnbounded.
        """
        if (noise := self.noise) is not None:
            noise.check(self.statistic, self.called)
        rules, source = self.federation.statistics, self.federation.source
        refused = [one.name for one in self.statistic.variables if not rules.allows(one.name)]
        if refused:
            evidence = f"only: {', '.join(rules.only) if rules.only is not None else 'all'}; never: " + (
                ", ".join(rules.never) or "none"
            )
            raise ColumnNotAsked(evidence=evidence, what=f"{', '.join(refused)} may not be asked", source=source)
        numbers = self.statistic.cost().numbers
        if numbers > rules.most_numbers:
            evidence = f"{counted(self.statistic.cost().sums, 'sum')} at most"
            raise QuestionTooLarge(
                evidence=evidence, query=self.called, numbers=numbers, most=rules.most_numbers, source=source
            )
        size = len(codec.facts(self.facts))
        if size > MOST_QUESTION:
            what = "its text is too long for the ledger: ask of fewer columns at once"
            raise QuestionUnfit(evidence=f"{size} bytes of {MOST_QUESTION}", source="the command", what=what)

    # ── roll call ─────────────────────────────────────────────────────────────────────────────────────────────

    def roll_call(self, records: AskedRecords, refuses: bool, elsewhere: bool = False) -> Part:
        """Which columns this site has values of, and records with all that are summed together; whether it refuses.

        elsewhere   its data were summed over other sites than `every_site`: it refuses if the roll call is over these
        With noise every column counts as measured: what is exact of the records stays here.
        """
        table = records.table
        measured = self._measured(table)  # (V + T,)
        patients = np.max([self._measured(one) for one in table.by_layer()] or [measured], axis=0)
        if self.noise is not None:
            measured = patients = np.full(measured.shape, MOST_RECORDS)
        enough = patients[: len(self.statistic.variables)] >= self.federation.minimum.records
        raised = np.concatenate([[refuses], enough, [elsewhere]])
        return Part(
            {"statistic": {"part": ROLL_CALL, "question": dict(self.facts), **aside_fact(self.aside)}},
            [self._whole((measured > 0).astype(np.int64), 1), flags(raised, self.draw)],
        )

    def read_roll_call(self, sites: npt.NDArray[np.int64], raised: Truths) -> None:
        """Raises QuestionRefused when any site's rules refuse, TooFewContribute."""
        minimum = self.federation.minimum
        self.read_refusal(bool(raised[0]))
        for columns, count in zip(self._counted, sites.tolist(), strict=True):
            if count < minimum.sites:
                what = " with ".join(one.name for one in columns)
                raise too_few(f"{what} in {self.called}", count, minimum.sites)
        for variable, enough in zip(self.statistic.variables, raised[1:-1].tolist(), strict=True):
            if not enough:
                what = f"no site alone has enough records with a value of {variable.name}"
                raise GroupTooSmall(evidence=what, query=self.called, least=minimum.records)

    @property
    def every_site(self) -> tuple[str, ...]:
        """All sites that are counted, as a roll call is over them that nobody is away from."""
        return tuple(name for name in self.federation.roster.names if name not in self.aside)

    def consent(self, over: tuple[str, ...], elsewhere: bool) -> Part:
        """Whether this site's data were summed over other sites than these: then it refuses, and nothing is bound."""
        of = {"part": CONSENT, "question": self.name.hex(), **over_facts(over, self.aside)}
        return Part({"statistic": of}, [flags(np.array([elsewhere]), self.draw)])

    def read_refusal(self, refused: bool) -> None:
        """Raises QuestionRefused where a flag says that a site refuses."""
        if refused:
            raise QuestionRefused(evidence="one flag, in which all sites' answers are one", query=self.called)

    @property
    def _counted(self) -> tuple[tuple[Variable, ...], ...]:
        """What sites are counted by: each column, and each set of them of which only complete records are summed."""
        return (*((one,) for one in self.statistic.variables), *self.statistic.together)

    def _measured(self, table: SiteTable) -> npt.NDArray[np.int64]:
        """(V + T,) of how many records this site has a value of each column, and of all of each set."""
        read = [[table.columns[one.name] for one in columns] for columns in self._counted]
        return np.array([np.count_nonzero(present(*values)) for values in read], np.int64)

    # ── guard, and sum ────────────────────────────────────────────────────────────────────────────────────────

    def guard(
        self, number: int, ask: Ask, over: tuple[str, ...], patients: Integers | None = None, *, refuses: bool = False
    ) -> Part:
        """Of each count of people: this site alone has enough; then whether its rules refuse the sum.

        patients   of how many each is at least
        """
        counts = ask.values if patients is None else patients
        enough = counts[ask.people] >= ask.least(self.federation.statistics.minimum_cell)
        return Part(self._of(f"guard {number}", ask, over), [flags(np.append(enough, refuses), self.draw)])

    def anybody(self, number: int, ask: Ask, over: tuple[str, ...], enough: Truths) -> Part:
        """Whether this site has anybody in a count that is of enough people at no site."""
        some = ask.values[ask.people][~enough] != 0
        return Part(self._of(f"guard {number}, rest", ask, over), [flags(np.array([bool(some.any())]), self.draw)])

    def refuse_small(self, ask: Ask, enough: Truths) -> None:
        """Raises GroupTooSmall: somebody is in one of those counts at least; which of them, nobody knows."""
        wanted = ask.least(self.federation.statistics.minimum_cell)[~enough].tolist()
        labels = [label for label, small in zip(_labels(ask), (~enough).tolist(), strict=True) if small]
        if len(set(wanted)) > 1:
            labels = [f"{label} ({least})" for label, least in zip(labels, wanted, strict=True)]
        more = f" and {len(labels) - LABELS_TOLD} more" if len(labels) > LABELS_TOLD else ""
        named = "; ".join(labels[:LABELS_TOLD])
        told = " or ".join(map(str, sorted(set(wanted))))
        evidence = f"at no site alone {told} or more, and not all empty: {named}{more}"
        raise GroupTooSmall(evidence=evidence, query=self.called, least=max(wanted))

    def sum(self, number: int, ask: Ask, over: tuple[str, ...]) -> Part:
        """What the statistic asks."""
        return Part(self._of(f"sum {number}", ask, over), [self._whole(ask.values, ask.limit)])

    def noised_sum(self, number: int, ask: Ask, over: tuple[str, ...], values: npt.NDArray[np.int64]) -> Part:
        """The same with this site's part of the noise on it, in `values`."""
        of = dict(self._of(f"sum {number}", ask, over)["statistic"])
        noise = self.noise
        if noise is None:
            raise ValueError("noise that nobody agreed on")
        return Part({"statistic": {**of, "noise": noise.facts}}, [self._whole(values, LIMIT)])

    def _of(self, part: str, ask: Ask, over: tuple[str, ...]) -> Mapping[str, Any]:
        """The sites agree on the question, on what this part of it is, and on the sites that it is over."""
        asked = digest("question", repr(ask.public).encode()).hex()
        whom = over_facts(over, self.aside)
        return {"statistic": {"part": part, "question": self.name.hex(), "asks": asked, **whom}}

    def _whole(self, values: npt.NDArray[np.int64], limit: int) -> Encoded:
        peers = len(self.federation.roster.members)
        return encode(values, peers=peers, bits=61, limit=limit, decimals=None, draw=self.draw)

    # ── what is bound to the sites ────────────────────────────────────────────────────────────────────────────

    def marks(self, key: bytes, records: AskedRecords, record_marks: npt.NDArray[np.uint64]) -> tuple[bytes, ...]:
        """Of the records as a whole, and of each asked column: `sum --csv` of the same column has that mark too.

        One of a column without a value is drawn, and binds nothing: how many marks are noted says nothing of the data.
        """
        columns = [records.table.columns[one.name] for one in self.statistic.variables]
        measured = [values[~np.isnan(values)] for values in columns]
        return tuple(mark_of(key, values) if values.size else self.draw(32) for values in (record_marks, *measured))


def _labels(ask: Ask) -> list[str]:
    """What each count of people is."""
    named = ask.labels or tuple(f"{ask.name} {at}" for at in range(ask.values.size))
    return [label for label, people in zip(named, ask.people.tolist(), strict=True) if people]
