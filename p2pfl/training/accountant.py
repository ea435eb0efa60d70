"""ε of a history of passes: Opacus' PRV accountant on grids of few sizes, in bounded memory.

Gopi et al. 2021 discretise the privacy loss and compose it by Fourier transforms. Opacus takes a grid exactly as long
as it needs, so each further pass has a length of its own; scipy keeps the plans of the last 16 lengths, and one of a
length with a large prime factor weighs many times the grid. A long training grew by hundreds of MB. Here a grid has the
next power of two points: the same spacing over a wider range, which is the same bound, and 16 plans are all there are.

Loads torch (opacus does): `privacy.py` imports it when the first ε is asked for.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Final

from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.prv import Domain

MOST_POINTS: Final = 1 << 22  # 32 MiB for each array over the grid; some ten of them are held at a time
# How far above the true value the PRV bound may lie. The finest that fits into MOST_POINTS is taken; Opacus' default
# is the first, and a budget of a hundred passes or more within ε = 10 needs no other.
ERRORS: Final = (0.01, 0.02, 0.04, 0.08, 0.16)


class GridTooLarge(ValueError):
    """The grid for this history and this error has more than MOST_POINTS points."""


class PowerOfTwoAccountant(PRVAccountant):  # type: ignore[misc]
    """The PRV accountant, on a grid of 2^k points."""

    def _get_domain(self, **given: Any) -> Domain:
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
