"""The early end of a training, by a rule that all sites agreed on, from what the ledger says of its rounds.

The rule reads one number of each round: the summed metric, which the round's record holds and which all sites have. So
each of them decides the same, whoever was away, and nothing is released for it. A round that was not measured, since a
site was away, says nothing: it neither ends a training nor keeps it going.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.federation.optimisers import EarlyStop


@dataclass(frozen=True, slots=True)
class Measured:
    """A round measured a model: digest of its state, and the metric as its record holds it; empty: no figure."""

    model: bytes
    value: str


def value_of(outcome: codec.Facts) -> str:
    """The metric that a round's outcome holds, as decimal text; empty where it holds none."""
    row = (outcome.get("figures") or {}).get(outcome.get("metric", ""))
    return row[0] if row else ""


def is_over(values: Iterable[str], rule: EarlyStop) -> bool:
    """As many measured rounds as `patience` have passed in which the metric was not better by `least` than before.

    values    of the rounds that train, in order, as decimal text; empty ones are of rounds that say nothing
    In decimal arithmetic on the records' own digits, so it is the same at every site. No later round takes it back.
    """
    sign, least = (1 if rule.better == "higher" else -1), Decimal(repr(rule.least))
    best: Decimal | None = None
    waited = 0
    for text in values:
        if not text:
            continue
        value = sign * Decimal(text)
        if best is None or (value > best and value - best >= least):
            best, waited = value, 0
        else:
            waited += 1
        if 0 < rule.patience <= waited:
            return True
    return False


def why_over(records: Sequence[codec.Facts], rule: EarlyStop) -> str:
    """Why the training of these records ended early, for people; empty where all its rounds were trained."""
    trained = [one for one in records if one["configuration"].get("purpose") == "training"]
    if not is_over([value_of(one["outcome"]) for one in trained], rule):
        return ""
    name = trained[-1]["outcome"]["metric"]
    rounds = "one measured round" if rule.patience == 1 else f"{rule.patience} measured rounds"
    return (
        f"{name} was not better by {rule.least:g} in {rounds}, so the training ended after "
        f"{counted(len(trained), 'round')}, as the sites agreed (stop.patience, stop.least)"
    )
