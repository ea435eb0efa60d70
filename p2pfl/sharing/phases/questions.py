"""Questions before an attempt is decided: what a peer lacks, asked of those who have it, and answered once.

A question of twenty bytes brings half a megabyte to each member of U. A peer that could ask without end would fill all
queues with one member's words until links to that member are given up, and it is named for it.

A vote for SURVIVORS names the READYs that it rests on and does not repeat them, since their authors have sent them to
all. A peer asks the voters when it lacks READYs, the set or votes, or stands in an attempt that is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from p2pfl.messages import Handed, Item, Lacking, Letter, Question, Want, seal
from p2pfl.sharing.events import Effect, Send
from p2pfl.sharing.phases import gather
from p2pfl.sharing.state import State

PATIENCE_S: Final = 1.0  # seconds from the first vote for SURVIVORS: what else it takes may be on its way
AGAIN_S: Final = 2.0  # seconds for an answer, doubled each time that the same voter is asked
MOST_ASKED: Final = 4  # questions to each voter


def help_out(state: State, letter: Letter[Want]) -> list[Effect]:
    """Give what a member lacks and has not asked for in this attempt before."""
    message = letter.message
    if message.what == Question.VOTE:
        return _explain(state, letter)
    if message.what == Question.SUM:
        state.voting.asked_sum.add(letter.sender)  # it was shown the certificate sooner, and does not ask twice
    if message.what != Question.WORDS:
        return []
    chunks = len(state.gathering.pieces) if state.gathering is not None else 0
    known = state.voting.asked_for.setdefault(letter.sender, set())
    fresh = tuple(
        one
        for one in dict.fromkeys(message.lacking)
        if one not in known and one[0] in state.survivors and _is_item(one, chunks)
    )
    known.update(fresh)
    return [*gather.help_out(state, letter.sender, fresh), *_hand_on(state, letter, fresh)]


def _is_item(lacking: Lacking, chunks: int) -> bool:
    _, item, index = lacking
    return index < chunks if item == Item.CHUNK else item in gather.SIGNED and index == 0


def _hand_on(state: State, letter: Letter[Want], lacking: tuple[Lacking, ...]) -> list[Effect]:
    """An owner that lacks a member's chunk may have told all but that member, which then could never show it."""
    me, owner = state.context.me, letter.sender
    pieces = state.gathering.pieces if state.gathering is not None else ()
    owned = {piece.index for piece in pieces if state.owners[piece.owner_position] == owner}
    authors = {author for author, item, index in lacking if item == Item.CHUNK and index in owned} - {me, owner}
    return [Send(author, state.seal(Handed((letter.wire,)))) for author in sorted(authors)]


def _explain(state: State, letter: Letter[Want]) -> list[Effect]:
    """The attempt is undecided: give the READYs that this peer's vote rests on and the asker lacks."""
    asker = letter.sender
    if asker in state.voting.explained:
        return []
    state.voting.explained.add(asker)
    names = dict.fromkeys(name for name, item, _ in letter.message.lacking if item == Item.READY)
    wires = tuple(state.voting.readys[name].wire for name in names if name in state.voting.readys)
    effects: list[Effect] = [Send(asker, state.seal(Handed(wires)))] if wires else []
    # A peer that lacks no READY may stand in the attempt before: the certificate says that it is over.
    return effects if names or state.last_abandon is None else [*effects, Send(asker, state.last_abandon)]


def certificate(state: State, asker: str) -> list[Effect]:
    """The attempt is decided: give the certificate, which holds all that a vote rests on, and the votes."""
    if state.certificate is None or asker in (state.context.me, *state.voting.told):
        return []
    state.voting.told.add(asker)
    return [Send(asker, state.certificate)]


def show_end(state: State, names: Iterable[str]) -> list[Effect]:
    """Show peers that stand in an earlier attempt, or have cast LEAVE in one, that it is over; once for each link.

    Those who cast LEAVE say no more of it: what decides comes to them unasked, or never.
    """
    end = state.certificate or state.last_abandon
    if end is None:
        return []
    fresh = [name for name in names if name != state.context.me and name not in state.voting.shown_end]
    state.voting.shown_end.update(fresh)
    return [Send(name, end) for name in fresh]


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────


def beyond(state: State, voter: str, attempt: int) -> list[Effect]:
    """A peer has voted SURVIVORS in a later attempt than the one that this peer stands in."""
    state.voting.beyond[voter] = attempt
    return wait(state)


def wait(state: State) -> list[Effect]:
    """A peer has voted SURVIVORS: what else it takes to follow will mostly come unasked."""
    if "vote" in state.due or not _voters(state):
        return []
    return [state.timer("vote", PATIENCE_S)]


def lacks(state: State) -> bool:
    """It has not come, and a voter is left to be asked."""
    return state.past("vote") and bool(_voters(state))


def hopes(state: State) -> bool:
    """A voter says that it has READYs which this peer lacks for its own vote, and may still give them.

    Each such voter is asked for them once and given its time, once in an attempt: c liars delay a vote by no more than
    that, whatever their links do. Those that are asked again may still answer, and nobody waits for it.
    """
    return any(_readys_lacking(state, name) and not state.past(_hope(name)) for name in _voters(state))


def _hope(voter: str) -> str:
    """Under what the time lies until which this peer hopes for READYs of `voter`: set when it first asks for them."""
    return f"hope for {voter}"


def ask(state: State) -> list[Effect]:
    """Ask the voter that was asked least; if that brings nothing another one, with ever longer waits.

    First of all one that is hoped for and was not asked: liars whose links come and go would else take its turn.
    """
    hoped = [name for name in _voters(state) if _hope(name) not in state.due and _readys_lacking(state, name)]
    voter = min(hoped or _voters(state), key=lambda name: state.voting.questioned.get(name, 0))
    turn = state.voting.questioned[voter] = state.voting.questioned.get(voter, 0) + 1
    attempt = state.voting.beyond.get(voter, state.attempt)
    question = Want(Question.VOTE, tuple((name, Item.READY, 0) for name in _readys_lacking(state, voter)))
    letter = seal(question, replace(state.envelope, attempt=attempt), state.context.identity)
    window = [state.timer(_hope(voter), AGAIN_S)] if voter in hoped else []
    return [Send(voter, letter), state.timer("vote", AGAIN_S * 2 ** (turn - 1)), *window]


def anew(state: State, peer: str) -> None:
    """A link is up: what was asked and told over the one before may be lost with the process.

    It may be asked again; this peer's vote waits for it no longer than over the first link.
    """
    state.voting.explained.discard(peer)
    state.voting.told.discard(peer)
    state.voting.shown_end.discard(peer)
    state.voting.questioned.pop(peer, None)


def _voters(state: State) -> list[str]:
    """Peers that voted SURVIVORS in this attempt or a later one, can be reached, and may be asked again."""
    voted = {name for name, letter in state.voting.ballots.items() if letter.message.survivors}
    return [
        name
        for name in state.context.others
        if (name in voted or name in state.voting.beyond)
        and name not in state.peers.down
        and state.voting.questioned.get(name, 0) < MOST_ASKED
    ]


def _readys_lacking(state: State, voter: str) -> tuple[str, ...]:
    """READYs that this peer needs for its own vote and that the voter says it has."""
    vote = (
        state.voting.ballots[voter].message
        if voter in state.voting.ballots and voter not in state.voting.beyond
        else None
    )
    if vote is None or not state.inside or state.voting.ballot is not None:
        return ()
    if vote.attempt_digest != state.attempt_digest:
        return ()  # a vote for another set: its READYs do not help, and if it is certified the certificate comes
    return tuple(name for name in vote.readys if name not in state.voting.readys)
