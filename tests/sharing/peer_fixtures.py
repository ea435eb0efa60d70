"""A peer of an attempt on paper: it has heard everything of everyone, and no U is named yet."""

from __future__ import annotations

from typing import Any

from p2pfl import messages as m
from p2pfl.keys import Secret
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.parts import Deal
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Context, Phase, State
from tests.sharing.letters import RUN, Paper

paper = Paper(4)  # q = 3, c = 1
VICTIM = "site-3"
REST = tuple(name for name in paper.names if name != VICTIM)


def sitting(me: str, attempt: int = 0, on: Paper = paper) -> State:
    """It holds every bundle, acknowledgement and proposal; all links stand; the times of the phase are to come."""
    incarnation = on.by(me, m.Leave(())).envelope.incarnation
    identity, no_support = on.identities[me], lambda configuration, support, peers, peer: None
    context = Context(
        RUN, on.roster, me, identity, incarnation, RUN, bytes, dict, dict, lambda facts: 1 << 30, no_support
    )
    state = State(context, PeerView(on.roster, me), 1, attempt)
    state.peers.down.clear()
    for name in on.names:
        state.proposals.bundles[name] = on.deal(name, attempt=attempt).bundle
        state.proposals.acks[name] = on.ack(name, attempt=attempt)
        state.proposals.proposes[name] = on.propose(name, attempt=attempt)
        state.masking.received[name] = Secret(b"")  # what edges there are: their seeds have come
    state.unmasking.deal, state.proposals.dealt = Deal(Secret(b""), Secret(b""), state.proposals.bundles[me]), True
    state.proposals.passed_on = dict(state.proposals.acks)
    state.due = dict.fromkeys(("away", "half", "choose", "propose"), 1.0)
    return state


def seat(state: State) -> Round:
    """The round that stands in this state, in PROPOSE."""
    found = Round(state.context, state.peers, 1)
    found.state, found.phase = state, Phase.PROPOSE
    return found


def told(found: Round, letter: Letter) -> list[e.Effect]:
    return found.handle(e.Received(found.state.now, letter))


def named(state: State) -> Letter:
    """The set that a coordinator in this state names, in the end."""
    found = seat(state)
    effects = found.advance(state.now)
    effects += [more for one in effects if isinstance(one, e.Persist) for more in found.handle(one.stored(state.now))]
    (letter,) = [one.letter for one in effects if isinstance(one, e.Send) and isinstance(one.letter.message, m.Members)]
    return letter


def abandons(*by: str, names: tuple[str, ...] = (VICTIM,), attempt: int = 0, **place: Any) -> list[Letter]:
    """ABANDONs that name somebody."""
    made = [paper.by(name, m.Ballot(0, b"", b"", (), names), attempt=attempt) for name in by]
    return [paper.elsewhere(one, **place) for one in made] if place else made


def leaves(*by: str, names: tuple[str, ...] = (VICTIM,), **place: Any) -> list[Letter]:
    """LEAVEs of the round before that name somebody."""
    return [paper.elsewhere(paper.by(name, m.Leave(names)), **{"round": 0, "attempt": 3, **place}) for name in by]
