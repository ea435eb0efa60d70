"""One round as a sans-I/O machine: `handle(event)` returns the effects that the driver must carry out, in order.

The protocol is in `table.py`; this file only looks up the row, runs the action, and tries the READY rows until none is
true. An event that is refused raises, and nothing has changed. Letters that come too early are held here, bounded, and
handed in again when the phase has moved. DESIGN §4.2; docs/spec/sharing.md.
"""

from __future__ import annotations

from typing import Final

from p2pfl.codec import Malformed, pack, unpack
from p2pfl.errors.round import MalformedMessage, NotInThisVersion, UnexpectedEvent, UnexpectedMessage
from p2pfl.messages import Certificate, Chunk, Letter, SumChunk, read, seal
from p2pfl.sharing.events import CertificateStored, Effect, Event, OfAttempt, Received, Send, UpdateReady
from p2pfl.sharing.phases import ballot, confirm, owed
from p2pfl.sharing.state import Phase, Setting, State, pack_sums, read_vectors, restore
from p2pfl.sharing.table import EVENTS, READY, Ignore, Keep, Later, Row

EARLY_BYTES: Final = 256 << 20  # held for one peer that is a step ahead …
EARLY_LETTERS: Final = 4096  # … in at most so many letters


class Round:
    """Round `number` of a run, through all its attempts, until it is final."""

    def __init__(self, setting: Setting, number: int) -> None:
        self.state = State(setting, number)
        self.phase = Phase.SHARE
        self._early: dict[tuple[str, int, int, int], Letter] = {}  # (sender, attempt, kind, chunk)

    @classmethod
    def restored(cls, setting: Setting, snapshot: bytes, sums: bytes | None) -> tuple[Round, list[Effect]]:
        """The round that a process which died had begun, and what it owes the others now.

        A new process masks nothing in the attempt it finds. Under a certificate it does all that is left to do; before
        one it casts the ballot that it lacks, if it had not vouched for the sums. Raises Malformed.
        """
        state = restore(setting, snapshot)
        found = cls(setting, state.round)
        found.state = state
        if state.members is not None and sums is not None:
            state.masked = read_vectors(sums, state.attempt_digest)
        if state.certificate is not None:
            found.phase = Phase.UNMASK
            # A record on disk was signed before: it is said again, and counts.
            effects = found.handle(CertificateStored(state.now, state.round, state.attempt))
            return found, effects + (confirm.send(state) if state.record else [])
        found.phase = Phase.BALLOT
        if state.ballot is not None:
            return found, ballot.announce(state) + ballot.send(state)
        return found, ballot.announce(state) if state.ready is not None else ballot.abandon_restored(state)

    def keepsake(self) -> bytes:
        """What a final round keeps for peers that missed it: certificate, record, and the sum. Its secrets are gone."""
        state = self.state
        certificate = state.certificate.wire if state.certificate else b""
        return pack((state.round, state.attempt, certificate, state.record, pack_sums(state.total, b"")))

    @classmethod
    def finished(cls, setting: Setting, keepsake: bytes) -> Round:
        """The final round that `keepsake` is of, in a new process: it serves, and no more. Raises Malformed."""
        number, attempt, certificate, record, total = unpack(keepsake, most=1 << 40, items=8)
        found = cls(setting, number)
        state = found.state
        state.attempt, state.record, state.total = attempt, record, read_vectors(total, b"")
        if certificate:
            state.certificate = seal(read(certificate).message, state.envelope, setting.identity)
            state.outbox.append(Send(None, state.certificate))
        confirm.send(state)
        confirm.settled(state)
        found.phase = Phase.FINAL
        return found

    def settled(self) -> list[Effect]:
        """The round is in this peer's ledger; the others hear that."""
        return confirm.settled(self.state)

    @property
    def number(self) -> int:
        return self.state.round

    @property
    def attempt(self) -> int:
        return self.state.attempt

    def waiting_for(self) -> dict[str, str]:
        """By peer, what this round waits for, in words for people."""
        return owed.waited_for(self.state, self.phase)

    def handle(self, event: Event) -> list[Effect]:
        """Take one event; return what must be done, in order.

        Raises RemoteProtocolError naming the peer, or LocalProtocolError when this node's own code is at fault; then
        nothing has changed.
        """
        self.state.now = event.now
        before = (self.state.attempt, self.phase)
        effects = self._dispatch(event)
        effects += self._advance()
        while before != (self.state.attempt, self.phase) and self._early:
            before = (self.state.attempt, self.phase)
            held, self._early = self._early, {}
            for letter in held.values():
                effects += self._dispatch(Received(event.now, letter))
                effects += self._advance()
        return effects

    def _dispatch(self, event: Event) -> list[Effect]:
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, OfAttempt) and (event.round, event.attempt) != (self.state.round, self.state.attempt):
            return []
        if isinstance(event, UpdateReady) and event.round != self.number:
            return []  # of a round that was settled without it
        cell = EVENTS.get((self.phase, type(event)))
        if isinstance(cell, Ignore):
            return []
        if not isinstance(cell, Row):
            evidence = f"round {self.number}, attempt {self.attempt}"
            raise UnexpectedEvent(event=type(event).__name__, phase=self.phase.name, evidence=evidence)
        return self._run(cell, event)

    def _received(self, event: Received) -> list[Effect]:
        letter = event.letter
        self._check_place(letter)
        attempt, message = letter.envelope.attempt, letter.message
        if attempt < self.state.attempt:
            return []  # its certificate is held: nothing of it can count again
        if attempt > self.state.attempt and self.state.certificate is not None:
            return []  # this attempt is certified: no honest peer is in a later one
        if attempt > self.state.attempt and not isinstance(message, Certificate):
            return self._keep(letter)
        cell = EVENTS.get((self.phase, type(message)))
        if isinstance(cell, Keep):
            return self._keep(letter)
        if isinstance(cell, Ignore):
            return []
        if isinstance(cell, Later):
            raise NotInThisVersion(evidence=cell.reason, peer=letter.sender, message=type(message).__name__)
        if cell is None:
            raise self._unexpected(letter, f"round {self.number}, attempt {self.attempt}")
        try:
            return self._run(cell, event)
        except Malformed as error:
            raise MalformedMessage(peer=letter.sender, evidence=str(error)) from None

    def _check_place(self, letter: Letter) -> None:
        """Refuse a letter of another run, epoch or round under its sender's name.

        Held, it would ride in this peer's own ballots and sets, and this peer would look like the liar.
        """
        its, mine = letter.envelope, self.state.envelope
        if (its.run, its.epoch, its.round) != (mine.run, mine.epoch, mine.round):
            place = f"it is of run {its.run.hex()[:16]}, epoch {its.epoch}, round {its.round}"
            raise self._unexpected(letter, f"{place}; here run {mine.run.hex()[:16]}, {mine.epoch}, {mine.round}")

    def _unexpected(self, letter: Letter, evidence: str) -> UnexpectedMessage:
        message = type(letter.message).__name__
        return UnexpectedMessage(peer=letter.sender, message=message, phase=self.phase.name, evidence=evidence)

    def _run(self, row: Row, event: Event) -> list[Effect]:
        effects = row.action(self.state, event)
        self.phase = row.next
        return effects

    def _advance(self) -> list[Effect]:
        effects: list[Effect] = []
        while True:
            row = next((row for row in READY[self.phase] if row.true(self.state)), None)
            if row is None:
                return effects
            effects += row.action(self.state)
            self.phase = row.next

    def _keep(self, letter: Letter) -> list[Effect]:
        message = letter.message
        place = message.index if isinstance(message, (Chunk, SumChunk)) else 0
        sizes = [len(old.body) for old in self._early.values() if old.sender == letter.sender]
        if sum(sizes) + len(letter.body) > EARLY_BYTES or len(sizes) >= EARLY_LETTERS:
            evidence = f"{len(sizes)} letters, {sum(sizes)} bytes, ahead of their turn"
            raise self._unexpected(letter, evidence)
        self._early[(letter.sender, letter.envelope.attempt, message.kind, place)] = letter
        return []
