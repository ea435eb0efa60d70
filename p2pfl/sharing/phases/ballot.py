"""BALLOT: one vote per peer and attempt, on disk before it is sent; q or a equal ones decide.

docs/spec/sharing.md §7. A peer that has sent READY waits for q READYs; one that has not gives up at the deadline, or as
soon as a member can no longer deliver what it owes. Only a certificate decides an attempt.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from p2pfl.codec import Malformed
from p2pfl.errors.round import BallotRejected
from p2pfl.messages import Ballot, Certificate, Leave, Letter, Members, Ready, open_letter, seal
from p2pfl.sharing import certificate as certificates
from p2pfl.sharing.events import (
    BallotStored,
    CertificateStored,
    Effect,
    LinkUp,
    Moved,
    NoteAbandoned,
    NoteBallot,
    SumsStored,
)
from p2pfl.sharing.parts import Masking
from p2pfl.sharing.phases import questions, share, turns, unlinked
from p2pfl.sharing.phases.members import with_abandon
from p2pfl.sharing.phases.missing import to_blame
from p2pfl.sharing.phases.share import hold_bundles
from p2pfl.sharing.snapshot import persist
from p2pfl.sharing.state import State, hold_once, two_statements

LEAVE_S: Final = 30.0  # seconds from this peer's vote until an undecided round is left behind


def announce(state: State, event: SumsStored | None = None) -> list[Effect]:
    """Sums and READY are durable: say so."""
    state.sum.stored = state.sum.stored or event is not None  # not before: what a full disk refused is no sum on it
    if state.voting.ready is None:
        return []
    state.voting.readys[state.context.me] = state.voting.ready
    return [state.post(state.voting.ready)]


def accept_ready(state: State, letter: Letter[Ready]) -> list[Effect]:
    """Hold a member's READY."""
    message = letter.message
    if letter.sender not in state.survivors:
        return []
    # Of another set this site cannot judge: a coordinator may have told two, and its author knows the other one.
    if state.view and message.attempt_digest == state.attempt_digest and message.view != state.view:
        raise BallotRejected(peer=letter.sender, evidence="READY for other sums than this site checked")
    hold_once(state.voting.readys, letter.sender, letter, "READY for two sums")
    return []


def enough_readys(state: State) -> bool:
    """q READYs of U are held for one (D, V), and this member has not voted."""
    held, quorum = len(state.voting.readys), state.context.roster.quorums.q
    if held < quorum or state.voting.ballot is not None or not _may_vote(state):
        return False  # asked after every event
    return len(_equal_readys(state)) >= quorum


def _may_vote(state: State) -> bool:
    """This peer is in U, and SURVIVORS would break no promise that it gave."""
    vouched = state.voting.ready is not None or state.peers.vows.may_vouch(state.round, state.base[0], state.chain)
    return state.inside and vouched


def _equal_readys(state: State) -> list[Letter[Ready]]:
    """READYs of U for this peer's D, and for its own V; without one, for the V that most of them name."""
    found: dict[bytes, list[Letter[Ready]]] = {}
    for name in state.survivors:
        letter = state.voting.readys.get(name)
        if letter is None:
            continue
        if letter.message.attempt_digest == state.attempt_digest and state.view in (b"", letter.message.view):
            found.setdefault(letter.message.view, []).append(letter)
    return max(found.values(), key=len, default=[])


def vote_survivors(state: State) -> list[Effect]:
    """Cast SURVIVORS, naming the READYs that justify it."""
    readys = _equal_readys(state)
    view = readys[0].message.view
    state.peers.vows.vouched[state.round] = state.chain
    return _cast(state, Ballot(1, state.attempt_digest, view, tuple(letter.sender for letter in readys), ()))


def _cast(state: State, ballot: Ballot) -> list[Effect]:
    state.voting.ballot = state.seal(ballot)
    return [persist(state, BallotStored)]


def send(state: State, event: BallotStored | None = None) -> list[Effect]:
    """The ballot is durable: it may be seen."""
    ballot = state.voting.ballot
    if ballot is None:
        return []
    state.voting.ballots[state.context.me] = ballot
    vote = ballot.message
    facts = (bool(vote.survivors), vote.attempt_digest, vote.view, vote.waited_for)
    noted = NoteBallot(state.round, state.attempt, *facts)
    return [state.post(ballot), noted, state.timer("leave", LEAVE_S)]


def count(state: State, letter: Letter[Ballot]) -> list[Effect]:
    """Hold a peer's ballot, if it says what one must say. What it rests on and this peer lacks is soon asked for."""
    own = letter.message.attempt_digest == state.attempt_digest  # of another set its own members may be named
    try:
        certificates.check_ballot(letter.message, state.context.roster, (state.survivors or None) if own else None)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error)) from None
    new = hold_once(state.voting.ballots, letter.sender, letter, "two ballots in one attempt")
    return questions.wait(state) if new else []


def answer(state: State, letter: Letter[Ballot | Leave]) -> list[Effect]:
    """Show what decided it to a peer that stands in an earlier attempt, or gives up or leaves a certified one.

    A liar kept a ballot from it, and may have shown the certificate to this peer alone.
    """
    message = letter.message
    if letter.envelope.attempt < state.attempt:
        return questions.show_end(state, [letter.sender])
    if isinstance(message, Ballot) and message.survivors:
        return []
    return questions.certificate(state, letter.sender)


# ── giving up ─────────────────────────────────────────────────────────────────────────────────────────────────


def gives_up(state: State) -> bool:
    """There is a reason to cast ABANDON. The row for SURVIVORS comes first: q READYs say that the attempt stands."""
    undecided = state.voting.ballot is None and state.certificate is None and not state.follows
    return undecided and _reason(state) is not None and not (_may_vote(state) and questions.hopes(state))


def give_up(state: State) -> list[Effect]:
    """Cast the one ballot: ABANDON, naming the peers that were waited for."""
    named = _reason(state) or ()
    # A peer that gives up sends nothing more in this attempt: no share, no word of y, no READY, no acknowledgement.
    state.masking = Masking()
    state.outbox = [sent for sent in state.outbox if isinstance(sent.letter.message, (Certificate, Leave))]
    waited = tuple(name for name in state.names if name in named and name != state.context.me)
    return _cast(state, Ballot(0, state.attempt_digest, b"", (), waited))


def _reason(state: State) -> tuple[str, ...] | None:
    """The peers to name, when there is a reason to give the attempt up; None when there is none."""
    if state.leaving.left and state.voting.ready is None:
        return ()  # the others went on without this round: it may no longer sum anything of this peer
    if state.members is None:
        return _no_members(state)
    if state.voting.ready is not None or state.voting.readys.get(state.context.me) is not None:
        return tuple(_unready(state)) if _hopeless(state) or state.past("ready") else None
    if state.restored or not state.peers.vows.may_vouch(state.round, state.base[0], state.chain):
        return ()  # a new process masks nothing, and nobody may vouch for a round that ignores a confirmed one
    liars = [name for name in state.survivors if name in state.peers.proven] if state.peers.proven else []
    if liars:
        return tuple(liars)
    if len(_abandons(state)) > state.context.roster.quorums.c:
        # An outsider lacks the Root of every member, so it would only repeat a liar's word for its own.
        return _named(state) if state.inside else ()
    if not state.inside:
        return () if state.past("ready") else None  # it has seen nothing of GATHER, and names nobody
    if state.past("gather"):
        return to_blame(state)
    seconds = state.members.message.deadline_ms / 1000
    away = {name for name in state.peers.down if state.peers.away(name, state.now, seconds / 4)}
    lost = state.proposals.returned | away  # mostly nobody: this is asked after every event
    gone = [name for name in state.survivors if name in lost] if lost else []
    blamed = set(to_blame(state)) & set(gone) if gone else set()
    return tuple(name for name in gone if name in blamed) or None


def _no_members(state: State) -> tuple[str, ...] | None:
    """No U is accepted: the coordinator is to blame once the phase is over, or can no longer end well."""
    other = state.coordinator != state.context.me
    if state.proposals.refused or (other and state.coordinator in state.peers.proven and "propose" in state.due):
        return () if state.proposals.unblamed else (state.coordinator,)
    if other and unlinked.coordinator_is_gone(state):
        return (state.coordinator,)
    gone = len(_abandons(state))
    if gone > state.context.roster.quorums.c or state.n - gone < state.context.roster.quorums.q:
        return _named(state)
    if state.past("propose"):
        return (
            (state.coordinator,) if other else tuple(name for name in state.names if name not in state.proposals.acks)
        )
    if other and state.past("away"):
        patience = state.due["propose"] - state.due["away"]  # three quarters of the phase
        return (state.coordinator,) if state.peers.away(state.coordinator, state.now, patience / 3) else None
    return None


def _abandons(state: State) -> list[str]:
    return [name for name, letter in state.voting.ballots.items() if not letter.message.survivors]


def _named(state: State) -> tuple[str, ...]:
    """Peers that the held ABANDONs name, and of which this peer itself lacks something."""
    named = {name for voter in _abandons(state) for name in state.voting.ballots[voter].message.waited_for}
    mine = to_blame(state) if state.members is not None else (state.coordinator,)
    return tuple(name for name in state.names if name in named and name in mine)


def _hopeless(state: State) -> bool:
    """q SURVIVORS of U can no longer be cast."""
    lost = [name for name in _abandons(state) if name in state.survivors]
    return len(state.survivors) - len(lost) < state.context.roster.quorums.q


def _unready(state: State) -> list[str]:
    return [name for name in state.survivors if name not in state.voting.readys]


def voted(state: State) -> bool:
    """This peer's one ballot is cast: it does nothing more of the phases before."""
    return state.voting.ballot is not None


def link_up(state: State, event: LinkUp) -> list[Effect]:
    """Repeat this attempt's letters to a new process. If the one before dealt in this attempt, what it owed is lost."""
    known = state.proposals.bundles.get(event.peer)
    if known is not None and known.envelope.incarnation != event.incarnation and state.members is not None:
        state.proposals.returned.add(event.peer)
    questions.anew(state, event.peer)
    state.said_again.discard(event.peer)
    return [*state.repeated_to(event.peer)]


# ── what decides ──────────────────────────────────────────────────────────────────────────────────────────────


def accept_certificate(state: State, letter: Letter[Certificate]) -> list[Effect]:
    """Count the ballots of a certificate as if each had come alone; follow the abandonment of a later attempt.

    Raises TwoStatements, once all is counted, when this peer was told another set than the one that is certified.
    """
    try:
        verdict = certificates.check_certificate(letter, state.context.roster)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error), proof=(letter,)) from None
    if verdict.attempt < state.attempt:
        return []
    if verdict.attempt > state.attempt:
        # Attempt k+1 begins on the abandonment of k alone, so this one proves that of every attempt before it.
        state.skip = letter
        return []
    for wire in letter.message.ballots:
        # A certificate outweighs what a liar told this peer alone: both kinds cannot exist, so this one decides.
        ballot = open_letter(wire, state.context.roster, Ballot)
        state.voting.ballots[ballot.sender] = ballot
    if verdict.survivors and verdict.members is not None and verdict.attempt_digest != state.attempt_digest:
        # This peer accepted no U, or another one, from a coordinator that told two: this one is certified.
        told, state.members = state.members or state.proposals.declined, verdict.members
        state.gathering = None
        hold_bundles(state, verdict.members)
        if told is not None and told.digest != verdict.members.digest:
            raise two_statements(told, verdict.members, "two sets of members for one attempt")
    return []


def certified(state: State) -> bool:
    """q equal SURVIVORS of U are held for the D that this peer accepted."""
    return state.members is not None and bool(_deciding(state, survivors=True))


def abandoned(state: State) -> bool:
    """a ABANDONs of this attempt are held, or a later attempt is shown to be decided."""
    return state.skip is not None or bool(_deciding(state, survivors=False))


def _deciding(state: State, *, survivors: bool) -> list[Letter[Ballot]]:
    if not state.voting.ballots:
        return []
    quorums = state.context.roster.quorums
    enough = quorums.q if survivors else quorums.a
    if len(state.voting.ballots) < enough:
        return []  # asked after every event, of n² letters
    same = [
        letter
        for letter in state.voting.ballots.values()
        if bool(letter.message.survivors) == survivors
        and (
            not survivors
            or (letter.message.attempt_digest == state.attempt_digest and letter.sender in state.survivors)
        )
    ]
    if survivors:
        views = Counter(letter.message.view for letter in same)
        best = max(views, key=lambda view: views[view], default=b"")
        same = [letter for letter in same if letter.message.view == best]
        if len(same) >= quorums.q:
            same = [letter for letter in same if _proves(state, letter.message)]
    if len(same) < enough:
        return []
    return sorted(same, key=lambda letter: state.context.roster.index(letter.sender))[:enough]


def _proves(state: State, ballot: Ballot) -> bool:
    """The ballot also holds under U: it may have come before this peer knew U."""
    try:
        certificates.check_ballot(ballot, state.context.roster, state.survivors)
    except Malformed:
        return False
    return True


def certify(state: State) -> list[Effect]:
    """Hold the certificate, durable before anything is revealed under it."""
    state.certificate = _certificate(state, survivors=True)
    state.view = certificates.check_certificate(state.certificate, state.context.roster).view
    state.missed = turns.is_missed(state) or (state.missed and not state.inside)
    # With this very write, all that masks is destroyed, and all that opens a bundle outside of U.
    state.masking = Masking()
    before, state.unmasking = state.unmasking, state.unmasking.of_members(state.survivors, state.context.me)
    fewer = before.backups.keys() != state.unmasking.backups.keys() or before.deal is not state.unmasking.deal
    return [persist(state, CertificateStored, anew=fewer or bool(before.older) or before.let_go)]


def _certificate(state: State, *, survivors: bool) -> Letter[Certificate]:
    members = state.members.wire if state.members is not None else b""
    ballots = _deciding(state, survivors=survivors)
    return state.seal(Certificate(tuple(letter.wire for letter in ballots), members))


def next_attempt(state: State) -> list[Effect]:
    """Forget every secret of the abandoned attempt and begin the next with fresh ones; the update may go on."""
    held = state.skip or _certificate(state, survivors=False)
    verdict = certificates.check_certificate(held, state.context.roster)
    again = state.seal(held.message) if state.skip is None else _resealed(state, held)
    state.peers.vows.vouched.pop(state.round, None)
    if verdict.survivors:
        _enter_certified(state.next_attempt(verdict.attempt, None), held, verdict.members)
        return []
    state.leaving.abandons = with_abandon(state, held.message.ballots)
    noted = NoteAbandoned(state.round, verdict.attempt, held.digest, tuple(verdict.waited_for))
    fresh = state.next_attempt(verdict.attempt + 1, again)
    told = [noted, *questions.show_end(fresh, fresh.leaving.leaves)]
    if fresh.leaving.left:
        fresh.follows = fresh.restored = True
        return [*told, persist(fresh, Moved, anew=True)]
    return [*told, *share.deal(fresh)]


def _enter_certified(fresh: State, certificate: Letter[Certificate], members: Letter[Members] | None) -> None:
    """A later attempt is certified: this peer enters it where it stands, and masks nothing in it."""
    fresh.restored, fresh.members, fresh.unmasking.let_go = True, members, True
    if members is not None:
        hold_bundles(fresh, members)
    for wire in certificate.message.ballots:
        ballot = open_letter(wire, fresh.context.roster, Ballot)
        fresh.voting.ballots[ballot.sender] = ballot


def _resealed(state: State, held: Letter[Certificate]) -> Letter[Certificate]:
    """The shown certificate in this peer's own envelope, of the attempt that it decides."""
    envelope = replace(state.envelope, attempt=held.envelope.attempt)
    return seal(held.message, envelope, state.context.identity)
