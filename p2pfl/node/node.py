"""The place where the rooms meet: hands events to the rounds, and begins one round after another. No protocol here.

One task, the loop of `_drive`, hands events in and lets effects.py do what they lead to, strictly in order; whatever
blocks runs in a worker thread while the loop waits for it, so links and heartbeats go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

from p2pfl import codec, messages
from p2pfl._version import __version__
from p2pfl.clocks import Clocks
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import GaveUpWaiting, RunUnderWay
from p2pfl.federation import Federation
from p2pfl.federation.membership import Change
from p2pfl.home import Home
from p2pfl.mesh.events import TlsFacts
from p2pfl.mesh.mesh import Mesh
from p2pfl.mesh.probe.wire import About
from p2pfl.mesh.proxy import Proxy
from p2pfl.mesh.site import LocalSite
from p2pfl.messages import Changed
from p2pfl.node.catchup import HISTORY, CatchUp
from p2pfl.node.effects import EffectRunner, Outbox
from p2pfl.node.hello import PEERS_ITEM, Greetings, Standing
from p2pfl.node.inbox import Breach, Inbox, LocalEvent, UnknownRuns, Waiting
from p2pfl.node.logs import Logs, pledge_of
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.progress import NO_PORT, Listening, Observer
from p2pfl.node.runs.sizes import check_support, sum_bytes
from p2pfl.node.source import ActiveRun, Source
from p2pfl.roster import Address
from p2pfl.sharing import events as e
from p2pfl.sharing.catchup import begins_next, epoch_ends
from p2pfl.sharing.run import Run
from p2pfl.sharing.snapshot import place_of
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, ITEMS, LEFT_ITEMS, SUMS_ITEMS, Context, Phase

BATCH: Final = 32  # letters of bulk that are taken in one step
RUN_BYTES: Final = 64  # a run, packed, before what this home keeps of it
ANY_ATTEMPT: Final = (1 << 53) - 1


class Node:
    """One site's process. Use: start, run any number of runs one after another, close."""

    def __init__(
        self,
        home: Home,
        federation: Federation,
        listen: Address | None,
        observer: Observer,
        clocks: Clocks,
        wait_s: float | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.home, self.federation, self.clocks = home, federation, clocks
        self.observer, self._listen_on = observer, listen
        self.name, self.identity = home.name, home.identity()
        self.incarnation = clocks.draw(16)
        self.epsilon = ""
        pledge, roster = pledge_of(federation), federation.roster
        self.logs = Logs(home, self.identity, pledge, clocks.wall)
        self._begun = self._begun_before()
        self.greetings = Greetings(
            self.identity, self.name, roster, self.incarnation, federation.digest, pledge, self._standing
        )
        site = LocalSite.of(self.identity, self.name, roster, clocks, proxy=proxy)
        about = About(__version__, federation.raw)
        self.mesh = Mesh(site, self.greetings, about, listen=listen, incarnation=self.incarnation, hub=federation.hub)
        self.inbox = Inbox(self.mesh, self.greetings, roster, clocks, observer, wait_s)
        self.greetings.fatal = self.inbox.fail
        self.changes = PendingChange(home, self.logs, federation, self.greetings, observer)
        self.inbox.listed_before = lambda: self.logs.in_an_epoch
        self._runs: dict[bytes, ActiveRun] = {}
        self.effects = EffectRunner(home, self.logs, self.mesh, self.inbox, self.greetings, clocks, observer)
        self.catch_up = CatchUp(self.effects, federation, self.identity, self.name, self.incarnation, self._runs)
        self.effects.behind, self.changes.say = self.catch_up.ask_on_sending, self.catch_up.say_to_all
        self._tasks: set[asyncio.Task[Any]] = set()
        self._foreign = UnknownRuns()
        self._latest: ActiveRun | None = None
        self.stopping = False  # nothing new is begun
        self._moved = asyncio.Event()

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _begun_before(self) -> dict[bytes, tuple[int, int]]:
        """By run, the highest (round, attempt) that this home has begun."""
        begun = {run_id: (number, ANY_ATTEMPT) for run_id, number in self.logs.final_rounds().items()}
        for item in (ATTEMPT_ITEM, *(attempt for attempt, _ in LEFT_ITEMS)):
            left = self.home.read(item)
            if left is not None:
                run_id, snapshot = codec.split_tail(left, most=RUN_BYTES, items=0)
                begun[run_id] = max(place_of(snapshot), begun.get(run_id, (0, 0)))
        return begun

    async def start(self) -> None:
        """Open the port, dial everyone, and begin to listen. Raises what Mesh.start raises."""
        heard = self.home.read(PEERS_ITEM)
        if heard:
            self.greetings.remember(heard)
        await self.mesh.start()
        await asyncio.to_thread(self.logs.started, self.incarnation)
        self.observer(Listening(str(self._listen_on) if self._listen_on else NO_PORT))
        self._spawn(self.inbox.listen())
        for peer in self.federation.roster.names:
            if peer != self.name:
                self.effects.queues[peer] = Outbox()
                self._spawn(self.effects.post(peer))
        self._spawn(self.changes.watch(self.mesh.cut))

    async def close(self, linger_s: float = 60.0) -> None:
        """Serve peers that lack the last round, at most `linger_s`; then end cleanly."""
        with contextlib.suppress(TimeoutError, GaveUpWaiting):  # this site has its result: it only waited to serve
            async with asyncio.timeout(linger_s):
                await self._linger()
        await self.abort()

    async def wind_down(self) -> None:
        """Begin nothing new; return when no round here is under a certificate and what was said is with the mesh.

        Under a certificate the others may need this site's seed and its word; before one they go on without it.
        """
        self.stopping = True
        while self._certified:
            self._moved.clear()
            await self._moved.wait()
        links = self.mesh.links()
        await asyncio.gather(
            *(queue.join() for peer, queue in self.effects.queues.items() if links[peer].state == "up")
        )

    @property
    def _certified(self) -> bool:
        runs = [each.run for each in self._runs.values()]
        return any(run.held for run in runs) or any(
            run.current is not None and run.current.phase in (Phase.UNMASK, Phase.CONFIRM) for run in runs
        )

    async def abort(self) -> None:
        """End now. What is on the disk is whole at every moment, so nothing is lost."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.mesh.stop()
        with contextlib.suppress(P2PFLError):  # what ends this node is told already, and matters more
            self.logs.close()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.inbox.fail(error)

    # ── a run ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, run_id: bytes, source: Source, rounds: int) -> None:
        """Go on with `run` until so many of its rounds are final here. Returns at once when they are.

        Raises EpochOver when this node's epoch has ended before that; and whatever ends it: an error that names a
        peer, this machine, the budget, or the integrity of the home;
        and what `source.left` raises when a round is left behind.
        """
        left = self._left_on_disk(run_id, source)
        known = self._runs.get(run_id)
        # The run of an earlier call holds what came early for the next round, and who confirmed the last.
        run = known.run if known is not None else self._make_run(run_id)
        active = ActiveRun(run, source, rounds, older=known.older if known is not None else {})
        self._runs[run_id] = self._latest = active
        await (self._genesis() if self.federation.roster.epoch == 1 else self._reach(active))
        await self.effects.carry_out(active, run.resume(left))
        if active.models is not None and active.models.lacking:
            active.lacking = True
            self.catch_up.ask_model(active.models.lacking)
        for letter in self._foreign.take(run_id):
            await self._feed(active, e.Received(self.clocks.now(), letter))
        for peer in sorted(self.catch_up.up):
            self.catch_up.ask(peer)
        while self.logs.count(run_id) < rounds:
            self.changes.check_over()
            await self._begin(active)
            await self._drive(active)
            self._moved.set()

    def _make_run(self, run_id: bytes) -> Run:
        setting = Context(
            run_id, self.federation.roster, self.name, self.identity, self.incarnation, self.federation.digest,
            self.inbox.draw_bound, self.logs.spent, self.federation.sharing.verify, self.federation.hub, sum_bytes,
            check_support,
        )  # fmt: skip
        run = Run(setting, self.logs.final_round(run_id), self.logs.base(run_id), self.clocks.now())
        run.others.parted = self.changes.parted
        run.recall(self.effects.proofs())
        for peer in self.catch_up.up:
            run.others.came(peer, self.clocks.now())
        return run

    def _left_on_disk(self, run_id: bytes, source: Source) -> dict[str, bytes | None]:
        """What a process before this one left of `run`. Raises RunUnderWay when another run would be overwritten."""
        known = self._runs.get(run_id)
        resumed = known is not None and known.rounds > 0  # else it was only served here
        items: tuple[str, ...] = (ATTEMPT_ITEM,) if resumed else ITEMS
        found: dict[bytes, dict[str, bytes | None]] = {}
        for item in items:
            data = self.home.read(item)
            if data is not None:
                of, inner = codec.split_tail(data, most=RUN_BYTES, items=0)
                found.setdefault(of, {})[item] = bytes(inner)
        for of, held in found.items():
            attempt = held.get(ATTEMPT_ITEM)
            if of == run_id:
                continue
            if attempt is not None and place_of(attempt)[0] > self.logs.final_round(of):
                raise RunUnderWay(what="run", evidence=f"run {of.hex()[:16]}, not {run_id.hex()[:16]}")
            if FINAL_ITEM in held and of not in self._runs:
                # A peer may still lack the last round of that run. It is served; no round of it begins here.
                served = self._make_run(of)
                served.resume({item: data for item, data in held.items() if item != ATTEMPT_ITEM})
                self._runs[of] = ActiveRun(served, source, 0)
        return {} if resumed else found.get(run_id, {})

    async def _genesis(self) -> None:
        """Wait until every site has signed the genesis: nothing is trained or summed before."""
        names = dict.fromkeys(self.federation.roster.names)
        while not len(self.logs.federation):
            genesis, agreement = self.greetings.signatures(names)
            if len(genesis) == len(names):
                await asyncio.to_thread(self.logs.begin, genesis, agreement)
                return
            missing = {name: "its first hello" for name in names if name not in genesis}
            event = await self.inbox.next(partial(Waiting, "genesis", 0, missing))
            if isinstance(event, e.Received):
                self._foreign.keep(event.letter)
            elif isinstance(event, (e.LinkUp, e.LinkDown)):
                await self._link(event)

    async def _reach(self, active: ActiveRun) -> None:
        """In a later epoch: fetch the ledger up to it, if this site was not there when it began."""
        names = [name for name in self.federation.roster.names if name != self.name]
        while (stands := self.changes.lineage()) is None or stands.federation_digest != self.federation.digest:
            self.changes.check_over()
            missing = dict.fromkeys(names, "the ledger up to this epoch")
            await self._take(active, await self.inbox.next(partial(Waiting, "ledger", 0, missing)))

    async def _begin(self, active: ActiveRun) -> None:
        """Begin the next round if nothing keeps it, and make this site's update for it."""
        run, now = active.run, self.clocks.now()
        if self.stopping or self.catch_up.fetching(now) or epoch_ends(run, self.logs.epochs.announced):
            return
        if begins_next(run, self.logs.count(run.setting.run), active.rounds) and not self.catch_up.unmet:
            active.began, active.bytes_before = now, self.effects.bytes_sent
            await self.effects.carry_out(active, run.begin(now))
        place = (run.number, run.tip)
        if run.wants_update and active.proposed != place:
            active.proposed = place
            active.proposing = self._spawn(self._propose(active, *place, active.proposing))

    async def _propose(
        self, active: ActiveRun, number: int, tip: tuple[int, bytes], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:  # of a round that was settled without this site's update: one pass at a time
            await asyncio.wait([before])
        begun = self.clocks.now()
        offer = await asyncio.to_thread(active.source.propose, number, tip[0])
        self.epsilon = offer.epsilon
        proposal = e.Proposal(
            model=offer.model,
            configuration=codec.facts(offer.configuration),
            support=offer.support,
            deadline_ms=offer.deadline_ms(
                (link.speed_bytes_per_s for link in self.mesh.links().values()), self.clocks.now() - begun
            ),
            clock_ms=int(self.clocks.wall() * 1000),
            epsilon=offer.epsilon,
            site_head=self.logs.site.root(),
            change=self.changes.to_announce(active.run.setting.run, number),
        )
        self.inbox.put(LocalEvent(active.run.setting.run, e.UpdateReady(self.clocks.now(), number, proposal)))

    async def _drive(self, active: ActiveRun) -> None:
        """One event in, what it leads to out."""
        await self._take(active, await self.inbox.next(partial(self._waits, active)))

    async def _take(self, active: ActiveRun, event: e.Event | LocalEvent | Breach) -> None:
        """Hand the event to the run that it is for; those that are over serve peers that lack their last round."""
        if isinstance(event, e.Received):
            message = event.letter.message
            if isinstance(message, HISTORY):
                await self.catch_up.take(active, event.letter)
                return
            if isinstance(message, Changed):
                await asyncio.to_thread(self.changes.learn, Change(message.record, dict(message.signatures)))
                return
            if event.letter.envelope.epoch != self.federation.roster.epoch:
                return  # of a peer that is behind, or ahead: the ledger brings them together
            known = self._runs.get(event.letter.envelope.run)
            if known is None:
                self._foreign.keep(event.letter)
            else:
                run = known.run
                self.catch_up.ask_on_letter(event.letter, run)
                await self._feed(known, event)
                more = self.inbox.more(run.setting.run, BATCH)
                if more:
                    await self.effects.feed(known, *more)
        elif isinstance(event, (e.LinkUp, e.LinkDown)):
            await self._link(event)
        elif isinstance(event, LocalEvent):
            await self._feed(self._runs[event.run_id], event.event)
        elif isinstance(event, Breach) and event.of_link:
            await self.effects.note_breach(active, event.error)
        elif isinstance(event, Breach):
            await self.effects.carry_out(active, active.run.breach(event.error))

    async def _link(self, event: e.LinkUp | e.LinkDown) -> None:
        if isinstance(event, e.LinkUp):
            self.catch_up.came(event.peer)
            self.catch_up.ask_on_link(event.peer, self.greetings.entries.get(event.peer, 0))
        else:
            self.catch_up.up.discard(event.peer)
        for each in self._runs.values():
            await self._feed(each, event)

    def _waits(self, active: ActiveRun) -> Waiting:
        current = active.run.current
        if self.catch_up.wanted:
            return Waiting("catching up", active.run.final_round, {self.catch_up.wanted: "the newest model"})
        if current is None:
            unmet = self.catch_up.unmet
            return Waiting("hello" if unmet else "", active.run.final_round, unmet)
        training = active.proposing is not None and not active.proposing.done()
        return Waiting("training" if training else current.phase.value, current.number, current.waiting_for())

    async def _linger(self) -> None:
        """Go on serving until the last round is in every peer's ledger, and each has all that was sent to it.

        A confirmation is not enough: its sender may die before it holds q of them, and comes back to ask for them.
        """
        active = self._latest
        while active is not None and (done := active.run.previous) is not None:
            lacking = [name for name in self.effects.queues if name not in done.state.confirming.settled]
            missing = dict.fromkeys(lacking, "its word that the round stands there")
            if not missing and all(queue.empty() for queue in self.effects.queues.values()):
                gone = tuple((item, None) for item in (FINAL_ITEM, *SUMS_ITEMS))
                await asyncio.to_thread(self.effects.store, active.run.setting.run, gone)
                return
            event = await self.inbox.next(partial(Waiting, "final", done.number, missing))
            await self._take(active, event)

    async def _feed(self, active: ActiveRun, event: e.Event) -> None:
        await self.effects.feed(active, event)
        previous = active.run.previous
        confirms = isinstance(event, e.Received) and isinstance(event.letter.message, messages.Confirm)
        if previous is not None and confirms:
            await asyncio.to_thread(
                self._cosign, previous.state.confirming.record, dict(previous.state.confirming.confirms)
            )

    def _cosign(self, record: bytes, confirms: dict[str, tuple[bytes, bytes]]) -> None:
        self.logs.cosign(record, {name: signed for name, (theirs, signed) in confirms.items() if theirs == record})

    async def part(self) -> None:
        """Let what was said last reach the others, and the pass under way end: before this node is left for another."""
        if self._latest is not None and self._latest.proposing is not None:
            await asyncio.wait([self._latest.proposing])
        await self.effects.part()

    # ── what this node knows ──────────────────────────────────────────────────────────────────────────────────

    @property
    def bytes_sent(self) -> int:
        """On the wire, to all peers, since this process began."""
        return self.effects.bytes_sent

    @property
    def tls(self) -> TlsFacts | None:
        """What the latest link's TLS session runs on; None before the first link."""
        return self.inbox.tls

    def _standing(self) -> Standing:
        entries, root = self.logs.stands()
        return Standing(entries, root, self.logs.root_at, self.epsilon, lambda run_id: self._begun.get(run_id, (0, 0)))
