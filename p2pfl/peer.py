"""Peer: one site of a federation, from Python. `sum` and `mean` need nothing else of the library; `train` brings torch.

    async with Peer.join("peers.yaml", home="…") as peer:
        result = await peer.sum(vector, limit=8.0)
        result.total, result.survivors, result.round

Every site calls the same methods in the same order. The blocking twin is `Peer.join_blocking`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from p2pfl.clocks import SYSTEM
from p2pfl.errors.membership import NoLongerListed
from p2pfl.errors.round import SumBeyondLimit, SumMissed
from p2pfl.errors.sharing import NothingToAverage
from p2pfl.federation import Federation
from p2pfl.federation.agreement import assent
from p2pfl.federation.membership import run_of
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile, KeySource
from p2pfl.mesh.events import LinkStatus, TlsFacts
from p2pfl.mesh.proxy import Proxy
from p2pfl.mesh.relay import Carried
from p2pfl.node.epochs import enter, leap
from p2pfl.node.link_status import shown
from p2pfl.node.logs import Logs
from p2pfl.node.node import Node
from p2pfl.node.options import NodeOptions
from p2pfl.node.pending_change import EpochOver
from p2pfl.node.progress import EpochBegan, Observer, unseen
from p2pfl.node.runs import answers, fairness
from p2pfl.node.runs.answers import Answer, name_of
from p2pfl.node.runs.cohort import mark_of
from p2pfl.node.runs.metric import metrics_of
from p2pfl.node.runs.results import SumResult, TrainResult
from p2pfl.node.runs.sums import Asked, Encoded, SumRun, encode, salt, too_few
from p2pfl.node.runs.training import TrainingRun, Trains
from p2pfl.node.source import PATIENCE_S
from p2pfl.roster import Address

T = TypeVar("T")
WEIGHT_DECIMALS: Final = 6


def training_run(federation: Federation) -> bytes:
    """Names the training that peers.yaml agrees on; it goes on through changes of membership."""
    return run_of(federation.first, federation.digest, "training")


def sums_run(federation: Federation) -> bytes:
    """Names the sequence of sums under a peers.yaml: each epoch has its own."""
    return run_of(federation.first, federation.digest, "sums")


class Peer:
    """A site that has joined: its links are up or being dialled. Made by `join`.

    node   of the epoch that it is: when membership changes, `make` gives the one that goes on
    """

    def __init__(self, node: Node, make: Callable[[Federation], Node]) -> None:
        self.node, self._make = node, make
        self.name = node.name
        self._given = False  # its caller has a sum of it

    @property
    def federation(self) -> Federation:
        """The peers.yaml of the current epoch, read."""
        return self.node.federation

    @classmethod
    @contextlib.asynccontextmanager
    async def join(
        cls,
        peers: str | Path | Federation,
        *,
        home: str | Path | None = None,
        listen: str | Address | None = None,
        unlock: Sequence[KeySource] = (KeyFile(),),
        observer: Observer = unseen,
        wait_s: float | None = None,
        linger_s: float = 60.0,
        proxy: Proxy | None = None,
        agreement: str | Path | None = None,
    ) -> AsyncIterator[Peer]:
        """Open the home, its port and its links; leave cleanly at the end of the block.

        home      default: $P2PFL_HOME, else ~/.p2pfl
        listen    where to bind; default: the first address of this site in peers.yaml, or nowhere without one
        wait_s    seconds without progress after which to give up (GaveUpWaiting); None waits for ever
        linger_s  most seconds to serve sites that lack the last round, at the end of the block
        proxy     the HTTP proxy that outgoing connections pass; default: $P2PFL_PROXY with $NO_PROXY, else none
        agreement  the business associate agreement as this site holds it; needed at the first start, where peers.yaml
                  names one, since that start signs it
        Raises what opening a home or a port raises: HomeMissing, HomeBusy, KeyDoesNotOpen, PortBusy, OtherFederation, …
        """
        federation = peers if isinstance(peers, Federation) else Federation.load(peers)
        place = Path(home or os.environ.get("P2PFL_HOME") or "~/.p2pfl").expanduser()
        with Home.open(place, unlock=list(unlock)) as opened:
            out = proxy or Proxy.from_environment(os.environ)

            def make(given: Federation) -> Node:
                agreed = enter(opened, given)
                options = NodeOptions(_listen(agreed, opened.name, listen), wait_s, out)
                return Node(opened, agreed, options, observer, SYSTEM)

            peer = cls(make(federation), make)
            try:
                begun = len(peer.node.logs.federation) > 0  # who joins later has signed the change
                assent(
                    peer.federation.agreement,
                    Path(agreement) if agreement else None,
                    source=peer.federation.source,
                    signed=begun or bool(peer.federation.genesis),
                )
                await peer.node.start()
                async with shown(opened, peer.links, SYSTEM):
                    yield peer
                    await peer.forget_answer(peer._given)
                    await peer.node.close(linger_s)
            finally:
                await asyncio.shield(peer.node.abort())

    @classmethod
    @contextlib.contextmanager
    def join_blocking(cls, peers: str | Path | Federation, **options: Any) -> Iterator[BlockingPeer]:
        """`join` for code that is not async: the same methods, each returning its result. Options as for `join`."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="p2pfl", daemon=True)
        thread.start()
        try:
            joined = cls.join(peers, **options)
            peer = _in(loop, joined.__aenter__())
            try:
                yield BlockingPeer(peer, loop)
            except BaseException as error:
                if not _in(loop, joined.__aexit__(type(error), error, error.__traceback__)):
                    raise
            else:
                _in(loop, joined.__aexit__(None, None, None))
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

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
                  with `decimals`, any sequence of numbers: the exact sum, as Decimals
        limit     largest absolute value that any site's vector may hold; equal at all sites
        name      what this sum is called; equal at all sites
        data      the numbers of which the vector was computed, where it is not the data itself
        records   how many records of this site are in the vector, maybe none: then a round of its own counts sites and
                  records first, and nothing else is opened of fewer than `minimum` in peers.yaml asks for
        patience_s  seconds that a missing site is waited for, if more sites than liars are tolerated ask for it
        The same data are summed over one set of sites only, under whichever name, order, rounding or statistic of
        them: two sums over sets that differ by a site are that site's value. Data of which one number has changed
        since are new data, and nothing here can tell: a sum before and one after that change tell the change.
        A sum that was final when its process died is given to the same call of the next one, without a round (`kept`).
        Raises LimitMissing, ValueOverLimit, ConfigurationDiffers, GaveUpWaiting, AnotherCohort; SumLeftBehind when its
        round is left behind, SumMissed when the others finished it while this site was away, SumBeyondLimit when more
        was put in than the limit allows; TooFewContribute, SitesWentAway.
        """
        given = [vector if data is None else data]

        def parts() -> list[Encoded]:
            return [self._encode(vector, limit, decimals)]

        await self.forget_answer(self._given)
        called = await self._call(("sum", name, limit, decimals, records), [vector])
        kept = await asyncio.to_thread(answers.kept, self.node.home, self.logs, called)
        sites, only = 0, tuple[str, ...]()
        if records is not None and kept is None:
            sites, only = await self._count(name, records, patience_s)
        found = await self._sum(Asked(name, (), 0, only, sites, called), parts, given, patience_s)
        sites = found.sites or len(found.survivors)
        return SumResult(found.totals[0], found.survivors, found.round, sites, kept is not None)

    async def _count(self, name: str, records: int, patience_s: float) -> tuple[int, tuple[str, ...]]:
        """How many sites have values, and the members of the sum that told. Raises TooFewContribute."""
        mine = [int(records > 0), records]
        asked = Asked(f"{name}: who has values", (), 0, called=await self._call(("count", name), [mine]))
        found = await self._sum(asked, lambda: [self._encode(mine, None, 0)], [], patience_s)
        sites, total = (int(number) for number in found.totals[0])
        minimum = self.federation.minimum
        if sites < minimum.sites:
            raise too_few(name, "sites", sites, minimum.sites)
        if total < minimum.records:
            raise too_few(name, "records", total, minimum.records)
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
        weight    counts to six decimals
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

        given = [given_vector] if weight == 1 else [given_vector, [weight]]
        await self.forget_answer(self._given)
        called = await self._call(("mean", name, limit, decimals), [given_vector, [weight]])
        totals, weights = (await self._sum(Asked(name, (), 0, called=called), parts, given)).totals
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

    async def _sum(
        self,
        asked: Asked,
        parts: Callable[[], Sequence[Encoded]],
        data: Sequence[Any],
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """`parts` are made anew in each epoch: how large a number may be follows from how many sites there are."""
        key = self.node.home.query_key().reveal()
        marks = tuple([await asyncio.to_thread(mark_of, key, one) for one in data])
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
        source = SumRun(asked, parts(), node.logs, run, salt(node.clocks.draw), partial(answers.keep, node.home))
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
        if not found.totals:
            evidence = f"{len(found.survivors)} sites: {', '.join(found.survivors)}"
            raise SumBeyondLimit(round=found.round, evidence=evidence)
        return found

    async def train(
        self, trainer: Trains, *, task: str = "task", rounds: int | None = None, go_on: bool = False
    ) -> TrainResult:
        """Train to the end of the federation's rounds, or go on where this home stopped; returns the final model.

        trainer   p2pfl.training.local.Trainer, or anything with its methods
        go_on     somebody has looked why this site was left out of more than one round in ten; noted in the site log
        Raises PassWouldOverspend when the budget does not allow the next pass, LeftOutTooOften, GaveUpWaiting, and what
        a round raises.
        """
        run, delta = training_run(self.federation), self.federation.privacy.delta
        if go_on:
            await asyncio.to_thread(fairness.looked, self.node.logs, run)
        while True:
            node = self.node
            draw = node.inbox.draw_bound
            source = await asyncio.to_thread(
                TrainingRun, self.federation, node.home, node.logs, run, trainer, task, draw, node.observer
            )
            node.epsilon = await asyncio.to_thread(source.passes.spent)
            try:
                await node.run(run, source, rounds or self.federation.rounds + 1)
                break
            except (EpochOver, NoLongerListed) as ended:
                source.stop()
                await self._next_epoch(ended)
            finally:
                source.stop()
        records = node.logs.rounds(run)
        metrics, epsilon = metrics_of(records), source.account.epsilon(delta)
        return TrainResult(self.federation.rounds, source.model, metrics, epsilon, delta, records)

    async def _next_epoch(self, ended: Exception) -> None:
        """Leave the node of an epoch that has ended, links and all, for that of the next.

        Raises what `enter` raises: NotAMember when this site is not in it; NoLongerListed when no change explains that.
        """
        before = self.node
        await before.part()
        await before.abort()
        if isinstance(ended, NoLongerListed) and not await asyncio.to_thread(leap, before.home, before.federation):
            raise ended
        self.node = await asyncio.to_thread(self._make, before.federation)
        roster = self.federation.roster
        self.node.observer(EpochBegan(roster.epoch, roster.names, roster))
        await self.node.start()

    @property
    def logs(self) -> Logs:
        """This home's two logs."""
        return self.node.logs

    @property
    def tls(self) -> TlsFacts | None:
        """What the latest link's TLS session runs on; None before the first link."""
        return self.node.tls

    def links(self) -> dict[str, LinkStatus]:
        """Every link, by peer."""
        return self.node.mesh.links()

    def carried(self) -> Carried:
        """What this site has relayed for others."""
        return self.node.mesh.relay_server.carried


class BlockingPeer:
    """Peer for code that is not async."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self._peer, self._loop = peer, loop

    def sum(self, vector: Any, **options: Any) -> SumResult:
        """As Peer.sum."""
        return _in(self._loop, self._peer.sum(vector, **options))

    def mean(self, vector: Any, **options: Any) -> Any:
        """As Peer.mean."""
        return _in(self._loop, self._peer.mean(vector, **options))

    def train(self, trainer: Trains, **options: Any) -> TrainResult:
        """As Peer.train."""
        return _in(self._loop, self._peer.train(trainer, **options))


def _in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def _listen(federation: Federation, name: str, listen: str | Address | None) -> Address | None:
    """Where to bind: as asked, else on this site's first own address."""
    if isinstance(listen, Address):
        return listen
    if listen is not None:
        return Address.parse(listen)
    addresses = federation.roster[name].addresses if name in federation.roster else ()
    return addresses[0] if addresses else None
