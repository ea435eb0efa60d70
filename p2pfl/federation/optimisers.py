"""What peers.yaml says of optimisers: at a site, within its passes; and at all of them alike, after the sum.

All of it works on gradients that are noised already, or on sums that are opened: it costs no privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SiteOptimiser:
    """The optimiser of a site's passes, and its learning rate over the steps of the whole training.

    optimiser        task (what `Task.optimiser` makes), sgd, momentum, adam; new in each round
    learning_rate    None: the task's own
    schedule         constant, linear, cosine, step; from the end of the warm-up to the last step of `rounds` rounds
    personal         names, or beginnings of names, of the parameters that stay at the site (docs/adr/0060)
    """

    optimiser: str = "task"
    learning_rate: float | None = None
    momentum: float = 0.9
    schedule: str = "constant"
    warmup_steps: int = 0
    decay_steps: int = 1000
    decay: float = 0.5
    rounds: int = 1
    personal: tuple[str, ...] = ()

    def factor(self, step: int, steps_per_round: int) -> float:
        """What the learning rate is multiplied by in `step` of the training, counted from 0.

        It is never 0 within the training. A later step counts as the last one.
        """
        last = self.rounds * steps_per_round
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        past, length = min(step, last - 1) - self.warmup_steps, last - self.warmup_steps
        if self.schedule == "linear":
            return 1.0 - past / length
        if self.schedule == "cosine":
            return (1.0 + math.cos(math.pi * past / length)) / 2.0
        return self.decay ** float(past // self.decay_steps) if self.schedule == "step" else 1.0


@dataclass(frozen=True, slots=True)
class ServerOptimiser:
    """What every site does with the mean of the updates: mean, momentum, or adam.

    momentum    β of momentum; β₁ of adam
    beta2       β₂ of adam
    tau         τ of adam: how small a root of a second moment counts as this
    """

    method: str = "mean"
    learning_rate: float = 1.0
    momentum: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """The rule by which all sites end a training before its last round; `patience` 0: none.

    patience    measured rounds in a row that are not better by `least` than the best before them
    better      higher, lower: which way the metric is better
    """

    patience: int = 0
    least: float = 0.0
    better: str = "higher"


@dataclass(frozen=True, slots=True)
class ModelAverage:
    """The running mean of the models after each round; `decay` 0: none, 1: all count the same."""

    decay: float = 0.0

    def weight(self, steps: int) -> float:
        """Of the newest of so many models, the older ones' together being the rest.

        By + × ÷ alone, so that it is the same bits everywhere: 1/(1 + d + … + d^(steps−1)), which is 1 for the first.
        """
        whole = 0.0
        for _ in range(steps):
            whole = 1.0 + self.decay * whole
        return 1.0 / whole
