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
from p2pfl.mesh.probe import About
from p2pfl.mesh.proxy import Proxy
from p2pfl.mesh.site import LocalSite
from p2pfl.messages import Changed
from p2pfl.node.catchup import HISTORY, CatchUp
from p2pfl.node.effects import EffectRunner, Outbox
from p2pfl.node.hello import PEERS_ITEM, Greetings, Standing
from p2pfl.node.inbox import Breach, Inbox, LocalEvent, UnknownRuns, Waiting
from p2pfl.node.logs import Logs, pledge_of
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.progress import Listening, Observer
from p2pfl.node.runs.sizes import check_support, sum_bytes
from p2pfl.node.source import ActiveRun, Source
from p2pfl.roster import Address
from p2pfl.sharing import events as e
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, ITEMS, LEFT_ITEMS, SUMS_ITEMS, Context, Phase, place_of

BATCH: Final = 32  # letters of bulk that are taken in one step
ANY_SIZE: Final = 1 << 40  # of what this home sealed itself
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
        self.books = Logs(home, self.identity, pledge, clocks.wall)
        self._begun = self._begun_before()
        self.greetings = Greetings(
            self.identity, self.name, roster, self.incarnation, federation.digest, pledge, self._standing
        )
        site = LocalSite.of(self.identity, self.name, roster, clocks, proxy=proxy)
        about = About(__version__, federation.raw)
        self.mesh = Mesh(site, self.greetings, about, listen=listen, incarnation=self.incarnation, hub=federation.hub)
        self.intake = Inbox(self.mesh, self.greetings, roster, clocks, observer, wait_s)
        self.greetings.fatal = self.intake.fail
        self.changes = PendingChange(home, self.books, federation, self.greetings, observer)
        self.intake.listed_before = lambda: self.books.in_an_epoch
        self._runs: dict[bytes, ActiveRun] = {}
        self.hands = EffectRunner(home, self.books, self.mesh, self.intake, self.greetings, clocks, observer)
        self.learner = CatchUp(self.hands, federation, self.identity, self.name, self.incarnation, self._runs)
        self.hands.behind, self.changes.say = self.learner.ask, self.learner.say_to_all
        self._tasks: set[asyncio.Task[Any]] = set()
        self._foreign = UnknownRuns()
        self._latest: ActiveRun | None = None
        self.stopping = False  # nothing new is begun
        self._moved = asyncio.Event()

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _begun_before(self) -> dict[bytes, tuple[int, int]]:
        """By run, the highest (round, attempt) that this home has begun."""
        begun = {run: (number, ANY_ATTEMPT) for run, number in self.books.final_rounds().items()}
        for item in (ATTEMPT_ITEM, *(attempt for attempt, _ in LEFT_ITEMS)):
            left = self.home.read(item)
            if left is not None:
                run, snapshot = codec.unpack(left, most=ANY_SIZE, items=8)
                begun[run] = max(place_of(snapshot), begun.get(run, (0, 0)))
        return begun

    async def start(self) -> None:
        """Open the port, dial everyone, and begin to listen. Raises what Mesh.start raises."""
        heard = self.home.read(PEERS_ITEM)
        if heard:
            self.greetings.remember(heard)
        await self.mesh.start()
        await asyncio.to_thread(self.books.started, self.incarnation)
        self.observer(Listening(str(self._listen_on) if self._listen_on else "nowhere (dials out)"))
        self._spawn(self.intake.listen())
        for peer in self.federation.roster.names:
            if peer != self.name:
                self.hands.queues[peer] = Outbox()
                self._spawn(self.hands.post(peer))
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
        await asyncio.gather(*(queue.join() for peer, queue in self.hands.queues.items() if links[peer].state == "up"))

    @property
    def _certified(self) -> bool:
        courses = [each.course for each in self._runs.values()]
        return any(course.held for course in courses) or any(
            course.current is not None and course.current.phase in (Phase.UNMASK, Phase.CONFIRM) for course in courses
        )

    async def abort(self) -> None:
        """End now. What is on the disk is whole at every moment, so nothing is lost."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.mesh.stop()
        with contextlib.suppress(P2PFLError):  # what ends this node is told already, and matters more
            self.books.close()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.intake.fail(error)

    # ── a run ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, run: bytes, source: Source, rounds: int) -> None:
        """Go on with `run` until so many of its rounds are final here. Returns at once when they are.

        Raises EpochOver when this node's epoch has ended before that; and whatever ends it: an error that names a
        peer, this machine, the budget, or the integrity of the home;
        and what `source.left` raises when a round is left behind.
        """
        left = self._left_on_disk(run, source)
        known = self._runs.get(run)
        # The course of an earlier call holds what came early for the next round, and who confirmed the last.
        course = known.course if known is not None else self._course(run)
        held = ActiveRun(course, source, rounds, older=known.older if known is not None else {})
        self._runs[run] = self._latest = held
        await (self._genesis() if self.federation.roster.epoch == 1 else self._reach(held))
        await self.hands.carry_out(held, course.resume(left))
        if wanted := source.lacks(course.final_round, b""):
            held.lacking = True
            self.learner.ask_model(wanted)
        for letter in self._foreign.take(run):
            await self._feed(held, e.Received(self.clocks.now(), letter))
        for peer in sorted(self.learner.up):
            self.learner.ask(peer)
        while self.books.count(run) < rounds:
            self.changes.check_over()
            await self._begin(held)
            await self._drive(held)
            self._moved.set()

    def _course(self, run: bytes) -> Run:
        setting = Context(
            run, self.federation.roster, self.name, self.identity, self.incarnation, self.federation.digest,
            self.intake.draw_bound, self.books.spent, self.federation.sharing.verify, self.federation.hub, sum_bytes,
            check_support,
        )  # fmt: skip
        course = Run(setting, self.books.final_round(run), self.books.base(run), self.clocks.now())
        course.others.parted = self.changes.parted
        course.recall(self.hands.proofs())
        for peer in self.learner.up:
            course.others.came(peer, self.clocks.now())
        return course

    def _left_on_disk(self, run: bytes, source: Source) -> dict[str, bytes | None]:
        """What a process before this one left of `run`. Raises RunUnderWay when another run would be overwritten."""
        known = self._runs.get(run)
        resumed = known is not None and known.rounds > 0  # else it was only served here
        items: tuple[str, ...] = (ATTEMPT_ITEM,) if resumed else ITEMS
        found: dict[bytes, dict[str, bytes | None]] = {}
        for item in items:
            data = self.home.read(item)
            if data is not None:
                of, inner = codec.unpack(data, most=ANY_SIZE, items=8)
                found.setdefault(of, {})[item] = inner
        for of, held in found.items():
            attempt = held.get(ATTEMPT_ITEM)
            if of == run:
                continue
            if attempt is not None and place_of(attempt)[0] > self.books.final_round(of):
                raise RunUnderWay(what="run", evidence=f"run {of.hex()[:16]}, not {run.hex()[:16]}")
            if FINAL_ITEM in held and of not in self._runs:
                # A peer may still lack the last round of that run. It is served; no round of it begins here.
                served = self._course(of)
                served.resume({item: data for item, data in held.items() if item != ATTEMPT_ITEM})
                self._runs[of] = ActiveRun(served, source, 0)
        return {} if resumed else found.get(run, {})

    async def _genesis(self) -> None:
        """Wait until every site has signed the genesis: nothing is trained or summed before."""
        names = dict.fromkeys(self.federation.roster.names)
        while not len(self.books.federation):
            genesis, agreement = self.greetings.signatures(names)
            if len(genesis) == len(names):
                await asyncio.to_thread(self.books.begin, genesis, agreement)
                return
            missing = {name: "its first hello" for name in names if name not in genesis}
            event = await self.intake.next(partial(Waiting, "genesis", 0, missing))
            if isinstance(event, e.Received):
                self._foreign.keep(event.letter)
            elif isinstance(event, (e.LinkUp, e.LinkDown)):
                await self._link(event)

    async def _reach(self, held: ActiveRun) -> None:
        """In a later epoch: fetch the ledger up to it, if this site was not there when it began."""
        names = [name for name in self.federation.roster.names if name != self.name]
        while (stands := self.changes.lineage()) is None or stands.configuration != self.federation.digest:
            self.changes.check_over()
            missing = dict.fromkeys(names, "the ledger up to this epoch")
            await self._take(held, await self.intake.next(partial(Waiting, "ledger", 0, missing)))

    async def _begin(self, held: ActiveRun) -> None:
        """Begin the next round if nothing keeps it, and make this site's update for it."""
        course, now = held.course, self.clocks.now()
        tip = course.rounds[course.held[-1]].state.record if course.held else b""
        if self.stopping or self.learner.fetching(now) or self.changes.at_the_end(tip):
            return
        more = self.books.count(course.setting.run) + len(course.held) < held.rounds
        if more and course.may_begin and not self.learner.unmet:
            held.began, held.bytes_before = now, self.hands.bytes_sent
            await self.hands.carry_out(held, course.begin(now))
        place = (course.number, course.tip)
        if course.wants_update and held.proposed != place:
            held.proposed = place
            held.proposing = self._spawn(self._propose(held, *place, held.proposing))

    async def _propose(
        self, held: ActiveRun, number: int, tip: tuple[int, bytes], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:  # of a round that was settled without this site's update: one pass at a time
            await asyncio.wait([before])
        begun = self.clocks.now()
        offer = await asyncio.to_thread(held.source.propose, number, tip[0])
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
            site_head=self.books.site.root(),
            change=self.changes.to_announce(held.course.setting.run, number),
        )
        self.intake.put(LocalEvent(held.course.setting.run, e.UpdateReady(self.clocks.now(), number, proposal)))

    async def _drive(self, held: ActiveRun) -> None:
        """One event in, what it leads to out."""
        await self._take(held, await self.intake.next(partial(self._waits, held)))

    async def _take(self, held: ActiveRun, event: e.Event | LocalEvent | Breach) -> None:
        """Hand the event to the run that it is for; those that are over serve peers that lack their last round."""
        if isinstance(event, e.Received):
            message = event.letter.message
            if isinstance(message, HISTORY):
                await self.learner.take(held, event.letter)
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
                course = known.course
                if event.letter.envelope.round > max(course.number, course.final_round) + 1:
                    self.learner.ask(event.letter.sender)
                await self._feed(known, event)
                more = self.intake.more(course.setting.run, BATCH)
                if more:
                    await self.hands.feed(known, *more)
        elif isinstance(event, (e.LinkUp, e.LinkDown)):
            await self._link(event)
        elif isinstance(event, LocalEvent):
            await self._feed(self._runs[event.run], event.event)
        elif isinstance(event, Breach) and event.of_link:
            await self.hands.note_breach(held, event.error)
        elif isinstance(event, Breach):
            await self.hands.carry_out(held, held.course.breach(event.error))

    async def _link(self, event: e.LinkUp | e.LinkDown) -> None:
        if isinstance(event, e.LinkUp):
            self.learner.came(event.peer)
            if self.greetings.entries.get(event.peer, 0) > len(self.books.federation):
                self.learner.ask(event.peer)
        else:
            self.learner.up.discard(event.peer)
        for each in self._runs.values():
            await self._feed(each, event)

    def _waits(self, held: ActiveRun) -> Waiting:
        current = held.course.current
        if self.learner.wanted:
            return Waiting("catching up", held.course.final_round, {self.learner.wanted: "the newest model"})
        if current is None:
            unmet = self.learner.unmet
            return Waiting("hello" if unmet else "", held.course.final_round, unmet)
        training = held.proposing is not None and not held.proposing.done()
        return Waiting("training" if training else current.phase.value, current.number, current.waiting_for())

    async def _linger(self) -> None:
        """Go on serving until the last round is in every peer's ledger, and each has all that was sent to it.

        A confirmation is not enough: its sender may die before it holds q of them, and comes back to ask for them.
        """
        held = self._latest
        while held is not None and (done := held.course.previous) is not None:
            lacking = [name for name in self.hands.queues if name not in done.state.settled]
            missing = dict.fromkeys(lacking, "its word that the round stands there")
            if not missing and all(queue.empty() for queue in self.hands.queues.values()):
                gone = tuple((item, None) for item in (FINAL_ITEM, *SUMS_ITEMS))
                await asyncio.to_thread(self.hands.store, held.course.setting.run, gone)
                return
            event = await self.intake.next(partial(Waiting, "final", done.number, missing))
            await self._take(held, event)

    async def _feed(self, held: ActiveRun, event: e.Event) -> None:
        await self.hands.feed(held, event)
        previous = held.course.previous
        confirms = isinstance(event, e.Received) and isinstance(event.letter.message, messages.Confirm)
        if previous is not None and confirms:
            await asyncio.to_thread(self._cosign, previous.state.record, dict(previous.state.confirms))

    def _cosign(self, record: bytes, confirms: dict[str, tuple[bytes, bytes]]) -> None:
        self.books.cosign(record, {name: signed for name, (theirs, signed) in confirms.items() if theirs == record})

    async def part(self) -> None:
        """Let what was said last reach the others, and the pass under way end: before this node is left for another."""
        if self._latest is not None and self._latest.proposing is not None:
            await asyncio.wait([self._latest.proposing])
        await self.hands.part()

    # ── what this node knows ──────────────────────────────────────────────────────────────────────────────────

    @property
    def bytes_sent(self) -> int:
        """On the wire, to all peers, since this process began."""
        return self.hands.bytes_sent

    @property
    def tls(self) -> TlsFacts | None:
        """What the latest link's TLS session runs on; None before the first link."""
        return self.intake.tls

    def _standing(self) -> Standing:
        entries, root = self.books.stands()
        return Standing(entries, root, self.books.root_at, self.epsilon, lambda run: self._begun.get(run, (0, 0)))
