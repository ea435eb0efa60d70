"""What decides an attempt: q equal SURVIVORS ballots, or a ABANDON ballots. Both cannot exist (DESIGN §2, §4.2).

A honest peer casts one ballot per attempt. Two certificates of unlike kind would need q + a − n > c peers that cast
two, and there are at most c liars. The checks here take letters alone, so that anyone with the roster can repeat them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pfl.codec import Malformed
from p2pfl.messages import Ack, Ballot, Certificate, Envelope, Letter, Members, Propose, Ready, open_letter
from p2pfl.roster import Roster
from p2pfl.sharing.state import State, attempt_digest


@dataclass(frozen=True, slots=True)
class Verdict:
    """A checked decision about one attempt. `members` is None when it was abandoned before any U."""

    survivors: bool
    round: int
    attempt: int
    attempt_digest: bytes
    view: bytes
    members: Letter | None
    waited_for: tuple[str, ...]


def same_attempt(letter: Letter, envelope: Envelope) -> bool:
    """True when `letter` belongs to the very attempt of `envelope`, whoever sent it."""
    mine, its = envelope, letter.envelope
    return (its.run, its.epoch, its.round, its.attempt) == (mine.run, mine.epoch, mine.round, mine.attempt)


def check_ballot(letter: Letter, roster: Roster) -> Ballot:
    """Return the ballot if it proves what it claims. Raises Malformed.

    SURVIVORS carries q READYs of distinct members for its own (D, V) in its own attempt; ABANDON carries none.
    """
    ballot = letter.message
    if not isinstance(ballot, Ballot):
        raise Malformed("not a ballot")
    if not ballot.survivors:
        if ballot.readys or ballot.view:
            raise Malformed("an ABANDON that carries READYs")
        return ballot
    senders = set()
    for wire in ballot.readys:
        ready = open_letter(wire, roster, Ready)
        statement = ready.message
        if not isinstance(statement, Ready) or not same_attempt(ready, letter.envelope):
            raise Malformed(f"a READY of another attempt, by {ready.sender}")
        if (statement.attempt_digest, statement.view) != (ballot.attempt_digest, ballot.view):
            raise Malformed(f"a READY for other sums, by {ready.sender}")
        senders.add(ready.sender)
    if len(senders) < roster.quorums.q:
        raise Malformed(f"SURVIVORS with {len(senders)} READYs, needs {roster.quorums.q}")
    return ballot


def check_certificate(letter: Letter, roster: Roster) -> Verdict:
    """Return what the certificate decides. Raises Malformed when it decides nothing."""
    certificate = letter.message
    if not isinstance(certificate, Certificate):
        raise Malformed("not a certificate")
    members = open_letter(certificate.members, roster, Members) if certificate.members else None
    ballots = [open_letter(wire, roster, Ballot) for wire in certificate.ballots]
    if not all(same_attempt(ballot, letter.envelope) for ballot in ballots):
        raise Malformed("ballots of another attempt")
    if members is not None and not same_attempt(members, letter.envelope):
        raise Malformed("members of another attempt")
    return tally(ballots, members, letter.envelope, roster)


def tally(ballots: Iterable[Letter], members: Letter | None, envelope: Envelope, roster: Roster) -> Verdict:
    """Count ballots of one attempt. Raises Malformed when neither side reaches its number."""
    quorums = roster.quorums
    cast: dict[str, Ballot] = {}
    for letter in ballots:
        ballot = check_ballot(letter, roster)
        if cast.setdefault(letter.sender, ballot) != ballot:
            raise Malformed(f"two ballots of {letter.sender}")
    survivors = [ballot for ballot in cast.values() if ballot.survivors]
    abandons = [ballot for ballot in cast.values() if not ballot.survivors]
    if len(survivors) >= quorums.q:
        decided = {(ballot.attempt_digest, ballot.view) for ballot in survivors}
        if len(decided) != 1:
            raise Malformed("SURVIVORS ballots for different sums")
        digest, view = decided.pop()
        if members is None or attempt_digest(members) != digest:
            raise Malformed("SURVIVORS without the members message that its digest names")
        return Verdict(True, envelope.round, envelope.attempt, digest, view, members, ())
    if len(abandons) >= quorums.a:
        waited = sorted({name for ballot in abandons for name in ballot.waited_for})
        return Verdict(False, envelope.round, envelope.attempt, b"", b"", members, tuple(waited))
    counts = f"{len(survivors)} SURVIVORS of {quorums.q}, {len(abandons)} ABANDON of {quorums.a}"
    raise Malformed(f"{counts}: nothing decided")


def acknowledged_bundles(members: Letter, roster: Roster) -> dict[str, bytes]:
    """By dealer, the one bundle digest that every member of U acknowledged. Raises Malformed when U is not complete.

    In this version U is the whole roster; a set that leaves somebody out does not pass.
    """
    message = members.message
    if not isinstance(message, Members) or message.survivors != roster.names:
        raise Malformed("U is not the whole roster")
    held: dict[str, bytes] = {}
    senders = []
    for wire in message.acks:
        letter = open_letter(wire, roster, Ack)
        if not same_attempt(letter, members.envelope) or not isinstance(letter.message, Ack):
            raise Malformed(f"an acknowledgement of another attempt, by {letter.sender}")
        if tuple(name for name, _ in letter.message.held) != roster.names:
            raise Malformed(f"{letter.sender} did not acknowledge every bundle")
        for dealer, digest in letter.message.held:
            if held.setdefault(dealer, digest) != digest:
                raise Malformed(f"{dealer} dealt different bundles, says {letter.sender}")
        senders.append(letter.sender)
    if tuple(senders) != roster.names:
        raise Malformed("not one acknowledgement of each member, in order")
    return held


def proposals(members: Letter, roster: Roster) -> dict[str, Propose]:
    """Every member's one proposal, in roster order. Raises Malformed when one is missing or of another attempt."""
    message = members.message
    found: dict[str, Propose] = {}
    senders = []
    for wire in message.proposes if isinstance(message, Members) else ():
        letter = open_letter(wire, roster, Propose)
        if not same_attempt(letter, members.envelope) or not isinstance(letter.message, Propose):
            raise Malformed(f"a proposal of another attempt, by {letter.sender}")
        found[letter.sender] = letter.message
        senders.append(letter.sender)
    if tuple(senders) != roster.names:
        raise Malformed("not one proposal of each member, in order")
    return found


def own_bundle_counts(state: State, members: Letter) -> bool:
    """True when the set of `members` rests on the bundle that this peer holds as its own."""
    deal = state.deal
    held = acknowledged_bundles(members, state.setting.roster)
    return deal is not None and held[state.setting.me] == deal.bundle.digest
