"""The place where the rooms meet: feeds events to the rounds, carries out effects through one dict. No protocol here.

One task, the loop of `_drive`, hands events in and carries effects out, strictly in order; whatever blocks (masks,
sums, fsync) runs in a worker thread while the loop waits for it, so links and heartbeats go on. Letters to each peer
leave through a queue of their own, so that a slow peer slows nobody else, and two that send much cannot block each
other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from p2pfl import codec, messages
from p2pfl.books import Books, pledge_of
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import GaveUpWaiting, RunUnderWay
from p2pfl.federation import Federation
from p2pfl.hello import Greetings, Standing
from p2pfl.home import Home
from p2pfl.intake import Clocks, Intake, Own, Waiting
from p2pfl.mesh.events import TlsFacts
from p2pfl.mesh.mesh import Mesh
from p2pfl.messages import Letter
from p2pfl.progress import Observer, Progress
from p2pfl.roster import Address
from p2pfl.sharing import events as e
from p2pfl.sharing.course import Course
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, SUMS_ITEM, Setting, place_of
from p2pfl.source import Run, Source

PARTING_S: Final = 2.0  # for what was said last to reach the mesh
MOST_FOREIGN: Final = 4096  # letters kept for a run that this node has not begun
PEERS_ITEM: Final = "state/peers"
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
    ) -> None:
        self.home, self.federation, self.clocks = home, federation, clocks
        self.observer, self._listen_on = observer, listen
        self.name, self.identity = home.name, home.identity()
        self.incarnation = clocks.draw(16)
        self.epsilon = ""
        pledge, roster = pledge_of(federation), federation.roster
        self.books = Books(home, self.identity, pledge, clocks.wall)
        self._begun = self._begun_before()
        self.greetings = Greetings(
            self.identity, self.name, roster, self.incarnation, federation.digest, pledge, self._standing
        )
        self.mesh = Mesh(
            identity=self.identity, name=self.name, roster=roster, listen=listen, incarnation=self.incarnation,
            greet=self.greetings, draw=clocks.draw, now=clocks.now, wall=clocks.wall,
        )  # fmt: skip
        self.intake = Intake(self.mesh, self.greetings, roster, clocks, observer, wait_s)
        self.greetings.fatal = self.intake.fail
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runs: dict[bytes, Run] = {}
        self._foreign: dict[bytes, list[Letter]] = {}
        self._queues: dict[str, asyncio.Queue[bytes]] = {}
        self._follow: list[e.Event] = []
        self._latest: Run | None = None
        self._do: dict[type[Any], Callable[[Run, Any], Awaitable[None]]] = {
            e.Send: self._send,
            e.Persist: self._persist,
            e.SetTimer: self._set_timer,
            e.Quantise: self._quantise,
            e.Apply: self._apply,
            e.Finished: self._finished,
            e.Noted: self._noted,
            e.Stop: self._stop,
        }

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _begun_before(self) -> dict[bytes, tuple[int, int]]:
        """By run, the highest (round, attempt) that this home has begun."""
        begun = {run: (number, ANY_ATTEMPT) for run, number in self.books.final_rounds().items()}
        left = self.home.read(ATTEMPT_ITEM)
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
        self._tell("listening", address=str(self._listen_on) if self._listen_on else "nowhere (dials out)")
        self._spawn(self.intake.listen())
        for peer in self.federation.roster.names:
            if peer != self.name:
                self._queues[peer] = asyncio.Queue()
                self._spawn(self._post(peer))

    async def close(self, linger_s: float = 60.0) -> None:
        """Serve peers that lack the last round, at most `linger_s`; then end cleanly."""
        with contextlib.suppress(TimeoutError, GaveUpWaiting):  # this site has its result: it only waited to serve
            async with asyncio.timeout(linger_s):
                await self._linger()
        await self.abort()

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

    async def run(self, run: bytes, source: Source, last_round: int) -> None:
        """Go on with `run` until round `last_round` is final here. Returns at once when it is.

        Raises whatever ends it: an error that names a peer, this machine, the budget, or the integrity of the home.
        """
        left = self._left_behind(run, source)
        known = self._runs.get(run)
        # The course of an earlier call holds what came early for the next round, and who confirmed the last.
        course = known.course if known is not None else self._course(run)
        held = Run(course, source, last_round)
        self._runs[run] = self._latest = held
        await self._genesis()
        await self._carry_out(held, course.resume(left))
        for letter in self._foreign.pop(run, []):
            await self._feed(held, e.Received(self.clocks.now(), letter))
        while course.final_round < last_round:
            await self._begin(held)
            await self._drive(held)

    def _course(self, run: bytes) -> Course:
        setting = Setting(
            run, self.federation.roster, self.name, self.identity, self.incarnation, self.federation.digest,
            self.intake.draw_bound,
        )  # fmt: skip
        return Course(setting, self.books.final_round(run))

    def _left_behind(self, run: bytes, source: Source) -> dict[str, bytes | None]:
        """What a process before this one left of `run`. Raises RunUnderWay when another run would be overwritten."""
        found: dict[str, bytes | None] = {}
        for item in (ATTEMPT_ITEM, SUMS_ITEM, FINAL_ITEM):
            data = self.home.read(item)
            if data is None:
                continue
            of, inner = codec.unpack(data, most=ANY_SIZE, items=8)
            if of == run:
                found[item] = inner
            elif item == ATTEMPT_ITEM and place_of(inner)[0] > self.books.final_round(of):
                raise RunUnderWay(what="run", evidence=f"run {of.hex()[:16]}, not {run.hex()[:16]}")
            elif item == FINAL_ITEM and of not in self._runs:
                # A peer may still lack the last round of that run. It is served; no round of it begins here.
                served = self._course(of)
                served.resume({FINAL_ITEM: inner})
                self._runs[of] = Run(served, source, served.final_round)
        return found

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
                self._keep_foreign(event.letter)

    async def _begin(self, held: Run) -> None:
        """Begin the next round if none is under way, and make this site's update for it."""
        course = held.course
        if course.current is None:
            held.began, held.bytes_before = self.clocks.now(), self.bytes_sent
            await self._carry_out(held, course.begin(self.clocks.now()))
        current = course.current
        if current is not None and course.wants_update and held.proposed_round != current.number:
            held.proposed_round = current.number
            held.proposing = self._spawn(self._propose(held, current.number, held.proposing))

    async def _propose(self, held: Run, number: int, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # of a round that was settled without this site's update: one pass at a time
            await asyncio.wait([before])
        offer = await asyncio.to_thread(held.source.propose, number)
        self.epsilon = offer.epsilon
        proposal = e.Proposal(
            model=offer.model,
            configuration=codec.facts(offer.configuration),
            support=offer.support,
            deadline_ms=offer.deadline_ms(link.speed_bytes_per_s for link in self.mesh.links().values()),
            clock_ms=int(self.clocks.wall() * 1000),
            epsilon=offer.epsilon,
            site_head=self.books.site.root(),
        )
        self.intake.put(Own(held.course.setting.run, e.UpdateReady(self.clocks.now(), number, proposal)))

    async def _drive(self, held: Run) -> None:
        """One event in, its effects out."""
        await self._take(held, await self.intake.next(partial(self._waits, held)))

    async def _take(self, held: Run, event: e.Event | Own) -> None:
        """Hand the event to the run that it is for; those that are over serve peers that lack their last round."""
        if isinstance(event, e.Received):
            known = self._runs.get(event.letter.envelope.run)
            if known is None:
                self._keep_foreign(event.letter)
            else:
                await self._feed(known, event)
        elif isinstance(event, e.LinkUp):
            for each in self._runs.values():
                await self._feed(each, event)
        elif isinstance(event, Own):
            await self._feed(self._runs[event.run], event.event)

    def _waits(self, held: Run) -> Waiting:
        current = held.course.current
        if current is None:
            return Waiting("", held.course.final_round, {})
        training = held.proposing is not None and not held.proposing.done()
        return Waiting("training" if training else current.phase.value, current.number, current.waiting_for())

    async def _linger(self) -> None:
        """Go on serving until the last round is in every peer's ledger, and each has all that was sent to it.

        A confirmation is not enough: its sender may die before it holds q of them, and comes back to ask for them.
        """
        held = self._latest
        while held is not None and (done := held.course.previous) is not None:
            lacking = [name for name in self._queues if name not in done.state.settled]
            missing = dict.fromkeys(lacking, "its word that the round stands there")
            if not missing and all(queue.empty() for queue in self._queues.values()):
                await asyncio.to_thread(self._store, held.course.setting.run, ((FINAL_ITEM, None),))
                return
            event = await self.intake.next(partial(Waiting, "final", done.number, missing))
            if isinstance(event, (e.Received, e.LinkUp)):
                await self._take(held, event)

    def _keep_foreign(self, letter: Letter) -> None:
        kept = self._foreign.setdefault(letter.envelope.run, [])
        if letter.message.signed and len(kept) < MOST_FOREIGN and len(self._foreign) <= 8:  # bulk comes much later
            kept.append(letter)

    # ── effects ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _feed(self, held: Run, event: e.Event) -> None:
        current = held.course.current
        before = (current.attempt, current.phase) if current is not None else None
        effects = await asyncio.to_thread(held.course.handle, event)
        if current is not None and (current.attempt, current.phase) != before:
            self._tell("phase", round=current.number, attempt=current.attempt, phase=current.phase.value)
        await self._carry_out(held, effects)
        previous = held.course.previous
        confirms = isinstance(event, e.Received) and isinstance(event.letter.message, messages.Confirm)
        if previous is not None and confirms:
            await asyncio.to_thread(self._cosign, previous.state.record, dict(previous.state.confirms))

    def _cosign(self, record: bytes, confirms: dict[str, tuple[bytes, bytes]]) -> None:
        self.books.cosign(record, {name: signed for name, (theirs, signed) in confirms.items() if theirs == record})

    async def _carry_out(self, held: Run, effects: list[e.Effect]) -> None:
        """All effects in order, then what follows from them, before any other event."""
        for effect in effects:
            await self._do[type(effect)](held, effect)
        while self._follow:
            await self._feed(held, self._follow.pop(0))

    async def _send(self, held: Run, effect: e.Send) -> None:
        wire = effect.letter.wire
        for peer in self._queues if effect.to is None else (effect.to,):
            self._queues[peer].put_nowait(wire)

    async def _post(self, peer: str) -> None:
        """Hand one peer's letters to the mesh, as fast as its link takes them."""
        queue = self._queues[peer]
        while True:
            await self.mesh.send(peer, await queue.get())
            queue.task_done()

    async def _persist(self, held: Run, effect: e.Persist) -> None:
        await asyncio.to_thread(self._store, held.course.setting.run, effect.items)
        self._follow.append(effect.stored(self.clocks.now()))

    def _store(self, run: bytes, items: tuple[tuple[str, bytes | None], ...]) -> None:
        for item, data in items:
            if data is None:
                self.home.remove(item)
            else:
                self.home.replace(item, codec.pack((run, data)))

    async def _set_timer(self, held: Run, effect: e.SetTimer) -> None:
        self.intake.put_at(Own(held.course.setting.run, effect.event))

    async def _quantise(self, held: Run, effect: e.Quantise) -> None:
        supports = dict(zip(self.federation.roster.names, effect.supports, strict=True))
        vectors = await asyncio.to_thread(held.source.words, effect.attempt_digest, supports)
        self._follow.append(e.WordsReady(self.clocks.now(), effect.round, effect.attempt, vectors))

    async def _apply(self, held: Run, effect: e.Apply) -> None:
        number = held.course.final_round + 1
        model, outcome = await asyncio.to_thread(held.source.apply, effect, number)
        self._follow.append(e.Applied(self.clocks.now(), model, outcome))

    async def _stop(self, held: Run, effect: e.Stop) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING_S):
                await asyncio.gather(*(queue.join() for queue in self._queues.values()))
        raise effect.error  # the mesh, when it stops, waits until what it was given is acknowledged

    async def _noted(self, held: Run, effect: e.Noted) -> None:
        setting = held.course.setting
        await asyncio.to_thread(self.books.noted, setting.run, setting.roster.epoch, effect.kind, effect.facts)
        if effect.kind == "abandoned":
            self._tell("abandoned", **{key: effect.facts[key] for key in ("round", "attempt", "waited_for")})

    async def _finished(self, held: Run, effect: e.Finished) -> None:
        """Durable in this order: the new model beside the old, the sum for those who missed it, the ledger entry."""
        current = held.course.current
        if current is None:
            return
        await asyncio.to_thread(self._settle, held, current, effect)
        settled = held.course.finished()
        record = codec.read_facts(effect.record)
        told = {key: record[key] for key in ("survivors", "outcome", "epsilon", "configuration")}
        self._tell(
            "round", round=current.number, rounds=held.last_round, **told, seconds=self.clocks.now() - held.began,
            bytes_sent=self.bytes_sent - held.bytes_before,
            payload_bytes=sum(vector.words.nbytes for vector in current.state.total),
        )  # fmt: skip
        await self._carry_out(held, settled)

    def _settle(self, held: Run, done: Round, effect: e.Finished) -> None:
        held.source.keep(done.number)
        self._store(held.course.setting.run, ((FINAL_ITEM, done.keepsake()),))
        self.books.finish(effect.record, effect.cosignatures)
        held.source.adopt(done.number)
        self.home.replace(PEERS_ITEM, self.greetings.statements())
        for item in (ATTEMPT_ITEM, SUMS_ITEM):
            self.home.remove(item)

    # ── what this node knows ──────────────────────────────────────────────────────────────────────────────────

    @property
    def bytes_sent(self) -> int:
        """On the wire, to all peers, since this process began."""
        return sum(status.bytes_sent for status in self.mesh.links().values())

    @property
    def tls(self) -> TlsFacts | None:
        """What the latest link's TLS session runs on; None before the first link."""
        return self.intake.tls

    def _standing(self) -> Standing:
        entries, root = self.books.stands()
        return Standing(entries, root, self.books.root_at, self.epsilon, lambda run: self._begun.get(run, (0, 0)))

    def _tell(self, kind: str, **facts: Any) -> None:
        self.observer(Progress(kind, facts))
