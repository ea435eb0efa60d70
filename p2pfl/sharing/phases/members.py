"""U: the coordinator names the largest complete set, and each peer checks it against what it has seen itself.

docs/spec/sharing.md §4. The coordinator orders membership and learns nothing else. It cannot choose: peers refuse an
incomplete set as a breach, and take no part in a complete one that leaves out a present peer of which the coordinator
was told.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from p2pfl import codec
from p2pfl.errors.round import MembersRejected
from p2pfl.messages import (
    LARGE,
    SMALL,
    Ack,
    Ballot,
    Handed,
    Leave,
    Letter,
    Members,
    Message,
    open_letter,
)
from p2pfl.roster import MOST_PEERS, Roster
from p2pfl.sharing import certificate
from p2pfl.sharing.certificate import Composition, common_deadline_ms, grounds_of
from p2pfl.sharing.events import Accepted, Effect, Send
from p2pfl.sharing.parts import Said
from p2pfl.sharing.phases import heard, share, turns, unlinked
from p2pfl.sharing.phases.propose import fault, phase_seconds
from p2pfl.sharing.snapshot import persist
from p2pfl.sharing.state import State, two_statements

Row = tuple[str, bytes]  # of an acknowledgement: a dealer, and the digest of its bundle


def can_choose(state: State) -> bool:
    """This peer coordinates, a complete set is there, and no further peer is to be waited for."""
    if state.coordinator != state.context.me or state.members is not None or state.voting.ballot is not None:
        return False
    quorum = state.context.roster.quorums.q
    if "propose" not in state.due or min(len(state.proposals.acks), len(state.proposals.proposes)) < quorum:
        return False
    chosen = complete(state)
    if len(chosen) < quorum:
        return False
    return state.past("choose") or not any(_is_awaited(state, name, chosen) for name in state.names)


def _is_awaited(state: State, name: str, chosen: tuple[str, ...]) -> bool:
    if name in chosen or name in state.peers.proven or name in excusable(state):
        return False
    if unlinked.cannot_join(state, name, chosen) or unlinked.is_gone(state, name, chosen):
        return False
    return not (state.past("away") and state.peers.away(name, state.now, 0.25 * phase_seconds(state)))


def complete(state: State) -> tuple[str, ...]:
    """The largest set found in which each acknowledged the same bundle of every other, on one set of grounds."""
    said = _known(state)
    groups: dict[object, list[str]] = {}
    for name, one in said.items():
        groups.setdefault(grounds_of(one.propose.message), []).append(name)
    chosen = max(groups.values(), key=len, default=[])
    excused = excusable(state)
    quorum = state.context.roster.quorums.q
    room = max(0, len(chosen) - quorum)
    # Who was named last goes first: of liars that take turns all are out, once each has had one.
    named = sorted((name for name in chosen if name in excused), key=lambda name: -excused[name])[:room]
    for more in range(len(named), -1, -1):
        # Honest coordinators are named too when no set comes: room is theirs only where those that disagree need none.
        left = [name for name in chosen if name not in named[:more]]
        found = turns.in_turn(state, left, _parted(state, {name: said[name] for name in left}))
        if len(found) >= quorum:
            break
    return found


def _parted(state: State, said: Mapping[str, Said]) -> dict[str, frozenset[str]]:
    """By peer, those of the others with which no complete set could hold it.

    The others must hold what a dealer says of its own bundle.
    """
    held = {name: dict(one.ack.message.held) for name, one in said.items()}
    if (me := state.context.me) in held:
        held[me] |= _receipts(state, said)
    own = {name: held[name].get(name) for name in said}
    return {
        name: frozenset(
            one
            for one in said
            if None in (own[name], own[one]) or (held[name].get(one), held[one].get(name)) != (own[one], own[name])
        )
        for name in said
    }


def _receipts(state: State, said: Mapping[str, Said]) -> dict[str, bytes]:
    """By dealer that dealt anew to this peer, the older bundle of it that counts, and that this peer can speak for."""
    older = {name: one.bundle.digest for name, one in said.items() if one.bundle.digest in state.proposals.older}
    return {name: digest for name, digest in older.items() if share.holds(state, name, digest)}


def _known(state: State) -> dict[str, Said]:
    """By peer, what a set may rest on: of those who hear this one, and whom nothing proves liars.

    The very bundle must be known that each says it dealt. A set would not come to one that has no link to this peer.
    """
    me, proven = (state.context.me,), state.peers.proven
    return {
        name: said
        for name, said in heard.said_by(state).items()
        if name not in proven
        and not unlinked.cannot_join(state, name, me)
        and (name, said.bundle.digest) in said.ack.message.held
    }


def excusable(state: State) -> Mapping[str, int]:
    """Peers that may be left out alive, as `_excused` says."""
    return _excused(state, _grounds(state))


def _grounds(state: State, acks: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
    """Who may be left out alive in this attempt, in letters that anyone can check: as many as a set can carry.

    acks   of those whom a link keeps out of the set
    """
    return (*state.leaving.grounds, *acks, *state.leaving.abandons)[:MOST_PEERS]


def _excused(state: State, grounds: tuple[bytes, ...]) -> Mapping[str, int]:
    """By peer that c+1 signers name: the last attempt of this round in whose ABANDON they do so.

    The attempt is −1 where they do so in LEAVEs of the round before. All attempts of the round count, or liars would
    take turns: each would be back when the next one has spoiled an attempt.
    """
    return _named_in(grounds, state.context.run, state.round, state.attempt, state.context.roster)


@functools.lru_cache(maxsize=16)
def _named_in(grounds: tuple[bytes, ...], run: bytes, number: int, attempt: int, roster: Roster) -> Mapping[str, int]:
    """`_excused`, cached: it is asked after every letter, of the same grounds."""
    counts: dict[tuple[int, str], set[str]] = {}
    for wire in grounds:
        letter = open_letter(wire, roster, Message)
        message, at = letter.message, letter.envelope
        if (at.run, at.epoch) != (run, roster.epoch):
            continue
        if isinstance(message, Ballot) and at.round == number and at.attempt < attempt:
            place, names = at.attempt, message.waited_for
        elif isinstance(message, Leave) and at.round == number - 1:
            place, names = -1, message.lacking
        else:
            continue
        for name in names:
            counts.setdefault((place, name), set()).add(letter.sender)
    return {name: place for (place, name), by in sorted(counts.items()) if len(by) > roster.quorums.c}


def with_abandon(state: State, ballots: Iterable[bytes]) -> tuple[bytes, ...]:
    """The ballots of this round that name somebody, with those of one more ABANDON: the last come first."""
    letters = [open_letter(wire, state.context.roster, Ballot) for wire in ballots]
    return (*[one.wire for one in letters if one.message.waited_for], *state.leaving.abandons)[:MOST_PEERS]


def choose(state: State) -> list[Effect]:
    """Name U. The letter carries what U rests on, so that no peer has to believe the coordinator."""
    chosen = complete(state)
    known = heard.said_by(state)
    said = [known[name] for name in chosen]
    said = [replace(one, ack=_own(state, said)) if one.ack.sender == state.context.me else one for one in said]
    deadline = common_deadline_ms([one.propose.message for one in said], state.context.roster, state.attempt)
    message = Members(
        chosen,
        tuple(one.bundle.wire for one in said),
        tuple(certificate.short(one.ack, chosen) for one in said),
        tuple(one.propose.wire for one in said),
        owners_of(state, chosen),
        deadline,
        _grounds(state, unlinked.grounds_for(state, chosen)) if len(chosen) < state.n else (),
    )
    state.members = state.seal(message)
    share.hold_bundles(state, state.members)  # a member may have dealt to the others alone, or anew to this peer
    return [persist(state, Accepted)]  # sent once it is durable: a process that died must not name another set


def _own(state: State, said: Sequence[Said]) -> Letter[Ack]:
    """What this peer acknowledges of those bundles; durable with the set, before it is sent."""
    last = state.proposals.acks[state.context.me]
    rows = dict(last.message.held)
    older = _receipts(state, {one.bundle.sender: one for one in said})
    if older.items() <= rows.items():
        return last
    held = tuple((name, row) for name in state.names if (row := older.get(name, rows.get(name))) is not None)
    state.proposals.acks[state.context.me] = state.seal(replace(last.message, held=held))
    return state.proposals.acks[state.context.me]


def owners_of(state: State, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The owners of the chunks of this U by peers.yaml: its hub alone where one is in it, else all members in order."""
    hub = state.context.hub
    return (hub,) if hub is not None and hub in chosen else chosen


def accept(state: State, letter: Letter[Members]) -> list[Effect]:
    """Check the coordinator's U, and accept it: final on receipt. A U that leaves out a victim is not accepted."""
    compare(state, letter)
    if state.members is not None or state.voting.ballot is not None or state.proposals.refused:
        return []
    if len(letter.wire) > certificate.most_members(state.context.roster):
        raise MembersRejected(peer=letter.sender, evidence=f"a set of {letter.size} bytes fits into no certificate")
    try:
        found = certificate.compose(letter, state.context.roster)
    except codec.Malformed as error:
        raise MembersRejected(peer=letter.sender, evidence=str(error), proof=(letter,)) from None
    named = letter.message
    if named.owners != owners_of(state, named.survivors):
        evidence = f"owners are {', '.join(named.owners)}, not those of peers.yaml"
        raise MembersRejected(peer=letter.sender, evidence=evidence)
    state.proposals.refused = refusal(state, letter, found)
    if not state.proposals.refused and (early := left_out_early(state, letter)):
        state.proposals.refused = f"before half-time it leaves out {', '.join(early)}, whose link to this peer stands"
        state.proposals.unblamed = True
    if not state.proposals.refused:
        return adopt(state, letter)
    state.proposals.declined = letter
    # Shown to all: a peer that was told another set has the proof in the two, and would never see this one otherwise.
    return [Send(None, state.seal(Handed((letter.wire,))))] if letter.size <= LARGE - SMALL else []


def compare(state: State, letter: Letter[Members]) -> list[Effect]:
    """Hold it against the set that this peer was told first. Raises TwoStatements; MembersRejected for an outsider."""
    held = state.members or state.proposals.declined
    if letter.sender != state.coordinator:
        raise MembersRejected(peer=letter.sender, evidence=f"{state.coordinator} coordinates attempt {state.attempt}")
    if held is not None and held.digest != letter.digest:
        raise two_statements(held, letter, "two sets of members for one attempt")
    return []


def adopt(state: State, letter: Letter[Members]) -> list[Effect]:
    """Make this U the attempt's own, with the bundles that it rests on."""
    share.hold_bundles(state, letter)
    state.members = letter
    return [persist(state, Accepted)]


def refusal(state: State, letter: Letter[Members], found: Composition) -> str:
    """Why this peer does not take part in an otherwise sound U; empty when it does."""
    message, me = letter.message, state.context.me
    liars = [name for name in message.survivors if name in state.peers.proven]
    if liars:
        return f"it holds {', '.join(liars)}, proven to have broken the protocol"
    faults = [wrong for name, proposal in found.proposals.items() if (wrong := fault(state, name, proposal))]
    if faults:
        return f"it rests on a proposal that is refused: {faults[0].happened}"
    if me in message.survivors:
        if (
            state.unmasking.deal is None
            or found.bundles[me] != state.unmasking.deal.bundle.digest
            or not state.proposals.dealt
        ):
            return "it rests on a bundle of a process of this site that has ended"
        held = {one.digest for one in (*state.proposals.bundles.values(), *state.proposals.older.values())}
        if not held.issuperset(found.bundles[name] for name in message.survivors):
            return "it rests on another bundle than those that this site holds"
        seedless = [name for name in message.survivors if not share.holds(state, name, found.bundles[name])]
        if seedless:
            return f"the seed of the edge from {', '.join(seedless)} has not come to this process"
        if me not in state.proposals.proposes or grounds_of(found.proposals[me]) != grounds_of(
            state.proposals.proposes[me].message
        ):
            return "it rests on a proposal that this process did not make"
    return _left_out(state, letter, found)


def _left_out(state: State, letter: Letter[Members], found: Composition) -> str:
    """Whom the set should hold, by what this peer passed on to its coordinator at half-time; empty where nobody.

    Who is out against the turns may have told the coordinator nothing, and others all: then nobody is to blame. Once
    every peer has coordinated an attempt in vain this rests.
    """
    if state.attempt >= state.n:
        return ""
    excused = _excused(state, letter.message.grounds).keys() | _kept_out(state, letter)
    out = [name for name in state.proposals.passed_on if name not in letter.message.survivors]
    for name in out:
        if name in excused or name in state.peers.proven or name in state.peers.down or name == state.context.me:
            continue
        if _would_be_complete(state, name, letter, found):
            return f"it leaves out {name}, who is there, and of whom the coordinator was told"
        if rival := _out_of_turn(state, name, letter, found):
            state.proposals.unblamed = True
            return f"it leaves out {name} in the place of {rival}, whose turn that was"
    return ""


def left_out_early(state: State, letter: Letter[Members]) -> list[str]:
    """Peers for which an honest coordinator would still wait, if it heard them as this peer does.

    Without this rule a liar could name its set at once, before anything is passed on, and leave out any peer it likes.
    An honest coordinator whose own link to them is cut cannot show that, so it is not named for it. Once every peer
    has coordinated an attempt in vain the rule rests: what one peer sees of the links may stop no round for good. It
    rests in a process that is late too: by the clocks of the others the phase may be past its half.
    """
    message, peers, me = letter.message, state.peers, state.context.me
    if state.past("half") or state.late or me not in state.proposals.proposes or state.attempt >= state.n:
        return []
    excused = _excused(state, message.grounds).keys() | _kept_out(state, letter)
    begun = state.due.get("begun", state.now)  # others may just have given up a peer that came back since then
    out = [name for name in state.names if name not in message.survivors and name not in excused and name != me]
    return [name for name in out if name not in peers.proven and peers.stands(name, begun)]


def _kept_out(state: State, letter: Letter[Members]) -> frozenset[str]:
    """Who is out for want of a link to a member that names the set, or in whose place it is out by turns."""
    found = unlinked.rivals(letter, state.context.roster)

    def may_stay(name: str, rival: str) -> bool:
        return rival == state.coordinator or not turns.is_broken(state, name, rival)

    return frozenset(name for name, others in found.items() if any(may_stay(name, one) for one in others))


def _out_of_turn(state: State, name: str, letter: Letter[Members], found: Composition) -> str:
    """The member in whose place `name` should be in U, since it was left out less often."""
    broken = [one for one in letter.message.survivors if turns.is_broken(state, name, one)]
    return next((one for one in broken if _would_be_complete(state, name, letter, found, without=one)), "")


def _would_be_complete(
    state: State, name: str, letter: Letter[Members], found: Composition, without: str | None = None
) -> bool:
    """With `name` in it, U would have been complete, by what its coordinator was told: this peer's word, and U itself.

    without   a member in whose place `name` would be
    """
    proposals, message = state.proposals, letter.message
    told, bundle = proposals.passed_on.get(name), proposals.bundles.get(name)
    if told is None or bundle is None or bundle.envelope != told.envelope or name not in proposals.proposes:
        return False  # gone, when it has dealt anew since
    held, own = dict(told.message.held), (name, bundle.digest)
    members = [(one, row) for one, row in zip(message.survivors, message.acks, strict=True) if one != without]
    return (
        own in told.message.held
        and all(held.get(one) == found.bundles[one] for one, _ in members)
        and all(own in row[2] or _could_have(proposals.passed_on.get(one), own, found, row[2]) for one, row in members)
        and {grounds_of(one) for one in found.proposals.values()} == {grounds_of(proposals.proposes[name].message)}
    )


def _could_have(told: Letter[Ack] | None, own: Row, found: Composition, beside: tuple[Row, ...]) -> bool:
    """The member's acknowledgement that this peer passed on has `own`, and all that the one in U has.

    That one was older, then. Of two that say unlike things nobody is to blame: a dealer of either may have dealt anew.
    """
    return told is not None and {own, *found.bundles.items(), *beside} <= set(told.message.held)
