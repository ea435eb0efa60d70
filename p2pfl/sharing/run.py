"""One run, round after round: which letter belongs to which round, what rests on what, what a restart takes up.

Pure like the rounds themselves. A driver (a node, or a simulated peer) hands in events and carries out effects; on
`Finished` it makes keepsake and ledger entry durable, calls `finished`, and begins the next round when it likes.

Most rounds are final before the next begins. One that is stuck is *left behind* (phases/leave.py): it stays in
`rounds`, since its outcome may still come. `held` are the rounds past the last final one whose sums this peer has
applied, each resting on the one before: the next proposal rests on the last of them (branch.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from p2pfl.codec import Malformed
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import EvidenceRejected, ProvenLiar, RolledBack
from p2pfl.messages import (
    Certificate,
    Envelope,
    Evidence,
    Handed,
    Letter,
    Message,
    Propose,
    Question,
    Want,
    carries,
    read_letter,
    seal,
)
from p2pfl.sharing import certificate, evidence
from p2pfl.sharing.branch import Branch
from p2pfl.sharing.early import EarlyLetters
from p2pfl.sharing.events import (
    Accuse,
    Applied,
    Apply,
    Begin,
    Effect,
    Event,
    Finished,
    Forgotten,
    LeftBehind,
    LinkDown,
    LinkUp,
    Moved,
    OfAttempt,
    Persist,
    Received,
    Send,
    Stop,
    UpdateReady,
)
from p2pfl.sharing.history import NO_BASE, Base
from p2pfl.sharing.keepsake import Items, spared
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases import confirm, unmask
from p2pfl.sharing.round import Round
from p2pfl.sharing.snapshot import pack_sums, persist, place_of
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, LEFT_ITEMS, LEFT_SLOTS, Context, Phase, sums_item

# Held of a round that has not begun here. A peer that is ahead sends small letters and waits for the others; one that
# was left out or away is more than two rounds behind, and catches up otherwise (catchup.py).
EARLY_LETTERS: Final = 1024  # for each peer
EARLY_BYTES: Final = 64 << 20
EARLY_ROUNDS: Final = 3
MOST_HELD: Final = LEFT_SLOTS  # each has a place on the disk: one that is given up would lack in the log for good


class Run:
    """The rounds of one run at one peer: `previous` serves peers that missed it, `current` is under way."""

    def __init__(self, context: Context, final_round: int, base: tuple[int, bytes] = NO_BASE, now: float = 0.0) -> None:
        self.context = context
        self.peers = PeerView(context.roster, context.me, now)
        self.peers.vows.settled(final_round)
        self.final_round = final_round
        self.previous: Round | None = None
        self.rounds: dict[int, Round] = {}  # those that are not final: the current one, and those left behind
        self._branch = Branch(self.rounds, self.peers.vows, base)
        self._stood = base  # the tip when it was last looked at
        self.number = 0  # of the current one; 0 when none is under way
        self._began = -math.inf  # when this process began its last round
        self.early = EarlyLetters(EARLY_LETTERS, EARLY_BYTES)
        self._came = 0  # letters held so far: all are kept apart, since which of them counts is for their round to say
        self._dropped: dict[str, int] = {}  # by peer: the newest round of which a letter of it was dropped
        self._grounds: tuple[bytes, ...] = ()
        self.now = now

    @property
    def current(self) -> Round | None:
        """The round under way."""
        return self.rounds.get(self.number)

    @property
    def base(self) -> Base:
        """The last final round, and the digest of its record."""
        return self._branch.base

    @property
    def held(self) -> Sequence[int]:
        """The rounds past the last final one whose sums this peer has applied, in order."""
        return self._branch.held

    @property
    def tip(self) -> Base:
        """The last round whose sum this peer has applied, and the digest of its record."""
        return self._branch.tip

    def recall(self, proofs: Iterable[Sequence[bytes]]) -> None:
        """Take up the proofs that processes before this one kept: their liars are left out and shown to all, as before.

        A proof of another run or epoch says nothing here, nor does one against this peer.
        """
        for proof in proofs:
            liar = evidence.convicted(proof, self.context.roster, self.context.run)
            if liar and liar != self.context.me and liar not in self.peers.proven:
                self._hold_proof(liar, proof, "its letters lay on this site's disk")

    def _hold_proof(self, liar: str, proof: Sequence[bytes], where: str) -> ProvenLiar:
        """`proof` convicts `liar`: hold it, and have it to show to others, where it fits into a letter."""
        context = self.context  # a place of this peer's own: a liar chose that of the proof, and of what brought it
        here = Envelope(context.run, context.roster.epoch, self.number, 0, context.me, context.incarnation)
        told = seal(Evidence(tuple(proof)), here, context.identity) if evidence.fits(proof) else None
        kinds = ", ".join(type(read_letter(wire).message).__name__ for wire in proof)
        self.peers.proven[liar] = told
        self.peers.breaches[liar] = error = ProvenLiar(peer=liar, evidence=f"{kinds}; {where}")
        return error

    def resume(self, items: Mapping[str, bytes | None]) -> list[Effect]:
        """Take up what a process before this one left on the disk. Raises Malformed."""
        keepsake = items.get(FINAL_ITEM)
        if keepsake and self.previous is None:
            kept = Round.finished(self.context, self.peers, keepsake, items)
            # A keepsake of a round that the ledger does not hold was written just before a death.
            self.previous = kept if kept.number == self.final_round and kept.state.sum.total else None
        effects: list[Effect] = []
        pairs = [(None, ATTEMPT_ITEM, ""), *((slot, *pair) for slot, pair in enumerate(LEFT_ITEMS))]
        for slot, item, sums in pairs:
            snapped = items.get(item)
            number = place_of(snapped)[0] if snapped else 0
            if not snapped or number <= self.final_round or number in self.rounds:
                continue  # its round is in the ledger already
            found, owed = Round.restored(
                self.context, self.peers, snapped, items.get(sums or sums_item(number)), now=self.now, slot=slot
            )
            self.rounds[found.number] = found
            if slot is None:
                self.number, self._grounds = found.number, found.state.leaving.grounds
            effects += self._pass_on(found, owed)
        current = self.current
        if current is not None and current.state.base[0] < self.final_round:
            self._rebase()  # a round became final while it was under way, and the process died
        return effects

    def begin(self, now: float) -> list[Effect]:
        """Begin the next round, with the letters that came early for it; nothing when one is under way."""
        self.now = max(now, self.now)
        if not self.may_begin:
            return []
        aside = self._pass_on(self.current, self._set_aside(self.number)) if self.current is not None else []
        self.number = max([self.final_round, *self.rounds, *self.held]) + 1
        chain = tuple(self.held)
        fresh = Round(self.context, self.peers, self.number, self.tip, chain, self._grounds)
        self.rounds[self.number] = fresh
        fresh.state.since, self._began = self._began, now
        effects = [*aside, *self._pass_on(fresh, fresh.handle(Begin(now)))]
        for letter in self.early.take_all():
            effects += self.handle(Received(now, letter))
        return [*effects, *self._ask_for_dropped(fresh)]

    def _ask_for_dropped(self, fresh: Round) -> list[Effect]:
        """Ask peers whose letters of this round came when it was too far ahead to say again what they said in it."""
        names = [name for name, newest in self._dropped.items() if newest >= self.number]
        self._dropped = {name: self._dropped[name] for name in names if self._dropped[name] > self.number}
        # More than may lie were in this round before: its set may have been named by then.
        fresh.state.late = len(names) > self.context.roster.quorums.c
        question = fresh.state.seal(Want(Question.LETTERS, ()))
        return [Send(name, question) for name in names if name not in self.peers.down]

    @property
    def wants_update(self) -> bool:
        """The round under way may still sum an update of this peer, and has none."""
        current = self.current
        return current is not None and current.phase in (Phase.SHARE, Phase.BALLOT) and current.state.proposal is None

    @property
    def may_begin(self) -> bool:
        """The next round may begin: the last one is final, held long enough, or left behind."""
        current = self.current
        if current is None or current.state.leaving.left:
            return len(self.held) < MOST_HELD
        waited = current.phase is Phase.CONFIRM and current.number in self.held and current.state.past("patience")
        return waited and len(self.held) < MOST_HELD

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, event: Event) -> list[Effect]:
        """Give the event to the rounds that it is for. Raises what `Round.handle` raises."""
        self.now = max(self.now, event.now)
        if isinstance(event, Received):
            return self._give_letter(event)
        if isinstance(event, (OfAttempt, UpdateReady, Applied)):
            one = self.rounds.get(event.round)
            if isinstance(event, Applied) and not self._branch.expects(event.round):
                return []  # another round's record came meanwhile
            return self._pass_on(one, one.handle(event)) if one is not None else []
        effects: list[Effect] = []
        if isinstance(event, LinkUp):
            self.peers.link_up(event.peer, event.now)
            letters = (*self.peers.proven.values(), *self._leave_grounds())
            effects += [Send(event.peer, letter) for letter in letters if letter is not None]
        elif isinstance(event, LinkDown):
            self.peers.link_down(event.peer, event.now)
        if self.previous is not None:
            effects += self.previous.handle(event)
        for one in list(self.rounds.values()):
            effects += self._pass_on(one, one.handle(event))
        return effects

    def _give_letter(self, event: Received) -> list[Effect]:
        letter = event.letter
        if carries(letter, Evidence):
            return self._accept_evidence(letter)
        number = letter.envelope.round
        if carries(letter, Certificate):
            self._free_from_vows(letter)
        if self.previous is not None and number == self.previous.number:
            return self.previous.handle(event)
        one = self.rounds.get(number)
        if one is not None:
            return self._pass_on(one, one.handle(event))
        if number > max(self.number, self.final_round):
            self._hold_early(letter)
        return []

    def _leave_grounds(self) -> list[Letter[Message]]:
        """The q LEAVEs that carried this peer on, for one that still stands in the round that was left."""
        if not self._grounds:
            return []
        of = read_letter(self._grounds[0]).envelope
        envelope = replace(of, attempt=0, sender=self.context.me, incarnation=self.context.incarnation)
        return [seal(Handed(self._grounds), envelope, self.context.identity)]

    def _accept_evidence(self, letter: Letter[Evidence]) -> list[Effect]:
        """A proof against a liar, which is left out from now on."""
        try:
            liar = evidence.convict(letter.message.proof, self.context.roster, self.context.run)
        except Malformed as malformed:
            wrong = EvidenceRejected(peer=letter.sender, evidence=str(malformed))
            return self.breach(wrong)  # of the round here: the letter's own is its sender's to choose
        if liar == self.context.me:
            shown = "two statements, or a false one, under this site's own signature"
            return [Stop(RolledBack(peer=letter.sender, site=self.context.me, evidence=shown))]
        if liar in self.peers.proven:
            return []
        error = self._hold_proof(liar, letter.message.proof, f"shown by {letter.sender}")
        effects: list[Effect] = [Accuse(liar, self.number, 0, error, letter.message.proof)]
        for each in list(self.rounds.values()):
            effects += self._pass_on(each, each.advance(self.now))
        if (last := self.peers.too_many) is not None:
            effects.append(Stop(last))
        return effects

    def _free_from_vows(self, letter: Letter[Certificate]) -> None:
        """A SURVIVORS certificate of a round past one that this peer confirmed, and not resting on it, frees it."""
        vows = self.peers.vows
        ahead = letter.envelope.round
        if not any(one < ahead for one in vows.confirmed):
            return
        try:
            verdict = certificate.check_certificate(letter, self.context.roster)
            if not verdict.survivors or verdict.members is None:
                return
            first: Propose = next(iter(certificate.proposals(verdict.members, self.context.roster).values()))
        except Malformed:
            return  # the round that it is of refuses it by name
        rests_on = self._branch.chain_of((first.rests_on, first.base))
        if rests_on is not None:
            vows.confirmed = {one for one in vows.confirmed if one >= ahead or one in rests_on}

    def breach(self, error: RemoteProtocolError) -> list[Effect]:
        """What came over a link was no letter of its peer: it is dropped, and the peer accused."""
        new = self.peers.note_breach(error, self.number)
        told = [Accuse(error.fields["peer"], self.number, 0, error)] if new else []
        last = self.peers.too_many
        return [*told, *([Stop(last)] if last is not None else [])]

    def _hold_early(self, letter: Letter[Message]) -> None:
        """Hold it for the round that it is of; too far ahead, or beyond a bound of its sender's own, it is dropped."""
        number, newest = letter.envelope.round, max(self.number, self.final_round)
        self._came += 1
        if number > newest + EARLY_ROUNDS or not self.early.hold(letter, self._came):
            self._dropped[letter.sender] = max(number, self._dropped.get(letter.sender, 0))

    # ── effects that concern more than one round ──────────────────────────────────────────────────────────────

    def _pass_on(self, one: Round, effects: list[Effect]) -> list[Effect]:
        """Pass on what the driver can do now; keep back what has to wait for another round."""
        passed: list[Effect] = []
        if one.phase in (Phase.CONFIRM, Phase.FINAL) and self._branch.expects(one.number):
            passed += self._on_branch(self._branch.hold(one.number))
        for effect in effects:
            if isinstance(effect, Apply):
                passed += self._on_branch(self._branch.wait(effect))
            elif isinstance(effect, Finished):
                passed += self._finish_chain(one, effect)
            elif isinstance(effect, LeftBehind):
                passed += [*self._leave_behind(one), effect]
            else:
                passed.append(effect)
        return passed if self.previous is None else spared(self.previous.state, passed)

    def _on_branch(self, effects: list[Effect]) -> list[Effect]:
        """`effects` of the branch; the tip may have moved with them."""
        if self._stood != self.tip:
            self._rebase()
        return effects

    def _rebase(self) -> None:
        """The tip has moved: the round under way, unless it is the tip, rests on the new one from now on."""
        self._stood, current = self.tip, self.current
        if current is not None and current.number not in self.held:
            current.state.rebase(self.tip, tuple(self.held))

    def _finish_chain(self, one: Round, effect: Finished) -> list[Effect]:
        """A round is final, and so is all that it rests on: they go into the ledger in order."""
        effects: list[Effect] = []
        for number in self.held[: self.held.index(one.number)]:
            below = self.rounds[number]
            below.phase = Phase.FINAL
            effects += confirm.finish(below.state)
        return [*effects, effect]

    def _leave_behind(self, one: Round) -> list[Effect]:
        """q peers go on: so does this one, which keeps the round for its outcome, once there is a place for it."""
        self._grounds = tuple(letter.wire for letter in one.state.leaving.leaves.values())
        return self._set_aside(one.number) if len(self.held) < MOST_HELD else []

    def _set_aside(self, number: int) -> list[Effect]:
        """Move a round that is not final out of the current one's place, on the disk too."""
        one = self.rounds[number]
        taken = {each.state.leaving.slot for each in self.rounds.values()}
        free = [slot for slot in range(LEFT_SLOTS) if slot not in taken]
        erased = _erased(one)  # from the place of the current one, once it is in its new one
        if not free:
            given_up = min(self.rounds.keys() - {number, *self.held})  # fewer are held than there are places
            oldest = self.rounds.pop(given_up)
            self._branch.forget(given_up)
            free = [slot for slot in (oldest.state.leaving.slot,) if slot is not None]
        masked = unmask.masked_again(one.state)
        one.state.leaving.slot = free[0]
        sums = pack_sums(masked, one.state.attempt_digest) if masked else None
        if self.number == number:
            self.number = 0
        return [persist(one.state, Moved, (one.state.sums_item, sums)), erased]

    def finished(self, number: int, items: Callable[[], Items] | None = None) -> list[Effect]:
        """Round `number` is in the ledger. `items` reads what the disk has of it, which is then held no more."""
        done = self.rounds.get(number)
        if done is None:
            return []
        self._branch.finished(number)
        del self.rounds[number]
        self.previous, self.final_round = done, number
        self.peers.vows.settled(number)
        # What is older can never be final any more: a later round that does not rest on it is.
        over = [self.rounds.pop(old) for old in [one for one in self.rounds if one < number]]
        if self.number <= number:
            self.number = 0
        self._grounds = ()
        return [*map(_erased, over), *done.settled(items)]

    def take_back(self) -> None:
        """The disk is about to hold another run's last round: this one's sum is held again. Raises as reading does."""
        if self.previous is not None:
            self.previous.state.sum.take_back()

    def adopt(self, final_round: int, record: bytes) -> list[Effect]:
        """The ledger has come to hold rounds that this peer took no part in, up to `final_round`."""
        effects = self._branch.adopt(final_round, record)
        over = [self.rounds.pop(old) for old in [one for one in self.rounds if one <= final_round]]
        self.previous, self.final_round = None, final_round
        self.peers.vows.settled(final_round)
        if self.number <= final_round:
            self.number = 0
        for letter in self.early.take_all():
            if letter.envelope.round > final_round:
                self._hold_early(letter)
        return [*map(_erased, over), *self._on_branch(effects)]


def _erased(one: Round) -> Persist:
    """What the disk holds of it goes."""
    state = one.state
    return Persist(((state.sums_item, None), (state.item, None)), Forgotten, state.round, state.attempt, True)
