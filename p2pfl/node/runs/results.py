"""What a caller gets of a sum and of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2pfl.node.runs.metric import Metric
from p2pfl.node.runs.readings import SumValue


@dataclass(frozen=True, slots=True)
class SumResult:
    """A sum over `survivors`, the same bits at every site. `total` is of the kind that went in (see Peer.sum).

    sites   how many of them have values, where that was counted (`records=`); else all of them
    kept    its round was final before this process began, which found the sum in its home
    """

    total: SumValue
    survivors: tuple[str, ...]
    round: int
    sites: int
    kept: bool = False


@dataclass(frozen=True)
class TrainResult:
    """A finished training. `vector` is the final model, (m,) float32; `metrics[k]` measures the model before round k.

    rounds    that trained
    ended     why there are no more, where the training ended early; else empty
    alone     ε against all other sites together, where each adds a part of the noise; None where a site's is enough
    personal  this site's own layers after its last pass, (k,) float32; empty where the sites share all of them
    initial and final are of the first model and of the last one.
    """

    rounds: int
    vector: np.ndarray[Any, np.dtype[np.float32]]
    metrics: dict[int, Metric]
    epsilon: float
    delta: float
    records: list[dict[str, Any]]
    ended: str
    alone: float | None
    personal: np.ndarray[Any, np.dtype[np.float32]] = field(
        default_factory=lambda: np.zeros(0, np.float32), kw_only=True
    )

    @property
    def initial(self) -> Metric | None:
        """The first model on the held-out records; None when this process did not see it measured."""
        return self.metrics.get(1)

    @property
    def final(self) -> Metric | None:
        """The last model on the held-out records."""
        last = self.records[-1] if self.records else {}
        measured = last.get("configuration", {}).get("purpose") == "evaluation"
        return self.metrics.get(last["round"]) if measured else None
