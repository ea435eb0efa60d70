"""LEAVE: a round whose outcome cannot be known for now is left behind, and the run goes on without its sum.

docs/spec/sharing.md §10. A LEAVE binds no vote: a late certificate of the round is acted on as ever, and its later
attempts, in which this peer takes no part, are followed until a newer round is final. What keeps two models from
becoming final is the vow of `vows.py`, not this step.
"""

from __future__ import annotations

from p2pfl.errors.round import MalformedMessage
from p2pfl.messages import Handed, Leave, Letter
from p2pfl.sharing.certificate import are_peers
from p2pfl.sharing.events import Effect, LeaveStored, LeftBehind, Send
from p2pfl.sharing.phases import ballot
from p2pfl.sharing.snapshot import persist
from p2pfl.sharing.state import State


def due(state: State) -> bool:
    """The round is stuck here: no certificate after its last deadline, or no sum after that of its certificate."""
    return state.leaving.leave is None and state.leaving.slot is None and not state.sum.total and state.past("leave")


def cast(state: State) -> list[Effect]:
    """Be ready to go on. Durable before it is said, since the next round may rest on it."""
    waited: list[str] = [name for name in state.names if name not in state.voting.ballots]
    if state.certificate is not None:
        waited = [name for name in state.survivors if name not in state.sum.reveals]
    state.leaving.leave = state.seal(Leave(tuple(name for name in waited if name != state.context.me)))
    return [persist(state, LeaveStored)]


def send(state: State, event: LeaveStored | None = None) -> list[Effect]:
    """Say so, and count it."""
    leaving = state.leaving
    if leaving.leave is None:
        return []
    leaving.leaves[state.context.me] = leaving.leave
    return [state.post(leaving.leave)]


def accept(state: State, letter: Letter[Leave]) -> list[Effect]:
    """Hold a peer's LEAVE, of whichever attempt of this round."""
    if not are_peers(letter.message.lacking, state.context.roster):
        raise MalformedMessage(peer=letter.sender, evidence="it names others than peers, or one twice")
    state.leaving.leaves[letter.sender] = letter
    return ballot.answer(state, letter)


def carried(state: State) -> bool:
    """q peers go on: so does this one, if it has no sum."""
    leaving = state.leaving
    quorum = state.context.roster.quorums.q
    return leaving.slot is None and not leaving.left and not state.sum.total and len(leaving.leaves) >= quorum


def go_on(state: State) -> list[Effect]:
    """The round is left behind. Its update is spent if a word of it left."""
    leaving = state.leaving
    leaving.left = True
    sent = state.spent or state.voting.ready is not None or (state.restored and state.inside)
    lacking = tuple(sorted({name for letter in leaving.leaves.values() for name in letter.message.lacking}))
    # Shown to all: a liar may have sent its own to this peer alone, so that the others wait for one more.
    wires = tuple(letter.wire for letter in leaving.leaves.values())
    return [Send(None, state.seal(Handed(wires))), LeftBehind(state.round, state.attempt, lacking, sent)]
