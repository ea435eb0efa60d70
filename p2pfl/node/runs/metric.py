"""The metric of a training: exact counts over held-out records, summed over all sites or not at all.

Exact counts over two sets of sites are, by subtraction, those of whoever is in one of them alone; and the totals of a
class do not depend on the model. So counts enter a sum only where U is the whole roster, the roster has the sites with
which the federation began, the model has not been measured yet, and no site's held-out records have changed
(held_out.py); otherwise every site counts zeros. All of U agree
on that (it stands in the configuration that they propose), so one site's counts are never alone in a sum.
docs/adr/0029.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.node.logs import Logs
from p2pfl.training.measures.curves import curves_of
from p2pfl.training.measures.measure import Counts, Figure, decimal_text

CURVES: Final = "state/curves"

NOT_ALL_THERE: Final = "not every site is in the sum"
OTHER_SITES: Final = "the sites are not those with which the federation began"
MEASURED_BEFORE: Final = "this model was measured before"
HELD_OUT_CHANGED: Final = "held-out records have changed since they were first counted"  # at which site, nobody knows


@dataclass(frozen=True, slots=True)
class Metric:
    """How a model does on the held-out records of all sites together. It comes of exact counts, unless `private`.

    name       of the figure that the training is judged by
    figures    all of the task's, in order of their names; those that the counts do not give are left out
    private    of noised counts
    """

    name: str
    figures: Mapping[str, Figure]
    private: bool = False

    @property
    def figure(self) -> Figure | None:
        """The one that the training is judged by; None where the counts do not give it."""
        return self.figures.get(self.name)


def unmeasurable(
    logs: Logs, run: bytes, names: Collection[str], model: bytes, past: Iterable[bytes], stopped: bool = False
) -> str:
    """Why no exact count of this site may enter a sum on `model`; empty when it may.

    names   the sites of this epoch's roster
    past    digests of the models that rounds below this one measured, where these rounds are not final yet
    stopped    one of those rounds said that held-out records have changed
    A function of the rounds that led to the model, so that all who propose on it say the same.
    """
    if others_began(logs, names):
        return OTHER_SITES
    records = logs.rounds(run)
    if stopped or any(record["outcome"].get("unmeasured") == HELD_OUT_CHANGED for record in records):
        return HELD_OUT_CHANGED
    final = {record["model_before"] for record in records if is_measured(record["outcome"])}
    return MEASURED_BEFORE if model.hex() in final or model in past else ""


def others_began(logs: Logs, names: Collection[str]) -> bool:
    """The study began with other sites than those of this epoch's roster: no exact count is taken any more."""
    return bool(logs.founders) and logs.founders != frozenset(names)


def why_unmeasured(agreed: str, survivors: Collection[str], names: Collection[str]) -> str:
    """The reason on which U agreed, or that one of the roster is not in U; empty when the round measures."""
    return agreed or ("" if set(survivors) == set(names) else NOT_ALL_THERE)


def outcome(figures: Mapping[str, Figure], unmeasured: str, *, private: bool = False) -> dict[str, Any]:
    """The metric of the model before a round, as facts of its record, which holds no count.

    figures    of the sum of all sites' counts, the first the one that the training is judged by
    private    the sum was noised
    """
    said: dict[str, Any] = {"model": "before", "metric": next(iter(figures), "")}
    if unmeasured:
        return {**said, "figures": {}, "unmeasured": unmeasured}
    decimals = {name: [decimal_text(part) for part in (one.value, one.low, one.high)] for name, one in figures.items()}
    # Not private: of exact counts of held-out records, which no epsilon covers.
    return {**said, "figures": {name: row for name, row in decimals.items() if row[0]}, "private": private}


def is_measured(facts: codec.Facts) -> bool:
    """A round with this outcome opened the counts of the model before it."""
    return "unmeasured" not in facts


def metric_of(facts: codec.Facts) -> Metric | None:
    """The metric that a round's outcome holds; None where it measured nothing, or was no training."""
    held = facts.get("figures") or {}
    figures = {name: Figure(*(float(part or "nan") for part in row)) for name, row in held.items()}
    return Metric(facts["metric"], figures, bool(facts.get("private"))) if figures else None


def metrics_of(records: Iterable[codec.Facts]) -> dict[int, Metric]:
    """By round, the metric that its record holds, where it has one: also of rounds before this process."""
    found = {record["round"]: metric_of(record["outcome"]) for record in records}
    return {number: metric for number, metric in found.items() if metric is not None}


def keep_curves(home: Home, federation: Federation, model: bytes, total: Counts) -> None:
    """The home holds ROC and calibration of the measured model, where its task has them, for people's reports alone.

    A disk that does not take them ends nothing: no round needs them.
    """
    curves = curves_of(federation.task, [int(one) for one in total], federation.minimum.records)
    if curves is not None:
        with suppress(P2PFLError):
            home.show(CURVES, json.dumps({"model": model.hex(), **curves}).encode())


def read_curves(home: Home) -> dict[str, Any] | None:
    """What `keep_curves` kept last; None where nothing was, or it is broken."""
    try:
        held = json.loads(home.read(CURVES) or b"null")
    except (P2PFLError, ValueError):
        return None
    return held if isinstance(held, dict) else None
