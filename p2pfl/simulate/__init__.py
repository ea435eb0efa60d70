"""Federations in one process and in virtual time. `simulate` is public; tests and benchmarks use the rest."""

import sys
from types import ModuleType

from p2pfl.simulate.federation import CALM, Lie, SimulatedFederation, Weather
from p2pfl.simulate.outcome import Outcome, RoundOutcome, outcome_of, simulate

__all__ = ["CALM", "Lie", "Outcome", "RoundOutcome", "SimulatedFederation", "Weather", "outcome_of", "simulate"]


class _Callable(ModuleType):
    """Once this package is loaded, `p2pfl.simulate` names it: so that `from p2pfl import simulate` can be called."""

    def __call__(self, *arguments: int, **named: object) -> Outcome:
        return simulate(*arguments, **named)  # type: ignore[arg-type]


sys.modules[__name__].__class__ = _Callable
