"""The metric of a training: exact counts of held-out records by class and score, summed over all sites or not at all.

Exact counts over two sets of sites are, by subtraction, those of whoever is in one of them alone; and the totals of a
class do not depend on the model. So counts enter a sum only where U is the whole roster, the roster has the sites with
which the federation began, and the model has not been measured yet; otherwise every site counts zeros. All of U agree
on that (it stands in the configuration that they propose), so one site's counts are never alone in a sum.
docs/adr/0029.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.node.logs import Logs
from p2pfl.sharing import statistics

CLASSES, BINS = 2, 128
COUNTS: Final = CLASSES * BINS  # numbers in the vector
NOT_ALL_THERE: Final = "not every site is in the sum"
OTHER_SITES: Final = "the sites are not those with which the federation began"
MEASURED_BEFORE: Final = "this model was measured before"


@dataclass(frozen=True, slots=True)
class Metric:
    """How a model does on the held-out records of all sites together. It comes of exact counts: it is not private."""

    auc: float
    accuracy: float


def unmeasurable(logs: Logs, run: bytes, names: Collection[str], model: bytes, past: Iterable[bytes]) -> str:
    """Why no exact count of this site may enter a sum on `model`; empty when it may.

    names   the sites of this epoch's roster
    past    digests of the models that rounds below this one measured, where these rounds are not final yet
    A function of the rounds that led to the model, so that all who propose on it say the same.
    """
    if logs.founders and logs.founders != frozenset(names):
        return OTHER_SITES
    final = {record["model_before"] for record in logs.rounds(run) if is_measured(record["outcome"])}
    return MEASURED_BEFORE if model.hex() in final or model in past else ""


def why_unmeasured(agreed: str, survivors: Collection[str], names: Collection[str]) -> str:
    """The reason on which U agreed, or that one of the roster is not in U; empty when the round measures."""
    return agreed or ("" if set(survivors) == set(names) else NOT_ALL_THERE)


def outcome(counts: NDArray[np.int64], unmeasured: str) -> dict[str, Any]:
    """The metric of the model before a round, as facts of its record, which holds no count.    counts: (COUNTS,)"""
    if unmeasured:
        return {"model": "before", "auc": "", "accuracy": "", "unmeasured": unmeasured}
    negative, positive = counts.reshape(CLASSES, BINS)
    return {
        "model": "before",
        "auc": _decimal(statistics.auc(positive, negative)),
        "accuracy": _decimal(statistics.accuracy(positive, negative)),
        "private": False,  # of exact counts of held-out records: not covered by epsilon
    }


def is_measured(facts: codec.Facts) -> bool:
    """A round with this outcome opened the counts of the model before it."""
    return "unmeasured" not in facts


def metrics_of(records: Iterable[codec.Facts]) -> dict[int, Metric]:
    """By round, the metric that its record holds, where it has one: also of rounds before this process."""
    outcomes = {record["round"]: record["outcome"] for record in records}
    return {
        number: Metric(float(said["auc"]), float(said["accuracy"])) for number, said in outcomes.items() if said["auc"]
    }


def _decimal(measured: float) -> str:
    """Six decimals; empty where nothing can be measured, as with no held-out record of one of the classes."""
    return f"{measured:.6f}" if math.isfinite(measured) else ""
