"""Federated learning between hospitals, peer to peer. What is public is loaded when it is first used."""

from __future__ import annotations

TYPE_CHECKING = False  # as a type checker reads it: `typing` would be loaded before the command holds its signals
if TYPE_CHECKING:
    from typing import Final

    from p2pfl import simulate
    from p2pfl._version import __version__
    from p2pfl.federation import Federation
    from p2pfl.peer import Peer
    from p2pfl.peer.progress import TrainingRound, TrainingStep
    from p2pfl.peer.training import Trained
    from p2pfl.simulate.forecast import forecast
    from p2pfl.simulate.planning import plan
    from p2pfl.simulate.training import simulate_training
    from p2pfl.training.distributed import follow
    from p2pfl.training.ranks import ranks
    from p2pfl.training.task import Task

__all__ = [
    "Federation",
    "Peer",
    "Task",
    "Trained",
    "TrainingRound",
    "TrainingStep",
    "__version__",
    "follow",
    "forecast",
    "plan",
    "ranks",
    "simulate",
    "simulate_training",
]

# `p2pfl --help` must not load torch, and `from p2pfl import Federation` must not load a socket.
_PLACES: Final = {
    "__version__": "p2pfl._version",
    "Federation": "p2pfl.federation.federation",
    "Peer": "p2pfl.peer",
    "Task": "p2pfl.training.task",
    "Trained": "p2pfl.peer.training",
    "TrainingRound": "p2pfl.peer.progress",
    "TrainingStep": "p2pfl.peer.progress",
    "follow": "p2pfl.training.distributed",
    "forecast": "p2pfl.simulate.forecast",
    "plan": "p2pfl.simulate.planning",
    "ranks": "p2pfl.training.ranks",
    "simulate_training": "p2pfl.simulate.training",
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "simulate":  # a package: federations in one process and in virtual time
        return importlib.import_module("p2pfl.simulate")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
