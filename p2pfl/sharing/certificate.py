"""What decides an attempt: q equal SURVIVORS ballots, or a ABANDON ballots. Both cannot exist.

An honest peer casts one ballot per attempt. Two certificates of unlike kind would need q + a − n > c peers that cast
two, and there are at most c liars. The checks here take letters alone, so that anyone with the roster can repeat them.
docs/spec/sharing.md §7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from p2pfl.codec import Malformed
from p2pfl.messages import (
    LARGE,
    SMALL,
    Ack,
    Acknowledged,
    Ballot,
    Bundle,
    Certificate,
    Envelope,
    Letter,
    Members,
    Message,
    Propose,
    authentic,
    open_letter,
    rejoin,
)
from p2pfl.roster import Roster
from p2pfl.sharing.digests import attempt_digest

M = TypeVar("M", bound=Message)

MOST_GROUND: Final = 2 * SMALL  # bytes of one letter that says why a peer is left out: a ballot, a LEAVE, an Ack


@dataclass(frozen=True, slots=True)
class Decision:
    """A checked decision about one attempt. `members` is None when it was abandoned before any U."""

    survivors: bool
    round: int
    attempt: int
    attempt_digest: bytes
    view: bytes
    members: Letter[Members] | None
    waited_for: tuple[str, ...]


def same_attempt(letter: Letter[Message], envelope: Envelope) -> bool:
    """True when `letter`, of any sender, belongs to the attempt of `envelope`: same run, epoch, round and attempt."""
    mine, its = envelope, letter.envelope
    return (its.run, its.epoch, its.round, its.attempt) == (mine.run, mine.epoch, mine.round, mine.attempt)


def are_peers(names: tuple[str, ...], roster: Roster) -> bool:
    """True when all names are in the roster, each once. They go into this site's log on one sender's word."""
    return len(set(names)) == len(names) and set(names) <= set(roster.names)


def most_members(roster: Roster) -> int:
    """Bytes of the largest set that is accepted: it must fit into a certificate beside a quorum of ballots."""
    return LARGE - roster.quorums.q * SMALL


def check_ballot(ballot: Ballot, roster: Roster, chosen: tuple[str, ...] | None = None) -> None:
    """Check that the ballot says what one must say. Raises Malformed.

    SURVIVORS names q members, in roster order, whose READYs for its (D, V) its sender holds; ABANDON names none. A
    liar may name what it does not hold: of q ballots at least q−c are true, and one is enough (docs/adr/0022).
    chosen   U, where it is known: nobody else's READY counts
    """
    if not are_peers(ballot.waited_for, roster):
        raise Malformed("it names others than peers, or one twice")
    if not ballot.survivors:
        if ballot.readys or ballot.view:
            raise Malformed("an ABANDON that names READYs")
        return
    if not _in_order(ballot.readys, chosen or roster.names):
        raise Malformed("READYs of others than members, or not in the order of the roster")
    if len(ballot.readys) < roster.quorums.q:
        raise Malformed(f"SURVIVORS on {len(ballot.readys)} READYs, needs {roster.quorums.q}")


def check_certificate(letter: Letter[Certificate], roster: Roster) -> Decision:
    """Return what the certificate decides. Raises Malformed when it decides nothing."""
    certificate = letter.message
    if len(certificate.members) > most_members(roster):
        raise Malformed(f"a set of {len(certificate.members)} bytes")
    members = open_letter(certificate.members, roster, Members) if certificate.members else None
    ballots = [open_letter(wire, roster, Ballot) for wire in certificate.ballots]
    if not all(same_attempt(ballot, letter.envelope) for ballot in ballots):
        raise Malformed("ballots of another attempt")
    if members is not None and not same_attempt(members, letter.envelope):
        raise Malformed("members of another attempt")
    return tally(ballots, members, letter.envelope, roster)


def tally(
    ballots: Iterable[Letter[Ballot]], members: Letter[Members] | None, envelope: Envelope, roster: Roster
) -> Decision:
    """Count ballots of one attempt. Raises Malformed when neither side reaches its number."""
    quorums = roster.quorums
    chosen = members.message.survivors if members is not None else ()
    cast: dict[str, Ballot] = {}
    for letter in ballots:
        ballot = letter.message
        check_ballot(ballot, roster, chosen or None)
        if cast.setdefault(letter.sender, ballot) != ballot:
            raise Malformed(f"two ballots of {letter.sender}")
    survivors = [ballot for name, ballot in cast.items() if ballot.survivors and name in chosen]
    abandons = [ballot for ballot in cast.values() if not ballot.survivors]
    if len(survivors) >= quorums.q:
        decided = {(ballot.attempt_digest, ballot.view) for ballot in survivors}
        if len(decided) != 1:
            raise Malformed("SURVIVORS ballots for different sums")
        digest, view = decided.pop()
        if members is None or attempt_digest(members) != digest:
            raise Malformed("SURVIVORS without the members message that its digest names")
        return Decision(True, envelope.round, envelope.attempt, digest, view, members, ())
    if len(abandons) >= quorums.a:
        waited = sorted({name for ballot in abandons for name in ballot.waited_for})
        return Decision(False, envelope.round, envelope.attempt, b"", b"", members, tuple(waited))
    counts = f"{len(survivors)} SURVIVORS of {quorums.q}, {len(abandons)} ABANDON of {quorums.a}"
    raise Malformed(f"{counts}: nothing decided")


@dataclass(frozen=True, slots=True)
class Composition:
    """What a Members message rests on, checked: by member, the acknowledged bundle's digest, and the proposal."""

    bundles: dict[str, bytes]
    proposals: dict[str, Propose]


class Compositions:
    """The last few that were found, by digest of the letter: each vote on an attempt rests on its one set.

    Of the letter nothing is kept: a liar's may be as large as a letter can be, and one of each size costs a signature.
    """

    def __init__(self, most: int) -> None:
        self._most, self._found = most, dict[tuple[bytes, Roster], Composition]()

    def get(self, members: Letter[Members], roster: Roster) -> Composition:
        """That of `members`. Raises Malformed."""
        key = members.digest, roster
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = _compose(members, roster)
            for oldest in list(self._found)[: -self._most]:
                self._found.pop(oldest, None)
        return found


COMPOSITIONS: Final = Compositions(most=8)


def compose(members: Letter[Members], roster: Roster) -> Composition:
    """What `_compose` finds, once for each letter. Raises Malformed."""
    return COMPOSITIONS.get(members, roster)


def _compose(members: Letter[Members], roster: Roster) -> Composition:
    """Check that U holds together. Raises Malformed when it does not; then its letter alone proves that.

    At least q members in roster order; each acknowledged the same bundle of every other; each proposed, on one
    federation digest, base, model and configuration; the common deadline is the (c+1)-th largest asked for, doubled
    per attempt at most three times; the owners are the members, or one of them (peers.yaml says which:
    members.owners_of).
    """
    message = members.message
    chosen = message.survivors
    if not _in_order(chosen, roster.names):
        raise Malformed("members that are not of the roster, or not in its order")
    if len(chosen) < roster.quorums.q:
        raise Malformed(f"U of {len(chosen)}, fewer than the quorum of {roster.quorums.q}")
    if any(len(wire) > MOST_GROUND for wire in message.grounds):
        raise Malformed("grounds larger than any ballot, LEAVE or acknowledgement")
    if message.owners != chosen and (len(message.owners) != 1 or message.owners[0] not in chosen):
        raise Malformed("owners are neither the members in order nor one of them")
    bundles = {name: letter.digest for name, letter in _of_each(message.bundles, Bundle, members, roster).items()}
    proposals = {name: letter.message for name, letter in _of_each(message.proposes, Propose, members, roster).items()}
    if len(message.acks) != len(chosen):
        raise Malformed("not one acknowledgement of each member, in order")
    for name, row in zip(chosen, message.acks, strict=True):
        if not authentic(_acknowledgement(name, row, bundles, members.envelope, roster), roster):
            raise Malformed(f"{name} did not acknowledge these bundles")
    if len({grounds_of(proposal) for proposal in proposals.values()}) != 1:
        raise Malformed("proposals on different grounds")
    deadline = common_deadline_ms(proposals.values(), roster, members.envelope.attempt)
    if message.deadline_ms != deadline:
        raise Malformed(f"deadline of {message.deadline_ms} ms is not the common one")
    return Composition(bundles, proposals)


def grounds_of(proposal: Propose) -> tuple[bytes, int, bytes, bytes, bytes]:
    """What members must have in common to sum together."""
    return proposal.federation_digest, proposal.rests_on, proposal.base, proposal.model, proposal.configuration


def common_deadline_ms(proposals: Iterable[Propose], roster: Roster, attempt: int) -> int:
    """The (c+1)-th largest deadline asked for, doubled per attempt at most three times: c liars cannot stretch it."""
    asked = sorted((proposal.deadline_ms for proposal in proposals), reverse=True)
    return asked[min(roster.quorums.c, len(asked) - 1)] << min(attempt, 3)


def _in_order(names: Sequence[str], order: Sequence[str]) -> bool:
    """True when `names` are some of `order`, each once and in that order."""
    named = set(names)
    return list(names) == [name for name in order if name in named]


def _acknowledgement(
    name: str, row: Acknowledged, bundles: Mapping[str, bytes], at: Envelope, roster: Roster
) -> Letter[Ack]:
    """A member's Ack, made whole again; its signature tells whether it is right. Raises Malformed."""
    incarnation, signature, beside, unlinked = row
    if not _in_order([one for one, _ in beside], [one for one in roster.names if one not in bundles]):
        raise Malformed(f"what {name} acknowledged beside the members' bundles is not in the order of the roster")
    held = {**bundles, **dict(beside)}
    whole = Ack(tuple((one, held[one]) for one in roster.names if one in held), unlinked)
    return rejoin(whole, replace(at, sender=name, incarnation=incarnation), signature)


def short(ack: Letter[Ack], chosen: Sequence[str]) -> Acknowledged:
    """What an Ack says that a set of `chosen`, with the bundles it acknowledges, does not say already."""
    beside = tuple(row for row in ack.message.held if row[0] not in chosen)
    return ack.envelope.incarnation, ack.signature, beside, ack.message.unlinked


def check_order(ack: Ack, roster: Roster) -> None:
    """Raise Malformed unless `ack` names each peer once, in roster order: else nobody could make it whole again."""
    if not _in_order([name for name, _ in ack.held], roster.names) or not _in_order(ack.unlinked, roster.names):
        raise Malformed("an acknowledgement that is not in the order of the roster")


def _of_each(wires: Iterable[bytes], kind: type[M], members: Letter[Members], roster: Roster) -> dict[str, Letter[M]]:
    """One letter of `kind` by each member, in order, of the attempt of `members`. Raises Malformed."""
    found: dict[str, Letter[M]] = {}
    senders = []
    for wire in wires:
        letter = open_letter(wire, roster, kind)
        if not same_attempt(letter, members.envelope):
            raise Malformed(f"{kind.__name__} of another attempt, by {letter.sender}")
        found[letter.sender] = letter
        senders.append(letter.sender)
    if tuple(senders) != members.message.survivors:
        raise Malformed(f"not one {kind.__name__} of each member, in order")
    return found


def proposals(members: Letter[Members], roster: Roster) -> dict[str, Propose]:
    """Every member's one proposal, in roster order. Raises Malformed."""
    return compose(members, roster).proposals
