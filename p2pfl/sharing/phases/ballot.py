"""BALLOT: one vote per peer and attempt, on disk before it is sent; q or a equal ones decide.

docs/spec/sharing.md §7. Who has sent READY waits for q READYs, or for so many ABANDONs that q SURVIVORS can no longer
come; who has not, gives up at the deadline, or at once when a member can no longer deliver what it owes. As every peer
casts exactly one ballot, and as a peer that comes back casts the one that it lacks, each attempt of honest peers is
decided once they can all talk (docs/adr/0005).
"""

from __future__ import annotations

from dataclasses import replace

from p2pfl.codec import Malformed
from p2pfl.errors.round import BallotRejected, TwoStatements
from p2pfl.messages import Ballot, Certificate, Letter, Ready, open_letter, seal
from p2pfl.sharing import certificate as certificates
from p2pfl.sharing.events import (
    BallotStored,
    CertificateStored,
    Effect,
    GatherDeadline,
    LinkUp,
    Noted,
    ProposeDeadline,
    Received,
    Send,
    SumsStored,
)
from p2pfl.sharing.phases import share
from p2pfl.sharing.phases.owed import lacking, owes
from p2pfl.sharing.state import State


def announce(state: State, event: SumsStored | None = None) -> list[Effect]:
    """Sums and READY are durable: say so."""
    if state.ready is None:
        return []
    sent = Send(None, state.ready)
    state.outbox.append(sent)
    state.readys[state.setting.me] = state.ready
    return [sent]


def ready(state: State, event: Received) -> list[Effect]:
    """Hold a member's READY for the view that this peer has."""
    letter, message = event.letter, event.letter.message
    if not isinstance(message, Ready) or state.ready is None:
        return []
    if (message.attempt_digest, message.view) != (state.attempt_digest, state.view):
        raise BallotRejected(peer=letter.sender, evidence="READY for other sums than this site checked")
    state.readys[letter.sender] = letter
    return []


def enough_readys(state: State) -> bool:
    """q READYs are held and this peer has not voted."""
    return state.ballot is None and len(state.readys) >= state.setting.roster.quorums.q


def vote_survivors(state: State) -> list[Effect]:
    """Cast SURVIVORS with the READYs that justify it."""
    wires = tuple(state.readys[name].wire for name in state.names if name in state.readys)
    return _cast(state, Ballot(1, state.attempt_digest, state.view, wires, ()))


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
    return [sent, Noted("ballot", {**place, **facts, "waited_for": list(vote.waited_for)})]


def count(state: State, event: Received) -> list[Effect]:
    """Hold a peer's ballot, once it proves what it claims; it may be this peer's reason to give up."""
    letter = event.letter
    try:
        ballot = certificates.check_ballot(letter, state.setting.roster)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error)) from None
    held = state.ballots.get(letter.sender)
    if held is not None:
        if held.message != ballot:
            raise TwoStatements(peer=letter.sender, message="Ballot", evidence="two ballots in one attempt")
        return []
    state.ballots[letter.sender] = letter
    if ballot.survivors or state.ballot is not None:
        return []
    if state.ready is not None:
        return []  # this peer vouched for the sums: it lets go only when `hopeless`
    # Whoever signs ABANDON sends nothing more: if it still owes something, this attempt cannot be gathered here.
    return _give_up(state, (letter.sender,)) if owes(state, letter.sender) else []


def hopeless(state: State) -> bool:
    """This peer vouched, and q SURVIVORS can no longer be cast; the ABANDONs may have come before its READY left."""
    vouched = state.setting.me in state.readys and state.ballot is None
    return vouched and _abandons(state) > state.n - state.setting.roster.quorums.q


def let_go(state: State) -> list[Effect]:
    """Cast ABANDON, although this peer could have gone on."""
    return _give_up(state, state.names)


def _abandons(state: State) -> int:
    return sum(1 for letter in state.ballots.values()
               if isinstance(letter.message, Ballot) and not letter.message.survivors)  # fmt: skip


def out_of_time(state: State, event: ProposeDeadline | GatherDeadline) -> list[Effect]:
    """The deadline of this very attempt has passed, nothing is vouched for: give up, naming who is lacking."""
    if event.attempt != state.attempt or state.ballot is not None or state.ready is not None:
        return []
    if isinstance(event, ProposeDeadline) and state.members is not None:
        return []
    return _give_up(state, tuple(lacking(state)) or (state.coordinator,))


def _give_up(state: State, waited_for: tuple[str, ...]) -> list[Effect]:
    """Cast the one ballot: ABANDON, unless q READYs were shown, which say that the attempt can still stand."""
    shown = next((letter.message for letter in state.ballots.values()
                  if isinstance(letter.message, Ballot) and letter.message.survivors
                  and letter.message.attempt_digest == state.attempt_digest), None)  # fmt: skip
    if shown is not None and state.attempt_digest:
        return _cast(state, Ballot(1, shown.attempt_digest, shown.view, shown.readys, ()))
    named = tuple(name for name in state.names if name in waited_for and name != state.setting.me)
    return _cast(state, Ballot(0, state.attempt_digest, b"", (), named))


def voted(state: State) -> bool:
    """This peer's one ballot is cast: nothing of the phases before is done any more."""
    return state.ballot is not None


def wait(state: State) -> list[Effect]:
    """Nothing to do but to count."""
    return []


def abandon_restored(state: State) -> list[Effect]:
    """A new process vouched for nothing here and masks nothing: it casts its one ballot, so that the next can begin."""
    return _give_up(state, ())


def link_up(state: State, event: LinkUp) -> list[Effect]:
    """Repeat this attempt's letters to a new process; if it dealt here before it died, what it owes is lost."""
    known = state.bundles.get(event.peer)
    again: list[Effect] = [
        Send(event.peer, sent.letter) for sent in state.outbox if sent.to is None or sent.to == event.peer
    ]
    if known is None or known.envelope.incarnation == event.incarnation or state.certificate is not None:
        return again  # under a certificate nothing is given up
    if state.ballot is None and state.ready is None and owes(state, event.peer):
        return [*again, *_give_up(state, (event.peer,))]
    return again


def shown(state: State, event: Received) -> list[Effect]:
    """A peer shows a certificate: its ballots count as if each had come alone; a later abandonment is followed."""
    letter = event.letter
    try:
        verdict = certificates.check_certificate(letter, state.setting.roster)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error)) from None
    message = letter.message
    if not isinstance(message, Certificate) or verdict.attempt < state.attempt:
        return []
    if verdict.attempt > state.attempt:
        # Attempt k+1 begins on the abandonment of k alone, so this one proves that of every attempt before it.
        state.skip = None if verdict.survivors else letter
        return []
    for wire in message.ballots:
        # A certificate outweighs what a liar told this peer alone: both kinds cannot exist, so this one decides.
        ballot = open_letter(wire, state.setting.roster, Ballot)
        state.ballots[ballot.sender] = ballot
    return []


def certified(state: State) -> bool:
    """q equal SURVIVORS are held for the D that this peer accepted."""
    return state.members is not None and bool(_deciding(state, survivors=True))


def abandoned(state: State) -> bool:
    """a ABANDONs of this attempt are held, or a later attempt is shown to be abandoned."""
    return state.skip is not None or bool(_deciding(state, survivors=False))


def _deciding(state: State, *, survivors: bool) -> list[Letter]:
    quorums = state.setting.roster.quorums
    same = [letter for letter in state.ballots.values()
            if isinstance(letter.message, Ballot) and bool(letter.message.survivors) == survivors
            and (not survivors or letter.message.attempt_digest == state.attempt_digest)]  # fmt: skip
    enough = quorums.q if survivors else quorums.a
    same.sort(key=lambda letter: state.names.index(letter.sender))
    return same[:enough] if len(same) >= enough else []


def certify(state: State) -> list[Effect]:
    """Hold the certificate, durable before anything is revealed under it."""
    state.certificate = _certificate(state, survivors=True)
    message = state.certificate.message
    if isinstance(message, Certificate):
        state.view = certificates.check_certificate(state.certificate, state.setting.roster).view
    return [state.persist(CertificateStored)]


def _certificate(state: State, *, survivors: bool) -> Letter:
    members = state.members.wire if state.members is not None else b""
    ballots = _deciding(state, survivors=survivors)
    return state.seal(Certificate(tuple(letter.wire for letter in ballots), members))


def next_attempt(state: State) -> list[Effect]:
    """Forget every secret of the abandoned attempt and begin the next with fresh ones; the update may go on."""
    held = state.skip or _certificate(state, survivors=False)
    verdict = certificates.check_certificate(held, state.setting.roster)
    again = state.seal(held.message) if state.skip is None else _resealed(state, held)
    place = {"round": state.round, "attempt": verdict.attempt}
    facts = {**place, "certificate": held.digest.hex(), "waited_for": list(verdict.waited_for)}
    state.renew(verdict.attempt + 1, again)
    return [Noted("abandoned", facts), *share.deal(state)]


def _resealed(state: State, held: Letter) -> Letter:
    """The shown certificate in this peer's own envelope, of the attempt that it decides."""
    envelope = replace(state.envelope, attempt=held.envelope.attempt)
    return seal(held.message, envelope, state.setting.identity)
