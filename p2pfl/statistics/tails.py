"""Tail probabilities and quantiles of the normal, t, χ² and F distributions, by scipy, which opacus brings.

Imported when they are used: asking for help must not wait for scipy. All are for people to read. Nothing that is asked
follows from them, so that their last bits may differ between machines.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from p2pfl.statistics.question import Floats

MOST_TABLES: Final = 1 << 20


def normal_quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))


def normal_two_sided(z: float) -> float:
    """P(|Z| > |z|)."""
    from scipy.special import ndtr

    return 2 * float(ndtr(-abs(z)))


def t_two_sided(t: float, freedom: float) -> float:
    """P(|T| > |t|)."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(t)))


def t_quantile(p: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def chi2_tail(x: float, freedom: float) -> float:
    """P(χ² > x)."""
    from scipy.special import chdtrc

    return float(chdtrc(freedom, x)) if freedom > 0 else math.nan


def f_tail(f: float, above: float, below: float) -> float:
    """P(F > f) with `above` and `below` degrees of freedom."""
    from scipy.special import fdtrc

    return float(fdtrc(above, below, f))


def fisher_two_sided(a: int, b: int, c: int, d: int) -> float:
    """Fisher's exact test of the table [[a, b], [c, d]].

    The probability of all tables with its margins that are no likelier than it is (to 1 in 10⁷, as R and scipy count);
    NaN where there are more than MOST_TABLES of them: χ² is right there.
    """
    from scipy.special import gammaln

    row, column, n = a + b, a + c, a + b + c + d
    least, most = max(0, row + column - n), min(row, column)
    if most - least > MOST_TABLES:
        return math.nan
    first = np.arange(least, most + 1, dtype=np.float64)

    def log_choose(of: int, k: Floats) -> Floats:
        found: Floats = gammaln(of + 1.0) - gammaln(k + 1) - gammaln(of - k + 1)
        return found

    logs = log_choose(row, first) + log_choose(n - row, column - first)
    chances = np.exp(logs - logs.max())
    mine = chances[a - int(first[0])]
    return min(float(chances[chances <= mine * (1 + 1e-7)].sum() / chances.sum()), 1.0)
