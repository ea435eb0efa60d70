"""Carries out what rounds decide: one method for each kind of effect, in order, and then what follows from it.

What blocks (masks, sums, fsync) runs in a worker thread; a step that takes less than the way there does not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, assert_never

from p2pfl import codec
from p2pfl.errors import P2PFLError, RemoteProtocolError
from p2pfl.ledger.site_kinds import (
    AbandonedEntry,
    BallotEntry,
    BreachEntry,
    CommitmentEntry,
    LeftEntry,
    MissedEntry,
    SiteEntry,
)
from p2pfl.node.active import ActiveRun, Since
from p2pfl.node.inbox import Inbox, LocalEvent
from p2pfl.node.post import Post
from p2pfl.node.progress import AttemptAbandoned, Observer, PhaseEntered, RoundFinal, RoundLeft, RuleBroken
from p2pfl.node.site import SiteProcess
from p2pfl.node.store import Store
from p2pfl.node.weight import SMALL_WORDS, begins_light, is_light, is_small
from p2pfl.sharing import events as e
from p2pfl.sharing.room import POOL, Room, Rooms
from p2pfl.sharing.run import Run

# Seconds behind the beginning or end of a sum until memory that waits goes back to the system: longer than most sums
# over slow links take, which would else give theirs back while they last, and the next one ask for it anew.
REST_S: Final = 30.0


class AsksPeers(Protocol):
    """Questions to peers about entries that this site may lack (catchup.py)."""

    def ask_on_sending(self, effect: e.Send) -> None:
        """A peer that is asked for a round's sum is asked for entries too: it may be further on than that round."""


class EffectRunner:
    """Carries out the effects of one node's runs."""

    def __init__(
        self, site: SiteProcess, store: Store, post: Post, inbox: Inbox, catch_up: AsksPeers, observer: Observer
    ) -> None:
        self._clocks, self._store, self._post, self._inbox = site.clocks, store, post, inbox
        self._catch_up, self._observer = catch_up, observer
        self._rooms = Rooms()
        self._ahead_of = AheadOfSteps(store.begin)
        self._expanding: set[asyncio.Task[None]] = set()
        self._noted_breaches: dict[tuple[str, str], int] = {}  # by peer and code: the round in which it was noted
        self._follow: list[tuple[ActiveRun, e.Event]] = []

    async def carry_out(self, active: ActiveRun, effects: list[e.Effect]) -> None:
        """All effects in order, then what follows from them, before any other event."""
        for effect in effects:
            await self._carry_out_one(active, effect)
        while self._follow:
            await self.feed(*self._follow.pop(0))

    async def _carry_out_one(self, active: ActiveRun, effect: e.Effect) -> None:  # noqa: C901 (one case a kind)
        match effect:
            case e.Send():
                await self._send(active, effect)
            case e.Persist():
                await self._persist(active, effect)
            case e.WriteAhead():
                self._ahead_of.add(active.run.context.run, effect)
            case e.SetTimer():
                await self._set_timer(active, effect)
            case e.GoOn(event=event):
                self._follow.append((active, event))
            case e.Quantise():
                await self._quantise(active, effect)
            case e.Ahead():
                await self._ahead(active, effect)
            case e.Apply():
                await self._apply(active, effect)
            case e.Retract():
                await self._retract(active, effect)
            case e.Finished():
                await self._finished(active, effect)
            case e.LeftBehind():
                await self._left_behind(active, effect)
            case e.Accuse():
                await self._accuse(active, effect)
            case e.NoteBundle() | e.NoteBallot() | e.NoteAbandoned() | e.NoteMissed():
                await self._noted(active, effect)
            case e.Stop():
                await self._stop(active, effect)
            case _:
                assert_never(effect)

    async def begin(self, active: ActiveRun, now: float) -> None:
        """Begin the run's next round, with all letters that came early for it: there may be many."""
        run, since = active.run, Since(now, self._inbox.bytes_sent, False)
        effects = run.begin(now) if begins_light(run) else await asyncio.to_thread(run.begin, now)
        active.begun[run.number] = since
        await self.carry_out(active, effects)

    async def feed(self, active: ActiveRun, *events: e.Event) -> None:
        """Hand events to the run, and carry out what each leads to before the next one that does not only send."""
        left = deque(events)
        del events  # bulk is let go of as it is handled: a whole batch of it is a third of a vector
        while left:
            current = active.run.current
            before = (current.attempt, current.phase) if current is not None else None
            if is_light(active.run, left[0]):  # alone: what follows it is weighed anew
                effects = active.run.handle(left.popleft())
                await asyncio.sleep(0)  # thousands may wait, of one peer alone: links have their turn in between
            else:
                effects = await asyncio.to_thread(_handle, active.run, left)
            if current is not None and (current.attempt, current.phase) != before:
                self._observer(PhaseEntered(current.number, current.attempt, current.phase.value))
            await self.carry_out(active, effects)

    # ── one for each kind ─────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, active: ActiveRun, effect: e.Send) -> None:
        for peer in self._post.queues if effect.to is None else (effect.to,):
            self._post.send(peer, effect.letter)
        self._catch_up.ask_on_sending(effect)

    async def _persist(self, active: ActiveRun, effect: e.Persist) -> None:
        await self._ahead_of.done()
        await asyncio.to_thread(partial(self._store.replace, active.run.context.run, effect.items, anew=effect.anew))
        self._follow.append((active, effect.stored(self._clocks.now())))

    async def _set_timer(self, active: ActiveRun, effect: e.SetTimer) -> None:
        self._inbox.add_event_at(LocalEvent(active.run.context.run, effect.event))

    async def _quantise(self, active: ActiveRun, effect: e.Quantise) -> None:
        rooms = self._rooms.hand_over(_attempt(active, effect))
        vectors = await asyncio.to_thread(active.source_of(effect.round).words, replace(effect, rooms=rooms))
        self._follow.append((active, e.WordsReady(self._clocks.now(), effect.round, effect.attempt, vectors)))

    async def _ahead(self, active: ActiveRun, effect: e.Ahead) -> None:
        """Run beside everything else, many words in a thread: the words alone wait for it."""
        segments = active.source.shape(effect.round)
        # A model is no room of numbers: its update lies elsewhere, and minutes pass until the next one.
        rooms = self._rooms.open(_attempt(active, effect), segments if active.models is None else ())
        _rest_later()
        task = asyncio.create_task(self._expand(active, effect, segments, rooms))
        self._expanding.add(task)
        task.add_done_callback(self._expanding.discard)

    async def _expand(
        self, active: ActiveRun, effect: e.Ahead, segments: tuple[tuple[int, int], ...], rooms: tuple[Room, ...]
    ) -> None:
        masks: tuple[e.Vector, ...] = ()
        try:
            with contextlib.suppress(MemoryError):  # the words are masked from the seeds then, piece by piece
                if sum(length for _, length in segments) <= SMALL_WORDS:
                    masks = effect.masks(segments, rooms) if segments else ()
                else:
                    masks = await asyncio.to_thread(effect.masks, segments, rooms)
        finally:  # without them the words are masked from the seeds: they must not wait for ever
            ready = e.MasksReady(self._clocks.now(), effect.round, effect.attempt, effect.bundles, masks)
            self._inbox.add_event(LocalEvent(active.run.context.run, ready))

    async def _apply(self, active: ActiveRun, effect: e.Apply) -> None:
        if active.lacking:
            active.delayed.append(effect)
            return
        source = active.source_of(effect.round)
        if source.models is None and is_small(effect.vectors):  # an answer as small waits for the next step on the disk
            model, outcome = source.apply(effect)
        else:
            model, outcome = await asyncio.to_thread(source.apply, effect)
        self._follow.append((active, e.Applied(self._clocks.now(), effect.round, model, outcome)))

    async def _retract(self, active: ActiveRun, effect: e.Retract) -> None:
        if active.models is not None:
            await asyncio.to_thread(active.models.retract, effect.to)

    async def _stop(self, active: ActiveRun, effect: e.Stop) -> None:
        await self._post.part()
        raise effect.error  # the mesh, when it stops, waits until what it was given is acknowledged

    async def _noted(self, active: ActiveRun, effect: e.Noted) -> None:
        place = self._place(active, effect.round, effect.attempt)
        entry: SiteEntry
        match effect:
            case e.NoteBundle(digest=digest):
                entry = CommitmentEntry(**place, of="bundle", digest=digest)
            case e.NoteBallot(survivors=survivors):
                vote, view = "SURVIVORS" if survivors else "ABANDON", effect.view or None
                digest_or_none, waited_for = effect.attempt_digest or None, effect.waited_for
                entry = BallotEntry(**place, vote=vote, attempt_digest=digest_or_none, view=view, waited_for=waited_for)
            case e.NoteAbandoned(certificate=certificate, waited_for=waited_for):
                entry = AbandonedEntry(**place, certificate=certificate, waited_for=waited_for)
            case e.NoteMissed(coordinator=coordinator):
                entry = MissedEntry(**place, coordinator=coordinator)
            case _:
                assert_never(effect)
        # These two follow from the attempt's snapshot, which is durable before anybody sees it.
        soon = isinstance(effect, e.NoteBundle | e.NoteBallot)
        if not (soon and self._store.logs.note_at_once(entry)):
            await asyncio.to_thread(self._store.logs.note, entry, soon=soon)
        if isinstance(effect, e.NoteAbandoned):
            self._observer(AttemptAbandoned(effect.round, effect.attempt, effect.waited_for))

    def _place(self, active: ActiveRun, number: int, attempt: int) -> dict[str, Any]:
        """What every entry of the site log about an attempt has."""
        context, time = active.run.context, self._store.logs.time
        return {
            "time": time,
            "run": context.run,
            "epoch": context.roster.epoch,
            "round": number,
            "attempt": attempt,
        }

    async def _note(self, entry: SiteEntry) -> None:
        await asyncio.to_thread(self._store.logs.note, entry)

    async def _accuse(self, active: ActiveRun, effect: e.Accuse) -> None:
        named = await asyncio.to_thread(self._store.keep_proof, effect.proof) if effect.proof else None
        place = self._place(active, effect.round, effect.attempt)
        await self._note(BreachEntry(**place, peer=effect.peer, code=effect.error.code, proof=named))
        self._observer(RuleBroken(effect.peer, effect.error, proof=named.hex()[:16] if named else ""))

    async def note_breach(self, active: ActiveRun, error: RemoteProtocolError) -> None:
        """Note and tell, once a round, that a peer broke a rule of its link. Its letters count as before."""
        peer, number = error.fields["peer"], active.run.number
        if self._noted_breaches.get((peer, error.code)) == number:
            return
        self._noted_breaches[(peer, error.code)] = number
        await self._note(BreachEntry(**self._place(active, number, 0), peer=peer, code=error.code, proof=None))
        self._observer(RuleBroken(peer, error, proof=""))

    async def _left_behind(self, active: ActiveRun, effect: e.LeftBehind) -> None:
        place = self._place(active, effect.round, effect.attempt)
        await self._note(LeftEntry(**place, lacking=effect.lacking, sent=effect.sent))
        self._observer(RoundLeft(effect.round, effect.attempt, effect.lacking, effect.sent))
        source = active.older[effect.round] = active.source_of(effect.round)
        if source is active.source:  # nobody waits any more for what a call before this one would have summed
            source.left(effect)

    async def _finished(self, active: ActiveRun, effect: e.Finished) -> None:
        """Make durable in this order: the new model beside the old, the sum for sites that missed it, the entry."""
        done = active.run.rounds.get(effect.round)
        if done is None:
            return
        await asyncio.to_thread(self._store.finish, active, done, effect)
        self._rooms.hand_over(None)
        _rest_later()
        payload_bytes = sum(vector.words.nbytes for vector in done.state.sum.total)
        settled = active.run.finished(effect.round, self._store.reader(active.run))
        active.older.pop(effect.round, None)
        since = active.begun.pop(effect.round, active.resumed)
        record = codec.read_facts(effect.record)
        self._observer(
            RoundFinal(
                round=done.number,
                rounds=active.length,
                survivors=record["survivors"],
                outcome=record["outcome"],
                epsilon=record["epsilon"],
                configuration=record["configuration"],
                seconds=self._clocks.now() - since.at,
                bytes_sent=self._inbox.bytes_sent - since.bytes_before,
                payload_bytes=payload_bytes,
                taken_up=since.taken_up,
            )
        )
        await self.carry_out(active, settled)


class AheadOfSteps:
    """Writes what will be durable with a later step, beside everything else and one after the other."""

    def __init__(self, write: Callable[[bytes, e.WriteAhead], None]) -> None:
        self._write = write
        self._newest: tuple[bytes, e.WriteAhead] | None = None  # it holds all that those before it held
        self._task: asyncio.Task[None] | None = None

    def add(self, run_id: bytes, effect: e.WriteAhead) -> None:
        """Write it soon: what is under way is not waited for, and what waits is in it."""
        self._newest = run_id, effect
        if self._task is None:
            self._task = asyncio.create_task(self._all())

    async def done(self) -> None:
        """Nothing is being written, nor will be: the step comes that makes all of it durable."""
        self._newest = None
        if self._task is not None:
            await self._task

    async def _all(self) -> None:
        try:
            while (newest := self._newest) is not None:
                self._newest = None
                with contextlib.suppress(P2PFLError, MemoryError):  # the step writes it anew, or says why not
                    await asyncio.to_thread(self._write, *newest)
        finally:
            self._task = None


def _rest_later() -> None:
    """Memory of sums goes back to the system, unless another sum takes some until then."""
    asyncio.get_running_loop().call_later(REST_S, POOL.rest, POOL.taken)


def _attempt(active: ActiveRun, effect: e.Quantise | e.Ahead) -> tuple[bytes, int, int]:
    return active.run.context.run, effect.round, effect.attempt


def _handle(run: Run, left: deque[e.Event]) -> list[e.Effect]:
    """The effects of the events up to the first that asks for more than to send; those after it are left."""
    effects: list[e.Effect] = []
    while left and all(isinstance(effect, e.Send | e.WriteAhead) for effect in effects):
        effects += run.handle(left.popleft())
    return effects
