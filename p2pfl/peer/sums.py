"""Sums and means of every site's numbers: `Peer.sum`, `Peer.mean`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final

import numpy as np

from p2pfl.errors.membership import NoLongerListed
from p2pfl.errors.round import SitesWentAway, SumBeyondLimit, SumMissed, TooFewContribute
from p2pfl.errors.sharing import NothingToAverage
from p2pfl.federation import Federation
from p2pfl.node.node import Node
from p2pfl.node.pending_change import EpochOver
from p2pfl.node.progress import Observer
from p2pfl.node.runs import answers
from p2pfl.node.runs.answers import Answer, name_of
from p2pfl.node.runs.cohort import mark_of
from p2pfl.node.runs.question_noise import aside_fact, over_facts
from p2pfl.node.runs.results import SumResult
from p2pfl.node.runs.sums import Asked, Encoded, SumRun, encode, flags, salt, too_few
from p2pfl.node.source import PATIENCE_S
from p2pfl.peer.attendance import Attendance
from p2pfl.peer.epoch import InEpoch, sums_run, training_run

WEIGHT_DECIMALS: Final = 6


class Sums(InEpoch):
    """A peer that adds up with the others."""

    def __init__(self, node: Node, make: Callable[[Federation], Node], watchers: list[Observer] | None = None) -> None:
        super().__init__(node, make, watchers)
        self._given = False  # its caller has a sum of it

    async def sum(
        self,
        vector: Any,
        *,
        limit: float | Decimal | None = None,
        decimals: int | None = None,
        name: str = "sum",
        data: Any = None,
        records: int | None = None,
        patience_s: float = PATIENCE_S,
    ) -> SumResult:
        """The sum of every site's vector, of which no site learns another's.

        vector    numpy (m,) or torch tensor: integers are summed exactly, floats need `limit`;
                  with `decimals`, any sequence of numbers: the exact sum, as Decimals. Not copied: leave it as it is
                  until the sum is there
        limit     largest absolute value that any site's vector may hold; equal at all sites
        name      what this sum is called; equal at all sites
        data      the numbers of which the vector was computed, where it is not the data itself
        records   how many records of this site are in the vector, maybe none: then a round of its own counts sites,
                  and nothing else is opened of fewer than `minimum` in peers.yaml asks for, or where none alone has
                  as many records
        patience_s  seconds that a missing site is waited for, if more sites than liars are tolerated ask for it
        The same data are summed over one set of sites only, under whichever name, order, rounding or statistic of
        them: two sums over sets that differ by a site are that site's value. Data of which one number has changed
        since are new data, and no program can tell: a sum before and one after tell the change; or roughly a site's
        value, if it was away from one of them.
        A sum that was final when its process died is given to the same call of the next one, without a round (`kept`).
        Raises LimitMissing, ValueOverLimit, ConfigurationDiffers, GaveUpWaiting, AnotherCohort; SumLeftBehind when its
        round is left behind, SumMissed when the others finished it while this site was away, SumBeyondLimit when more
        was put in than the limit allows; TooFewContribute, SitesWentAway; AnswerLost, once, when what `kept` would give
        is lost.
        """
        given = [vector if data is None else data]

        def parts() -> list[Encoded]:
            return [self._encode(vector, limit, decimals)]

        await self.forget_answer(self._given)
        called = await self._call(("sum", name, limit, decimals, records), [vector])
        asked = Asked(name, (), 0, called=called)
        found, was_kept = await self._kept_or_summed(asked, records, parts, given, patience_s)
        sites = found.sites or len(found.survivors)
        return SumResult(found.totals[0], found.survivors, found.round, sites, was_kept)

    async def _kept_or_summed(
        self,
        asked: Asked,
        records: int | None,
        parts: Callable[[], Sequence[Encoded]],
        data: Sequence[Any],
        patience_s: float,
    ) -> tuple[Answer, bool]:
        """The answer; and whether the home kept it, which an earlier process had of the same call, and never told.

        records   this site's, in a sum that sites are counted for; else None
        """
        kept = await asyncio.to_thread(answers.kept, self.node.home, self.logs, asked.called)
        if records is None or kept is not None:
            return await self._sum(asked, parts, data, patience_s), kept is not None
        await asyncio.to_thread(parts)  # what is wrong with the numbers is said before anybody counts for them
        return await self._counted(asked, records, parts, data, patience_s), False

    async def _counted(
        self,
        asked: Asked,
        records: int,
        parts: Callable[[], Sequence[Encoded]],
        data: Sequence[Any],
        patience_s: float,
    ) -> Answer:
        """The sum over the sites that were counted for it; where one came or went since, they are counted anew.

        Raises SitesWentAway where too few of them are left, or they go on without this one.
        """
        attendance = Attendance()
        while True:
            sites, there = await self._count(asked.name, records, patience_s, attendance.aside)
            only = attendance.called(there)
            if attendance.is_over(self.name, only, self.federation.roster.quorums.q):
                raise _went_away(asked.name, only, there)
            of = {"counted": over_facts(only, attendance.aside)}
            over_them = replace(asked, only=only, sites=sites, of=of, aside=attendance.aside)
            found = await self._sum(over_them, parts, data, patience_s)
            if found.survivors == only:
                if self.name not in only:
                    raise _went_away(asked.name, only, found.survivors)
                return found
            attendance.changed(only, found.survivors)
            await self.forget_answer()  # how many they were: they are counted again

    async def _count(
        self, name: str, records: int, patience_s: float, aside: tuple[str, ...]
    ) -> tuple[int, tuple[str, ...]]:
        """How many sites have values, and the members of the sum that told. Raises TooFewContribute.

        Records are not counted: one flag says whether some site alone has `minimum` of them, as in a question. Of two
        counts over sets that differ by a site, as when one falls silent between, neither tells how many it has.
        """
        least = self.federation.minimum.records
        mine = [int(records > 0), int(records >= least)]
        called, of = await self._call(("count", name), [mine]), {"counted": aside_fact(aside)} if aside else {}
        asked = Asked(f"{name}: who has values", (), 0, called=called, of=of, aside=aside)
        enough = np.array([records >= least])

        def parts() -> list[Encoded]:
            return [self._encode(mine[:1], None, 0), flags(enough, self.node.clocks.draw)]

        found = await self._sum(asked, parts, [], patience_s)
        sites = int(found.totals[0][0])
        if sites < (wanted := self.federation.minimum.sites):
            raise too_few(name, sites, wanted)
        if not found.totals[1][0]:
            evidence = "one flag, in which all sites' answers are one"
            what = "no site alone has so many records with a value"
            raise TooFewContribute(query=name, what=what, least=least, evidence=evidence)
        return sites, found.survivors

    async def mean(
        self,
        vector: Any,
        *,
        weight: float | int | Decimal = 1,
        limit: float | Decimal | None = None,
        decimals: int | None = None,
        name: str = "mean",
    ) -> Any:
        """Σ weight·vector / Σ weight over all sites: float64 (m,), or Decimals with `decimals`. Weights stay secret.

        limit     bounds |weight · vector| at each site
        weight    counts to six decimals. A site that has no value says 0: how many have one is counted first, in a
                  round of its own, and of fewer than `minimum.sites` nothing else is opened
        Raises NothingToAverage when all weights together are not above 0, and what `sum` raises.
        """
        given_vector = vector
        if decimals is not None:
            vector = [Decimal(str(value)) * Decimal(str(weight)) for value in vector]
        else:
            array = np.asarray(vector.detach().cpu() if hasattr(vector, "detach") else vector).reshape(-1)
            vector = array.astype(np.float64) * float(weight)

        def parts() -> list[Encoded]:
            return [self._encode(vector, limit, decimals), self._encode([weight], None, WEIGHT_DECIMALS)]

        given = [given_vector, None if weight == 1 else [weight]]
        await self.forget_answer(self._given)
        called = await self._call(("mean", name, limit, decimals), [given_vector, [weight]])
        # A weight is no number of records: whoever has one has enough of them.
        records = self.federation.minimum.records if round(float(weight), WEIGHT_DECIMALS) else 0
        asked = Asked(name, (), 0, called=called)
        found, _ = await self._kept_or_summed(asked, records, parts, given, PATIENCE_S)
        totals, weights = found.totals
        divisor = weights[0]
        if not divisor > 0:  # a site may put in a weight as it likes
            raise NothingToAverage(evidence=f"the weights of all sites are {divisor} together")
        if isinstance(totals, tuple):
            return tuple(total / divisor for total in totals)
        return totals / float(divisor)

    def _encode(self, vector: Any, limit: float | Decimal | None, decimals: int | None) -> Encoded:
        peers, bits = len(self.federation.roster.members), max(self.federation.sharing.field, 31)
        return encode(vector, peers=peers, bits=bits, limit=limit, decimals=decimals, draw=self.node.clocks.draw)

    async def _call(self, terms: Sequence[Any], values: Sequence[Any]) -> bytes:
        key, of = self.node.home.query_key().reveal(), training_run(self.federation)
        return await asyncio.to_thread(name_of, key, of, terms, values)

    async def forget_answer(self, given: bool = True) -> None:
        """The caller has what this process gave it: the home keeps that no longer. The next call says so by itself."""
        if given:
            await asyncio.to_thread(answers.forget, self.node.home)

    def keep_answer(self) -> None:
        """Nobody got what the caller was given: the home keeps it, and tells it to the next call of the same."""
        self._given = False

    async def _sum(
        self,
        asked: Asked,
        parts: Callable[[], Sequence[Encoded]],
        data: Sequence[Any],
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """`parts` are made anew in each epoch: how large a number may be follows from how many sites there are.

        data   what is bound to the sites of the sum; for None a mark is drawn, that binds nothing: all note as many
        """
        key = self.node.home.query_key().reveal()
        draw = self.node.clocks.draw
        marks = tuple([draw(32) if one is None else await asyncio.to_thread(mark_of, key, one) for one in data])
        while True:
            whole = replace(asked, marks=marks, least=self.federation.minimum.sites)
            try:
                return await self._sum_in(self.node, whole, parts, patience_s)
            except (EpochOver, NoLongerListed) as ended:
                await self._next_epoch(ended)

    async def _sum_in(
        self, node: Node, asked: Asked, parts: Callable[[], Sequence[Encoded]], patience_s: float
    ) -> Answer:
        run = sums_run(self.federation)
        encoded = await asyncio.to_thread(parts)  # of 10⁷ numbers it takes longer than an event loop may stand
        source = SumRun(asked, encoded, node.logs, run, salt(node.clocks.draw), partial(answers.keep, node.home))
        source.patience_s = patience_s
        before = node.logs.count(run)
        kept = partial(answers.kept, node.home, node.logs, asked.called)
        found = await asyncio.to_thread(kept)
        if found is not None:
            await node.run(run, source, before)  # begins nothing: a peer may still lack the round
        while found is None:  # what came in instead is of another question, that this site was away for
            await node.run(run, source, node.logs.count(run) + 1)
            found = source.answer
            if found is None and source.missed(before) and (found := await asyncio.to_thread(kept)) is None:
                raise SumMissed(evidence=f"the ledger holds it, up to round {node.logs.final_round(run)}")
        source.answer, self._given = None, True  # the node goes on serving the round, and needs no numbers for it
        is_void = bool(asked.only) and found.survivors != asked.only
        if not found.sums and not is_void:
            evidence = f"{len(found.survivors)} sites: {', '.join(found.survivors)}"
            raise SumBeyondLimit(round=found.round, evidence=evidence)
        await asyncio.to_thread(lambda: found.totals)  # these take as long
        return found


def _went_away(query: str, counted: Sequence[str], there: Sequence[str]) -> SitesWentAway:
    return SitesWentAway(query=query, evidence=f"counted {', '.join(counted) or 'nobody'}; now {', '.join(there)}")
