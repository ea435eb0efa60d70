"""PROPOSE: everyone says on which grounds it would sum; the coordinator names U, complete and final.

docs/spec/sharing.md §4. In this version U is the whole roster: the clock of the phase starts at the n-th proposal, and
before that the attempt waits, without limit, for whoever is missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import (
    ConfigurationDiffers,
    MalformedMessage,
    ManifestDiffers,
    MembersRejected,
    ModelDiffers,
    RolledBack,
    SupportTooLarge,
    TwoStatements,
)
from p2pfl.messages import LARGE, SUPPORT, Ack, Letter, Members, Propose, open_letter
from p2pfl.sharing import certificate
from p2pfl.sharing.events import Accepted, Effect, ProposeDeadline, Received, SetTimer, Stop, UpdateReady
from p2pfl.sharing.state import State


def hold(state: State, event: UpdateReady) -> list[Effect]:
    """Keep what this peer would sum; it is proposed once every bundle is held."""
    size, most = len(event.proposal.support), most_support(state.n)
    if size > most:
        raise SupportTooLarge(n=state.n, evidence=f"{size} bytes of positions, at most {most}")
    state.proposal = event.proposal
    return []


def most_support(n: int) -> int:
    """Bytes of positions that each of n proposals may hold: so n of them, n acknowledgements and a certificate fit.

    Half of a letter for the set; each acknowledgement names n bundles, each configuration has at most 4 KiB.
    """
    return min(SUPPORT.most, LARGE // 2 // n - 72 * n - (8 << 10))


def settled(state: State) -> bool:
    """SHARE is over for this peer: it has an update and every bundle."""
    return state.proposal is not None and state.acknowledged


def send(state: State) -> list[Effect]:
    """Propose to all, and only then stop if who proposed before differs: else that one would wait, not knowing why."""
    proposal = state.proposal
    if proposal is None:
        return []
    message = Propose(
        state.setting.manifest,
        proposal.model,
        proposal.configuration,
        proposal.support,
        proposal.deadline_ms,
        proposal.clock_ms,
        proposal.epsilon,
        proposal.site_head,
    )
    sent = state.post(message)
    before = dict(state.proposes)
    state.proposes[state.setting.me] = sent.letter
    try:
        for name, letter in before.items():
            if isinstance(letter.message, Propose):
                _agree(state, name, letter.message)
    except P2PFLError as error:
        return [sent, Stop(error)]
    return [sent]


def accept(state: State, event: Received) -> list[Effect]:
    """Hold a peer's proposal. The phase's clock starts when all are in."""
    letter, message = event.letter, event.letter.message
    if not isinstance(message, Propose):
        return []
    if len(message.support) > most_support(state.n):
        # Together such proposals would burst the set, and its coordinator would look like the culprit.
        raise MalformedMessage(peer=letter.sender, evidence=f"{len(message.support)} bytes of positions")
    held = state.proposes.get(letter.sender)
    if held is not None and held.digest != letter.digest and held.envelope == letter.envelope:
        digests = f"{held.digest.hex()[:16]} and {letter.digest.hex()[:16]}"
        raise TwoStatements(peer=letter.sender, message="Propose", evidence=digests)
    if state.setting.me in state.proposes:
        _agree(state, letter.sender, message)
    state.proposes[letter.sender] = letter
    return []


def clock_starts(state: State) -> bool:
    """All n proposals are held and the clock of the phase has not been set."""
    return len(state.proposes) == state.n and not state.clock_set


def start_clock(state: State) -> list[Effect]:
    """Give the coordinator the common deadline to name U."""
    state.clock_set = True
    return [SetTimer(ProposeDeadline(state.now + common_deadline_ms(state) / 1000, state.round, state.attempt))]


def common_deadline_ms(state: State) -> int:
    """The (c+1)-th largest deadline asked for, doubled per attempt at most three times: c liars cannot stretch it."""
    proposed = [letter.message for letter in state.proposes.values() if isinstance(letter.message, Propose)]
    return _common(state, proposed)


def _common(state: State, proposed: Iterable[Propose]) -> int:
    asked = sorted((proposal.deadline_ms for proposal in proposed), reverse=True)
    return asked[state.setting.roster.quorums.c] << min(state.attempt, 3)


def _agree(state: State, name: str, other: Propose) -> None:
    """Raise the error that says what differs between this peer's proposal and `name`'s."""
    mine = state.proposal
    if mine is None:
        return
    if other.manifest != state.setting.manifest:
        raise ManifestDiffers(
            peer=name, evidence=f"yours {state.setting.manifest.hex()[:16]}, theirs {other.manifest.hex()[:16]}"
        )
    if other.configuration != mine.configuration:
        field, evidence = first_difference(mine.configuration, other.configuration)
        raise ConfigurationDiffers(peer=name, field=field, evidence=evidence)
    if other.model != mine.model:
        raise ModelDiffers(peer=name, evidence=f"yours {mine.model.hex()[:16]}, theirs {other.model.hex()[:16]}")


def first_difference(mine: bytes, theirs: bytes) -> tuple[str, str]:
    """The first field in which two configurations differ, and both its values."""
    try:
        ours, other = codec.read_facts(mine), codec.read_facts(theirs)
    except codec.Malformed as error:
        return "its form", str(error)
    for field in sorted({*ours, *other}):
        if ours.get(field) != other.get(field):
            return field, f"yours {ours.get(field, 'none')}, theirs {other.get(field, 'none')}"
    return "its form", "the same fields in another spelling"


def complete(state: State) -> bool:
    """This peer coordinates, and every member acknowledged the same bundle of every other and proposed."""
    if state.coordinator != state.setting.me or state.members is not None or len(state.proposes) < state.n:
        return False
    held = {letter.message for letter in state.acks.values()}
    return len(state.acks) == state.n and len(held) == 1


def choose(state: State) -> list[Effect]:
    """Name U. It carries what it rests on, so that nobody has to believe the coordinator."""
    names = state.names
    message = Members(
        names,
        tuple(state.acks[name].wire for name in names),
        tuple(state.proposes[name].wire for name in names),
        names,
        common_deadline_ms(state),
    )
    sent = state.post(message)
    state.members = sent.letter
    return [sent, state.persist(Accepted)]


def members(state: State, event: Received) -> list[Effect]:
    """Check the coordinator's U against this peer's own view, and accept it: final on receipt."""
    letter = event.letter
    if letter.sender != state.coordinator:
        raise MembersRejected(peer=letter.sender, evidence=f"{state.coordinator} coordinates attempt {state.attempt}")
    if state.members is not None:
        if state.members.digest != letter.digest:
            raise TwoStatements(peer=letter.sender, message="Members", evidence="two sets of members for one attempt")
        return []
    try:
        _check_members(state, event)
    except codec.Malformed as error:
        raise MembersRejected(peer=letter.sender, evidence=str(error)) from None
    state.members = letter
    return [state.persist(Accepted)]


def _check_own_word(state: State, letter: Letter, message: Members) -> None:
    """An acknowledgement that this site signed and does not know of: this home is older than its own word."""
    me = state.setting.me
    own = open_letter(message.acks[state.names.index(me)], state.setting.roster, Ack)
    if me in state.acks and own.digest != state.acks[me].digest:
        shown = f"an acknowledgement of round {state.round}, attempt {state.attempt}, signed by this site"
        raise RolledBack(peer=letter.sender, evidence=f"{shown}; this home does not know it")


def _check_members(state: State, event: Received) -> None:
    letter, roster = event.letter, state.setting.roster
    message = letter.message
    if not isinstance(message, Members):
        raise codec.Malformed("not a set of members")
    if message.owners != message.survivors:
        raise codec.Malformed("owners are not the members in order")
    held = certificate.acknowledged_bundles(letter, roster)
    _check_own_word(state, letter, message)
    for dealer, digest in held.items():
        if dealer not in state.bundles or state.bundles[dealer].digest != digest:
            raise codec.Malformed(f"the set rests on another bundle of {dealer} than this site holds")
    proposed = certificate.proposals(letter, roster)
    for name, proposal in proposed.items():
        _agree(state, name, proposal)
    if message.deadline_ms != _common(state, proposed.values()):
        raise codec.Malformed(f"deadline of {message.deadline_ms} ms is not the common one")
