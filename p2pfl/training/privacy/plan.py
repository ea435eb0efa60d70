"""What a budget buys: the least noise with which a training stays within ε, which batch is worth it, how many rounds.

How to read a plan: Ponomareva et al. 2023, *How to DP-fy ML*. For a number of steps a larger batch takes more noise to
stay within ε, but at first less than in proportion: noise for each record falls until sampling amplifies no more, and
from there on a larger batch costs time and buys nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from p2pfl.errors.training import BudgetTooSmall
from p2pfl.training.privacy.account import CHARGED, Account, Mechanism

MOST_NOISE: Final = 1000.0
DIGITS: Final = 3  # of a noise multiplier: people write it into a file
BATCHES: Final = (8, 16, 32, 64, 128, 256, 512, 1024)  # tried, as far as half of the records
WORTH: Final = 1.1  # noise that a smaller batch may have more than the best, since it is so much faster
MOST_ROUNDS: Final = 100_000
TRIED_LOOKS: Final = (1, 2, 4, 8)
LOOK_EPSILON: Final = 1.0
LEAST_PARTS: Final = 2  # of a look, where nothing else is agreed on: q − 2 sites may pool what they see
TRIED_NOISE: Final = (0.7, 1.0, 1.5, 2.0, 3.0, 5.0)


@functools.lru_cache(maxsize=256)  # whoever compares learning rates asks the same for each
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


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One size of batch, and what it takes to stay within ε.

    batch               expected records of a step, at a common site: the public divisor
    relative_noise      length of the noise in the mean of all steps of all sites, in units of max_grad_norm, which the
                        mean of clipped gradients never exceeds; below 1 there may be more signal than noise
    uses                how often a record is drawn in the whole training, on average
    alone               ε against all other sites together; `epsilon` itself, where each site adds noise of its own
    parts               so many sites' noise makes up noise_multiplier: `epsilon` is against outsiders and the colluders
    """

    batch: int
    sample_rate: float
    noise_multiplier: float
    epsilon: float
    relative_noise: float
    uses: float
    alone: float
    parts: int = 1

    def mechanism(self, steps: int) -> Mechanism:
        """What so many steps are charged as."""
        return charged(self.noise_multiplier, self.sample_rate, steps, self.parts)


def charged(noise: float, sample_rate: float, steps: int, parts: int) -> Mechanism:
    """The mechanism of `steps` steps, of a noise multiplier as it stands in peers.yaml."""
    return Mechanism(noise if parts == 1 else CHARGED * noise, sample_rate, steps, parts)


def noise_of(epsilon: float, delta: float, sample_rate: float, steps: int, parts: int) -> float:
    """The least noise multiplier for peers.yaml, in thousandths; of noise in parts so much more is added than is
    charged. Raises BudgetTooSmall."""
    least = least_noise(epsilon, delta, sample_rate, steps)
    return least if parts == 1 else math.ceil(least / CHARGED * 10**DIGITS) / 10**DIGITS


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """What a budget buys.

    best      of `batches`, the smallest that is nearly as good as any
    rounds    by noise multiplier, how many rounds stay within ε at the batch of `best`
    looks     what looks at the held-out records with noise cost
    """

    batches: tuple[BatchPlan, ...]
    best: BatchPlan
    rounds: dict[float, int]
    looks: tuple[LooksPlan, ...]


@dataclass(frozen=True, slots=True)
class LooksPlan:
    """So many private looks at the model within an ε of the held-out records' own.

    epsilon            against outsiders and the sites that may pool what they see; alone: against all others together
    noise_multiplier   `measures.noise_multiplier`
    records            standard deviation of the noise in each count of the sum of a task of two classes, in records
    parts              so many sites' noise makes up noise_multiplier
    """

    looks: int
    epsilon: float
    noise_multiplier: float
    records: float
    alone: float
    parts: int


def privacy_plan(
    *,
    epsilon: float,
    delta: float,
    records: int,
    rounds: int,
    steps: int,
    sites: int,
    numbers: int,
    look_epsilon: float = LOOK_EPSILON,
    parts: int = 1,
    progress: Callable[[int], None] | None = None,
) -> PrivacyPlan:
    """Plan a training of `rounds` of `steps` steps, over `sites` sites with some `records` records each to train on.

    numbers     how many numbers train: the parameters, or with `compression: lowrank` those of its subspace
    look_epsilon    what all looks at a held-out record may spend
    parts       of noise in parts, how many sites' make up that of the sum (`distributed_noise.parts_of`); looks have
                noise in parts also where it is 1, for noise of each site's own
    progress    called with each size of batch that is tried
    Every ε is that of the account that a training is charged to. Raises BudgetTooSmall.
    """
    total, found = rounds * steps, list[BatchPlan]()
    tried = [batch for batch in BATCHES if 2 * batch <= records] or [max(1, records // 2)]
    for batch in tried:
        if progress is not None:
            progress(batch)
        rate = _written(batch / records)
        noise = noise_of(epsilon, delta, rate, total, parts)
        mechanism = charged(noise, rate, total, parts)
        spent, alone = (Account().after(one, delta) for one in (mechanism, mechanism.alone))
        # The sum of all sites has noise of √(sites / parts) of the multiplier's, and so many sites' signal.
        relative = noise * math.sqrt(numbers) / (batch * math.sqrt(sites * parts * total))
        found.append(BatchPlan(batch, rate, noise, spent, relative, rate * total, alone, parts))
    least = min(one.relative_noise for one in found)
    best = next(one for one in found if one.relative_noise <= WORTH * least)
    bought = {
        noise: most_rounds(epsilon, delta, best.sample_rate, steps, charged(noise, 1.0, 1, parts).noise_multiplier)
        for noise in TRIED_NOISE
    }
    return PrivacyPlan(tuple(found), best, bought, looks_plan(look_epsilon, delta, sites, max(parts, LEAST_PARTS)))


def looks_plan(epsilon: float, delta: float, sites: int, parts: int) -> tuple[LooksPlan, ...]:
    """What some numbers of looks take within `epsilon`, at `sites` sites, of which `parts` honest ones' noise makes
    up that of a sum. Raises BudgetTooSmall."""
    found = []
    for looks in TRIED_LOOKS:
        noise = math.ceil(least_noise(epsilon, delta, 1.0, looks) * 1e3 + 1) / 1e3
        whole = Mechanism(noise, 1.0, looks, parts)
        spent, alone = (Account().after(one, delta) for one in (whole, whole.alone))
        found.append(LooksPlan(looks, spent, noise, noise * math.sqrt(sites / parts), alone, parts))
    return tuple(found)


def _written(rate: float) -> float:
    """`rate` in six digits, as people write it into a file; never more."""
    scale = 10.0 ** (5 - math.floor(math.log10(rate)))
    return math.floor(rate * scale) / scale


@functools.lru_cache(maxsize=256)
def most_rounds(epsilon: float, delta: float, sample_rate: float, steps: int, noise: float) -> int:
    """How many rounds of `steps` steps spend at most `epsilon`; 0 where one is too much, at most 100 000."""

    def within(rounds: int) -> bool:
        return Account().after(Mechanism(noise, sample_rate, rounds * steps), delta) <= epsilon

    if not within(1):
        return 0
    low, high = 1, 2
    while high < MOST_ROUNDS and within(high):
        low, high = high, 2 * high
    high = min(high, MOST_ROUNDS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low
