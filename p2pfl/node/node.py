"""The node: hands events to the rounds, and begins one round after another. The protocol is elsewhere (sharing/).

One task, the loop of `_drive`, hands events in and lets effects.py do what they lead to, strictly in order. What blocks
runs in a worker thread while the loop waits for it, so that links and heartbeats go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from p2pfl import messages
from p2pfl._version import __version__
from p2pfl.clocks import Clocks
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import GaveUpWaiting
from p2pfl.federation import Federation
from p2pfl.federation.membership import Change, run_of
from p2pfl.home import Home
from p2pfl.mesh.events import TlsFacts
from p2pfl.mesh.mesh import Mesh
from p2pfl.mesh.probe.wire import About
from p2pfl.mesh.site import LocalSite
from p2pfl.messages import Changed
from p2pfl.node.active import ActiveRun, Since
from p2pfl.node.catchup import HISTORY, CatchUp
from p2pfl.node.effects import EffectRunner
from p2pfl.node.hello import PEERS_ITEM, Greetings, Standing
from p2pfl.node.inbox import Breach, Inbox, LocalEvent, UnknownRuns, Waiting
from p2pfl.node.logs import Logs
from p2pfl.node.options import NodeOptions
from p2pfl.node.parting import while_taking
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.pledge import pledge_of
from p2pfl.node.post import PARTING_S, Post
from p2pfl.node.progress import NO_PORT, Listening, ModelLacking, Moment, Observer
from p2pfl.node.proposer import Proposer
from p2pfl.node.resume import RunMaker, begun_before
from p2pfl.node.runs.passes import most_said
from p2pfl.node.site import SiteProcess
from p2pfl.node.source import Source
from p2pfl.node.steps import Steps
from p2pfl.node.store import Store
from p2pfl.node.witness import OF_HEADS, SiteHeads, Witness
from p2pfl.sharing import events as e
from p2pfl.sharing.catchup import begins_next, epoch_ends
from p2pfl.sharing.room import POOL
from p2pfl.sharing.state import FINAL_ITEM, SUMS_ITEMS

BATCH: Final = 32  # most letters of bulk in one step


class Node:
    """One site's process. Use: start, run any number of runs one after another, close."""

    def __init__(
        self, home: Home, federation: Federation, options: NodeOptions, observer: Observer, clocks: Clocks
    ) -> None:
        self.home, self.federation, self.clocks = home, federation, clocks
        self.observer, self._options = observer, options
        self.name, self.identity = home.name, home.identity()
        pledge, roster, hub = pledge_of(federation), federation.roster, federation.hub
        self._site = SiteProcess(self.identity, self.name, roster, clocks.draw(16), federation.digest, clocks)
        self.logs = Logs(home, self.identity, pledge, clocks.wall)
        self._begun = begun_before(home, self.logs)
        training = run_of(federation.first, federation.digest, "training")
        self._most_said = most_said(home, self.logs, training, federation.privacy.delta)
        self.changes = PendingChange(home, self.logs, federation, observer)
        self._heads = SiteHeads(self._site, home, self.logs)
        self.greetings = Greetings(self._site, pledge, self._standing, self.changes, self._heads, self._end)
        local = LocalSite.of(self.identity, self.name, roster, clocks, proxy=options.proxy)
        about, incarnation = About(__version__, federation.raw), self._site.incarnation
        self.mesh = Mesh(local, self.greetings, about, listen=options.listen, incarnation=incarnation, hub=hub)
        self.inbox = Inbox(self._site, self.mesh, self.greetings, self.logs, observer, options.wait_s)
        self._runs: dict[bytes, ActiveRun] = {}
        self.proposer = Proposer(clocks, self.logs, self.mesh, self.inbox, self.changes)
        self._store = Store(home, self.logs, self.greetings, observer)
        self._post = Post(self._site, self.mesh, self.inbox)
        self._witness = Witness(self._site, self._heads, self.logs, self._post, observer, self._end)
        self._maker = RunMaker(self._site, federation, self._store, self.inbox.draw_bound, self.changes.parted)
        self.catch_up = CatchUp(self._site, self._store, self._post, self.inbox, observer, self._runs)
        self.effects = EffectRunner(self._site, self._store, self._post, self.inbox, self.catch_up, observer)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._steps = Steps()
        self._unknown_runs = UnknownRuns()
        self._latest: ActiveRun | None = None
        self.stopping = False  # nothing new is begun
        self._moved = asyncio.Event()

    def _end(self, error: BaseException) -> None:
        """End this process with the error, wherever it came up."""
        self.inbox.fail(error)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Open the port, dial everyone, and begin to listen. Raises what Mesh.start raises."""
        if heard := self.home.read(PEERS_ITEM):
            self.greetings.remember(heard)
        await self.mesh.start()
        await asyncio.to_thread(self.logs.started, self._site.incarnation)
        self.observer(Listening(str(self._options.listen or NO_PORT)))
        self._spawn(self.inbox.listen())
        for peer in self._post.queues:
            self._spawn(self._post.deliver(peer))
        self._spawn(self._witness.work())
        self._spawn(self.changes.watch(self.mesh.cut))
        self._spawn(self.changes.hand_on(self._post.say_to_all))

    async def close(self, linger_s: float = 60.0) -> None:
        """Serve peers that lack the last round, at most `linger_s`; then end cleanly."""
        with contextlib.suppress(TimeoutError, GaveUpWaiting):  # this site has its result: it only waited to serve
            async with asyncio.timeout(linger_s):
                await self._steps.carry_out(self._linger())
            async with asyncio.timeout(PARTING_S):
                await self._until_cosigned()
        await self.abort()

    async def wind_down(self) -> None:
        """Begin nothing new; return when no round here is under a certificate and what was said is with the mesh.

        Under a certificate the others may need this site's seed and its word; before one they go on without it.
        """
        self.stopping = True
        while any(each.under_certificate for each in self._runs.values()):
            self._moved.clear()
            await self._moved.wait()
        await self._post.wait_until_taken([peer for peer, link in self.mesh.links().items() if link.state == "up"])

    async def abort(self) -> None:
        """End now. What is on the disk is whole at every moment, so nothing is lost."""
        for task in (tasks := [*self._tasks, *self.proposer.tasks]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.mesh.stop()
        POOL.rest(POOL.taken)  # no timer of this loop does so later
        for last in (self._heads.save, self.changes.take_acts, self.logs.close):
            with contextlib.suppress(P2PFLError):  # what ends this node is told already, and matters more
                last()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    # ── a run ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, run_id: bytes, source: Source, rounds: int) -> None:
        """Go on with a run until `rounds` of its rounds are final here; return at once when they are.

        Raises EpochOver when this node's epoch has ended before that; what `source.left` raises when a round is left
        behind; and the error that ends the run, which names a peer, this machine, the budget, or the home. A caller
        that is cancelled leaves no step half done.
        """
        await self._steps.carry_out(self._run(run_id, source, rounds))

    async def until_free(self, run_id: bytes) -> None:
        """Return when no call before makes a proposal in that run any more, as one that was left in mid-pass does.

        A training reads its home as it is made: before this, it would hold what the pass under way has yet to change.
        """
        await self._steps.carry_out(self._until_free(run_id))

    async def _until_free(self, run_id: bytes) -> None:
        while (known := self._runs.get(run_id)) is not None and known.is_proposing:
            await self._take(known, await self._next(partial(Waiting, "training", known.run.number, {})))

    async def _run(self, run_id: bytes, source: Source, rounds: int) -> None:
        await self._until_free(run_id)
        self.inbox.wait_from_now()
        left = self._maker.left_on_disk(run_id, source, self._runs, self.catch_up.up)
        known = self._runs.get(run_id)
        # The run of an earlier call holds what came early for the next round, and who confirmed the last.
        run = known.run if known is not None else self._maker.make(run_id, self.catch_up.up)
        active = ActiveRun.after(known, run, source, rounds)
        active.resumed = Since(self.clocks.now(), self.inbox.bytes_sent, True)
        self._runs[run_id] = self._latest = active
        try:
            await self._go_on(active, run_id, left)
        finally:
            active.leave()

    async def _go_on(self, active: ActiveRun, run_id: bytes, left: dict[str, bytes]) -> None:
        await (self._genesis(active) if self.federation.roster.epoch == 1 else self._reach(active))
        active.lacking = active.models is not None and bool(active.models.lacking)  # sums wait for it
        await self.effects.carry_out(active, active.run.resume(left))
        if active.models is not None and active.lacking:
            self.observer(ModelLacking(active.models.lacking.hex()[:16], active.models.why_lacking))
            self.catch_up.ask_model(active.models.lacking)
        else:
            await self.effects.carry_out(active, active.model_is_here())
        for letter in self._unknown_runs.letters_of(run_id):
            await self._feed(active, e.Received(self.clocks.now(), letter))
        for peer in sorted(self.catch_up.up):
            self.catch_up.ask(peer)
        while self.logs.count(run_id) < active.length or active.lacking:
            self.changes.check_over()
            await self._begin(active)
            await self._drive(active)
            self._moved.set()

    async def _genesis(self, active: ActiveRun) -> None:
        """Wait until every site has signed the genesis: nothing is trained or summed before."""
        names = dict.fromkeys(self.federation.roster.names)
        early = dict[tuple[str, type], e.Received]()  # of no run: the last of a kind of each peer is heard afterwards
        while not len(self.logs.federation):
            genesis, agreement = self.greetings.signatures(names)
            if len(genesis) == len(names):
                await asyncio.to_thread(self.logs.begin, genesis, agreement)
                break
            missing = {name: "its first hello" for name in names if name not in genesis}
            event = await self._next(partial(Waiting, "genesis", 0, missing))
            if isinstance(event, e.Received) and isinstance(event.letter.message, OF_HEADS):
                self._witness.heed(event.letter)  # each is sent once on a link, and is of no run that begins
            elif isinstance(event, e.Received) and isinstance(event.letter.message, (*HISTORY, Changed)):
                early[event.letter.sender, type(event.letter.message)] = event
            elif isinstance(event, e.Received):
                self._unknown_runs.hold_letter(event.letter)
            elif isinstance(event, (e.LinkUp, e.LinkDown)):
                await self._link(event)
        for letter in early.values():
            await self._take_letter(active, letter)

    async def _reach(self, active: ActiveRun) -> None:
        """In a later epoch: fetch the ledger up to it, if this site was not there when it began."""
        while (stands := self.changes.lineage()) is None or stands.federation_digest != self.federation.digest:
            self.changes.check_over()
            self.catch_up.ask_on()
            missing = dict.fromkeys(self._site.others, "the ledger up to this epoch")
            await self._take(active, await self._next(partial(Waiting, "ledger", 0, missing)))

    async def _begin(self, active: ActiveRun) -> None:
        """Begin the next round if nothing keeps it, and make this site's update for it.

        An update costs privacy: none is made before enough others have said hello, however often a process starts. A
        round that this one found on its disk may be over, and they would say so, or that the home is an older one.
        """
        active.check_proposal()
        run, now = active.run, self.clocks.now()
        if self.stopping or self.catch_up.fetching(now) or epoch_ends(run, self.logs.epochs.announced):
            return
        if begins_next(run, self.logs.count(run.context.run), active.length) and not self.catch_up.unmet:
            await self.effects.begin(active, now)
        place = (run.number, run.tip)
        if run.wants_update and active.proposed != place and not self.catch_up.unmet:
            self.proposer.begin(active, *place)

    async def _next(self, waits: Callable[[], Waiting]) -> e.Event | LocalEvent | Breach:
        return await self._steps.between(self.inbox.next_event(waits))

    async def _drive(self, active: ActiveRun) -> None:
        """Hand in one event, and carry out what it leads to."""
        await self._take(active, await self._next(partial(self._waits, active)))

    async def _take(self, active: ActiveRun, event: e.Event | LocalEvent | Breach) -> None:
        """Hand the event to the run that it is for; a run that is over serves peers that lack its last round."""
        if isinstance(event, e.Received):
            await self._take_letter(active, event)
        elif isinstance(event, (e.LinkUp, e.LinkDown)):
            await self._link(event)
        elif isinstance(event, LocalEvent):
            await self._feed(self._runs[event.run_id], event.event)
        elif isinstance(event, Breach) and event.of_link:
            await self.effects.note_breach(active, event.error)
        elif isinstance(event, Breach):
            await self.effects.carry_out(active, active.run.breach(event.error))

    async def _take_letter(self, active: ActiveRun, event: e.Received) -> None:
        letter, message = event.letter, event.letter.message
        if isinstance(message, HISTORY):
            for each, effects in await self.catch_up.heed(active, letter):
                await self.effects.carry_out(each, effects)
        elif isinstance(message, Changed):
            await asyncio.to_thread(self.changes.learn_change, Change(message.record, dict(message.signatures)))
        elif letter.envelope.epoch != self.federation.roster.epoch:
            return  # of a peer that is behind, or ahead: the ledger brings them together
        elif isinstance(message, OF_HEADS):
            self._witness.heed(letter)
        elif (known := self._runs.get(letter.envelope.run)) is None:
            self._unknown_runs.hold_letter(letter)
        else:
            self.catch_up.ask_on_letter(letter, known.run)
            await self._feed(known, event)
            await self.effects.feed(known, *self.inbox.more_bulk(known.run.context.run, BATCH))

    async def _link(self, event: e.LinkUp | e.LinkDown) -> None:
        if isinstance(event, e.LinkUp):
            self.catch_up.link_up(event.peer, here=event.peer in self.greetings.told)
            self.catch_up.ask_on_link(event.peer, self.greetings.entries.get(event.peer, 0))
            self._witness.link_up(event.peer)
        else:
            self._witness.link_down(event.peer)
            self.catch_up.up.discard(event.peer)
        for each in self._runs.values():
            await self._feed(each, event)

    def _waits(self, active: ActiveRun) -> Waiting:
        current, unmet = active.run.current, self.catch_up.unmet
        if self.catch_up.wanted:  # of one peer after another: that the next one is asked is no step forward
            model = dict.fromkeys(self._site.others, "the newest model")
            return Waiting("catching up", active.run.final_round, model, self.catch_up.came)
        if current is None or (unmet and active.run.wants_update):
            return Waiting("hello" if unmet else "", active.run.final_round, unmet)
        phase = "training" if active.is_proposing else current.phase.value
        return Waiting(phase, current.number, current.waiting_for(), current.came, current.attempt)

    async def _linger(self) -> None:
        """Go on serving until the last round is in every peer's ledger, and each has all that was sent to it.

        A confirmation is not enough: its sender may die before it holds q of them, and comes back to ask for them. Who
        was away in the round before this process, and in all of it, is not waited for again, nor a revoked site.
        """
        active = self._latest
        while active is not None and active.run.held:  # an error ended the next round's update before they were final
            await self._drive(active)
        if active is not None and active.run.previous is None:
            await self._while_taking(active, self.catch_up.tell_settled(active.run.context.run, self.mesh))
        while active is not None and (done := active.run.previous) is not None:
            peers = active.run.peers
            away = peers.parted | (set(peers.missed) - self.catch_up.met - self.catch_up.known)
            lacking = [name for name in self._post.queues if name not in done.state.confirming.settled | away]
            missing = dict.fromkeys(lacking, "its word that the round stands there")
            if not missing and self._post.is_empty:
                gone = tuple((item, None) for item in (FINAL_ITEM, *SUMS_ITEMS))
                await asyncio.to_thread(self._store.replace, active.run.context.run, gone)
                return
            event = await self._next(partial(Waiting, "final", done.number, missing))
            await self._take(active, event)

    async def _until_cosigned(self) -> None:
        """Take letters until the last heads are cosigned, here and by those whose links stand."""
        if self._latest is not None:
            await self._while_taking(self._latest, self._witness.until_settled())

    async def _while_taking(self, active: ActiveRun, work: Coroutine[Any, Any, None]) -> None:
        await while_taking(self._steps, self._spawn(self._take_on(active)), self._spawn(work))

    async def _take_on(self, active: ActiveRun) -> None:
        while True:
            await self._take(active, await self._next(partial(Waiting, "final", 0, {})))

    async def _feed(self, active: ActiveRun, event: e.Event) -> None:
        await self.effects.feed(active, event)
        self._witness.offer()
        previous = active.run.previous
        confirms = isinstance(event, e.Received) and isinstance(event.letter.message, messages.Confirm)
        if previous is not None and confirms:
            record, all_signed = previous.state.confirming.record, previous.state.confirming.confirms
            late = {name: signed for name, (theirs, signed) in all_signed.items() if theirs == record}
            if not self.logs.cosign(record, late, wait=False):
                await asyncio.to_thread(self.logs.cosign, record, late)

    async def part(self) -> None:
        """Let what was said last reach the others, and the pass under way end: before this node is left for another."""
        for each in self._runs.values():
            if each.proposing is not None:
                await asyncio.wait([each.proposing])
        await self._post.part()

    # ── what this node knows ──────────────────────────────────────────────────────────────────────────────────

    @property
    def epsilon(self) -> str:
        """Of this site's records, as it proposed last; empty before."""
        return self.proposer.epsilon

    @property
    def bytes_sent(self) -> int:
        """On the wire, to all peers, since this process began."""
        return self.inbox.bytes_sent

    @property
    def tls(self) -> TlsFacts | None:
        """What the latest link's TLS session runs on; None before the first link."""
        return self.inbox.tls

    def moment(self) -> Moment:
        """Where the latest run stands. In the thread of the loop only."""
        waits, current = self.inbox.waits(), self._latest and self._latest.run.current
        return Moment(waits.phase, waits.round, waits.missing, current.bulk() if current else (0, 0))

    def _standing(self) -> Standing:
        entries, root = self.logs.stands()
        begun, said = self._begun, self._most_said
        return Standing(entries, root, self.logs.root_at, self.epsilon, lambda run: begun.get(run, (0, 0)), said)
