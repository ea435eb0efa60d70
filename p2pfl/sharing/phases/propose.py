"""PROPOSE: everyone says on which grounds it would sum, and passes on at half-time what it has heard.

docs/spec/sharing.md §4. The clock of the phase starts at the q-th peer of which this one holds a proposal or ABANDON;
before that the attempt waits, without limit, for a quorum.
"""

from __future__ import annotations

from p2pfl import codec
from p2pfl.errors import P2PFLError, RemoteProtocolError
from p2pfl.errors.round import (
    ConfigurationDiffers,
    EpsilonFell,
    MalformedMessage,
    PeersFileDiffers,
    SupportTooLarge,
)
from p2pfl.messages import LARGE, SUPPORT, Held, Letter, Propose
from p2pfl.sharing.certificate import common_deadline_ms
from p2pfl.sharing.events import Effect, Send, Stop, UpdateReady
from p2pfl.sharing.parts import Proposals
from p2pfl.sharing.phases import unlinked
from p2pfl.sharing.state import State, two_statements


def hold(state: State, event: UpdateReady) -> list[Effect]:
    """Keep what this peer would sum."""
    size, most = len(event.proposal.support), most_support(state.n)
    if size > most:
        raise SupportTooLarge(n=state.n, evidence=f"{size} bytes of positions, at most {most}")
    state.proposal = event.proposal
    return []


def most_support(n: int) -> int:
    """Bytes of positions that each of n proposals may hold: n of them fit, with n acknowledgements and a certificate.

    Half of a letter for the set; each acknowledgement names n bundles, each configuration has at most 4 KiB.
    """
    return min(SUPPORT.most, LARGE // 2 // n - 72 * n - (8 << 10))


def may_send(state: State) -> bool:
    """This peer has an update, and its shares are out."""
    return state.proposal is not None and state.proposals.dealt and state.context.me not in state.proposals.proposes


def send(state: State) -> list[Effect]:
    """Propose to all, and only then stop if too many differ: otherwise those would wait without knowing why."""
    proposal = state.proposal
    if proposal is None:
        return []
    message = Propose(
        state.context.federation_digest,
        *state.base,
        proposal.model,
        proposal.configuration,
        proposal.support,
        proposal.deadline_ms,
        proposal.clock_ms,
        proposal.epsilon,
        proposal.site_head,
        proposal.change,
    )
    letter = state.seal(message)
    state.proposals.proposes[state.context.me] = letter
    return [state.post(letter), *_differing(state)]


def accept(state: State, letter: Letter[Propose]) -> list[Effect]:
    """Hold a peer's proposal."""
    if state.closed:
        return []
    if (wrong := fault(state, letter.sender, letter.message)) is not None:
        raise wrong
    held = state.proposals.proposes.get(letter.sender)
    if held is not None and held.digest != letter.digest and held.envelope == letter.envelope:
        digests = f"{held.digest.hex()[:16]} and {letter.digest.hex()[:16]}"
        raise two_statements(held, letter, digests)
    state.proposals.proposes[letter.sender] = letter
    return _differing(state)


def fault(state: State, name: str, proposal: Propose) -> RemoteProtocolError | None:
    """Why no sum can rest on what `name` proposes, whether it sent it, others passed it on, or it stands in a set."""
    if len(proposal.support) > most_support(state.n):
        # Together such proposals would burst the set, and its coordinator would look like the culprit.
        return MalformedMessage(peer=name, evidence=f"{len(proposal.support)} bytes of positions")
    try:
        state.context.check_support(proposal.configuration, proposal.support, state.n, name)
    except RemoteProtocolError as error:
        return error
    spent = state.context.spent().get(name, 0.0)
    if proposal.epsilon and float(proposal.epsilon) < spent:  # in a record, it would spoil it
        return EpsilonFell(peer=name, evidence=f"{proposal.epsilon} after this round, {spent:g} in the ledger")
    return None


def _differing(state: State) -> list[Effect]:
    """Stop when so many proposals differ from this peer's that no quorum can sum with it."""
    mine, me = state.proposal, state.context.me
    if mine is None or me not in state.proposals.proposes:
        return []
    errors = [
        error
        for name, letter in state.proposals.proposes.items()
        if name != me and (error := _difference(state, name, letter.message)) is not None
    ]
    return [Stop(errors[0])] if len(errors) > state.n - state.context.roster.quorums.q else []


def _difference(state: State, name: str, other: Propose) -> P2PFLError | None:
    """The error that says what differs between this peer's proposal and `name`'s; another model is caught up with."""
    mine = state.proposal
    if mine is None:
        return None
    if other.federation_digest != state.context.federation_digest:
        evidence = f"yours {state.context.federation_digest.hex()[:16]}, theirs {other.federation_digest.hex()[:16]}"
        return PeersFileDiffers(peer=name, evidence=evidence)
    if other.configuration != mine.configuration:
        field, evidence = first_difference(mine.configuration, other.configuration)
        return ConfigurationDiffers(peer=name, field=field, evidence=evidence)
    return None


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


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────────────────


def clock_starts(state: State) -> bool:
    """A quorum has proposed, or has given up since, and the clock of the phase has not been set.

    Who gave up sends its proposal no more: a peer that came back since then would wait for it without a clock.
    """
    gone = {name for name, ballot in state.voting.ballots.items() if not ballot.message.survivors}
    return "propose" not in state.due and len(state.proposals.proposes.keys() | gone) >= state.context.roster.quorums.q


def start_clock(state: State) -> list[Effect]:
    """From here on the phase has its deadline, of which quarters matter."""
    seconds = phase_seconds(state)
    steps = {"begun": 0.0, "away": 0.25, "half": 0.5, "choose": 0.75, "propose": 1.0}
    state.peers.patience_s = phase_seconds(state, attempt=0) / 4
    return [*(state.timer(what, part * seconds) for what, part in steps.items()), *unlinked.expect(state)]


def phase_seconds(state: State, attempt: int | None = None) -> float:
    """The common deadline of the proposals that are held, in this attempt or another."""
    proposed = [letter.message for letter in state.proposals.proposes.values()]
    place = state.attempt if attempt is None else attempt
    return common_deadline_ms(proposed, state.context.roster, place) / 1000


def half_time(state: State) -> bool:
    """Half of the phase is over without a U: what this peer holds goes to the coordinator, once."""
    other = state.coordinator != state.context.me
    waits = state.members is None and state.voting.ballot is None and "passed on" not in state.due
    return other and waits and state.past("half")


def pass_on(state: State) -> list[Effect]:
    """Pass on what is held: no coordinator can say that it never heard of a peer, and a cut link excludes none.

    Of whom this peer holds all three, by one process, the coordinator has what it takes to put it into the set.
    """
    held = state.proposals
    both = [name for name in state.names if name in held.acks and name in held.proposes]
    whole = [name for name in both if name in held.bundles and _is_of_one_process(held, name)]
    held.passed_on = {name: held.acks[name] for name in whole}
    state.due["passed on"] = state.now  # also when there was nothing: once is enough
    message = Held(
        tuple(held.acks[name].wire for name in both),
        tuple(held.proposes[name].wire for name in both),
        tuple(held.bundles[name].wire for name in whole),
    )
    return [Send(state.coordinator, state.seal(message))] if both else []


def _is_of_one_process(held: Proposals, name: str) -> bool:
    """A liar may make up a process for each: nobody could tell which of them the others heard."""
    return held.acks[name].envelope == held.bundles[name].envelope == held.proposes[name].envelope
