"""One peer of a simulated federation: the real `Round`, a disk that is a dict, and death between any two effects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

from p2pfl import codec
from p2pfl.codec import Pieces
from p2pfl.errors import P2PFLError, RemoteProtocolError
from p2pfl.errors.round import MalformedMessage
from p2pfl.keys import Identity, SignedRecord, digest
from p2pfl.messages import Behind, Entries, Envelope, Letter, Message, seal
from p2pfl.roster import Roster
from p2pfl.sharing import events as e
from p2pfl.sharing import fairness
from p2pfl.sharing.catchup import CatchUpRules, begins_next, epoch_ends, newest_rounds, wanted_round
from p2pfl.sharing.digests import base_digest, total_digest
from p2pfl.sharing.history import NO_BASE, Base
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import FINAL_ITEM, Context

MOST_SUM: Final = 1 << 30  # bytes of a sum


@functools.lru_cache(maxsize=1024)
def _facts(record: bytes) -> codec.Facts:
    """What a record says; looked at after every event, and changed by nobody."""
    return codec.read_facts(record)


class World(Protocol):
    """What a simulated peer may touch."""

    length: int
    hub: str | None

    @property
    def now(self) -> float: ...
    def sent(self, to: str | None, letter: Letter[Message]) -> None: ...
    def carry(self, sender: str, to: str, letter: Letter[Message]) -> None: ...
    def timer(self, peer: SimulatedPeer, event: e.Event) -> None: ...
    def dies(self, peer: SimulatedPeer) -> bool: ...
    def died(self, peer: SimulatedPeer) -> None: ...
    def update(self, name: str, number: int) -> tuple[e.Vector, ...]: ...
    def draw(self, count: int) -> bytes: ...
    def entries(self, name: str) -> int:
        """How many the ledger of `name` holds, as its hello says."""


class Died(Exception):
    """The simulated process was killed here."""


@dataclass
class VirtualDisk:
    """What outlives a process: sealed items and the federation log, one record for each final round."""

    items: dict[str, bytes] = field(default_factory=dict)
    ledger: list[bytes] = field(default_factory=list)
    signatures: list[dict[str, bytes]] = field(default_factory=list)  # beside the ledger
    totals: list[tuple[e.Vector, ...]] = field(default_factory=list)  # beside the ledger, for the test to look at
    notes: list[e.Noted] = field(default_factory=list)
    looked: int = 0  # the last round of which an operator has seen whether this site was left out
    proofs: list[tuple[bytes, ...]] = field(default_factory=list)  # letters that prove that a peer broke the protocol

    @property
    def last(self) -> tuple[int, bytes]:
        """The last final round, and the digest of its record."""
        if not self.ledger:
            return NO_BASE
        return _facts(self.ledger[-1])["round"], base_digest(self.ledger[-1])

    @property
    def missed(self) -> frozenset[str]:
        """The sites that the last final round went without."""
        return frozenset(codec.read_facts(self.ledger[-1])["left_out"]) if self.ledger else frozenset()

    @property
    def announced(self) -> bytes:
        """Digest of the change of membership that the last round announces; empty when it announces none."""
        record = _facts(self.ledger[-1]) if self.ledger else {}
        return bytes.fromhex(record.get("announced", ""))

    # The federation log as sharing/catchup.py reads it: rounds of one run and one epoch, without a genesis.

    @property
    def entries(self) -> int:
        return len(self.ledger)

    @property
    def epochs(self) -> None:
        return None

    def bases(self) -> dict[bytes, Base]:
        return {bytes.fromhex(_facts(self.ledger[-1])["run"]): self.last} if self.ledger else {}

    def rows(self, first: int, most: int, most_bytes: int) -> list[SignedRecord]:
        held: list[SignedRecord] = list(zip(self.ledger, self.signatures, strict=True))
        return held[first : first + most]

    def adopt(self, rows: Sequence[SignedRecord]) -> None:
        """Take over the records of rounds that this site did not sum."""
        for record, signed in rows:
            self.ledger.append(record)
            self.signatures.append(dict(signed))
            self.totals.append(())

    @property
    def model(self) -> bytes:
        """The model is a digest chain over the sums that were applied."""
        record = _facts(self.ledger[-1]) if self.ledger else {}
        return bytes.fromhex(record["model_after"]) if record else digest("model")


class SimulatedPeer:
    """Drives one `Round` after another, as node.py does with real sockets and a real home."""

    def __init__(
        self, world: World, name: str, identity: Identity, roster: Roster, run_id: bytes, rounds: int, bits: int
    ) -> None:
        self.world, self.name, self.identity = world, name, identity
        self.roster, self.run_id, self.rounds, self.bits = roster, run_id, rounds, bits
        self.disk = VirtualDisk()
        self.alive = False
        self.incarnation = b""
        self.run: Run | None = None
        self.error: P2PFLError | None = None  # what ended its last process, if that was not death
        self._next: list[e.Event] = []
        self.catch_up = CatchUpRules(self.disk, self.roster, b"")
        self.models: dict[int, bytes] = {}  # by round, of those that are applied and not final
        self.accused: list[e.Accuse] = []
        self.left: list[e.LeftBehind] = []
        self.holds: Callable[[int], bytes] = lambda number: b""  # by round: the change of membership that it announces

    @property
    def final_round(self) -> int:
        """The number of the last final round."""
        return self.disk.last[0]

    def context(self) -> Context:
        federation_digest = digest("federation")
        return Context(
            run=self.run_id,
            roster=self.roster,
            me=self.name,
            identity=self.identity,
            incarnation=self.incarnation,
            federation_digest=federation_digest,
            draw=self.world.draw,
            spent=dict,  # no ledger here says what a peer has spent
            left_out=lambda: fairness.left_out(_facts(record) for record in self.disk.ledger),
            sum_bytes=lambda configuration: MOST_SUM,
            check_support=lambda configuration, support, peers, peer: None,  # nothing is nominated here
            hub=self.world.hub,
        )

    def model_of(self, number: int) -> bytes:
        """The model after round `number`."""
        return self.models.get(number, self.disk.model)

    @property
    def round(self) -> Round | None:
        """The round under way."""
        return self.run.current if self.run is not None else None

    def boot(self) -> None:
        """A new process on the same disk; its links may come up now."""
        self.alive, self.incarnation, self.error = True, self.world.draw(16), None
        self.run = Run(self.context(), self.final_round, self.disk.last, self.world.now)
        self.run.peers.missed = self.disk.missed
        self.run.recall(self.disk.proofs)
        self.catch_up = CatchUpRules(self.disk, self.roster, b"")
        self.models = {}

    def begin(self) -> None:
        """Take up what the disk says was going on, or the next round."""
        self._mortal(self._resume)

    def kill(self) -> None:
        """The process is gone; the disk stays."""
        was, self.alive, self.run, self._next = self.alive, False, None, []
        if was:
            self.world.died(self)

    def end(self, error: P2PFLError) -> None:
        """The process ends with an error."""
        self.error = error
        self.kill()

    def feed(self, event: e.Event) -> None:
        """Hand an event to the rounds, and do what they answer."""
        if self.alive:
            self._mortal(lambda: self._feed(event))

    def breach(self, error: RemoteProtocolError) -> None:
        """What came over a link was no letter of its peer."""
        if self.alive:
            self._mortal(lambda: self._carry_out(self.run.breach(error)) if self.run is not None else None)

    def _mortal(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Died:
            self.kill()
        except P2PFLError as error:  # ends a node, too: with an exit status, and a text that names who is at fault
            self.end(error)

    def _feed(self, event: e.Event) -> None:
        if self.run is not None:
            if isinstance(event, e.Received) and isinstance(event.letter.message, (Behind, Entries)):
                self._history(event.letter, self.run)
            else:
                self._ask(event, self.run)
                self._carry_out(self.run.handle(event))
            self._begin()

    # ── what was missed ───────────────────────────────────────────────────────────────────────────────────────

    def _say(self, question: Message | None, to: str) -> None:
        if question is not None:
            envelope = Envelope(self.run_id, self.roster.epoch, 0, 0, self.name, self.incarnation)
            self._send(e.Send(to, seal(question, envelope, self.identity)))

    def _ask(self, event: e.Event, run: Run) -> None:
        """A new link, or a letter of a round far ahead: the far end may hold rounds that this peer lacks."""
        if isinstance(event, e.LinkUp):
            entries = self.world.entries(event.peer)
            self._say(self.catch_up.ask_on_link(event.peer, entries, self.world.now), event.peer)
        elif isinstance(event, e.Received):
            letter = event.letter
            self._say(self.catch_up.ask_on_letter(letter, run, self.world.now), letter.sender)

    def _history(self, letter: Letter[Message], run: Run) -> None:
        message, sender = letter.message, letter.sender
        if isinstance(message, Behind):
            for answer in self.catch_up.answer(message, lambda wanted: None):
                self._say(answer, sender)
        elif isinstance(message, Entries):
            current = {self.run_id: wanted_round(run, len(self.disk.ledger) < self.rounds)}
            try:
                rows = self.catch_up.rows_that_count(sender, message, current)
            except MalformedMessage as error:
                self._carry_out(run.breach(error))
                return
            self.disk.adopt(rows)
            for number, record in newest_rounds(rows).values():
                self._carry_out(run.adopt(number, record))
            if rows:
                self._say(self.catch_up.ask(sender, self.world.now), sender)

    def _carry_out(self, effects: list[e.Effect]) -> None:
        """Do all of it, then what follows from it, before anything else comes in."""
        for effect in effects:
            if self.world.dies(self):
                raise Died
            self._carry_out_one(effect)
        while self._next:
            follow = self._next.pop(0)
            if self.run is not None:
                self._carry_out(self.run.handle(follow))

    def _carry_out_one(self, effect: e.Effect) -> None:  # noqa: C901 (one case a kind)
        match effect:
            case e.Send():
                self._send(effect)
            case e.Persist():
                self._persist(effect)
            case e.SetTimer(event):
                self.world.timer(self, event)
            case e.WriteAhead():
                pass  # nothing is durable by it
            case e.GoOn(event):
                self._next.append(event)
            case e.Quantise():
                self._quantise(effect)
            case e.Ahead():
                self._ahead(effect)
            case e.Apply():
                self._apply(effect)
            case e.Finished():
                self._finished(effect)
            case e.NoteBundle() | e.NoteBallot() | e.NoteAbandoned() | e.NoteMissed():
                self.disk.notes.append(effect)
            case e.Stop(error):
                raise error
            case e.Accuse():
                self._accuse(effect)
            case e.LeftBehind():
                self.left.append(effect)
            case e.Retract():
                self._retract(effect)
            case _:
                assert_never(effect)

    def _resume(self) -> None:
        if self.run is not None:
            self._carry_out(self.run.resume(self.disk.items))
            self._begin()

    def _begin(self) -> None:
        run = self.run
        if run is None or len(self.disk.ledger) >= self.rounds or epoch_ends(run, self.disk.announced):
            return
        if begins_next(run, len(self.disk.ledger), self.rounds):
            self._carry_out(run.begin(self.world.now))
        if run.wants_update and run.current is not None:
            self._check_fairness()
            configuration = codec.facts({"field": str(self.bits)})
            number = run.number
            epsilon = f"{0.1 * number:.4f}"
            model = self.model_of(run.tip[0])
            proposal = e.Proposal(model, configuration, b"", 20_000, 0, epsilon, digest("head"), self.holds(number))
            self._carry_out(run.handle(e.UpdateReady(self.world.now, number, proposal)))

    def _check_fairness(self) -> None:
        missed = {note.round: note.coordinator for note in self.disk.notes if isinstance(note, e.NoteMissed)}
        records = (_facts(record) for record in self.disk.ledger)
        later = (facts for facts in records if facts["round"] > self.disk.looked)
        fairness.check(fairness.taken_part(later, missed, self.name))

    # ── effects ──────────────────────────────────────────────────────────────────────────────────────────────

    def _accuse(self, effect: e.Accuse) -> None:
        self.accused.append(effect)
        if effect.proof:
            self.disk.proofs.append(effect.proof)

    def _send(self, effect: e.Send) -> None:
        self.world.sent(effect.to, effect.letter)
        others = [name for name in self.roster.names if name != self.name]
        for name in others if effect.to is None else [effect.to]:
            self.world.carry(self.name, name, effect.letter)
        if effect.to is not None:
            self._say(self.catch_up.ask_on_sending(effect, self.world.now), effect.to)

    def _persist(self, effect: e.Persist) -> None:
        for item, data in effect.items:
            if data is None:
                self.disk.items.pop(item, None)
            else:
                self.disk.items[item] = b"".join(data) if isinstance(data, Pieces) else data
        self._next.append(effect.stored(self.world.now))

    def _quantise(self, effect: e.Quantise) -> None:
        words = self.world.update(self.name, effect.round)
        self._next.append(e.WordsReady(self.world.now, effect.round, effect.attempt, words))

    def _ahead(self, effect: e.Ahead) -> None:
        masks = effect.masks(((self.bits, self.world.length),), ())
        self._next.append(e.MasksReady(self.world.now, effect.round, effect.attempt, effect.bundles, masks))

    def _apply(self, effect: e.Apply) -> None:
        after = digest("model", self.model_of(effect.base), total_digest(effect.vectors))
        self.models[effect.round] = after
        self._next.append(e.Applied(self.world.now, effect.round, after, {}))

    def _retract(self, effect: e.Retract) -> None:
        self.models = {number: model for number, model in self.models.items() if number <= effect.to}

    def _finished(self, effect: e.Finished) -> None:
        run = self.run
        done = run.rounds.get(effect.round) if run is not None else None
        if run is None or done is None:
            return
        self.disk.items[FINAL_ITEM] = b"".join(done.keepsake())
        if self.world.dies(self):
            raise Died
        self.disk.signatures.append(effect.cosignatures)
        self.disk.ledger.append(effect.record)
        self.disk.totals.append(done.state.sum.total)
        if self.world.dies(self):
            raise Died
        self.disk.items.pop(done.state.item, None)
        if done.state.leaving.slot is not None:
            self.disk.items.pop(done.state.sums_item, None)
        self._carry_out(run.finished(effect.round, lambda: self.disk.items))
