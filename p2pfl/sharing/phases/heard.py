"""What the coordinator makes its set of: what it heard itself, or what the others pass on of whoever told it less.

docs/spec/sharing.md §4, docs/adr/0103. Some member may behave well to all but the coordinator: it acknowledges one
bundle less to it, proposes another thing, deals another bundle or none. On that alone it would name a set that the
others refuse, and they would name it for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from p2pfl import codec
from p2pfl.errors.round import MalformedMessage
from p2pfl.messages import Ack, Bundle, Held, Letter, Message, Propose, open_letter
from p2pfl.sharing.certificate import check_order, same_attempt
from p2pfl.sharing.events import Effect
from p2pfl.sharing.parts import Said
from p2pfl.sharing.phases.propose import fault
from p2pfl.sharing.state import State, two_statements

M = TypeVar("M", bound=Message)
Row = tuple[str, bytes]  # of an acknowledgement: a dealer, and the digest of its bundle


def accept(state: State, letter: Letter[Held]) -> list[Effect]:
    """The coordinator takes what others hold of its peers; anybody else has no use for it.

    Raises TwoStatements, once all is held, when a peer has told one thing to this peer and another to the sender.
    """
    message, roster = letter.message, state.context.roster
    if state.closed or state.coordinator != state.context.me:
        return []
    if max(map(len, (message.acks, message.proposes, message.bundles))) > state.n:
        return []
    try:
        acks = _by_peer(state, (open_letter(wire, roster, Ack) for wire in message.acks))
        proposes = _by_peer(state, (open_letter(wire, roster, Propose) for wire in message.proposes))
        bundles = _by_peer(state, (open_letter(wire, roster, Bundle) for wire in message.bundles))
        for ack in acks.values():
            check_order(ack.message, roster)
    except codec.Malformed as error:
        raise MalformedMessage(peer=letter.sender, evidence=f"in what it passed on: {error}") from None
    for ack in acks.values():
        _fill_ack(state, ack)
    for propose in proposes.values():
        _fill_propose(state, propose)
    whole = bundles.keys() & acks.keys() & proposes.keys()
    standing = _standing(state)
    counts = _counting(state, standing)
    for name in whole:
        _hold(state, Said(bundles[name], acks[name], proposes[name]), standing, counts)
    told = state.proposals.told
    older = [{one.sender: one} for one in state.proposals.older.values()]
    for known in (state.proposals.bundles, *older, {name: said.bundle for name, said in told.items()}):
        _compare(state, known, bundles)
    _compare(state, state.proposals.proposes, proposes)
    return []


def _by_peer(state: State, letters: Iterable[Letter[M]]) -> dict[str, Letter[M]]:
    """Those of this attempt, by the others."""
    mine = state.envelope
    return {one.sender: one for one in letters if same_attempt(one, mine) and one.sender != mine.sender}


def _compare(state: State, held: Mapping[str, Letter[M]], told: Mapping[str, Letter[M]]) -> None:
    """Raise TwoStatements when one process has said two things, and nothing proves it a liar yet."""
    for name, letter in told.items():
        mine = held.get(name)
        if mine is None or mine.digest == letter.digest or mine.envelope != letter.envelope:
            continue
        if name not in state.peers.proven:
            raise two_statements(
                mine, letter, f"{mine.digest.hex()[:16]} here and {letter.digest.hex()[:16]} elsewhere"
            )


# ── of a peer that was not heard ──────────────────────────────────────────────────────────────────────────────


def _fill_ack(state: State, ack: Letter[Ack]) -> None:
    name, held = ack.sender, state.proposals.acks.get(ack.sender)
    # By one without a link, what others heard of it is newer, unless it says less.
    newer = state.context.me in ack.message.unlinked and name in state.peers.down
    if (held is None or (newer and not set(ack.message.held) < set(held.message.held))) and not _has_ended(state, ack):
        state.proposals.acks[name] = ack


def _fill_propose(state: State, propose: Letter[Propose]) -> None:
    name = propose.sender  # looked at before it is judged: its support may name a million positions
    if name in state.proposals.proposes or _has_ended(state, propose):
        return
    if fault(state, name, propose.message) is None:
        state.proposals.proposes[name] = propose


def _has_ended(state: State, passed_on: Letter[Message]) -> bool:
    """It is by another process than the one that dealt to this peer."""
    bundle = state.proposals.bundles.get(passed_on.sender)
    return bundle is not None and bundle.envelope.incarnation != passed_on.envelope.incarnation


# ── of a peer that tells others another thing, before or after ────────────────────────────────────────────────


def _hold(state: State, said: Said, standing: Counter[Row], counts: Mapping[str, Letter[Bundle]]) -> None:
    """Of each peer keep the best, also where it is what this one heard: the peer may tell it another thing yet."""
    name = said.ack.sender
    if not said.ack.envelope == said.bundle.envelope == said.propose.envelope:
        return

    def weight(one: Said) -> tuple[int, int]:
        return standing[name, one.bundle.digest], _agreement(one.ack, counts)

    before = state.proposals.told.get(name)
    if before is not None and (_digests(before) == _digests(said) or weight(said) <= weight(before)):
        return
    known = state.proposals.proposes.get(name)  # that one was judged when it came
    if known is not None and known.digest == said.propose.digest:
        state.proposals.told[name] = replace(said, propose=known)  # no copy: its support may be long
    elif fault(state, name, said.propose.message) is None:
        state.proposals.told[name] = said


def _digests(said: Said) -> tuple[bytes, bytes, bytes]:
    return said.bundle.digest, said.ack.digest, said.propose.digest


def _standing(state: State) -> Counter[Row]:
    """How many acknowledge each bundle."""
    return Counter(row for ack in state.proposals.acks.values() for row in ack.message.held)


def _agreement(ack: Letter[Ack], counts: Mapping[str, Letter[Bundle]]) -> int:
    """How many of the bundles that count here it acknowledges."""
    return sum((one := counts.get(name)) is not None and one.digest == held for name, held in ack.message.held)


def _counting(state: State, standing: Counter[Row] | None = None) -> Mapping[str, Letter[Bundle]]:
    """By dealer, its bundle that counts: which more of its peers acknowledge, whatever it dealt to this one.

    standing   where it is known already: it goes through every row of every acknowledgement
    """
    proposals = state.proposals
    counts = dict(proposals.bundles)
    for name, told in proposals.told.items():
        held, other = counts.get(name), told.bundle
        if (held is not None and held.digest == other.digest) or name in state.peers.down:
            continue  # without a link to it the set would not reach it
        if standing is None:
            standing = _standing(state)
        if held is None or standing[name, other.digest] > standing[name, held.digest]:
            counts[name] = other
    return counts


def said_by(state: State) -> dict[str, Said]:
    """What a set may rest on, by peer; without those of whom something is lacking.

    Of two acknowledgements by one process that which says more counts, whichever is newer: a receipt stays true, also
    where the dealer has dealt anew (`share.holds`). A liar gains nothing by telling others more: it is held to that.
    """
    counts = _counting(state)  # once for all: this is asked after every letter
    found = {name: _said(state, name, counts) for name in state.names}
    return {name: said for name, said in found.items() if said is not None}


def _said(state: State, name: str, counts: Mapping[str, Letter[Bundle]]) -> Said | None:
    proposals = state.proposals
    bundle, ack, propose = proposals.bundles.get(name), proposals.acks.get(name), proposals.proposes.get(name)
    told, counting = proposals.told.get(name), counts.get(name)
    if told is not None and counting is not None and counting.digest == told.bundle.digest:
        if bundle is None or bundle.digest != told.bundle.digest:
            return told
        if ack is None or (ack.digest != told.ack.digest and _agreement(told.ack, counts) > _agreement(ack, counts)):
            ack = told.ack
        if propose is None or propose.envelope != bundle.envelope:
            propose = told.propose
    return Said(bundle, ack, propose) if bundle and ack and propose else None
