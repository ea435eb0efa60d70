"""A training with every site: `Peer.train`."""

from __future__ import annotations

import asyncio

from p2pfl.errors.membership import NoLongerListed
from p2pfl.node.pending_change import EpochOver
from p2pfl.node.runs import fairness
from p2pfl.node.runs.metric import metrics_of
from p2pfl.node.runs.results import TrainResult
from p2pfl.node.runs.training import TrainingRun, Trains
from p2pfl.peer.epoch import InEpoch, training_run


class Trainings(InEpoch):
    """A peer that trains with the others."""

    async def train(
        self, trainer: Trains, *, task: str = "task", rounds: int | None = None, go_on: bool = False
    ) -> TrainResult:
        """Train to the end of the federation's rounds, or go on where this home stopped; returns the final model.

        trainer   p2pfl.training.local.Trainer, or anything with its methods
        go_on     somebody has looked why this site was left out of more than one round in ten; noted in the site log
        Raises PassWouldOverspend when the budget does not allow the next pass, LeftOutTooOften, GaveUpWaiting, and what
        a round raises.
        """
        run, delta = training_run(self.federation), self.federation.privacy.delta
        if go_on:
            await asyncio.to_thread(fairness.looked, self.node.logs, run)
        while True:
            node = self.node
            draw = node.inbox.draw_bound
            source = await asyncio.to_thread(
                TrainingRun, self.federation, node.home, node.logs, run, trainer, task, draw, node.observer
            )
            node.epsilon = await asyncio.to_thread(source.passes.spent)
            try:
                await node.run(run, source, rounds or self.federation.rounds + 1)
                break
            except (EpochOver, NoLongerListed) as ended:
                source.stop()
                await self._next_epoch(ended)
            finally:
                source.stop()
        records = node.logs.rounds(run)
        metrics, epsilon = metrics_of(records), source.account.epsilon(delta)
        return TrainResult(self.federation.rounds, source.model, metrics, epsilon, delta, records)
