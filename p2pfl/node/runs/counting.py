"""What a training counts on held-out records: exactly (metric.py), or in a few looks with noise (looks.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.keys import Draw
from p2pfl.node.logs import Logs
from p2pfl.node.runs import metric
from p2pfl.node.runs.looks import Looks
from p2pfl.node.runs.models import Models
from p2pfl.node.runs.trains import Trains
from p2pfl.training.measures.measure import Counts
from p2pfl.training.update import FlatVector


@dataclass(frozen=True, slots=True)
class Counting:
    """Whether a round measures the model that it starts from, what this site adds, and what comes of the sum.

    agreed   by round proposed here: why it measures nothing, or ""
    """

    federation: Federation
    logs: Logs
    run: bytes
    trainer: Trains
    models: Models
    looks: Looks | None
    draw: Draw
    agreed: dict[int, str] = field(default_factory=dict)

    def decide(self, number: int, base: int, trained: int, *, ends: bool) -> str:
        """Why round `number` on the model after `base` measures nothing; empty when it does.

        trained   rounds that train in that model
        ends      the round only measures
        A function of the rounds that led to the model, so that all who propose on it say the same.
        """
        past = {held: one.model for held, one in self.models.measured.items() if held <= base}
        if self.looks is None:
            model, names = self.models.on(base).digest, self.federation.roster.names
            self.agreed[number] = metric.unmeasurable(self.logs, self.run, names, model, past.values())
        else:
            final = self.logs.final_round(self.run)
            taken = sum(metric.is_measured(record["outcome"]) for record in self.logs.rounds(self.run))
            taken += sum(held > final for held in past)
            self.agreed[number] = self.looks.reason(trained, taken, ends=ends)
        return self.agreed[number]

    def _unmeasured(self, agreed: str, survivors: Sequence[str]) -> str:
        """Noised counts may be summed over whichever sites are there."""
        return agreed if self.looks else metric.why_unmeasured(agreed, survivors, self.federation.roster.names)

    def counts(self, number: int, survivors: Sequence[str], model: FlatVector) -> Counts:
        """What this site adds; zeros, as at every site, where the round measures nothing.    (counts,)"""
        length = self.trainer.counts
        if self._unmeasured(self.agreed[number], survivors):
            return np.zeros(length, np.int64)
        if self.looks is None:
            return self.trainer.evaluate(model)
        return self.looks.look(number, self.logs.time, self.draw, model)

    def outcome(self, total: Counts, agreed: str, survivors: Sequence[str]) -> codec.Facts:
        """What the round's record says of the sum."""
        looks = self.looks
        figures = self.trainer.figures(total) if looks is None else looks.figures(total, len(survivors))
        return metric.outcome(figures, self._unmeasured(agreed, survivors), private=looks is not None)
