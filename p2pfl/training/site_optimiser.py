"""The optimiser of a site's pass: the task's own, or the one that peers.yaml names, with its learning rate by step.

It sees noised gradients alone, so its state and its steps are post-processing. It is new in each round: momentum and
Adam's moments begin at 0 with each pass, and only the learning rate knows which round it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from p2pfl.errors.optimisers import OptimiserTwice
from p2pfl.federation.optimisers import SiteOptimiser
from p2pfl.training.task import Task


def optimiser_of(
    task: Task, settings: SiteOptimiser, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """A new optimiser over `parameters`. Raises OptimiserTwice when the task and peers.yaml both choose one."""
    chosen = settings.optimiser != "task" or settings.learning_rate is not None
    if not chosen:
        return task.optimiser(parameters)
    if type(task).optimiser is not Task.optimiser:
        evidence = f"local.optimiser: {settings.optimiser}, local.learning_rate: {settings.learning_rate or 'null'}"
        raise OptimiserTwice(evidence=evidence, task=task.name)
    rate = settings.learning_rate or task.learning_rate
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=(settings.momentum, 0.999))
    momentum = settings.momentum if settings.optimiser == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=rate, momentum=momentum)


def paced(optimizer: torch.optim.Optimizer, settings: SiteOptimiser, steps_per_round: int) -> Callable[[int], None]:
    """A function that sets the learning rates of `optimizer` for a step of the training, counted from 0."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]

    def pace(step: int) -> None:
        factor = settings.factor(step, steps_per_round)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor

    return pace
