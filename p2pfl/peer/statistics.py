"""Statistics over the tables of all sites: `Peer.ask`. Nothing is opened but sums and, for meta-analysis, the own
estimates of sites that agree to it (`shows_own`).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.errors import BudgetSpent, P2PFLError
from p2pfl.errors.membership import NoLongerListed
from p2pfl.errors.privacy_units import UnitsMixed
from p2pfl.errors.questions import (
    FewWithdrew,
    GroupTooSmall,
    QuestionRefused,
    QuestionsLost,
    QuestionsSpent,
    SitesChanged,
)
from p2pfl.errors.round import AnotherCohort, SumBeyondLimit, SumMissed
from p2pfl.errors.training import StudiesUnheard
from p2pfl.node import questions
from p2pfl.node.pending_change import EpochOver
from p2pfl.node.question_file import statistic_of
from p2pfl.node.question_terms import told_of
from p2pfl.node.runs.answers import Answer
from p2pfl.node.runs.cohort import Cohort
from p2pfl.node.runs.gone import GoneCounts, GoneRecords
from p2pfl.node.runs.patients import PatientCounts
from p2pfl.node.runs.question_counts import AskedOf, counted_in_logs, read_counts
from p2pfl.node.runs.question_noise import AnswerNoise, QuestionCharge, QuestionNoise, answer_noise, noise_of
from p2pfl.node.runs.site_tables import AskedRecords
from p2pfl.node.runs.statistics import Inquiry, Part
from p2pfl.node.runs.sums import Asked, SumRun, salt
from p2pfl.node.source import PATIENCE_S
from p2pfl.node.withdrawals import checked_list
from p2pfl.peer.attendance import Attendance
from p2pfl.peer.averages import Averages
from p2pfl.peer.epoch import sums_run, training_run
from p2pfl.statistics.noise import NoisedTotal
from p2pfl.statistics.question import Ask, Integers, OpenedSum, Statistic, StatisticResult, Steps
from p2pfl.training.records.column_map import MapFile, map_for

GivenMap = MapFile | str | os.PathLike[str]


@dataclass(frozen=True)
class StatisticAnswer:
    """A statistic over `survivors`, the same at every site.

    question   names it, in approvals and site logs
    rounds     the first and the last of its sums
    noise      what is in it, where the sites agreed on noise
    """

    question: bytes
    result: StatisticResult
    survivors: tuple[str, ...]
    rounds: tuple[int, int]
    noise: AnswerNoise | None = None

    def frames(self) -> tuple[Any, ...]:
        """The result's tables as pandas DataFrames, each with its title in `attrs["title"]`.

        Raises ImportError where pandas is not installed: nothing else here needs it.
        """
        import pandas

        found = []
        for table in self.result.tables():
            frame = pandas.DataFrame(list(table.rows), columns=list(table.header))
            frame.attrs["title"] = table.title
            found.append(frame)
        return tuple(found)


def _map_of(data: Any, given: GivenMap | None) -> MapFile | None:
    """The column map, read where it is a path, or lies beside the path of a CSV."""
    if isinstance(given, MapFile):
        return given
    beside = Path(data) if isinstance(data, (str, os.PathLike)) else None
    return map_for(beside, Path(given) if given is not None else None)


class _OtherSites(Exception):
    """A part of the question was void: its sites, `there`, are other ones than those of its roll call, `counted`."""

    def __init__(self, counted: tuple[str, ...], there: tuple[str, ...]) -> None:
        super().__init__()
        self.counted, self.there = counted, there


class Statistics(Averages):
    """A peer that asks questions of all sites' tables, with the others."""

    _last_roll_call: Answer | None = None  # the last answer to one, or to a consent: its call may have been left before

    async def stats(
        self,
        /,
        kind: str,
        data: Any,
        *,
        column_map: GivenMap | None = None,
        shows_own: bool = False,
        patience_s: float = PATIENCE_S,
        **parameters: Any,
    ) -> StatisticAnswer:
        """`ask`, with the question as `p2pfl stats KIND` takes it: columns by their names, the rest by name too.

            answer = await peer.stats("logistic", "records.csv", outcome="ill", positive=["yes"], covariates=["age"])
            answer.result.as_json(), answer.frames()

        Raises WrongQuestion, QuestionUnfit, and what `ask` raises.
        """
        statistic = statistic_of(told_of(kind, parameters), self.federation, "the question")
        return await self.ask(statistic, data, columns=column_map, shows_own=shows_own, patience_s=patience_s)

    async def ask(
        self,
        statistic: Statistic,
        data: Any,
        *,
        columns: GivenMap | None = None,
        shows_own: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> StatisticAnswer:
        """Ask a statistic of the tables of all sites; every site calls it with the same one.

        data      this site's records: the path of a CSV with the columns that peers.yaml describes, or a DataFrame
        columns   a column map, as a path; of a CSV the one beside it is taken, as `p2pfl stats` does
        shows_own   this site agrees that its own estimate is opened under its name (meta-analysis alone asks for that)
        All questions about the same records are over one set of sites. Records of which one has changed are new ones,
        and no program can tell: an answer before and one after tell the change; or roughly what a site put in, if it
        was away from one of them.
        Before anything leaves, the rules of peers.yaml are applied here (`statistics:`). Raises NoTableDescribed,
        ColumnNotAsked, QuestionTooLarge, QuestionNotApproved, QuestionsSpent, FewWithdrew, with noise NoiseUnbounded
        and PassWouldOverspend (each asking is charged), what reading a CSV raises, and what the statistic says of this
        site's table; then QuestionRefused, TooFewContribute, GroupTooSmall, SitesChanged, AnotherCohort,
        ConfigurationDiffers, GaveUpWaiting, SumLeftBehind, SumMissed; and what the sums do not give.
        """
        await self.forget_answer(self._given)
        mapped = await asyncio.to_thread(_map_of, data, columns)
        attendance = Attendance()
        while True:  # each time another site came or went, before anything of the data was summed
            inquiry = Inquiry.of(statistic, self.federation, self.node.clocks.draw, attendance.aside)
            inquiry.check()
            withdrawn = await asyncio.to_thread(checked_list, self.node.home, self.node.logs)
            records = await asyncio.to_thread(inquiry.read, data, mapped, shows_own, withdrawn)
            try:
                asking = await asyncio.to_thread(_Asking, self, inquiry, records, patience_s, attendance)
                return await asking.through()
            except (EpochOver, NoLongerListed) as ended:
                await self._next_epoch(ended)
                attendance = Attendance()
            except _OtherSites as other:
                attendance.changed(other.counted, other.there)


class _Asking:
    """One question, once through, at one site."""

    def __init__(
        self, peer: Statistics, inquiry: Inquiry, records: AskedRecords, patience_s: float, attendance: Attendance
    ) -> None:
        self.attendance, self.peer = attendance, peer
        self.node, self.inquiry, self.records, self.patience_s = peer.node, inquiry, records, patience_s
        federation, home = inquiry.federation, self.node.home
        how = questions.check(home, federation, inquiry.facts, inquiry.called)
        self.question = questions.digest_of(federation, inquiry.facts)
        questions.note(self.node.logs, self.question, inquiry.facts, how)
        most, source = federation.statistics.questions, federation.source
        least = federation.statistics.minimum_cell
        gone = records.gone if inquiry.noise is None else GoneRecords()  # noise covers who went: each asking is charged
        budget = AskedOf.of(home, inquiry.name, inquiry.statistic, records.counted, records.read, most, source).without(
            gone, least
        )
        self.budget = replace(budget, counted=counted_in_logs(home, self.node.logs))
        self.marks = inquiry.marks(home.query_key().reveal(), records, self.budget.marks)
        self.over: tuple[str, ...] = ()
        self.rounds: list[int] = []
        self.bound = False  # something that was made of the data is open: they are bound to these sites
        self.noised: list[NoisedTotal] = []
        self.noise, self.charge = inquiry.noise, None
        if self.noise is not None:
            self.draw, sums = noise_of(inquiry.draw), inquiry.statistic.cost().sums
            runs = training_run(federation), sums_run(federation)
            self.charge = QuestionCharge(self.noise, sums, federation, self.node.logs, *runs)

    async def through(self) -> StatisticAnswer:
        """Every part in turn. Raises _OtherSites where they changed before any of the data were summed."""
        await self._roll_call()
        place = 0 if self._is_left_out else self.over.index(self.node.name), len(self.over)
        gone = None if self._is_left_out else await asyncio.to_thread(self._count_question, *place)
        table = self.records.at(*place)
        steps = self.inquiry.statistic.steps(table)
        patients = await asyncio.to_thread(PatientCounts, self.inquiry.statistic, table)
        ask, number = await asyncio.to_thread(next, steps), 1
        while True:
            few = await asyncio.to_thread(gone.few) if gone is not None else None
            try:
                opened: OpenedSum | GroupTooSmall = await self._open(number, ask, patients.of(ask), few)
            except GroupTooSmall as refused:
                opened = refused
                await asyncio.to_thread(self.budget.count_refused)
            found = await asyncio.to_thread(_send, steps, opened)
            if isinstance(found, StatisticResult):
                noise = await asyncio.to_thread(self._noise)
                told, rounds = found.named(self.over), (self.rounds[0], self.rounds[-1])
                return StatisticAnswer(self.question, told, self.over, rounds, noise)
            await asyncio.to_thread(patients.follow, opened)
            if gone is not None:
                await asyncio.to_thread(gone.follow, opened)
            ask, number = found, number + 1

    @property
    def _is_left_out(self) -> bool:
        """The roll call went without this site, which came too late. It takes part in the next part all the same.

        That part is void then, and all begin anew with it; or that one goes without it too, and nothing of it is asked.
        """
        return bool(self.over) and self.node.name not in self.over

    async def _roll_call(self) -> None:
        """The roll call, and the consent of all whom it is over: nobody refuses alone, or goes silent by name.

        Why a site refuses is said to its own people; the others learn that somebody does. Raises QuestionRefused.
        """
        inquiry, spent = self.inquiry, await asyncio.to_thread(self._refusal)
        elsewhere = await asyncio.to_thread(self._bound_elsewhere, inquiry.every_site)
        roll_call = inquiry.roll_call(self.records, spent is not None, elsewhere is not None)
        answer = await self._part(roll_call, binds=False)
        raised = np.asarray(answer.totals[1], bool)
        self._read_refusal(bool(raised[0]), spent)
        inquiry.read_roll_call(np.asarray(answer.totals[0]), raised)
        self._count(answer.survivors)
        refuses = bool(raised[-1])
        if self.over != inquiry.every_site:
            elsewhere = None if self._is_left_out else await asyncio.to_thread(self._bound_elsewhere, self.over)
            asked = self.inquiry.consent(self.over, elsewhere is not None)
            refuses = bool(np.asarray((await self._part(asked, binds=False)).totals[0], bool)[0])
        self._read_refusal(refuses, elsewhere)

    def _read_refusal(self, refused: bool, why: P2PFLError | None) -> None:
        """Raises why this site refuses, where it does, else QuestionRefused, where another one does."""
        try:
            self.inquiry.read_refusal(refused)
        except QuestionRefused as others:
            raise why or others from None

    def _count_question(self, site: int, sites: int) -> GoneCounts:
        """Count the question, and say so in the site log, which is as long where it was counted before."""
        gone = self.budget.at(site, sites).count()
        questions.note_counted(self.node.logs, self.question, read_counts(self.node.home).number)
        return gone

    def _refusal(self) -> P2PFLError | None:
        """Why this site's rules refuse the question, whoever takes part. What few who went refuse is counted first."""
        try:
            self.budget.check()
            if self.charge is not None:
                self.charge.check()
        except FewWithdrew as error:
            self.budget.count_refused()
            return error
        except (QuestionsSpent, QuestionsLost, BudgetSpent, UnitsMixed, StudiesUnheard) as error:
            return error
        return None

    def _bound_elsewhere(self, over: tuple[str, ...]) -> AnotherCohort | None:
        """Why these data may not be summed over these sites."""
        cohort = Cohort(self.node.logs, sums_run(self.inquiry.federation), self.inquiry.called, self.marks)
        try:
            cohort.check(list(over))
        except AnotherCohort as error:
            return error
        return None

    def _count(self, there: tuple[str, ...]) -> None:
        """The roll call was over these. Raises SitesChanged where too few of them are counted, or this site is not."""
        self.over = self.attendance.called(there)
        self.inquiry = replace(self.inquiry, aside=self.attendance.aside)
        if self.attendance.is_over(self.node.name, self.over, self.inquiry.federation.roster.quorums.q):
            evidence = f"counted {', '.join(self.over) or 'nobody'}; came and went: {', '.join(self.attendance.aside)}"
            raise SitesChanged(evidence=evidence, query=self.inquiry.called)

    async def _open(self, number: int, ask: Ask, patients: Integers, few: FewWithdrew | None) -> OpenedSum:
        """The sum that the statistic asks for. Raises GroupTooSmall before it is opened, where it is exact.

        patients   of how many this site's counts are at least
        few        why this site refuses it: then all do, by a flag, and it raises this in place of QuestionRefused
        """
        inquiry, over = self.inquiry, self.over
        if self.noise is not None:
            return await self._open_noised(number, ask, self.noise)
        if ask.people.any():
            if few is not None:
                await asyncio.to_thread(self.budget.count_refused)
            guarded = await self._part(inquiry.guard(number, ask, over, patients, refuses=few is not None))
            *found, refused = np.asarray(guarded.totals[0], bool).tolist()
            self._read_refusal(refused, few)
            enough = np.array(found, np.bool_)
            if not enough.all():
                rest = await self._part(inquiry.anybody(number, ask, over, enough))
                if np.asarray(rest.totals[0], bool).any():
                    inquiry.refuse_small(ask, enough)
        return OpenedSum(np.asarray((await self._part(inquiry.sum(number, ask, over))).totals[0]), len(over))

    async def _open_noised(self, number: int, ask: Ask, agreed: QuestionNoise) -> OpenedSum:
        """The sum with noise on it. Nothing of it leaves before the whole question is charged."""
        noise = agreed.on(ask)
        values = await asyncio.to_thread(noise.added, ask, self.draw)
        charge = None if self._is_left_out else self.charge
        answer = await self._part(self.inquiry.noised_sum(number, ask, self.over, values), charge)
        self.noised.append(NoisedTotal(ask, noise, np.asarray(answer.totals[0], np.int64)))
        return self.noised[-1].opened(len(self.over))

    def _noise(self) -> AnswerNoise | None:
        """How much noise is in the answer."""
        if self.noise is None or self.charge is None:
            return None
        return answer_noise(self.noise, self.charge.epsilon, self.inquiry.statistic, self.noised, len(self.over))

    async def _part(self, part: Part, charge: QuestionCharge | None = None, *, binds: bool = True) -> Answer:
        """One round, charged before where it has noise. Raises _OtherSites when its sites are not the roll call's.

        The first part that `binds` binds the data to those sites. Once it is final that stands, for the parts behind it
        too: they are over the same sites, or void.
        """
        node, run = self.node, sums_run(self.inquiry.federation)
        least, marks = self.inquiry.federation.minimum.sites, self.marks if binds and not self.bound else ()
        said = b"" if binds else await asyncio.to_thread(lambda: part.said)
        asked = Asked(self.inquiry.called, marks, least, self.over, called=said, of=part.of, aside=self.inquiry.aside)
        if charge is not None:
            asked = replace(asked, charge=partial(charge.charge, node.observer), leaves=charge.leaves)
        source = SumRun(asked, part.parts, node.logs, run, salt(node.clocks.draw), self._keep)
        source.patience_s = self.patience_s
        before = node.logs.count(run)
        while source.answer is None:
            await node.run(run, source, node.logs.count(run) + 1)
            if source.answer is None and source.missed(before):
                source.answer = self._kept(said, before)
        answer, source.answer = source.answer, None
        if self.over and answer.survivors != self.over:
            if self.bound:  # more than the roll call is open
                evidence = f"begun over {', '.join(self.over)}; now {', '.join(answer.survivors)}"
                raise SitesChanged(evidence=evidence, query=self.inquiry.called)
            raise _OtherSites(self.over, answer.survivors)
        if self._is_left_out:
            evidence = f"begun over {', '.join(self.over)}; this site came too late, and the others go on"
            raise SitesChanged(evidence=evidence, query=self.inquiry.called)
        if not answer.sums:
            raise SumBeyondLimit(round=answer.round, evidence=f"{len(answer.survivors)} sites")
        self.rounds.append(answer.round)
        self.bound = self.bound or binds
        return answer

    def _keep(self, answer: Answer) -> None:
        if answer.asked:
            self.peer._last_roll_call = answer

    def _kept(self, said: bytes, before: int) -> Answer:
        """The answer to a call before this one, which its caller left in mid-round and which had put the same in.

        said     what this call would put in; empty where it binds the data, and is no matter of another call
        before   rounds that were final when this call asked
        Raises SumMissed.
        """
        run, logs, kept = sums_run(self.inquiry.federation), self.node.logs, self.peer._last_roll_call
        rounds = [record["round"] for record in logs.rounds(run)[before:]]
        if not said or kept is None or kept.asked != said or kept.round not in rounds:
            raise SumMissed(evidence=f"the ledger holds it, up to round {logs.final_round(run)}")
        return kept


def _send(steps: Steps, opened: OpenedSum | GroupTooSmall) -> Ask | StatisticResult:
    """The next sum, or what came out. Raises what the statistic does, GroupTooSmall where it can do nothing without."""
    try:
        return steps.throw(opened) if isinstance(opened, GroupTooSmall) else steps.send(opened)
    except StopIteration as ended:
        result: StatisticResult = ended.value
        return result
