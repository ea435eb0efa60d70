"""Noise of which each site adds a part: where it would not hold."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError


class NoiseNotShared(ConfigurationError):
    """{place}: with privacy.noise: distributed, {setting} is {wanted}, and it is {found} here: {why}."""

    code = "P2P-TRAIN-130"
    likely = (
        "it holds for one sum of clipped gradients in each round: --set privacy.steps_per_round=1, --set "
        "local.optimiser=sgd, --set compression.method=none or lowrank",
        "noise of each site's own, privacy.noise: local, holds with all settings",
    )
    command = "p2pfl peers create --help"


class NoiseGridTooCoarse(ConfigurationError):
    """The field has too little room for noise of which each site adds a part."""

    code = "P2P-TRAIN-131"
    likely = (
        "sharing.scale is far above what a coordinate of an update reaches: `p2pfl simulate` says how large they are",
        "the learning rate is so small that a record hardly moves an update",
        "the model is large: take compression.method lowrank, or sharing.field 61",
    )
    command = "p2pfl simulate --help"


class NoiseOfOneProcess(ConfigurationError):
    """Noise of which each site adds a part is not added by a site of several processes."""

    code = "P2P-TRAIN-132"
    likely = ("the ranks of a site add up their sums in float32, which moves a record's part: start one process",)
    command = "p2pfl join --help"
