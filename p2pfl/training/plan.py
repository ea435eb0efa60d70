"""What a budget buys: the least noise with which a training of so many steps stays within ε."""

from __future__ import annotations

import math
from typing import Final

from p2pfl.errors.training import BudgetTooSmall
from p2pfl.training.privacy import Account, Mechanism

MOST_NOISE: Final = 1000.0
DIGITS: Final = 3  # of a noise multiplier: people write it into a file


def least_noise(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least noise multiplier, in thousandths, with which `steps` steps spend at most `epsilon` at `delta`.

    By bisection on the account that a training is charged to, so the promise is the charge. Some 20 compositions of
    .03 to 1 s. Raises BudgetTooSmall when no noise multiplier up to 1000 is enough.
    """

    def spent(thousandths: int) -> float:
        return Account().after(Mechanism(thousandths / 10**DIGITS, sample_rate, steps), delta)

    low, high = 0, int(MOST_NOISE * 10**DIGITS)  # low is too little noise, high is enough
    if not (math.isfinite(epsilon) and spent(high) <= epsilon):
        evidence = f"{steps} steps at sample rate {sample_rate:g}, δ = {delta:g}, noise {MOST_NOISE:g}"
        raise BudgetTooSmall(evidence=evidence, epsilon=f"{epsilon:g}")
    guess = int(10**DIGITS * max(0.3, sample_rate * math.sqrt(steps) * 2.0 / epsilon))
    while high - low > 1:
        middle = min(max(guess, low + 1), high - 1)
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
        guess = 2 * low if high > 4 * max(low, 1) and low else (low + high) // 2
    return high / 10**DIGITS
