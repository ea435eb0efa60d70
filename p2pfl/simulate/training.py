"""A training of many sites in one process: the very local pass, compression, quantiser and mean of a site, no network.

For choosing a learning rate, a density or a noise multiplier before a study: minutes instead of hours. The sum is that
of the sites' words in the field, as the secure sum opens it; what is left out is the way there.

**For public or generated records.** Many trainings on the same private records spend privacy that no account here
counts, and with `seeds` the noise is repeatable, so it protects nobody.
"""

from __future__ import annotations

import functools
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import WrongSimulation
from p2pfl.federation import Federation, draft
from p2pfl.federation.distributed_noise import bounds_of_moves, sensitivity, with_parts
from p2pfl.keys import SEED_BYTES, Identity, Secret, digest
from p2pfl.roster import LEAST_PEERS, Member, Roster
from p2pfl.sharing.field import FIELDS, Words
from p2pfl.sharing.noise_grid import NoiseGrid, noised_words
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.training.compression.lowrank import compressor_of
from p2pfl.training.compression.noised_sum import NoisedSum
from p2pfl.training.compression.nomination import NO_GROUND, Compresses, Ground, Positions, leader_of
from p2pfl.training.compression.subspace import Expanded, Subspace
from p2pfl.training.early_stop import is_over
from p2pfl.training.given import records_of
from p2pfl.training.measures.measure import Figure, decimal_text
from p2pfl.training.model.state import ModelState, StateLayout
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.steps import noise_steps
from p2pfl.training.privacy.account import Account, Mechanism
from p2pfl.training.privacy.plan import noise_of
from p2pfl.training.records.records import Records, SiteRecords, hold_out
from p2pfl.training.server import after
from p2pfl.training.update import FlatVector, TensorLayout

if TYPE_CHECKING:
    from p2pfl.training.local import Trainer
    from p2pfl.training.task import Task

OnRound = Callable[[int, int, Mapping[str, Figure]], None]
MakesCompressor = Callable[[TensorLayout, int], Compresses]
FIRST: Final = 0  # the seed of a single training


@dataclass(frozen=True)
class SimulatedTraining:
    """One training. `figures[k]` judges the model after k rounds, on the held-out records of all sites.

    model          the last one; the running mean where the settings have one, as in `figures`
    epsilon        the largest of all sites, at the federation's δ
    sent_bytes     payload of one site over all rounds: words and nominated positions
    dense_bytes    what a plain fp32 all-reduce of the same rounds sends
    largest_norm   L2 norm of the largest update, and
    largest_value  its largest coordinate: `sharing.clip` and `sharing.scale` leave room for them
    pass_s         seconds of one site's pass, the median
    personal       by site, its own layers (k,) where the settings have `local.personal`
    """

    seed: int
    federation: Federation
    figures: tuple[Mapping[str, Figure], ...]
    model: FlatVector
    epsilon: float
    sent_bytes: float
    dense_bytes: float
    largest_norm: float
    largest_value: float
    pass_s: float
    personal: Mapping[str, FlatVector]

    @property
    def metric(self) -> str:
        """The name of the figure that the training is judged by."""
        return next(iter(self.figures[-1]))

    @property
    def final(self) -> float:
        """That figure of the last model."""
        return self.figures[-1][self.metric].value


def simulate_training(
    task: Task,
    sites: Mapping[str, object],
    *,
    settings: Sequence[str] = (),
    federation: Federation | None = None,
    rounds: int | None = None,
    epsilon: float | None = None,
    seeds: Sequence[int] = (FIRST,),
    device: str = "cpu",
    progress: OnRound | None = None,
    compressor: MakesCompressor | None = None,
) -> list[SimulatedTraining]:
    """Train once for each of `seeds`, which choose who is held out, the first model, samples and noise.

    sites       by name: the path of its records, as `Task.dataset` takes it, a DataFrame, or a dataset; SiteRecords are
                divided already, and the same are held out whatever the seed
    settings    as for `p2pfl peers create --set`: `rounds=20`, `privacy.sample_rate=0.05`
    federation  a peers.yaml whose settings are taken, in the place of defaults and `settings`; its sites are not
    rounds      another number of them
    epsilon     choose the least noise multiplier that keeps all rounds within it, and max_epsilon; else both are those
                of the settings
    progress    called with (seed, rounds done, figures)
    compressor  makes each site's, of the model's layout and the number of sites, in the place of that of the settings:
                for comparing the methods of peers.yaml with others
    Raises WrongSimulation for fewer than three sites, BudgetTooSmall, what `peers create` and what the task raise.
    """
    federation = simulated(tuple(sites), settings, federation, rounds)
    if epsilon is not None:
        private = federation.privacy
        if private.is_none:
            raise WrongSimulation(evidence="privacy: none and an ε: no noise is added that could be chosen")
        steps = private.steps_per_round * federation.rounds
        noise = noise_of(epsilon, private.delta, private.sample_rate, steps, private.parts)
        federation = replace(
            federation, privacy=replace(private, noise_multiplier=noise, max_epsilon=max(epsilon, private.max_epsilon))
        )
    whole = (Records, SiteRecords)
    read = {name: data if isinstance(data, whole) else records_of(task, data) for name, data in sites.items()}
    return [_one(task, read, federation, seed, device, progress, compressor) for seed in seeds]


def summary(trainings: Sequence[SimulatedTraining]) -> dict[str, Any]:
    """Mean and spread of the final metric over the seeds, ε and bytes."""
    first = trainings[0]
    rounds = [[one.figures[place][first.metric].value for one in trainings] for place in range(len(first.figures))]
    return {
        "metric": first.metric,
        "mean": statistics.fmean(rounds[-1]),
        "sd": _spread(rounds[-1]),
        "by_round": [statistics.fmean(values) for values in rounds],
        "sd_by_round": [_spread(values) for values in rounds],
        "epsilon": max(one.epsilon for one in trainings),
        "noise_multiplier": first.federation.privacy.noise_multiplier,
        "sent_bytes": first.sent_bytes,
        "dense_bytes": first.dense_bytes,
        "largest_norm": max(one.largest_norm for one in trainings),
        "largest_value": max(one.largest_value for one in trainings),
        "pass_s": statistics.median(one.pass_s for one in trainings),
    }


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def simulated(
    names: Sequence[str], settings: Sequence[str], federation: Federation | None = None, rounds: int | None = None
) -> Federation:
    """What the sites `names` would have agreed on. Raises WrongSimulation, what `peers create` raises."""
    found = federation_of(names, settings)
    if federation is not None:
        found = with_parts(replace(federation, roster=Roster(federation.roster.epoch, found.roster.members), hub=None))
    return found if rounds is None else replace(found, rounds=rounds)


def federation_of(names: Sequence[str], settings: Sequence[str]) -> Federation:
    """What peers.yaml would say of sites that nobody will dial. Raises what `peers create` raises."""
    members = [Member(name, Identity(hashlib.sha256(name.encode()).digest()).key, ()) for name in names]
    if len(members) < LEAST_PEERS:
        raise WrongSimulation(evidence=f"{len(members)} sites: {', '.join(names)}")
    task = draft.pinned_lines("task.py", "Task", bytes(32).hex())  # whatever was given: nobody else loads it
    return Federation.parse(draft.peers_file("simulated", members, task, settings), "the simulated peers.yaml")


def _one(
    task: Task,
    read: Mapping[str, Records | SiteRecords],
    federation: Federation,
    seed: int,
    device: str,
    progress: OnRound | None,
    compressor: MakesCompressor | None,
) -> SimulatedTraining:
    from p2pfl.training.local import Trainer

    sites = []
    for name, records in read.items():
        site = records if isinstance(records, SiteRecords) else held_out(seed, name, records)
        trainer = Trainer(task=task, site=site, privacy=federation.privacy, local=federation.local, device=device)
        sites.append(_Site(name, trainer, federation, seeded(seed, name), compressor))
    first = sites[0].trainer
    sites[0].check_grids()
    if len({(one.trainer.layout.digest, one.trainer.frozen) for one in sites}) > 1:
        raise WrongSimulation(evidence="the task's model is not the same at every site")
    public = hashlib.sha256(f"first model {seed}".encode()).digest()
    model = first.initial(public)
    for one in sites:
        one.personal = one.trainer.first_personal(public)
    state = StateLayout.of(first.layout, federation.server, federation.average).first(model, federation.server)
    start, figures, sent = model, [_figures(sites, model)], 0.0
    for number in range(1, federation.rounds + 1):
        rotation = digest("rotation", seed.to_bytes(8, "big"), number.to_bytes(8, "big"))
        state, payload = _round(sites, start, state, number - 1, rotation)
        sent += payload
        figures.append(_figures(sites, state.shown))
        if progress is not None:
            progress(seed, number, figures[-1])
        values = [decimal_text(next(iter(one.values())).value) for one in figures[:number]]
        if is_over(values, federation.stop):  # of the models before each round, as the rounds' records have them
            break
    spent = max(one.account.epsilon(federation.privacy.delta) for one in sites)
    dense = 2 * (len(sites) - 1) / len(sites) * 4 * first.parameters * (len(figures) - 1)
    norm, value = (max(getattr(one, what) for one in sites) for what in ("largest_norm", "largest_value"))
    pass_s = statistics.median(seconds for one in sites for seconds in one.seconds)
    told = (spent, sent, dense, norm, value, pass_s, {one.name: one.personal for one in sites})
    return SimulatedTraining(seed, federation, tuple(figures), state.shown, *told)


class _Site:
    """What one site keeps from round to round."""

    def __init__(
        self,
        name: str,
        trainer: Trainer,
        federation: Federation,
        draw: Callable[[int], bytes],
        compressor: MakesCompressor | None = None,
    ) -> None:
        sharing, compression = federation.sharing, federation.compression
        count = len(federation.roster.members)
        self.name, self.trainer, self.draw, self.privacy = name, trainer, draw, federation.privacy
        self.federation = federation
        self.account = Account()
        self.personal = np.zeros(0, np.float32)  # its own layers, (k,)
        self.largest_norm, self.largest_value, self.seconds = 0.0, 0.0, list[float]()
        if compressor is None:
            compressor = functools.partial(compressor_of, compression)
        self.compressor = compressor(trainer.layout, count)
        if self.privacy.is_distributed:
            self.compressor = NoisedSum(self.compressor)
        self.quantiser = Quantiser(
            FIELDS[sharing.field], count, sharing.clip, sharing.scale, rotate=sharing.field == 16
        )

    def nominate(
        self, model: FlatVector, rounds_before: int, subspace: Subspace | None, ground: Ground = NO_GROUND
    ) -> bytes:
        charge, seed = self.account.charge(self.privacy), Secret(self.draw(SEED_BYTES), "seed of a pass")
        begun = time.perf_counter()
        found: NDArray[Any] = self.trainer.train(self.whole(model), charge, seed, rounds_before, subspace)
        update, moved = np.split(found, [len(found) - len(self.personal)])
        self.personal = (self.personal + moved).astype(np.float32)
        self.seconds.append(time.perf_counter() - begun)
        self.largest_norm = max(self.largest_norm, float(np.linalg.norm(update)))
        self.largest_value = max(self.largest_value, float(np.abs(update).max()))
        if isinstance(self.compressor, NoisedSum):
            grid, stream = self.grid(rounds_before), BitStream(seed, "training/discrete-noise")
            grid.check(update.size, charge.mechanism.noise_multiplier)
            update, self.compressor.step = grid.steps(update), grid.step
            update = update + noise_steps(stream, update.size, grid.sigma)
        return self.compressor.nominate(update, subspace, ground)

    def whole(self, model: FlatVector) -> FlatVector:
        """The model, and behind it the site's own layers.    (m + k,)"""
        return np.concatenate([model, self.personal]) if self.personal.size else model

    def check_grids(self) -> None:
        """As a site does before its first round. Raises NoiseGridTooCoarse, of any round."""
        if isinstance(self.compressor, NoisedSum):
            charged = Mechanism.of_pass(self.privacy).noise_multiplier
            for moved in bounds_of_moves(self.federation, self.trainer.expected_batch):
                self._grid(moved).check(self.compressor.length, charged)

    def grid(self, rounds_before: int) -> NoiseGrid:
        """Where each site adds a part of the noise: on which grid."""
        return self._grid(sensitivity(self.federation, self.trainer.expected_batch, rounds_before))

    def _grid(self, moved: float) -> NoiseGrid:
        one, sharing, count = self.privacy, self.federation.sharing, len(self.federation.roster.members)
        bounds = sharing.clip, sharing.scale, moved
        return NoiseGrid(FIELDS[sharing.field], count, *bounds, one.noise_multiplier, one.parts)

    def words(self, support: Positions | None, subspace: Subspace | None, seed: bytes) -> Words:
        """What it sends in a round; `seed` is that of the rotation."""
        values = self.compressor.values(support, subspace)
        if isinstance(self.compressor, NoisedSum):
            return noised_words(self.quantiser.field, values)
        words, _ = self.quantiser.quantise(values, seed, self.draw(32))
        self.compressor.settle(support, self.quantiser.dequantise(words, seed, values.size))
        return words


def _round(
    sites: Sequence[_Site], first: FlatVector, state: ModelState, before: int, seed: bytes
) -> tuple[ModelState, float]:
    """The state after one round of all sites, behind so many `before`, and the payload of one of them in bytes."""
    subspace = sites[0].compressor.subspace(first, state.model)
    leader, base = leader_of([one.name for one in sites], before), state.names[0]
    grounds = {one.name: Ground(base, one.name == leader, lambda: np.subtract(state.model, first)) for one in sites}
    nominations = {one.name: one.nominate(state.model, before, subspace, grounds[one.name]) for one in sites}
    support = sites[0].compressor.support(nominations, base)
    words = [one.words(support, subspace, seed) for one in sites]
    quantiser, count = sites[0].quantiser, len(sites)
    length = sites[0].compressor.length if support is None else len(support)
    summed = quantiser.field.sum(words)
    if sites[0].privacy.is_distributed:
        total = sites[0].grid(before).values(summed)
    else:
        total = quantiser.dequantise_sum(summed, count, seed, length)
    nominated = (count - 1) * statistics.fmean(len(said) for said in nominations.values())
    payload = 2 * (count - 1) / count * words[0].size * quantiser.field.word_bytes + nominated
    change, agreed = total if subspace is None else Expanded(subspace, total), sites[0].federation
    moved = after(state, agreed.server, agreed.average, change, count, support)
    return (state if moved is None else moved), payload


def _figures(sites: Sequence[_Site], model: FlatVector) -> Mapping[str, Figure]:
    return sites[0].trainer.figures(np.sum([one.trainer.evaluate(one.whole(model)) for one in sites], axis=0))


def held_out(seed: int, name: str, records: Records) -> SiteRecords:
    """A site's records as the training of `seed` splits them."""
    return hold_out(records, Secret(hashlib.sha256(f"split {seed} {name}".encode()).digest()))


def seeded(seed: int, what: str) -> Callable[[int], bytes]:
    """Bytes that the same seed repeats."""
    stream = BitStream(Secret(hashlib.sha256(f"simulated {seed} {what}".encode()).digest()), "training/sampling")
    return lambda count: stream.words(-(-count // 8)).tobytes()[:count]
