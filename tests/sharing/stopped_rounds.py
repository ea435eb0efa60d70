"""Rounds that stand in a phase of their own accord, and pictures of them that can be compared."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from p2pfl.keys import Secret
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Context, Phase
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

ME = "site-2"


def standing(phase: Phase, peers: int = 3, seed: int = 0) -> tuple[SimulatedFederation, Round]:
    """A federation at the moment when ME's round stands in `phase` and waits for others."""
    federation = SimulatedFederation(peers, seed=seed, length=12)
    peer = federation.peers[ME]
    if phase is Phase.SHARE:
        peer._begin = lambda: trains(peer)  # type: ignore[method-assign]
    if phase is Phase.MASK:
        peer._quantise = lambda effect: None  # type: ignore[method-assign]  # the words do not come
    federation.begin()
    while federation.clock.step():
        run = peer.run
        found = run and (run.previous if phase is Phase.FINAL else run.current)
        if found and found.phase is phase and (found.state.proposals.dealt or phase is Phase.FINAL):
            return federation, copied(found)
    raise LookupError(f"the round never stood in {phase}")


def trains(peer: SimulatedPeer) -> None:
    """Its round begins, and it has nothing to sum yet."""
    run = peer.run
    if run is not None and run.may_begin and not peer.disk.ledger:
        peer._carry_out(run.begin(peer.world.now))


def _secrets(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (Secret, Context)):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _secrets(each, seen)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _secrets(each, seen)
    elif isinstance(value, Round):
        yield from _secrets(vars(value), seen)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from _secrets(getattr(value, one.name), seen)


def copied(found: Round) -> Round:
    """Another round in the same state. Secrets are shared: they refuse to be copied, and never change."""
    return copy.deepcopy(found, {id(one): one for one in _secrets(found, set())})


def picture(value: Any) -> Any:
    """Everything in `value`, down to the bytes of its secrets and arrays, as plain values."""
    if isinstance(value, Secret):
        return ("secret", value.label, value.reveal())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, Context):
        return "context"
    if isinstance(value, PeerView):
        # What is noted of the others' faults stands apart: a refused letter is as if it had not come, but for that.
        noted = ("breaches", "proven", "told")
        return [picture(getattr(value, one.name)) for one in fields(value) if one.name not in noted]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Round):
        return picture({**vars(value), "now": 0.0})
    if is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in fields(value) if one.name != "now"]
        return (type(value).__name__, [(name, picture(getattr(value, name))) for name in names])
    if isinstance(value, dict):
        return {key: picture(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [picture(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value
