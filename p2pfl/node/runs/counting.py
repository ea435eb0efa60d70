"""What a training counts on held-out records: exactly (metric.py, held_out.py), or in looks with noise (looks.py).

Behind the counts rides one word more, a flag: uniform where a site's held-out records are not those that it counted
first, 0 at every other site. A sum of it that is not 0 says that there is such a site, and stops all exact counts. It
is raised only where they would be opened, over the whole roster: a sum of the others alone, without it, names the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.keys import Draw
from p2pfl.node.logs import Logs
from p2pfl.node.runs import metric
from p2pfl.node.runs.held_out import HeldOut
from p2pfl.node.runs.looks import Looks
from p2pfl.node.runs.models import Models
from p2pfl.node.runs.sums import EXACT_BITS, flags
from p2pfl.node.runs.trains import Trains
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training import early_stop
from p2pfl.training.measures.measure import Counts
from p2pfl.training.model.state import ModelState
from p2pfl.training.update import FlatVector


@dataclass(frozen=True, slots=True)
class Counting:
    """Whether a round measures the model that it starts from, what this site adds, and what comes of the sum.

    held     this site's held-out records, where they are counted exactly
    agreed   by round proposed here: why it measures nothing, or ""
    """

    federation: Federation
    logs: Logs
    run: bytes
    trainer: Trains
    models: Models
    looks: Looks | None
    held: HeldOut
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
            stopped = any(one <= base for one in self.models.stopped)
            self.agreed[number] = metric.unmeasurable(self.logs, self.run, names, model, past.values(), stopped)
        else:
            final, records = self.logs.final_round(self.run), self.logs.rounds(self.run)
            self.looks.charge_forgotten(records, self.logs.time)
            taken = sum(metric.is_measured(record["outcome"]) for record in records)
            taken += sum(held > final for held in past)
            self.agreed[number] = self.looks.reason(trained, taken, ends=ends)
        return self.agreed[number]

    @property
    def ends_the_metric(self) -> bool:
        """The next counts of this site end the exact metric of the study, which no other site has ended before."""
        if self.looks is not None or not self.trainer.counts:
            return False
        if metric.others_began(self.logs, self.federation.roster.names):
            return False
        rounds = list(self.logs.rounds(self.run))
        ended = any(record["outcome"].get("unmeasured") == metric.HELD_OUT_CHANGED for record in rounds)
        return not ended and self.held.have_changed(rounds)

    def _unmeasured(self, agreed: str, survivors: Sequence[str]) -> str:
        """Noised counts may be summed over whichever sites are there."""
        return agreed if self.looks else metric.why_unmeasured(agreed, survivors, self.federation.roster.names)

    @property
    def length(self) -> int:
        """Words of the counts and the flag behind them."""
        return self.trainer.counts + 1

    def words(self, number: int, survivors: Sequence[str], model: FlatVector) -> e.Words:
        """What this site adds, its counts and the flag; zeros, as at every site, where the round measures nothing.

        (length,)
        """
        unmeasured = self._unmeasured(self.agreed[number], survivors)
        changed = not unmeasured and self.looks is None and self.held.have_changed(self.logs.rounds(self.run))
        if unmeasured:
            counts = np.zeros(self.trainer.counts, np.int64)
        elif self.looks is not None:
            counts = self.looks.look(number, self.logs.time, self.draw, model)
        elif changed:  # no count of this site is in the sum, nor could anybody tell one of another site
            return flags(np.ones(self.length, np.bool_), self.draw).vector.words
        else:
            self.held.bind()
            counts = self.trainer.evaluate(model)
        flag = flags(np.array([changed]), self.draw).vector.words
        return np.concatenate([FIELDS[EXACT_BITS].encode(counts), flag])

    def outcome(
        self, number: int, before: ModelState, total: Counts, agreed: str, survivors: Sequence[str]
    ) -> codec.Facts:
        """What the record of a round on the state `before` says of the sum.    total (length,)"""
        looks, counts = self.looks, total[: self.trainer.counts]
        unmeasured = self._unmeasured(agreed, survivors)
        if looks is None and total[self.trainer.counts]:
            unmeasured, counts = metric.HELD_OUT_CHANGED, np.zeros_like(counts)
            self.models.stopped.add(number)
        figures = self.trainer.figures(counts) if looks is None else looks.figures(counts, len(survivors))
        facts = metric.outcome(figures, unmeasured, private=looks is not None)
        if metric.is_measured(facts):
            self.models.measured[number] = early_stop.Measured(before.digest, early_stop.value_of(facts))
            metric.keep_curves(self.held.home, self.federation, before.digest, counts)
        return facts
