"""Who has no link to whom: each peer says so in its acknowledgement, and nobody waits for what cannot come.

docs/spec/sharing.md §4.1, docs/adr/0037. A peer without a link is waited for once, for the time of `PeerView`, and not
again until its link stands. Two peers that both say that no link is between them are in no set together: who stays out
is agreed at once. The word of one alone excuses nobody: a liar could leave out whom it likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pfl.messages import Ack, Held, Letter, Members, Message, Reveal, open_letter
from p2pfl.roster import Roster
from p2pfl.sharing.certificate import same_attempt
from p2pfl.sharing.events import Effect, LinkDown, Send, SetTimer, Tick
from p2pfl.sharing.state import State

PASSED_ON: Final = 2  # times n: an honest peer's acknowledgement grows by a dealer or a link at a time


def told(state: State, name: str) -> tuple[str, ...]:
    """The peers to which `name` says that it has no link, in its latest acknowledgement."""
    ack = _ack(state, name)
    return ack.message.unlinked if ack is not None else ()


def _ack(state: State, name: str) -> Letter[Ack] | None:
    """What `name` acknowledged to this peer; else to those who passed it on: a set may rest on that (heard.py)."""
    said = state.proposals.told.get(name)
    return state.proposals.acks.get(name) or (said.ack if said is not None else None)


def expect(state: State, event: LinkDown | None = None) -> list[Effect]:
    """Look again when a peer that has just lost its link has been waited for long enough."""
    peers = state.peers
    times = {time for name in peers.down if state.now < (time := peers.unlinked_at(name)) < float("inf")}
    return [SetTimer(Tick(time, state.round, state.attempt)) for time in sorted(times)]


# ── the coordinator ───────────────────────────────────────────────────────────────────────────────────────────


def cannot_join(state: State, name: str, chosen: Iterable[str]) -> bool:
    """Some member and `name` both say that they have no link: no complete set could hold both."""
    return any(one in told(state, name) and name in told(state, one) for one in chosen)


def is_gone(state: State, name: str, chosen: Iterable[str]) -> bool:
    """`name` has had no link to this peer for long enough, and has dealt to no member that still has one to it."""
    if state.now < state.peers.unlinked_at(name):
        return False
    others = [one for one in chosen if one != state.context.me]
    return all(name in told(state, one) or not _has_dealt(state, name, one) for one in others)


def _has_dealt(state: State, name: str, to: str) -> bool:
    ack = _ack(state, to)
    return ack is not None and any(dealer == name for dealer, _ in ack.message.held)


def grounds_for(state: State, chosen: tuple[str, ...]) -> tuple[bytes, ...]:
    """The acknowledgements of those outside of `chosen` that say that they have no link to one in it."""
    outside = [name for name in state.names if name not in chosen and cannot_join(state, name, chosen)]
    return tuple(ack.wire for name in outside if (ack := _ack(state, name)) is not None)


def pass_on(state: State, ack: Letter[Ack]) -> list[Effect]:
    """The coordinator cannot hear one who has no link to it: it is told so by all who can.

    Each acknowledgement once, and few of one peer: of a liar's as many as of its letters would come to the coordinator
    from each honest peer, until a queue between two of those is full.
    """
    coordinator, passed = state.coordinator, state.proposals.acks_passed_on.setdefault(ack.sender, set())
    if coordinator not in ack.message.unlinked or coordinator in (state.context.me, ack.sender):
        return []
    if ack.digest in passed or len(passed) == PASSED_ON * state.n:
        return []
    passed.add(ack.digest)
    return [Send(coordinator, state.seal(Held((ack.wire,), (), ())))]


# ── the others ────────────────────────────────────────────────────────────────────────────────────────────────


def rivals(members: Letter[Members], roster: Roster) -> dict[str, frozenset[str]]:
    """By peer that the set leaves out, the members to which it has no link, as they say too. Raises Malformed."""
    message = members.message
    said = {name: row[3] for name, row in zip(message.survivors, message.acks, strict=True)}
    found: dict[str, frozenset[str]] = {}
    for wire in message.grounds:
        letter = open_letter(wire, roster, Message)
        if isinstance(letter.message, Ack) and same_attempt(letter, members.envelope):
            name, without = letter.sender, letter.message.unlinked
            found[name] = frozenset(member for member, names in said.items() if member in without and name in names)
    return found


def coordinator_is_gone(state: State) -> bool:
    """As many as can abandon the attempt say that they have no link to its coordinator; this peer is one of them."""
    name = state.coordinator
    saying = [one for one in state.proposals.acks if name in told(state, one)]
    enough = len(saying) >= state.context.roster.quorums.a
    return (
        "propose" in state.due and enough and state.context.me in saying and state.now >= state.peers.unlinked_at(name)
    )


# ── what one outside of U cannot hear from a member ───────────────────────────────────────────────────────────


def _helped(state: State) -> list[str]:
    """Peers outside of U that cannot hear a member, and are told by this one, which is among the first that they hear.

    Of c+1 one is honest, and n of them would send n² copies.
    """
    most = state.context.roster.quorums.c + 1
    members = frozenset(state.survivors)
    deaf = {name: told(state, name) for name in state.names if name not in members}
    return [
        name
        for name, without in deaf.items()
        if not members.isdisjoint(without)
        and state.context.me in [one for one in state.survivors if one not in without][:most]
    ]


def tell_certificate(state: State) -> list[Effect]:
    """The certificate holds the set and the votes, which a member that they cannot hear has sent to all."""
    certificate = state.certificate
    if certificate is None:
        return []
    names = [name for name in _helped(state) if name not in state.voting.told]
    state.voting.told.update(names)
    return [Send(name, certificate) for name in names]


def tell_seeds(state: State, opened: Iterable[str]) -> list[Effect]:
    """Hand on the seeds of members, which are opened to all, to those who cannot hear them."""
    effects: list[Effect] = []
    for name in _helped(state):
        seeds = tuple((one, state.sum.reveals[one].reveal()) for one in opened if one in told(state, name))
        effects += [Send(name, state.seal(Reveal(seeds)))] if seeds else []
    return effects
