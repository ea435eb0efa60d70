"""A site that was away is brought up to date: the records of the rounds that it missed, and the newest model.

A record counts when a quorum signed it, and a model when a record names its digest, so anyone may be asked. The last
round is not taken over as a record while its sum can still be had (sharing/phases/fetch.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import BulkRejected, MalformedMessage
from p2pfl.federation import Federation
from p2pfl.federation.membership import Epochs, genesis_digest
from p2pfl.keys import Identity, digest
from p2pfl.messages import Behind, Entries, Envelope, Letter, Message, ModelPart, seal
from p2pfl.node.effects import EffectRunner
from p2pfl.node.inbox import LocalEvent
from p2pfl.node.logs import Logs
from p2pfl.node.progress import RoundsTakenOver
from p2pfl.node.runs.models import BEHIND
from p2pfl.node.source import ActiveRun, ModelStore
from p2pfl.roster import Roster
from p2pfl.sharing import events as e
from p2pfl.sharing.history import SignedRecord, check_rows, to_adopt

AGAIN_S: Final = 5.0  # so often the same peer is asked at most
ROWS: Final = 128
ROWS_BYTES: Final = 8 << 20
PART_BYTES: Final = 256 << 10
PARTS: Final = 32  # of a model, for one question
MOST_ANSWERED: Final = 2 * PARTS * PART_BYTES  # bytes that wait for a peer: above it its questions wait, too
MODEL_AGAIN_S: Final = 10.0  # a model that did not come is asked of another peer
HISTORY: Final = (Behind, Entries, ModelPart)


@dataclass
class Wanted:
    """A model that is being fetched."""

    digest: bytes
    peer: str
    length: int  # bytes, as this site's own task says: whoever claims another one sends no model of it
    data: bytearray = field(default_factory=bytearray)


class CatchUpRules:
    """Asks, answers, and checks what is answered.

    model_of   by digest, the bytes of a model that this site has
    before     marks on the disk that the ledger is about to name a model that is not here yet
    genesis    of a later epoch: SHA-256 of the entry with which the log begins
    """

    def __init__(
        self,
        logs: Logs,
        roster: Roster,
        now: Callable[[], float],
        model_of: Callable[[bytes], memoryview | None],
        before: Callable[[], None],
        genesis: bytes = b"",
    ) -> None:
        self._genesis = genesis
        self._logs, self._roster, self._now, self._model_of, self._before = logs, roster, now, model_of, before
        self._asked: dict[str, float] = {}
        self.wanted: Wanted | None = None

    def ask(self, peer: str) -> Behind | None:
        """The question for entries that this log lacks; None when it was put a moment ago."""
        if self._now() - self._asked.get(peer, -AGAIN_S) < AGAIN_S:
            return None
        self._asked[peer] = self._now()
        return Behind(len(self._logs.federation), b"", 0)

    def want_model(self, digest: bytes, peer: str, length: int) -> Behind:
        """The question for a model of so many bytes, from its first one on."""
        self.wanted = Wanted(digest, peer, length)
        return Behind(len(self._logs.federation), digest, 0)

    def answer(self, message: Behind) -> list[Message]:
        """What this site has of what a peer asks for."""
        if not message.model:
            rows = self._logs.rows(message.entries, ROWS, ROWS_BYTES)
            listed = tuple((record, tuple(sorted(signed.items()))) for record, signed in rows)
            return [Entries(message.entries, len(self._logs.federation), listed)] if rows else []
        data = self._model_of(message.model)
        if data is None:
            return []
        starts = range(message.start, min(len(data), message.start + PARTS * PART_BYTES), PART_BYTES)
        return [ModelPart(message.model, len(data), at, bytes(data[at : at + PART_BYTES])) for at in starts]

    def take(
        self, letter: Letter[Message], message: Entries, current: dict[bytes, int]
    ) -> dict[bytes, tuple[int, bytes]]:
        """Write what holds of the entries; by run, the newest round that came in, and its record.

        current   by run, the round under way here
        Raises MalformedMessage naming who sent entries that do not hold.
        """
        if message.first != len(self._logs.federation) or not message.rows:
            return {}
        rows = [(record, dict(signed)) for record, signed in message.rows]
        try:
            held = check_rows(rows, self._roster, self._logs.bases(), self._steps(rows))
        except (Malformed, KeyError) as error:
            raise MalformedMessage(peer=letter.sender, evidence=f"entries of its ledger: {error}") from None
        last = codec.read_facts(held[-1][0]) if held else {}
        if "run" in last:  # behind the last round of an epoch stands the change: then that round is taken over too
            held = to_adopt(held, current.get(bytes.fromhex(last["run"]), 0))
        if not held:
            return {}
        self._before()
        self._logs.adopt(held)
        self._asked.pop(letter.sender, None)  # there may be more
        found: dict[bytes, tuple[int, bytes]] = {}
        for record, _ in held:
            facts = codec.read_facts(record)
            if "run" in facts:
                found[bytes.fromhex(facts["run"])] = (facts["round"], record)
        return found

    def _steps(self, rows: Sequence[SignedRecord]) -> Epochs:
        """The epochs of this log, to be followed through the rows. Raises Malformed when they begin elsewhere."""
        if not len(self._logs.federation) and genesis_digest(rows[0][0]) != self._genesis:
            raise Malformed("the log does not begin with the genesis that peers.yaml names")
        return self._logs.epochs

    def part(self, sender: str, message: ModelPart) -> tuple[Behind | None, bytes | None]:
        """The next question for the model that is fetched, and the model's bytes once they are whole.

        Raises BulkRejected naming who sent parts that are of no model.
        """
        wanted = self.wanted
        if wanted is None or (sender, message.model) != (wanted.peer, wanted.digest):
            return None, None
        if message.start < len(wanted.data):
            return None, None  # of an earlier question
        fits = message.start == len(wanted.data) and message.length == wanted.length and message.data
        if not fits or len(wanted.data) + len(message.data) > wanted.length:
            raise BulkRejected(peer=sender, evidence=f"a part of a model at {message.start} of {message.length}")
        wanted.data += message.data
        if len(wanted.data) == wanted.length:
            self.wanted = None
            return None, bytes(wanted.data)
        more = len(wanted.data) % (PARTS * PART_BYTES) == 0
        return (Behind(len(self._logs.federation), wanted.digest, len(wanted.data)) if more else None), None


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
        self._rules = CatchUpRules(
            effects.logs,
            federation.roster,
            self._now,
            self._model_of,
            lambda: effects.home.replace(BEHIND, b"\x01"),
            federation.genesis,
        )
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
        return self._rules.wanted.peer if self._rules.wanted is not None else ""

    def ask(self, peer: str) -> None:
        """Ask `peer` for entries that this ledger lacks, unless it was asked a moment ago."""
        begun = len(self._logs.federation) or self._envelope.epoch > 1
        question = self._rules.ask(peer) if begun else None
        if question is not None and peer in self._effects.queues:
            self.say(peer, question)

    def ask_model(self, wanted: bytes, after: str = "") -> None:
        """Ask one peer after another for the model, behind `after`, and each whether there is a newer one."""
        peers = sorted(self.up) or sorted(self._effects.queues)
        peer = next((name for name in peers if name > (after or self.wanted)), peers[0])
        self._ask_model(wanted, peer)
        self.ask(peer)

    def _ask_model(self, wanted: bytes, peer: str) -> None:
        self._model_asked = self._now()
        length = max(models.model_bytes for models in self._models())
        self.say(peer, self._rules.want_model(wanted, peer, length))
        later = e.Tick(self._model_asked + MODEL_AGAIN_S + 1.0, 0, 0)
        self._effects.inbox.put_at(LocalEvent(next(iter(self._runs)), later))  # only wakes the node

    def fetching(self, now: float) -> bool:
        """A model is lacking; one that does not come is asked of the next peer."""
        if self._rules.wanted is None:
            return False
        if now - self._model_asked > MODEL_AGAIN_S:
            self.ask_model(self._rules.wanted.digest)
        return True

    def _current(self, run_id: bytes, active: ActiveRun) -> int:
        """The round under way; before a run begins one, the one that it is about to begin: its sum is wanted, too."""
        begins = self._effects.logs.count(run_id) < active.rounds
        return active.run.number or (active.run.final_round + 1 if begins else 0)

    async def take(self, active: ActiveRun, letter: Letter[Message]) -> None:
        """A peer asks for what it missed, or answers what this one asked."""
        message, sender = letter.message, letter.sender
        if isinstance(message, Behind) and self._effects.waiting(sender) > MOST_ANSWERED:
            # It asks more than it takes: two hundred bytes of a question are eight mebibytes of an answer.
            self._later[(sender, bool(message.model))] = letter
        elif isinstance(message, Behind):
            for answer in await asyncio.to_thread(self._rules.answer, message):
                self.say(sender, answer)
        elif isinstance(message, Entries):
            current = {run_id: self._current(run_id, each) for run_id, each in self._runs.items()}
            found = await self._checked(active, partial(self._rules.take, letter, message, current)) or {}
            for run_id, (number, record) in found.items():
                self._effects.observer(RoundsTakenOver(number, sender))
                if run_id in self._runs:
                    await self._adopt(self._runs[run_id], number, record, sender)
            if found:
                self.ask(sender)
        elif isinstance(message, ModelPart):
            more, data = await self._checked(active, partial(self._rules.part, sender, message)) or (None, None)
            if more is not None:
                self._model_asked = self._now()
                self.say(sender, more)
            if data is not None:
                lacking = next((each for each in self._runs.values() if each.lacking), active)
                await self._model(lacking, sender, data)

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
