"""ε of a history of passes: Opacus' PRV accountant on grids of few sizes, in bounded memory.

Gopi et al. 2021 discretise the privacy loss and compose it by Fourier transforms. Opacus takes a grid exactly as long
as it needs, so each further pass has a length of its own; scipy keeps the plans of the last 16 lengths, and one of a
length with a large prime factor weighs many times the grid. A long training grew by hundreds of MB. Here a grid has the
next power of two points: the same spacing over a wider range, which is the same bound, and 16 plans are all there are.

The package opacus brings torch, which the process with a site's keys and links never loads. So the very files of its
accountants are loaded here under a name of their own, without what stands around them: all that they take from there is
a base class. What they need is numpy and scipy; `account.py` imports this when the first ε is asked for. Of
scipy.signal they take one function, for histories of several kinds of passes: it is loaded when the first of these is
composed, since it brings statistics, images and splines with it, half of the time that all of this takes.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import warnings
from types import ModuleType
from typing import Any, Final

ALONE: Final = "opacus_accountants"  # how opacus.accountants is called here
SIGNAL: Final = "scipy.signal"

MOST_POINTS: Final = 1 << 22  # 32 MiB for each array over the grid; some ten of them are held at a time
# How far above the true value the PRV bound may lie. The finest that fits into MOST_POINTS is taken; Opacus' default
# is the first, and a budget of a hundred passes or more within ε = 10 needs no other.
ERRORS: Final = (0.01, 0.02, 0.04, 0.08, 0.16)


def _load(name: str) -> Any:
    """The module `name` of opacus.accountants, without the package opacus. Raises ImportError where it is not there."""
    if ALONE not in sys.modules:
        found = importlib.util.find_spec("opacus")  # finds it, and runs nothing of it
        if found is None or not found.submodule_search_locations:
            raise ImportError("opacus is not installed")
        package, base = ModuleType(ALONE), ModuleType(f"{ALONE}.accountant")
        package.__path__ = [f"{found.submodule_search_locations[0]}/accountants"]
        base.IAccountant = _Base  # type: ignore[attr-defined]
        sys.modules |= {ALONE: package, base.__name__: base}
    if SIGNAL in sys.modules:
        return importlib.import_module(f"{ALONE}.{name}")
    later = sys.modules[SIGNAL] = ModuleType(SIGNAL)
    later.convolve = _convolve  # type: ignore[attr-defined]
    try:
        return importlib.import_module(f"{ALONE}.{name}")
    finally:
        del sys.modules[SIGNAL]


def _convolve(*arrays: Any, **options: Any) -> Any:
    """scipy.signal.convolve, loaded now."""
    return importlib.import_module(SIGNAL).convolve(*arrays, **options)


class _Base:
    """What opacus.accountants.IAccountant is to the accountants: a history of (noise multiplier, rate, steps)."""

    def __init__(self) -> None:
        self.history: list[tuple[float, float, int]] = []


PRVAccountant: Final = _load("prv").PRVAccountant
RDPAccountant: Final = _load("rdp").RDPAccountant
Domain: Final = _load("analysis.prv").Domain


class GridTooLarge(ValueError):
    """The grid for this history and this error has more than MOST_POINTS points."""


class PowerOfTwoAccountant(PRVAccountant):  # type: ignore[misc,valid-type]
    """The PRV accountant, on a grid of 2^k points."""

    def _get_domain(self, **given: Any) -> Any:
        """Opacus' grid, of the same spacing, over a wider range. Raises GridTooLarge."""
        least = super()._get_domain(**given)
        points = 1 << (least.size - 1).bit_length()
        if points > MOST_POINTS:
            raise GridTooLarge(f"{points} points")
        # Zero is the point before the middle, as `create_aligned` has it: composition turns the grid by that.
        half = points // 2 - 1
        return Domain(-half * least.dt, (half + 1) * least.dt, points)


def upper_bound(history: list[tuple[float, float, int]], delta: float) -> float:
    """ε at `delta` after (noise multiplier, sample rate, steps) for each of `history`; inf where no bound is found.

    An upper bound: PRV, or Rényi composition where PRV has no grid. One call takes .03 to 1 s.
    """
    tries: list[tuple[Any, dict[str, float]]] = [(PowerOfTwoAccountant(), {"eps_error": one}) for one in ERRORS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn when the best Rényi order lies at an end: still a bound
        for accountant, options in [*tries, (RDPAccountant(), {})]:
            accountant.history = list(history)
            try:
                bound = float(accountant.get_epsilon(delta, **options))
            except (ValueError, OverflowError, RuntimeError, MemoryError, IndexError):
                continue  # the PRV grid does not exist for every history; the Rényi bound does
            if math.isfinite(bound):
                return max(0.0, bound)
    return math.inf
