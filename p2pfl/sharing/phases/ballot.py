"""BALLOT: one vote per peer and attempt, on disk before it is sent; q or a equal ones decide.

docs/spec/sharing.md §7. Who has sent READY waits for q READYs; who has not, gives up at the deadline, or at once when a
member can no longer deliver what it owes. An attempt is decided by a certificate alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from p2pfl.codec import Malformed
from p2pfl.errors.round import BallotRejected, TwoStatements
from p2pfl.messages import Ballot, Certificate, Leave, Letter, Members, Ready, Share, open_letter, seal
from p2pfl.sharing import certificate as certificates
from p2pfl.sharing import fairness
from p2pfl.sharing.events import (
    BallotStored,
    CertificateStored,
    Effect,
    LinkUp,
    Moved,
    Noted,
    Received,
    Send,
    SumsStored,
)
from p2pfl.sharing.phases import questions, share
from p2pfl.sharing.phases.members import take_bundles
from p2pfl.sharing.phases.missing import to_blame
from p2pfl.sharing.state import State

LEAVE_S: Final = 30.0  # undecided so long after this peer's vote, a round is left behind


def announce(state: State, event: SumsStored | None = None) -> list[Effect]:
    """Sums and READY are durable: say so."""
    if state.ready is None:
        return []
    sent = Send(None, state.ready)
    state.outbox.append(sent)
    state.readys[state.setting.me] = state.ready
    return [sent]


def ready(state: State, event: Received) -> list[Effect]:
    """Hold a member's READY."""
    letter, message = event.letter, event.letter.message
    if not isinstance(message, Ready) or letter.sender not in state.survivors:
        return []
    if state.view and (message.attempt_digest, message.view) != (state.attempt_digest, state.view):
        raise BallotRejected(peer=letter.sender, evidence="READY for other sums than this site checked")
    held = state.readys.setdefault(letter.sender, letter)
    if held.message != message:
        evidence, proof = "READY for two sums", (held, letter)
        raise TwoStatements(peer=letter.sender, message="Ready", evidence=evidence, proof=proof)
    return []


def enough_readys(state: State) -> bool:
    """q READYs of U are held for one (D, V), and this member has not voted."""
    if state.ballot is not None or not _may_vote(state) or len(state.readys) < state.setting.roster.quorums.q:
        return False
    return len(_equal_readys(state)) >= state.setting.roster.quorums.q


def _may_vote(state: State) -> bool:
    """This peer is in U, and SURVIVORS would break no promise that it gave."""
    vouched = state.ready is not None or state.others.vows.may_vouch(state.round, state.base[0], state.chain)
    return state.inside and vouched


def _equal_readys(state: State) -> list[Letter]:
    """READYs of U for this peer's D, and for its V where it has one, else for the one V that most of them name."""
    found: dict[bytes, list[Letter]] = {}
    for name in state.survivors:
        letter = state.readys.get(name)
        if letter is None or not isinstance(letter.message, Ready):
            continue
        if letter.message.attempt_digest == state.attempt_digest and state.view in (b"", letter.message.view):
            found.setdefault(letter.message.view, []).append(letter)
    return max(found.values(), key=len, default=[])


def vote_survivors(state: State) -> list[Effect]:
    """Cast SURVIVORS, naming the READYs that justify it."""
    readys = _equal_readys(state)
    message = readys[0].message
    view = message.view if isinstance(message, Ready) else b""
    state.others.vows.vouched[state.round] = state.chain
    return _cast(state, Ballot(1, state.attempt_digest, view, tuple(letter.sender for letter in readys), ()))


def _cast(state: State, ballot: Ballot) -> list[Effect]:
    state.ballot = state.seal(ballot)
    return [state.persist(BallotStored)]


def send(state: State, event: BallotStored | None = None) -> list[Effect]:
    """The ballot is durable: it may be seen."""
    ballot = state.ballot
    if ballot is None or not isinstance(ballot.message, Ballot):
        return []
    sent = Send(None, ballot)
    state.outbox.append(sent)
    state.ballots[state.setting.me] = ballot
    vote = ballot.message
    facts = {"survivors": bool(vote.survivors), "attempt_digest": vote.attempt_digest.hex(), "view": vote.view.hex()}
    place = {"round": state.round, "attempt": state.attempt}
    noted = Noted("ballot", {**place, **facts, "waited_for": list(vote.waited_for)})
    return [sent, noted, state.timer("leave", LEAVE_S)]


def count(state: State, event: Received) -> list[Effect]:
    """Hold a peer's ballot, if it says what one must say. What it stands on and is not here, is soon asked for."""
    letter = event.letter
    try:
        ballot = certificates.check_ballot(letter, state.setting.roster, state.survivors or None)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error)) from None
    held = state.ballots.get(letter.sender)
    if held is not None:
        if held.message != ballot:
            evidence, proof = "two ballots in one attempt", (held, letter)
            raise TwoStatements(peer=letter.sender, message="Ballot", evidence=evidence, proof=proof)
        return []
    state.ballots[letter.sender] = letter
    return questions.wait(state)


def answer(state: State, event: Received) -> list[Effect]:
    """A peer gives up, or leaves, an attempt that is certified here (a liar kept its ballot from it): show it."""
    message = event.letter.message
    if state.certificate is None or (isinstance(message, Ballot) and message.survivors):
        return []
    return [Send(event.letter.sender, state.certificate)]


# ── giving up ─────────────────────────────────────────────────────────────────────────────────────────────────


def gives_up(state: State) -> bool:
    """There is a reason to cast ABANDON. (The row for SURVIVORS comes first: q READYs say that the attempt stands.)"""
    undecided = state.ballot is None and state.certificate is None and not state.follows
    return undecided and _reason(state) is not None and not (_may_vote(state) and questions.hopes(state))


def give_up(state: State) -> list[Effect]:
    """Cast the one ballot: ABANDON, naming who was waited for."""
    named = _reason(state) or ()
    # Who gives up sends nothing more in this attempt: no word of y, no READY, no acknowledgement, to nobody.
    state.mine, state.contributed = (), {}
    state.outbox = [sent for sent in state.outbox if isinstance(sent.letter.message, (Certificate, Leave))]
    waited = tuple(name for name in state.names if name in named and name != state.setting.me)
    return _cast(state, Ballot(0, state.attempt_digest, b"", (), waited))


def _reason(state: State) -> tuple[str, ...] | None:
    """Whom to name, when this peer has a reason to give the attempt up; None when it has none."""
    if state.left and state.ready is None:
        return ()  # the others went on without this round: nothing of this peer may enter it any more
    if state.members is None:
        return _no_members(state)
    if state.ready is not None or state.readys.get(state.setting.me) is not None:
        return tuple(_unready(state)) if _hopeless(state) or state.past("ready") else None
    if state.restored or not state.others.vows.may_vouch(state.round, state.base[0], state.chain):
        return ()  # a new process masks nothing; and for what ignores a confirmed round nobody may vouch
    liars = [name for name in state.survivors if name in state.others.proven]
    if liars:
        return tuple(liars)
    if len(_abandons(state)) > state.setting.roster.quorums.c:
        return _named(state)
    if not state.inside:
        return () if state.past("ready") else None  # it has seen nothing of GATHER, and names nobody
    if state.past("gather"):
        return to_blame(state)
    seconds = state.members.message.deadline_ms / 1000 if isinstance(state.members.message, Members) else 0.0
    gone = [
        name for name in state.survivors if name in state.returned or state.others.away(name, state.now, seconds / 4)
    ]
    blamed = set(to_blame(state)) & set(gone) if gone else set()
    return tuple(name for name in gone if name in blamed) or None


def _no_members(state: State) -> tuple[str, ...] | None:
    """No U is accepted: the coordinator is to blame when the phase is over, or cannot end well any more."""
    other = state.coordinator != state.setting.me
    if state.refused or (other and state.coordinator in state.others.proven and "propose" in state.due):
        return () if state.early else (state.coordinator,)
    gone = len(_abandons(state))
    if gone > state.setting.roster.quorums.c or state.n - gone < state.setting.roster.quorums.q:
        return _named(state)
    if state.past("propose"):
        return (state.coordinator,) if other else tuple(name for name in state.names if name not in state.acks)
    if other and state.past("away"):
        patience = state.due["propose"] - state.due["away"]  # three quarters: so long it is gone for good
        return (state.coordinator,) if state.others.away(state.coordinator, state.now, patience / 3) else None
    return None


def _abandons(state: State) -> list[str]:
    return [
        name
        for name, letter in state.ballots.items()
        if isinstance(letter.message, Ballot) and not letter.message.survivors
    ]


def _named(state: State) -> tuple[str, ...]:
    """Whom the ABANDONs that are held name, and whom this peer itself lacks something of."""
    letters = [state.ballots[name].message for name in _abandons(state)]
    named = {name for one in letters if isinstance(one, Ballot) for name in one.waited_for}
    mine = to_blame(state) if state.members is not None else (state.coordinator,)
    return tuple(name for name in state.names if name in named and name in mine)


def _hopeless(state: State) -> bool:
    """q SURVIVORS of U can no longer be cast."""
    lost = [name for name in _abandons(state) if name in state.survivors]
    return len(state.survivors) - len(lost) < state.setting.roster.quorums.q


def _unready(state: State) -> list[str]:
    return [name for name in state.survivors if name not in state.readys]


def voted(state: State) -> bool:
    """This peer's one ballot is cast: nothing of the phases before is done any more."""
    return state.ballot is not None


def wait(state: State) -> list[Effect]:
    """Nothing to do but to count."""
    return []


def link_up(state: State, event: LinkUp) -> list[Effect]:
    """Repeat this attempt's letters to a new process; if it dealt here before it died, what it owes is lost."""
    known = state.bundles.get(event.peer)
    if known is not None and known.envelope.incarnation != event.incarnation and state.members is not None:
        state.returned.add(event.peer)
    questions.anew(state, event.peer)
    return [Send(event.peer, sent.letter) for sent in state.outbox if sent.to is None or sent.to == event.peer]


def passes(state: State, event: object) -> list[Effect]:
    """Time has passed, or a link has ended: the READY rows say what that changes."""
    return []


# ── what decides ──────────────────────────────────────────────────────────────────────────────────────────────


def shown(state: State, event: Received) -> list[Effect]:
    """A peer shows a certificate: its ballots count as if each had come alone; a later abandonment is followed."""
    letter = event.letter
    try:
        verdict = certificates.check_certificate(letter, state.setting.roster)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error), proof=(letter,)) from None
    message = letter.message
    if not isinstance(message, Certificate) or verdict.attempt < state.attempt:
        return []
    if verdict.attempt > state.attempt:
        # Attempt k+1 begins on the abandonment of k alone, so this one proves that of every attempt before it.
        state.skip = letter
        return []
    for wire in message.ballots:
        # A certificate outweighs what a liar told this peer alone: both kinds cannot exist, so this one decides.
        ballot = open_letter(wire, state.setting.roster, Ballot)
        state.ballots[ballot.sender] = ballot
    if verdict.survivors and verdict.members is not None and verdict.attempt_digest != state.attempt_digest:
        # This peer accepted no U, or another one that a two-faced coordinator told it: this one is certified.
        state.members = verdict.members
        state.segments, state.pieces, state.gathering, state.sums = (), (), (), {}
        take_bundles(state, verdict.members)
    return []


def certified(state: State) -> bool:
    """q equal SURVIVORS of U are held for the D that this peer accepted."""
    return state.members is not None and bool(_deciding(state, survivors=True))


def abandoned(state: State) -> bool:
    """a ABANDONs of this attempt are held, or a later attempt is shown to be decided."""
    return state.skip is not None or bool(_deciding(state, survivors=False))


def _deciding(state: State, *, survivors: bool) -> list[Letter]:
    quorums = state.setting.roster.quorums
    same = [
        letter
        for letter in state.ballots.values()
        if isinstance(letter.message, Ballot)
        and bool(letter.message.survivors) == survivors
        and (
            not survivors
            or (letter.message.attempt_digest == state.attempt_digest and letter.sender in state.survivors)
        )
    ]
    if survivors:
        views = [letter.message.view for letter in same if isinstance(letter.message, Ballot)]
        best = max(views, key=views.count, default=b"")
        same = [one for one in same if isinstance(one.message, Ballot) and one.message.view == best]
        if len(same) >= quorums.q:
            same = [one for one in same if _proves(state, one)]
    enough = quorums.q if survivors else quorums.a
    same.sort(key=lambda letter: state.names.index(letter.sender))
    return same[:enough] if len(same) >= enough else []


def _proves(state: State, letter: Letter) -> bool:
    """The ballot holds under U, too: it may have come before U was known here."""
    try:
        certificates.check_ballot(letter, state.setting.roster, state.survivors)
    except Malformed:
        return False
    return True


def certify(state: State) -> list[Effect]:
    """Hold the certificate, durable before anything is revealed under it."""
    state.certificate = _certificate(state, survivors=True)
    state.view = certificates.check_certificate(state.certificate, state.setting.roster).view
    state.missed = fairness.is_missed(state) or (state.missed and not state.inside)
    # Whatever of this attempt is not of a bundle in U is destroyed now, with this very write.
    for name in [name for name in state.backups if name not in state.survivors]:
        del state.backups[name]
    state.deal = replace(state.deal, edges={}, shares={}) if state.inside and state.deal is not None else None
    state.outbox = [sent for sent in state.outbox if not isinstance(sent.letter.message, Share)]
    state.contributed, state.mine, state.ahead, state.received = {}, (), (), {}
    return [state.persist(CertificateStored)]


def _certificate(state: State, *, survivors: bool) -> Letter:
    members = state.members.wire if state.members is not None else b""
    ballots = _deciding(state, survivors=survivors)
    return state.seal(Certificate(tuple(letter.wire for letter in ballots), members))


def next_attempt(state: State) -> list[Effect]:
    """Forget every secret of the abandoned attempt and begin the next with fresh ones; the update may go on."""
    effects = _forget(state)
    if state.left and state.certificate is None and not state.restored:
        state.follows = state.restored = True
        return [*effects, state.persist(Moved)]
    return effects if state.restored else [*effects, *share.deal(state)]


def _forget(state: State) -> list[Effect]:
    held = state.skip or _certificate(state, survivors=False)
    verdict = certificates.check_certificate(held, state.setting.roster)
    again = state.seal(held.message) if state.skip is None else _resealed(state, held)
    state.others.vows.vouched.pop(state.round, None)
    if verdict.survivors:  # of a later attempt, which this peer enters where it stands
        state.renew(verdict.attempt, None)
        state.restored = True
        state.members = verdict.members
        if verdict.members is not None:
            take_bundles(state, verdict.members)
        message = held.message
        for wire in message.ballots if isinstance(message, Certificate) else ():
            ballot = open_letter(wire, state.setting.roster, Ballot)
            state.ballots[ballot.sender] = ballot
        return []
    place = {"round": state.round, "attempt": verdict.attempt}
    facts = {**place, "certificate": held.digest.hex(), "waited_for": list(verdict.waited_for)}
    state.renew(verdict.attempt + 1, again)
    return [Noted("abandoned", facts)]


def _resealed(state: State, held: Letter) -> Letter:
    """The shown certificate in this peer's own envelope, of the attempt that it decides."""
    envelope = replace(state.envelope, attempt=held.envelope.attempt)
    return seal(held.message, envelope, state.setting.identity)
