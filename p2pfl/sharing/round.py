"""One round as a sans-I/O machine: `handle(event)` returns the effects that the driver must carry out, in order.

The protocol is in `table.py`; this file only looks up the row, runs the action, and tries the guarded rows until none
is true. A letter that breaks the rules changes nothing: it is as if it had not come, and its sender is accused. Letters
that come too early are held here, bounded, and handed in again when the phase has moved.
docs/spec/sharing.md §4 to §14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfl.codec import Malformed, Pieces, read_facts
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import MalformedMessage, SetsDiffer, UnexpectedEvent, UnexpectedMessage
from p2pfl.messages import (
    LARGE,
    SMALL,
    Ballot,
    Certificate,
    Chunk,
    Confirm,
    Evidence,
    Handed,
    Leave,
    Letter,
    Members,
    Message,
    Nonce,
    Opened,
    Question,
    Ready,
    Root,
    SumChunk,
    SumDigest,
    Tags,
    Want,
    carries,
    narrow,
    open_letter,
    read_letter,
)
from p2pfl.sharing import evidence
from p2pfl.sharing.early import EarlyLetters
from p2pfl.sharing.events import (
    Accuse,
    Applied,
    Begin,
    CertificateStored,
    Effect,
    Event,
    OfAttempt,
    Received,
    Send,
    Stop,
    UpdateReady,
)
from p2pfl.sharing.history import NO_BASE
from p2pfl.sharing.keepsake import Items, KeptSum, pack_keepsake, read_keepsake
from p2pfl.sharing.parts import Leaving
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases import ballot, confirm, fetch, missing, questions
from p2pfl.sharing.snapshot import read_vectors, restore
from p2pfl.sharing.state import Context, Phase, State
from p2pfl.sharing.table import EVENTS, GUARDED, Ignore, Keep, Transition

EARLY_BYTES: Final = 256 << 20  # held of one peer that is a step ahead, and as much as a sum has
EARLY_LETTERS: Final = 4096  # held of one peer that is a step ahead
# Kinds that may be handed on: each counts by its own signature.
HANDED: Final = (Members, Root, SumDigest, Nonce, Tags, Ready, Confirm, Leave)


class Round:
    """Round `number` of a run, through all its attempts, until it is final, or a newer one is."""

    def __init__(
        self,
        context: Context,
        peers: PeerView,
        number: int,
        base: tuple[int, bytes] = NO_BASE,
        chain: tuple[int, ...] = (),
        grounds: tuple[bytes, ...] = (),
    ) -> None:
        self.state = State(context, peers, number, base=base, chain=chain, leaving=Leaving(grounds=grounds))
        self.phase = Phase.SHARE
        self._early = EarlyLetters(EARLY_LETTERS, EARLY_BYTES)  # one of each attempt, kind and chunk

    @classmethod
    def restored(
        cls,
        context: Context,
        peers: PeerView,
        snapshot: bytes,
        sums: bytes | None,
        *,
        now: float = 0.0,
        slot: int | None = None,
    ) -> tuple[Round, list[Effect]]:
        """The round that a process before this one had begun, and what it owes the others now.

        A new process masks nothing under a U that it finds. Under a certificate it does all that is left to do; before
        one it casts the ballot that it lacks, if it had not vouched for the sums; before a U it deals anew. Raises
        Malformed.
        """
        state = restore(context, peers, snapshot)
        state.now, state.leaving.slot, state.leaving.left = now, slot, slot is not None
        found = cls(context, peers, state.round)
        found.state = state
        if state.members is not None and sums is not None:
            state.sum.masked = read_vectors(sums, state.attempt_digest)
            state.sum.stored = bool(state.sum.masked)
        effects: list[Effect] = []
        if state.leaving.leave is not None:
            state.leaving.leaves[context.me] = state.leaving.leave
            state.outbox.append(Send(None, state.leaving.leave))
            effects.append(Send(None, state.leaving.leave))
        if state.voting.ready is not None or state.voting.ballot is not None:
            peers.vows.vouched[state.round] = state.chain
        if state.certificate is not None:
            found.phase = Phase.UNMASK
            # A record on disk was signed before: it is said again, and counts.
            effects += found.handle(CertificateStored(state.now, state.round, state.attempt))
            if state.confirming.signed:
                peers.vows.confirmed.add(state.round)
                effects += confirm.sign(state)
            return found, effects
        if state.members is None and state.voting.ballot is None and slot is None:
            state.unmasking.deal, state.restored, state.late = None, False, True
            state.proposals.bundles.pop(context.me, None)
            return found, effects + found.handle(Begin(state.now))
        if slot is not None and state.unmasking.deal is None:
            state.follows = True
            return found, effects  # nothing of this peer is in it
        found.phase = Phase.BALLOT
        effects += ballot.announce(state)
        if state.voting.ready is not None and state.voting.ballot is None and state.members is not None:
            # Its deadline counts anew from here.
            effects.append(state.timer("ready", 2 * state.members.message.deadline_ms / 1000))
        if state.voting.ballot is not None:
            effects += ballot.send(state)
        return found, effects + found._run_guarded()

    def keepsake(self) -> Pieces:
        """What a final round keeps for peers that missed it."""
        return pack_keepsake(self.state)

    @classmethod
    def finished(cls, context: Context, peers: PeerView, kept: bytes, items: Items) -> Round:
        """The final round of a keepsake, in a new process, which only serves it. Raises Malformed."""
        state, confirms = read_keepsake(context, peers, kept, items)
        found = cls(context, peers, state.round, base=state.base)
        found.state = state
        state.view = bytes.fromhex(read_facts(state.confirming.record)["view"])
        if state.certificate is not None:
            state.outbox.append(Send(None, state.certificate))
        for wire in confirms:
            letter = narrow(read_letter(wire), Confirm)
            state.confirming.confirms[letter.sender] = (confirm.read(state, letter.message), letter.message.cosignature)
            state.confirming.confirm_letters[letter.sender] = letter
        confirm.sign(state)
        confirm.settled(state)
        found.phase = Phase.FINAL
        return found

    def settled(self, items: Callable[[], Items] | None = None) -> list[Effect]:
        """The round is in this peer's ledger: tell the others. `items` reads what the disk holds of the run."""
        self.state.sum.reveals = {}
        if items is not None:
            kept = KeptSum(self.state.context, self.state.peers, self.number, items)
            self.state.sum.keep(kept.vectors)
        return confirm.settled(self.state)

    @property
    def number(self) -> int:
        return self.state.round

    @property
    def attempt(self) -> int:
        return self.state.attempt

    @property
    def early(self) -> EarlyLetters:
        """Letters that came before their turn."""
        return self._early

    @property
    def sum_is_gone(self) -> bool:
        """The others hold its sum's words no more, since this peer told them itself that it needs none of them."""
        return fetch.is_gone(self.state)

    def waiting_for(self) -> dict[str, str]:
        """By peer, what this round waits for, in words for people."""
        return missing.waited_for(self.state, self.phase)

    def bulk(self) -> tuple[int, int]:
        """Pieces of words that have come in this attempt, and all that come; (0, 0) where it has none."""
        return missing.bulk(self.state)

    @property
    def came(self) -> int:
        """The same, and parts of a sum that is fetched: each is a step forward."""
        return self.bulk()[0] + len(self.state.sum.parts)

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, event: Event) -> list[Effect]:
        """Take one event; return what must be done, in order.

        Raises LocalProtocolError when this node's own code is at fault; then nothing has changed.
        """
        self.state.now = max(event.now, self.state.now)
        before = (self.state.attempt, self.phase)
        effects = self._act_or_accuse(event)
        effects += self._run_guarded()
        while before != (self.state.attempt, self.phase) and self._early:
            before = (self.state.attempt, self.phase)
            for letter in self._early.take_all():
                held = len(self._early)
                effects += self._act_or_accuse(Received(event.now, letter))
                # What is early still has changed nothing: with room full of it, the guards would be most of the work.
                effects += self._run_guarded() if len(self._early) == held else []
            effects += self._run_guarded()
        return effects

    def advance(self, now: float) -> list[Effect]:
        """Something outside of this round has changed: try the guarded rows."""
        self.state.now = max(now, self.state.now)
        return self._run_guarded()

    def _act_or_accuse(self, event: Event) -> list[Effect]:
        try:
            return self._act_on(event)
        except RemoteProtocolError as error:
            return self._accuse(error)

    def _act_on(self, event: Event) -> list[Effect]:
        if isinstance(event, Received):
            return self._act_on_letter(event)
        if isinstance(event, OfAttempt) and (event.round, event.attempt) != (self.state.round, self.state.attempt):
            return []
        if isinstance(event, (UpdateReady, Applied)) and event.round != self.number:
            return []  # of a round that was settled without it
        cell = EVENTS.get((self.phase, type(event)))
        if isinstance(cell, Ignore):
            return []
        if not isinstance(cell, Transition):
            evidence = f"round {self.number}, attempt {self.attempt}"
            raise UnexpectedEvent(event=type(event).__name__, phase=self.phase.name, evidence=evidence)
        return self._run_row(cell, event)

    def _act_on_letter(self, event: Received) -> list[Effect]:
        letter = event.letter
        self._check_place(letter)
        attempt, message = letter.envelope.attempt, letter.message
        if carries(letter, Handed):
            return self._act_on_handed(letter)
        if isinstance(message, Want) and message.what == Question.LETTERS:
            return fetch.say_again(self.state, letter.sender)
        if isinstance(message, Leave):
            attempt = self.state.attempt  # it is of the round, whichever attempt its sender stood in
        if attempt < self.state.attempt:
            # Its certificate is held: nothing of it can count again. Who votes in it, or asks voters, lacks that.
            lacks = isinstance(message, Ballot) or (isinstance(message, Want) and message.what == Question.VOTE)
            return questions.show_end(self.state, [letter.sender]) if lacks else []
        if attempt > self.state.attempt and self.state.certificate is not None:
            return []  # this attempt is certified: no honest peer is in a later one
        if attempt > self.state.attempt and not isinstance(message, Certificate):
            voted = isinstance(message, Ballot) and bool(message.survivors)
            return self._hold_early(letter) + (questions.beyond(self.state, letter.sender, attempt) if voted else [])
        cell = EVENTS.get((self.phase, type(message)))
        if isinstance(cell, Keep):
            return self._hold_early(letter)
        if isinstance(cell, Ignore):
            return []
        if cell is None:
            raise self._unexpected(letter, f"round {self.number}, attempt {self.attempt}")
        try:
            return self._run_row(cell, letter)
        except Malformed as error:
            raise MalformedMessage(peer=letter.sender, evidence=str(error)) from None

    def _act_on_handed(self, handed: Letter[Handed]) -> list[Effect]:
        """Let each letter count as if its author had sent it. A peer that hands on no letter is at fault itself."""
        effects: list[Effect] = []
        for wire in handed.message.letters:
            try:
                letter = open_letter(wire, self.state.context.roster, Message)
            except Malformed as error:
                raise MalformedMessage(peer=handed.sender, evidence=f"handed on: {error}") from None
            one = letter.message
            # An owner's: the member that it names may not have it.
            claim = isinstance(one, Want) and one.what == Question.WORDS
            if (isinstance(one, HANDED) or claim) and self._has_place(letter):
                effects += self._act_or_accuse(Received(self.state.now, letter))
        return effects

    def _has_place(self, letter: Letter[Message]) -> bool:
        """A letter that was handed on is of use here and now. Its author is not to blame where it is not.

        Of this peer's own letters only a confirmation: of a home that was set back it may be one of q, on which others
        are final.
        """
        its, mine = letter.envelope, self.state.envelope
        of_attempt = its.attempt == mine.attempt or isinstance(letter.message, Leave)
        here = (its.run, its.epoch, its.round) == (mine.run, mine.epoch, mine.round) and of_attempt
        return (
            here
            and (its.sender != mine.sender or isinstance(letter.message, Confirm))
            and isinstance(EVENTS.get((self.phase, type(letter.message))), Transition)
        )

    def _check_place(self, letter: Letter[Message]) -> None:
        """Refuse a letter of another run, epoch or round under its sender's name.

        Held, it would ride in this peer's own ballots and sets, and this peer would look like the liar.
        """
        its, context = letter.envelope, self.state.context
        if its.round != self.state.round or its.run != context.run or its.epoch != context.roster.epoch:
            mine = self.state.envelope
            place = f"it is of run {its.run.hex()[:16]}, epoch {its.epoch}, round {its.round}"
            raise self._unexpected(letter, f"{place}; here run {mine.run.hex()[:16]}, {mine.epoch}, {mine.round}")

    def _unexpected(self, letter: Letter[Message], evidence: str) -> UnexpectedMessage:
        message = type(letter.message).__name__
        return UnexpectedMessage(peer=letter.sender, message=message, phase=self.phase.name, evidence=evidence)

    def _run_row(self, row: Transition, fact: Event | Letter[Message]) -> list[Effect]:
        effects = row.action(self.state, fact)
        self.phase = row.next
        return effects

    def _run_guarded(self) -> list[Effect]:
        effects: list[Effect] = []
        while True:
            state = self.state
            for row in GUARDED[self.phase]:
                if row.true(state):
                    break
            else:
                return effects
            try:
                effects += row.action(state)
            except RemoteProtocolError as error:
                effects += self._accuse(error)
                continue
            self.state = self.state.successor or self.state
            self.phase = row.next

    def _accuse(self, error: RemoteProtocolError) -> list[Effect]:
        """Note the sender, send letters that prove the breach to all, and stop the run when too few peers are left."""
        state, peer = self.state, error.fields["peer"]
        if peer == state.context.me:
            return [Stop(error)]
        if isinstance(error, SetsDiffer):
            return self._show_set()
        new = state.peers.note_breach(error, state.round)
        proof = tuple(letter.wire for letter in error.proof)
        proven = peer not in state.peers.proven and bool(proof) and self._convicts(proof) == peer
        effects: list[Effect] = []
        if new or proven:
            effects.append(Accuse(peer, state.round, state.attempt, error, proof if proven else ()))
        if proven:
            told = state.seal(Evidence(proof)) if evidence.fits(proof) else None
            state.peers.proven[peer] = told
            effects += [Send(None, told)] if told is not None else []
        if (last := state.peers.too_many) is not None:
            effects.append(Stop(last))
        return effects

    def _show_set(self) -> list[Effect]:
        """Two peers work under two sets, and neither is to blame: the coordinator's letters together are the proof."""
        state, held = self.state, self.state.members
        if held is None or "set shown" in state.due or held.size > LARGE - SMALL:
            return []
        state.due["set shown"] = state.now
        return [Send(None, state.seal(Handed((held.wire,))))]

    def _convicts(self, proof: tuple[bytes, ...]) -> str:
        return evidence.convicted(proof, self.state.context.roster, self.state.context.run)

    def _sum_bytes(self) -> int:
        proposal = self.state.proposal
        return self.state.context.sum_bytes(proposal.configuration) if proposal is not None else 0

    def _hold_early(self, letter: Letter[Message]) -> list[Effect]:
        message = letter.message
        place = message.index if isinstance(message, (Chunk, SumChunk, SumDigest, Opened)) else 0
        where = (letter.envelope.attempt, message.kind, place)
        # A hub may be told U last, behind the words of all others: they are as large as a sum.
        if not (self._early.hold(letter, where) or self._early.hold(letter, where, self._sum_bytes())):
            count, size = self._early.held_of(letter.sender)
            raise self._unexpected(letter, f"{count} letters, {size} bytes, ahead of their turn")
        return []
