"""How far a training has come, told to whoever called it: typed events, one after another, in a thread of their own.

A callback that is slow (a plot, a widget) holds up neither the links nor the pass.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from p2pfl.node.progress import PassCharged, PassRepeated, Progress, RoundFinal
from p2pfl.node.runs.metric import Metric, metric_of


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """`step` of the `steps` of this site's pass are done, for round `round`."""

    round: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class TrainingRound:
    """A round is final.

    rounds      final rounds at which the training ends; the last of them trains nothing and measures the last model
    survivors   the sites whose updates are in the sum
    metric      of the model before the round, over the held-out records of all sites; None where it was not measured
    epsilon     what this site's records have spent
    seconds     that the round took, or since this process took it up
    """

    round: int
    rounds: int
    survivors: Sequence[str]
    metric: Metric | None
    epsilon: float
    seconds: float


OnTraining = Callable[[TrainingStep | TrainingRound], None]


class Reporter:
    """Tells `progress`, if there is one. What it raises ends the training that is reported."""

    def __init__(self, name: str, progress: OnTraining | None) -> None:
        self._name, self._progress = name, progress
        self._loop, self._training = asyncio.get_running_loop(), asyncio.current_task()
        self._thread = ThreadPoolExecutor(1, "p2pfl progress")
        self._round = 0
        self._behind = threading.Event()  # a step waits to be told: the next one is left out
        self.error: BaseException | None = None

    def observe(self, event: Progress) -> None:
        """A node's event."""
        if isinstance(event, (PassCharged, PassRepeated)):
            self._round = event.round
        elif isinstance(event, RoundFinal):
            metric = metric_of(dict(event.outcome))
            spent: Mapping[str, str] = event.epsilon
            epsilon = float(spent.get(self._name) or math.nan)
            found = TrainingRound(event.round, event.rounds, event.survivors, metric, epsilon, event.seconds)
            self._submit(found)

    def step(self, step: int, steps: int) -> None:
        """A trainer's step; where the last one has not been told yet this one is left out, unless it ends the pass."""
        if step < steps and self._behind.is_set():
            return
        self._behind.set()
        self._submit(TrainingStep(self._round, step, steps))

    def _submit(self, event: TrainingStep | TrainingRound) -> None:
        if self._progress is not None:
            with suppress(RuntimeError):  # closed: a pass that nobody waits for takes its last step
                self._thread.submit(self._tell, event)

    def _tell(self, event: TrainingStep | TrainingRound) -> None:
        if isinstance(event, TrainingStep):
            self._behind.clear()
        if self._progress is None or self.error is not None:
            return
        try:
            self._progress(event)
        except BaseException as error:
            self.error = error
            if self._training is not None:
                self._loop.call_soon_threadsafe(self._training.cancel)

    async def close(self) -> None:
        """All that was reported has been told."""
        await asyncio.to_thread(self._thread.shutdown)

    def abandon(self) -> None:
        """What was not told yet never will be."""
        self._thread.shutdown(wait=False, cancel_futures=True)
