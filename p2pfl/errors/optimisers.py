"""Optimisers and weights: what peers.yaml and a task cannot agree on."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError


class OptimiserTwice(ConfigurationError):
    """The task {task} brings an optimiser of its own, and peers.yaml names another one, or its learning rate."""

    code = "P2P-TRAIN-080"
    likely = (
        "the task's class defines `optimiser`: remove it there, or write local.optimiser: task, local.learning_rate: "
        "null",
    )
    command = "p2pfl peers show"


class WeightsTellSizes(ConfigurationError):
    """Weights by {weights} would tell how many records a site has, and they would count twice."""

    code = "P2P-TRAIN-081"
    likely = (
        "sites send sums over their records: with weights: equal each record counts the same already, wherever it lies",
        "a secret weight is told by the noise that it scales, and by the divisor when a site is away: docs/adr/0048",
    )
    command = "p2pfl peers create --set weights=equal --help"
