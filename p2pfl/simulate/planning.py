"""A plan of a budget; with records that are public or made up also the learning rate and batch that suit it.

Noise is not chosen: for a batch and a number of steps it is the least that keeps ε (training/privacy/plan.py). Chosen
are the batch and the learning rate, by trainings in this process: the rate over a wide range at the plan's
batch, then nearer and with the batches beside it, each once; then the best few of them with more seeds. Seeds differ in
who is held out, first model, samples and noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from p2pfl.errors.planning import NoiseNotPlanned
from p2pfl.federation.distributed_noise import DISTRIBUTED, parts_of
from p2pfl.roster import LEAST_PEERS, MOST_PEERS, Quorums
from p2pfl.simulate.each_site import EachSite, each_site
from p2pfl.simulate.training import simulate_training, simulated
from p2pfl.training.measures.measure import UNKNOWN
from p2pfl.training.privacy.plan import LOOK_EPSILON, BatchPlan, PrivacyPlan, privacy_plan

if TYPE_CHECKING:
    from p2pfl.simulate.training import SimulatedTraining
    from p2pfl.training.task import Task

LOCAL: Final = "local"
ROUNDS: Final = (8, 100)  # of noise of each site's own, and in parts
STEPS: Final = (80, 1)
WIDE: Final = (0.03, 0.1, 0.3, 1.0, 3.0)  # steps along the mean of clipped gradients that are tried first
WIDER: Final = 3.3  # times the best of them, where that lies at an end ...
FARTHER: Final = 3  # ... as often as that
NEAR: Final = (0.55, 1.8)  # times the best of them
ALIKE: Final = 0.01  # of the best metric: so much less is no worse
KEPT: Final = 3  # candidates that are tried with all seeds

OnTry = Callable[["Tried"], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """One way to spend the budget, and how well it did.

    learning_rate   `local.learning_rate` of peers.yaml, beside the task's own expected_batch
    values          the last model's metric, one for each seed, all held-out records together
    losses          its log loss, where the task measures one
    """

    batch: BatchPlan
    learning_rate: float
    values: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float:
        """Over the seeds; 0 of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a budget buys, and what to agree on.

    tried      what was simulated, the best first; empty where no records were given
    metric     the figure that they were judged by
    settings   lines for `p2pfl peers create --set`
    each_site  what each site gives and sees
    colluders  `privacy.colluders` of noise in parts; None: as many as the secure sum holds out
    """

    epsilon: float
    delta: float
    steps: int
    rounds: int
    budget: PrivacyPlan
    tried: tuple[Tried, ...]
    metric: str
    settings: tuple[str, ...]
    each_site: EachSite
    colluders: int | None = None

    @property
    def batch(self) -> BatchPlan:
        """The batch of `settings`."""
        return self.tried[0].batch if self.tried else self.budget.best


def plan(
    *,
    epsilon: float,
    records: int,
    delta: float = 1e-5,
    rounds: int | None = None,
    steps: int | None = None,
    sites: int = 5,
    numbers: int = 1000,
    look_epsilon: float = LOOK_EPSILON,
    noise: str = LOCAL,
    colluders: int | None = None,
    task: Task | None = None,
    tables: Mapping[str, object] | None = None,
    settings: Sequence[str] = (),
    seeds: int = 3,
    batch_progress: Callable[[int], None] | None = None,
    progress: OnTry | None = None,
) -> Plan:
    """Plan a training of `rounds` of `steps` steps within ε at `sites` sites that train on some `records` records each.

    rounds, steps    8 of 80; with noise in parts 100 of 1, which is all that it holds for
    numbers      how many numbers train, as of privacy_plan; look_epsilon too
    noise        `local`, or `distributed`: then ε is against outsiders and `colluders` sites together, and each batch
                 of the plan says in `alone` what stands against all other sites
    task, tables     public or made-up records by site: then batch and learning rate are chosen on them, and `sites` is
                     their number
    settings     others of peers.yaml, as for `p2pfl peers create --set`: the simulated sites have them, and what each
                 site gives and sees follows from them
    progress     called with each candidate when it was tried
    Raises BudgetTooSmall, NoiseNotPlanned, WrongSimulation, OptimiserTwice where the task chooses its own optimiser,
    what the task does, what `peers create` raises for the settings.
    """
    sites = sites if tables is None else len(tables)
    rounds, steps = rounds or ROUNDS[noise == DISTRIBUTED], steps or STEPS[noise == DISTRIBUTED]
    budget = privacy_plan(
        epsilon=epsilon,
        delta=delta,
        records=records,
        rounds=rounds,
        steps=steps,
        sites=sites,
        numbers=numbers,
        look_epsilon=look_epsilon,
        parts=_parts(noise, colluders, sites, steps),
        progress=batch_progress,
    )

    def seen(batch: BatchPlan) -> EachSite:
        return each_site(batch, rounds, steps, delta, sites, numbers, settings)

    found = Plan(epsilon, delta, steps, rounds, budget, (), "", (), seen(budget.best), colluders)
    if task is None or tables is None:
        return replace(found, settings=settings_of(found, budget.best, None))
    search = _Search(found, task, tables, tuple(settings), progress)
    tried = search.run(seeds)
    best = tried[0]
    lines = settings_of(found, best.batch, best.learning_rate)
    return replace(found, tried=tried, metric=search.metric, settings=lines, each_site=seen(best.batch))


def settings_of(found: Plan, batch: BatchPlan, learning_rate: float | None) -> tuple[str, ...]:
    """Lines for `peers create --set`."""
    lines: tuple[str, ...] = (
        f"rounds={found.rounds}",
        f"privacy.steps_per_round={found.steps}",
        f"privacy.sample_rate={batch.sample_rate:.6g}",
        f"privacy.noise_multiplier={batch.noise_multiplier:g}",
        f"privacy.delta={found.delta:g}",
        f"privacy.max_epsilon={found.epsilon:g}",
    )
    if batch.parts > 1:
        lines += (f"privacy.noise={DISTRIBUTED}",)
        lines += (f"privacy.colluders={found.colluders}",) if found.colluders is not None else ()
    if learning_rate is None:
        return lines if batch.parts == 1 else (*lines, "local.optimiser=sgd")
    return (*lines, "local.optimiser=sgd", f"local.learning_rate={learning_rate:.3g}")


def _parts(noise: str, colluders: int | None, sites: int, steps: int) -> int:
    """How many sites' noise makes up that of a sum. Raises NoiseNotPlanned."""
    if noise == LOCAL and colluders is None:
        return 1
    if noise != DISTRIBUTED:
        raise NoiseNotPlanned(evidence=f"noise: {noise}, colluders: {colluders}; colluders are of {DISTRIBUTED} alone")
    if not LEAST_PEERS <= sites <= MOST_PEERS:
        raise NoiseNotPlanned(evidence=f"{sites} sites; a secure sum is of {LEAST_PEERS} to {MOST_PEERS}")
    if steps != 1:
        raise NoiseNotPlanned(evidence=f"{steps} steps a round")
    quorum = Quorums(sites).q
    if colluders is not None and not 1 <= colluders <= quorum - 2:
        raise NoiseNotPlanned(evidence=f"{colluders} colluders of {sites} sites, whose quorum is {quorum}")
    return parts_of(quorum, colluders)


class _Search:
    """The trainings that choose."""

    def __init__(
        self,
        plan: Plan,
        task: Task,
        tables: Mapping[str, object],
        settings: tuple[str, ...],
        progress: OnTry | None,
    ) -> None:
        self._plan, self._task, self._tables, self._settings, self._progress = plan, task, tables, settings, progress
        self.metric = ""
        agreed = simulated(tuple(tables), (*settings, *settings_of(plan, plan.budget.best, 1.0)))
        self._sign = 1.0 if agreed.stop.better == "higher" else -1.0

    def run(self, seeds: int) -> tuple[Tried, ...]:
        """All candidates, the best first."""
        batches, middle = self._plan.budget.batches, self._plan.budget.best
        tried, steps = [self._once(middle, step) for step in WIDE], list(WIDE)
        for _ in range(FARTHER):
            at = tried.index(self._ranked(tried)[0])
            if steps[at] not in (min(steps), max(steps)):
                break
            steps.append(steps[at] * (WIDER if steps[at] == max(steps) else 1.0 / WIDER))
            tried.append(self._once(middle, steps[-1]))
        best = self._ranked(tried)[0].learning_rate / self._scale(middle)
        place = batches.index(middle)
        beside = batches[max(0, place - 1) : place] + batches[place + 1 : place + 2]
        tried += [self._once(middle, best * factor) for factor in NEAR]
        best = self._ranked(tried)[0].learning_rate / self._scale(middle)
        tried += [self._once(batch, best) for batch in beside]
        ranked = self._ranked(tried)
        kept = [self._again(one, range(1, seeds)) for one in ranked[:KEPT]]
        return (*self._ranked(kept), *ranked[KEPT:])

    def _scale(self, batch: BatchPlan) -> float:
        """The learning rate whose steps go along the mean of a batch's gradients, by the task's own divisor."""
        return self._task.expected_batch / batch.batch

    def _once(self, batch: BatchPlan, step: float) -> Tried:
        rate = float(f"{step * self._scale(batch):.3g}")
        return self._again(Tried(batch, rate), range(1))

    def _again(self, one: Tried, seeds: Iterable[int]) -> Tried:
        chosen = tuple(seeds)
        if not chosen:
            return one
        settings = (*self._settings, *settings_of(self._plan, one.batch, one.learning_rate))
        trainings: list[SimulatedTraining] = simulate_training(
            self._task, self._tables, settings=settings, seeds=chosen
        )
        self.metric = trainings[0].metric
        last = [training.figures[-1].get("log_loss", UNKNOWN).value for training in trainings]
        values = (*one.values, *(training.final for training in trainings))
        found = replace(one, values=values, losses=(*one.losses, *last))
        if self._progress is not None:
            self._progress(found)
        return found

    def _ranked(self, tried: Sequence[Tried]) -> list[Tried]:
        """The best first. Those whose metric is alike are put in order by log loss, or by learning rate where there is
        none: many metrics do not see how sure a model is of itself, and with a larger step it is surer, and noisier."""

        def merit(one: Tried) -> float:
            return -math.inf if math.isnan(one.mean) else self._sign * one.mean

        best = max(map(merit, tried))
        alike = [one for one in tried if best - merit(one) <= ALIKE * abs(best)]
        losses = {one: statistics.fmean(one.losses) for one in alike}
        known = not any(map(math.isnan, losses.values()))
        alike.sort(key=lambda one: losses[one] if known else one.learning_rate)
        return [*alike, *sorted((one for one in tried if one not in alike), key=merit, reverse=True)]
