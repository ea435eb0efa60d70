"""A node's end of catching up: puts the questions to its peers, and brings the answers to its runs.

What is asked, answered and believed is for sharing/catchup.py to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from p2pfl.errors import RemoteProtocolError
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import Identity, SignedRecord, digest
from p2pfl.messages import Behind, Entries, Envelope, Letter, Message, ModelPart, seal
from p2pfl.node.effects import EffectRunner
from p2pfl.node.inbox import LocalEvent
from p2pfl.node.logs import Logs
from p2pfl.node.progress import RoundsTakenOver
from p2pfl.node.runs.models import BEHIND
from p2pfl.node.source import ActiveRun, ModelStore
from p2pfl.sharing import events as e
from p2pfl.sharing.catchup import PART_BYTES, PARTS, CatchUpRules, ModelFetch, newest_rounds, wanted_round
from p2pfl.sharing.run import Run

MOST_ANSWERED: Final = 2 * PARTS * PART_BYTES  # bytes that wait for a peer, above which its questions wait too
MODEL_AGAIN_S: Final = 10.0  # seconds without a part of a model, after which another peer is asked
HISTORY: Final = (Behind, Entries, ModelPart)


def take_over(home: Home, logs: Logs, rows: Sequence[SignedRecord]) -> dict[bytes, tuple[int, bytes]]:
    """Write rows that count into the ledger; by run, the newest round among them and its record. Blocks.

    A mark on the disk says first that the ledger is about to name a model that is not here yet.
    """
    if rows:
        home.replace(BEHIND, b"\x01")
        logs.adopt(rows)
    return newest_rounds(rows)


class CatchUp:
    """Puts the questions to the peers whose links stand (`up`), and brings the answers to the runs."""

    def __init__(
        self,
        effects: EffectRunner,
        federation: Federation,
        identity: Identity,
        name: str,
        incarnation: bytes,
        runs: dict[bytes, ActiveRun],
    ) -> None:
        self._effects, self._identity, self._runs = effects, identity, runs
        self._logs, self._now = effects.logs, effects.clocks.now
        run_id, epoch = digest("run", federation.digest), federation.roster.epoch
        self._envelope = Envelope(run_id, epoch, 0, 0, name, incarnation)
        self._rules = CatchUpRules(effects.logs, federation.roster, federation.genesis)
        self._fetch = ModelFetch(effects.logs)
        self._model_asked = self._now()
        self.up: set[str] = set()
        self._roster = federation.roster
        self._met: set[str] = set()
        self._later: dict[tuple[str, bool], Letter[Message]] = {}  # the newest question, by peer and if of a model
        effects.drained = self._drained

    def came(self, peer: str) -> None:
        """The link to `peer` stands: it has said hello."""
        self.up.add(peer)
        self._met.add(peer)

    @property
    def unmet(self) -> dict[str, str]:
        """Whose hello this process has yet to hear before it draws secrets for a round; nobody's, from q−1 on.

        What it draws is bound to the nonces of those links, so that no copy of this machine draws the same; and they
        would have told a home that was set back that it is.
        """
        if len(self._met) >= self._roster.quorums.q - 1:
            return {}
        others = (name for name in self._roster.names if name not in (self._envelope.sender, *self._met))
        return dict.fromkeys(others, "its first hello")

    @property
    def wanted(self) -> str:
        """Who is asked for a model; empty when none is lacking."""
        return self._fetch.wanted.peer if self._fetch.wanted is not None else ""

    def ask(self, peer: str) -> None:
        """Ask `peer` for entries that this ledger lacks, unless it was asked a moment ago."""
        self._put(peer, lambda: self._rules.ask(peer, self._now()))

    def ask_on_link(self, peer: str, entries: int) -> None:
        """The link to `peer` stands, whose log holds that many entries: ask for those that this one lacks."""
        self._put(peer, lambda: self._rules.ask_on_link(peer, entries, self._now()))

    def ask_on_letter(self, letter: Letter[Message], run: Run) -> None:
        """Ask the sender of a letter that shows that it is further on than this site."""
        self._put(letter.sender, lambda: self._rules.ask_on_letter(letter, run, self._now()))

    def ask_on_sending(self, effect: e.Send) -> None:
        """Ask a peer that is asked for a sum, since it may be further on than its round."""
        if effect.to is not None:
            self._put(effect.to, lambda: self._rules.ask_on_sending(effect, self._now()))

    def _put(self, peer: str, question: Callable[[], Behind | None]) -> None:
        """Before the genesis is signed there is nothing to ask for."""
        begun = self._logs.entries or self._envelope.epoch > 1
        if begun and peer in self._effects.queues and (asked := question()) is not None:
            self.say(peer, asked)

    def ask_model(self, wanted: bytes, after: str = "") -> None:
        """Ask one peer after another for the model, behind `after`, and each whether there is a newer one."""
        peers = sorted(self.up) or sorted(self._effects.queues)
        peer = next((name for name in peers if name > (after or self.wanted)), peers[0])
        self._ask_model(wanted, peer)
        self.ask(peer)

    def _ask_model(self, wanted: bytes, peer: str) -> None:
        self._model_asked = self._now()
        length = max(models.model_bytes for models in self._models())
        self.say(peer, self._fetch.ask_for(wanted, peer, length))
        later = e.Tick(self._model_asked + MODEL_AGAIN_S + 1.0, 0, 0)
        self._effects.inbox.put_at(LocalEvent(next(iter(self._runs)), later))  # only wakes the node

    def fetching(self, now: float) -> bool:
        """A model is lacking; one that does not come is asked of the next peer."""
        if self._fetch.wanted is None:
            return False
        if now - self._model_asked > MODEL_AGAIN_S:
            self.ask_model(self._fetch.wanted.digest)
        return True

    def _wanted(self, run_id: bytes, active: ActiveRun) -> int:
        return wanted_round(active.run, self._logs.count(run_id) < active.rounds)

    async def take(self, active: ActiveRun, letter: Letter[Message]) -> None:
        """A peer asks for what it missed, or answers what this one asked."""
        message, sender = letter.message, letter.sender
        if isinstance(message, Behind) and self._effects.waiting(sender) > MOST_ANSWERED:
            # It asks more than it takes: two hundred bytes of a question are eight mebibytes of an answer.
            self._later[(sender, bool(message.model))] = letter
        elif isinstance(message, Behind):
            for answer in await asyncio.to_thread(self._rules.answer, message, self._model_of):
                self.say(sender, answer)
        elif isinstance(message, Entries):
            current = {run_id: self._wanted(run_id, each) for run_id, each in self._runs.items()}
            found = await self._checked(active, partial(self._take_over, sender, message, current)) or {}
            for run_id, (number, record) in found.items():
                self._effects.observer(RoundsTakenOver(number, sender))
                if run_id in self._runs:
                    await self._adopt(self._runs[run_id], number, record, sender)
            if found:
                self.ask(sender)
        elif isinstance(message, ModelPart):
            more, data = await self._checked(active, partial(self._fetch.add, sender, message)) or (None, None)
            if more is not None:
                self._model_asked = self._now()
                self.say(sender, more)
            if data is not None:
                lacking = next((each for each in self._runs.values() if each.lacking), active)
                await self._model(lacking, sender, data)

    def _take_over(self, sender: str, message: Entries, current: Mapping[bytes, int]) -> dict[bytes, tuple[int, bytes]]:
        return take_over(self._effects.home, self._logs, self._rules.rows_that_count(sender, message, current))

    def _drained(self, peer: str) -> None:
        """The peer has taken something: what it asked last may be answered now."""
        if self._later and self._effects.waiting(peer) <= MOST_ANSWERED:
            for kind in (False, True):
                if (letter := self._later.pop((peer, kind), None)) is not None:
                    self._effects.inbox.put(e.Received(self._now(), letter))

    async def _adopt(self, each: ActiveRun, number: int, record: bytes, peer: str) -> None:
        if each.models is not None and (wanted := await asyncio.to_thread(each.models.skip_to, number, record)):
            each.lacking = True
            self._ask_model(wanted, peer)
        await self._effects.carry_out(each, each.run.adopt(number, record))

    async def _model(self, active: ActiveRun, peer: str, data: bytes) -> None:
        models = active.models
        if models is not None:
            await self._checked(active, partial(models.accept_fetched, data, active.run.final_round, peer))
        if models is not None and models.lacking:
            self.ask_model(models.lacking, after=peer)
        else:
            await self._effects.model_came(active)

    async def _checked(self, active: ActiveRun, work: Callable[[], Any]) -> Any:
        """Its result; None when a peer's part in it broke the protocol, which is told."""
        try:
            return await asyncio.to_thread(work)
        except RemoteProtocolError as error:
            await self._effects.carry_out(active, active.run.breach(error))
            return None

    def _models(self) -> list[ModelStore]:
        return [each.models for each in self._runs.values() if each.models is not None]

    def _model_of(self, wanted: bytes) -> memoryview | None:
        found = (models.bytes_of(wanted) for models in self._models())
        return next((data for data in found if data is not None), None)

    def say_to_all(self, message: Message) -> None:
        """One letter between nodes, to every peer."""
        for peer in self._effects.queues:
            self.say(peer, message)

    def say(self, peer: str, message: Message) -> None:
        """One letter between nodes."""
        self._effects.send(peer, seal(message, self._envelope, self._identity))
