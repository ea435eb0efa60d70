"""Questions before an attempt is decided: what a peer lacks, asked of those who have it, and answered once.

Twenty bytes of a question bring half a megabyte to each member of U. Who may ask again and again fills everybody's
queues with one peer's words, until their links to it are given up: and that peer is named for it.

A vote for SURVIVORS names the READYs that it stands on and does not repeat them, since their authors have sent them to
all. Who was not sent them, or not the set, or stands in an attempt that is over, asks the voters, one after another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from p2pfl.messages import Ballot, Handed, Want, seal
from p2pfl.sharing.events import Effect, Received, Send
from p2pfl.sharing.phases import gather
from p2pfl.sharing.state import State

VOTE: Final = "vote"
PATIENCE_S: Final = 1.0  # what a vote stands on may be on its way from others …
AGAIN_S: Final = 2.0  # … and so may be the answer


def help_out(state: State, event: Received) -> list[Effect]:
    """Give what a member lacks and has not asked for in this attempt before."""
    letter, message = event.letter, event.letter.message
    if not isinstance(message, Want):
        return []
    if message.what == VOTE:
        return _explain(state, letter.sender, message)
    known = state.asked_for.setdefault(letter.sender, set())
    fresh = tuple(one for one in dict.fromkeys(message.lacking) if one not in known)
    if message.what == gather.WORDS:
        known.update(fresh)
    return gather.help_out(state, replace(event, letter=replace(letter, message=replace(message, lacking=fresh))))


def _explain(state: State, asker: str, message: Want) -> list[Effect]:
    """What this peer's vote stands on: READYs that the asker lacks; the certificate, once there is one."""
    state.owed.add(asker)
    if asker in state.explained:
        return []
    state.explained.add(asker)
    names = dict.fromkeys(name for name, _ in message.lacking)
    wires = tuple(state.readys[name].wire for name in names if name in state.readys)
    effects: list[Effect] = [Send(asker, state.seal(Handed(wires)))] if wires else []
    # Who lacks the set may stand in the attempt before: that is over, says its certificate.
    return effects if names or state.last_abandon is None else [*effects, Send(asker, state.last_abandon)]


def certificate(state: State, event: Received) -> list[Effect]:
    """The attempt is decided: the certificate says all that a vote stood on."""
    asker = event.letter.sender
    if state.certificate is None or asker in state.owed:
        return []
    state.owed.add(asker)
    return [Send(asker, state.certificate)]


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────


def beyond(state: State, voter: str, attempt: int) -> list[Effect]:
    """A peer has voted SURVIVORS in a later attempt than the one that this peer stands in."""
    state.beyond[voter] = attempt
    return wait(state)


def wait(state: State) -> list[Effect]:
    """What the votes held stand on is lacking here: give it a moment to come by itself."""
    if "vote" in state.due or _next(state) is None:
        return []
    return [state.timer("vote", PATIENCE_S)]


def lacks(state: State) -> bool:
    """It has not come, and a voter is left to be asked."""
    return state.past("vote") and _next(state) is not None


def ask(state: State) -> list[Effect]:
    """Ask one voter; the next one if that brings nothing."""
    voter, attempt, names = _next(state) or ("", 0, ())
    state.questioned.add((voter, attempt))
    question = Want(VOTE, tuple((name, 0) for name in names))
    letter = seal(question, replace(state.envelope, attempt=attempt), state.setting.identity)
    return [Send(voter, letter), state.timer("vote", AGAIN_S)]


def anew(state: State, peer: str) -> None:
    """A link is up: what was asked and told over the one before may be lost with a process."""
    state.explained.discard(peer)
    state.questioned -= {one for one in state.questioned if one[0] == peer}


def _next(state: State) -> tuple[str, int, tuple[str, ...]] | None:
    """The next voter to be asked, in which attempt, and whose READYs are lacking (none: the set itself, or more)."""
    for name, attempt in state.beyond.items():
        if (name, attempt) not in state.questioned and name not in state.others.down:
            return name, attempt, ()
    for name, letter in state.ballots.items():
        if name == state.setting.me or (name, state.attempt) in state.questioned or name in state.others.down:
            continue
        vote = letter.message
        if not isinstance(vote, Ballot) or not vote.survivors:
            continue
        if vote.attempt_digest != state.attempt_digest:
            return name, state.attempt, ()
        if state.inside and state.ballot is None:
            lacking = tuple(one for one in vote.readys if one not in state.readys)
            if lacking:
                return name, state.attempt, lacking
    return None
