"""A training with every site: `Peer.train` of a Task, `Peer.train_with` of a trainer of the caller's own."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pfl.errors.from_python import RankDoesNotSpeak
from p2pfl.errors.membership import NoLongerListed
from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.node import approvals
from p2pfl.node.pending_change import EpochOver
from p2pfl.node.runs import fairness
from p2pfl.node.runs.metric import metrics_of
from p2pfl.node.runs.results import TrainResult
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.runs.trains import Trains
from p2pfl.peer.epoch import InEpoch, training_run
from p2pfl.peer.progress import OnTraining, Reporter
from p2pfl.training import early_stop

if TYPE_CHECKING:
    from torch import nn

    from p2pfl.training.local import OnStep, Trainer
    from p2pfl.training.ranks import Ranks
    from p2pfl.training.records.records import Dataset
    from p2pfl.training.task import Task

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Trained(TrainResult):
    """A finished training of a Task.

    model     the torch module with the final weights, on the processor and in eval mode; `vector` are those weights,
              and `personal` those of the layers that stay here
    notices   of each layer that was replaced, since it cannot be trained privately
    """

    model: nn.Module
    task: Task
    notices: tuple[str, ...]


class Trainings(InEpoch):
    """A peer that trains with the others."""

    async def train(
        self,
        task: Task | None = None,
        *,
        data: PathLike | Dataset | Any,
        columns: PathLike | None = None,
        task_file: PathLike | None = None,
        device: str = "cpu",
        ranks: Ranks | None = None,
        progress: OnTraining | None = None,
        go_on: bool = False,
    ) -> Trained:
        """Train to the end of the federation's rounds, or go on where this home stopped; returns the final model.

        task        None: the one that peers.yaml describes, or pins (then `task_file` is where this site keeps it)
        data        this site's records: a path as `Task.dataset` takes it, a pandas DataFrame, a dataset of (x, y)
        columns     a column map; by default the one beside the path
        device      where torch trains: "cpu", "cuda", "cuda:1", "mps"
        ranks       of `p2pfl.ranks()`, where torchrun started several processes: this is rank 0, the others `follow`
        progress    called with TrainingStep and TrainingRound, in a thread of its own; what it raises ends the
                    training, which the next process takes up, or the next `join`
        go_on       somebody has looked why this site was left out of more than one round in ten; noted in the site log
        Torch runs in a thread: links and heartbeats live on. A quarter of the records, by a keyed hash of each, is
        held out and measures; the privacy account is charged before each pass.
        Raises TaskNotGiven, TaskNotAgreed, TaskNotApproved, what the records and the model raise, PassWouldOverspend
        when the budget does not allow the next pass, LeftOutTooOften, GaveUpWaiting, and what a round raises.
        """
        if ranks is not None and not ranks.leads:
            raise RankDoesNotSpeak(evidence=f"{ranks.size} processes", rank=ranks.rank)
        async with self._reporting(progress) as reporter:
            file = Path(task_file) if task_file is not None else None
            step = reporter.step if progress is not None else None
            made, trainer = await asyncio.to_thread(self._trainer, task, data, columns, file, device, ranks, step)
            label = await asyncio.to_thread(self._note, made)
            result = await self._train(trainer, label, None, go_on)
            model = await asyncio.to_thread(_loaded, made, result, self.federation.local.personal)
            return Trained(**vars(result), model=model, task=made, notices=trainer.notices)

    def _trainer(
        self,
        task: Task | None,
        data: Any,
        columns: PathLike | None,
        file: Path | None,
        device: str,
        ranks: Ranks | None,
        progress: OnStep | None,
    ) -> tuple[Task, Trainer]:
        """The task, and what trains it on this site's records."""
        choice, home = self.federation.task, self.node.home
        if choice.sha256 is not None:  # before any code of the file runs, where it is loaded here
            approvals.check(home, choice.sha256, str(file or choice.file))
        # Loaded late: sums need no torch.
        from p2pfl.training.given import agreed_task, records_of
        from p2pfl.training.local import Trainer
        from p2pfl.training.records.records import hold_out

        made = agreed_task(choice, task, file)
        site = hold_out(records_of(made, data, columns), home.holdout_key())
        agreed = {name: getattr(self.federation, name) for name in ("privacy", "local", "measures")}
        kind: Callable[..., Trainer] = Trainer
        if ranks is not None and ranks.size > 1:
            from p2pfl.training.distributed import LeadingTrainer

            kind = partial(LeadingTrainer, ranks)
        return made, kind(task=made, site=site, device=device, progress=progress, **agreed)

    def _note(self, task: Task) -> str:
        """What the rounds call `task`; the site log says that it trains here."""
        from p2pfl.training.given import label_of

        choice = self.federation.task
        if choice.sha256 is not None:
            approvals.note(self.logs, choice.sha256)
        label = label_of(choice, task)
        self.logs.note(OperatorEntry(time=self.logs.time, command="train", options={"task": label}))
        return label

    async def train_with(
        self, trainer: Trains, *, task: str = "task", rounds: int | None = None, go_on: bool = False
    ) -> TrainResult:
        """As `train`, with a trainer that the caller has made: p2pfl.training.local.Trainer, or one with its methods.

        task      how rounds and models call it; equal at all sites
        rounds    stop when so many are final
        Whatever it returns as an update is clipped to `sharing.clip` and summed: the noise is the trainer's affair, and
        so is what it charges.
        """
        return await self._train(trainer, task, rounds, go_on)

    async def _train(self, trainer: Trains, task: str, rounds: int | None, go_on: bool) -> TrainResult:
        run, delta = training_run(self.federation), self.federation.privacy.delta
        if go_on:
            await asyncio.to_thread(fairness.looked, self.node.logs, run)
        while True:
            node = self.node
            try:
                await node.until_free(run)
                draw, named = node.inbox.draw_bound, (self.federation, node.home, node.logs, run, trainer, task)
                source = await asyncio.to_thread(TrainingRun, *named, draw, node.observer)
                node.proposer.epsilon = await asyncio.to_thread(source.passes.spent)
                try:
                    await node.run(run, source, rounds or self.federation.rounds + 1)
                    break
                finally:
                    source.stop()
            except (EpochOver, NoLongerListed) as ended:
                await self._next_epoch(ended)
        records = copy.deepcopy(node.logs.rounds(run))  # the caller's own: the node goes on reading its list
        metrics, epsilon = metrics_of(records), source.account.epsilon(delta)
        trained = sum(record["configuration"].get("purpose") == "training" for record in records)
        why = early_stop.why_over(records, self.federation.stop)
        alone, own = source.passes.accounts.alone(), source.personal.now
        return TrainResult(trained, source.model, metrics, epsilon, delta, records, why, alone, personal=own)

    @asynccontextmanager
    async def _reporting(self, progress: OnTraining | None) -> AsyncIterator[Reporter]:
        """`progress` is told what the node tells its observer. What it raised is raised here."""
        reporter = Reporter(self.name, progress)
        self.watchers.append(reporter.observe)
        try:
            yield reporter
            await reporter.close()
        except asyncio.CancelledError:
            if reporter.error is None:
                raise
            if (current := asyncio.current_task()) is not None:  # it was cancelled to raise that
                current.uncancel()
        finally:
            self.watchers.remove(reporter.observe)
            reporter.abandon()
        if reporter.error is not None:
            raise reporter.error


def _loaded(task: Task, result: TrainResult, own: Sequence[str]) -> nn.Module:
    """The task's model with the final weights; of the layers `own` with this site's."""
    from p2pfl.training.model.personal import divided, joined
    from p2pfl.training.models import build
    from p2pfl.training.update import write_vector

    built = build(task)
    whole = np.concatenate([result.vector, result.personal]) if own else result.vector
    write_vector(built.model, whole, joined(*divided(built.layout, own)))
    return built.model.eval()
