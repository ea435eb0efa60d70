"""Carries out what the rounds decide: one method for each kind of effect, in order, and what follows from each.

Letters to each peer leave through a queue of their own, so that a slow peer slows nobody else, and two that send much
cannot block each other. Whatever blocks (masks, sums, fsync) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, assert_never

from p2pfl import codec
from p2pfl.clocks import Clocks
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.mesh import TakesNothing
from p2pfl.home import Home
from p2pfl.home.sealing import EVIDENCE
from p2pfl.keys import digest
from p2pfl.mesh.mesh import Mesh
from p2pfl.messages import Letter, Message, read_proof
from p2pfl.node.hello import PEERS_ITEM, Greetings
from p2pfl.node.inbox import Inbox, LocalEvent
from p2pfl.node.logs import Logs
from p2pfl.node.progress import AttemptAbandoned, Observer, PhaseEntered, RoundFinal, RoundLeft, RuleBroken
from p2pfl.node.source import ActiveRun
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import FINAL_ITEM

MOST_WAITING: Final = 1 << 30  # bytes for one peer, most of them views of the vector: a round of a large model …
MOST_LETTERS: Final = 1 << 16  # … and letters
PARTING_S: Final = 2.0  # for what was said last to reach the mesh


class Outbox(asyncio.Queue[codec.Pieces]):
    """The letters for one peer; knows how many bytes wait in it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0

    def _put(self, item: codec.Pieces) -> None:
        self.waiting += item.size
        super()._put(item)

    def _get(self) -> codec.Pieces:
        item: codec.Pieces = super()._get()
        self.waiting -= item.size
        return item

    def drop(self) -> None:
        """Nothing waits any more."""
        while not self.empty():
            self.get_nowait()
            self.task_done()


class EffectRunner:
    """Carries out the effects of one node's runs.

    Set later: `behind(effect)` asks a peer that is asked for a sum for what this site may lack of the ledger;
    `drained(peer)` is told whenever that peer's link has taken a letter.
    """

    def __init__(
        self,
        home: Home,
        logs: Logs,
        mesh: Mesh,
        inbox: Inbox,
        greetings: Greetings,
        clocks: Clocks,
        observer: Observer,
    ) -> None:
        self.home, self.logs, self.mesh, self.inbox = home, logs, mesh, inbox
        self.greetings, self.clocks, self.observer = greetings, clocks, observer
        self.behind: Callable[[e.Send], None] = lambda effect: None
        self.drained: Callable[[str], None] = lambda peer: None
        self.queues: dict[str, Outbox] = {}
        self._expanding: asyncio.Task[None] | None = None
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
            case e.SetTimer():
                await self._set_timer(active, effect)
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
            case e.Noted():
                await self._noted(active, effect)
            case e.Stop():
                await self._stop(active, effect)
            case _:
                assert_never(effect)

    async def feed(self, active: ActiveRun, *events: e.Event) -> None:
        """Hand events to the run, and carry out what each leads to before the next one that does not only send."""
        left = list(events)
        while left:
            current = active.run.current
            before = (current.attempt, current.phase) if current is not None else None
            effects, left = await asyncio.to_thread(_handle, active.run, left)
            if current is not None and (current.attempt, current.phase) != before:
                self.observer(PhaseEntered(current.number, current.attempt, current.phase.value))
            await self.carry_out(active, effects)

    async def model_came(self, active: ActiveRun) -> None:
        """The model that the ledger names is here: apply what waited for it."""
        active.lacking, delayed, active.delayed = False, active.delayed, []
        await self.carry_out(active, list(delayed))

    async def post(self, peer: str) -> None:
        """Hand one peer's letters to the mesh, as fast as its link takes them."""
        queue = self.queues[peer]
        while True:
            await self.mesh.send(peer, await queue.get())
            queue.task_done()
            self.drained(peer)

    def waiting(self, peer: str) -> int:
        """Bytes of letters that the peer's link has not taken."""
        return self.queues[peer].waiting

    def _put(self, peer: str, wire: codec.Pieces) -> None:
        """Into the peer's queue; from one that takes nothing all is dropped, as if its link had never come up."""
        queue = self.queues[peer]
        queue.put_nowait(wire)
        if queue.waiting > MOST_WAITING or queue.qsize() > MOST_LETTERS:
            evidence = f"{queue.qsize()} letters of {queue.waiting} bytes in all waited"
            queue.drop()
            self.mesh.cut(peer, TakesNothing(peer=peer, evidence=evidence))

    async def part(self) -> None:
        """Wait, for a moment at most, until the mesh has what was said last."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING_S):
                await asyncio.gather(*(queue.join() for queue in self.queues.values()))

    def send(self, peer: str, letter: Letter[Message]) -> None:
        """One letter to one peer."""
        self._put(peer, letter.pieces)

    def store(self, run_id: bytes, items: tuple[tuple[str, e.Stored], ...]) -> None:
        """Make items of a run durable; blocks."""
        for item, data in items:
            if data is None:
                self.home.remove(item)
            else:
                self.home.replace(item, codec.with_tail(run_id, *(data if isinstance(data, codec.Pieces) else (data,))))

    # ── one for each kind ─────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, active: ActiveRun, effect: e.Send) -> None:
        wire = effect.letter.pieces
        for peer in self.queues if effect.to is None else (effect.to,):
            self._put(peer, wire)
        self.behind(effect)

    async def _persist(self, active: ActiveRun, effect: e.Persist) -> None:
        await asyncio.to_thread(self.store, active.run.setting.run, effect.items)
        self._follow.append((active, effect.stored(self.clocks.now())))

    async def _set_timer(self, active: ActiveRun, effect: e.SetTimer) -> None:
        self.inbox.put_at(LocalEvent(active.run.setting.run, effect.event))

    async def _quantise(self, active: ActiveRun, effect: e.Quantise) -> None:
        vectors = await asyncio.to_thread(active.source_of(effect.round).words, effect)
        self._follow.append((active, e.WordsReady(self.clocks.now(), effect.round, effect.attempt, vectors)))

    async def _ahead(self, active: ActiveRun, effect: e.Ahead) -> None:
        """In a thread beside everything else; nothing waits for it."""
        segments = active.source.shape(effect.round)
        if segments:
            self._expanding = asyncio.create_task(self._expand(active, effect, segments))

    async def _expand(self, active: ActiveRun, effect: e.Ahead, segments: tuple[tuple[int, int], ...]) -> None:
        masks = await asyncio.to_thread(effect.masks, segments)
        ready = e.MasksReady(self.clocks.now(), effect.round, effect.attempt, effect.bundles, masks)
        self.inbox.put(LocalEvent(active.run.setting.run, ready))

    async def _apply(self, active: ActiveRun, effect: e.Apply) -> None:
        if active.lacking:
            active.delayed.append(effect)
            return
        model, outcome = await asyncio.to_thread(active.source_of(effect.round).apply, effect)
        self._follow.append((active, e.Applied(self.clocks.now(), effect.round, model, outcome)))

    async def _retract(self, active: ActiveRun, effect: e.Retract) -> None:
        if active.models is not None:
            await asyncio.to_thread(active.models.retract, effect.to)

    async def _stop(self, active: ActiveRun, effect: e.Stop) -> None:
        await self.part()
        raise effect.error  # the mesh, when it stops, waits until what it was given is acknowledged

    async def _noted(self, active: ActiveRun, effect: e.Noted) -> None:
        await self._note(active, effect.kind, effect.facts)
        if effect.kind == "abandoned":
            self.observer(AttemptAbandoned(**{key: effect.facts[key] for key in ("round", "attempt", "waited_for")}))

    async def _note(self, active: ActiveRun, kind: str, facts: dict[str, Any]) -> None:
        setting = active.run.setting
        await asyncio.to_thread(self.logs.note_of_round, setting.run, setting.roster.epoch, kind, facts)

    async def _accuse(self, active: ActiveRun, effect: e.Accuse) -> None:
        proof = codec.pack(effect.proof) if effect.proof else b""
        named = digest("evidence", proof) if proof else None
        if named is not None:
            await asyncio.to_thread(self.home.replace, f"{EVIDENCE}/{named.hex()[:16]}", proof)
        facts = {"round": effect.round, "attempt": effect.attempt, "peer": effect.peer, "code": effect.error.code}
        await self._note(active, "breach", {**facts, "proof": named.hex() if named else None})
        self.observer(RuleBroken(effect.peer, effect.error, proof=named.hex()[:16] if named else ""))

    async def note_breach(self, active: ActiveRun, error: RemoteProtocolError) -> None:
        """A peer broke a rule of the link: noted once a round, and told. Its letters are as good as before."""
        peer, number = error.fields["peer"], active.run.number
        if self._noted_breaches.get((peer, error.code)) == number:
            return
        self._noted_breaches[(peer, error.code)] = number
        facts = {"round": number, "attempt": 0, "peer": peer, "code": error.code, "proof": None}
        await self._note(active, "breach", facts)
        self.observer(RuleBroken(peer, error, proof=""))

    def proofs(self) -> list[tuple[bytes, ...]]:
        """The letters of every proof that this home keeps. Raises ItemDamaged, Malformed."""
        kept = [self.home.read(item) for item in self.home.items(EVIDENCE)]
        return [read_proof(data) for data in kept if data]

    async def _left_behind(self, active: ActiveRun, effect: e.LeftBehind) -> None:
        facts = {"round": effect.round, "attempt": effect.attempt, "lacking": list(effect.lacking), "sent": effect.sent}
        await self._note(active, "left", facts)
        self.observer(RoundLeft(effect.round, effect.attempt, effect.lacking, effect.sent))
        source = active.source
        active.older[effect.round] = source
        source.left(effect)

    async def _finished(self, active: ActiveRun, effect: e.Finished) -> None:
        """Durable in this order: the new model beside the old, the sum for those who missed it, the ledger entry."""
        done = active.run.rounds.get(effect.round)
        if done is None:
            return
        await asyncio.to_thread(self._settle, active, done, effect)
        settled = active.run.finished(effect.round)
        active.older.pop(effect.round, None)
        record = codec.read_facts(effect.record)
        self.observer(
            RoundFinal(
                round=done.number,
                rounds=active.rounds,
                survivors=record["survivors"],
                outcome=record["outcome"],
                epsilon=record["epsilon"],
                configuration=record["configuration"],
                seconds=self.clocks.now() - active.began,
                bytes_sent=self.bytes_sent - active.bytes_before,
                payload_bytes=sum(vector.words.nbytes for vector in done.state.sum.total),
            )
        )
        await self.carry_out(active, settled)

    def _settle(self, active: ActiveRun, done: Round, effect: e.Finished) -> None:
        models = active.source_of(done.number).models
        if models is not None:
            models.write_next(done.number)
        self.store(active.run.setting.run, ((FINAL_ITEM, done.keepsake()),))
        self.logs.finish(effect.record, effect.cosignatures)
        if models is not None:
            models.make_current(done.number)
        self.home.replace(PEERS_ITEM, self.greetings.statements())
        self.home.remove(done.state.item)
        if done.state.leaving.slot is not None:
            self.home.remove(done.state.sums_item)

    @property
    def bytes_sent(self) -> int:
        """On the wire, to all peers, since this process began."""
        return sum(status.bytes_sent for status in self.mesh.links().values())


def _handle(run: Run, events: list[e.Event]) -> tuple[list[e.Effect], list[e.Event]]:
    """The effects of the first events, up to one that asks for more than to send; and the events behind it."""
    effects: list[e.Effect] = []
    for place, event in enumerate(events, 1):
        effects += run.handle(event)
        if any(not isinstance(effect, e.Send) for effect in effects):
            return effects, events[place:]
    return effects, []
