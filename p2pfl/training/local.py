"""One site's local pass of DP-SGD (Abadi et al. 2016), flat and readable from top to bottom.

What makes it private, in order: the pass is charged before it starts (privacy/); each step sees a Poisson sample of
units, records or patients; each unit's gradient is clipped to max_grad_norm (records/units.py); Gaussian noise of
noise_multiplier × max_grad_norm is added to **every** coordinate of the sum, empty batches included; the divisor is
public. What leaves, `local − global`, is a function of those noised sums alone. Opacus computes the per-record
gradients; what clips them, the noise, the samples and the divisor are ours (gradients/clipping.py).

All chance in a pass follows from its one seed: the noise and the samples by our own keystreams, what a model draws of
torch (dropout) by torch's generator. So a process that was killed in the middle of a pass can repeat it, to the bit,
from what `inputs` names.

Never add here: a seed option, a `continue` on an empty batch, gradient accumulation over batches, a learning rate or
stopping rule that looks at private records, buffers that remember records (BatchNorm).
"""

from __future__ import annotations

import copy
import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.task_process import StepOutOfMemory
from p2pfl.errors.training import ModelDiverged
from p2pfl.federation.federation import Measuring, Privacy
from p2pfl.federation.optimisers import SiteOptimiser
from p2pfl.keys import Secret, digest
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.gradients.clipping import ClippingOptimizer, KeystreamOptimizer, SummingOptimizer, check_gradients
from p2pfl.training.gradients.projection import Free, Moving, Projected, ProjectingModule
from p2pfl.training.judges import judge_of
from p2pfl.training.machine import threads_and_versions
from p2pfl.training.measures.measure import Counts, Figure
from p2pfl.training.model.personal import check_prefixes, divided, joined, reordered
from p2pfl.training.models import Built, as_inputs, build, device_of, frozen_digest, loss_of
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.passes import AT_ONCE, PassStopped
from p2pfl.training.privacy.account import Charge, Mechanism, delta_notices
from p2pfl.training.private_check import check_private
from p2pfl.training.records.records import SiteRecords
from p2pfl.training.records.sampling import poisson_batches
from p2pfl.training.records.units import PATIENT, UnitGradients, Units
from p2pfl.training.records.withdrawn import Withdrawn
from p2pfl.training.repeatable import repeatable, torch_seeds
from p2pfl.training.site_optimiser import optimiser_of, paced
from p2pfl.training.task import Task
from p2pfl.training.update import FlatVector, collect, empty, not_finite, place_vector

OnStep = Callable[[int, int], None]


class Trainer:
    """One site's training, round after round: model in, private update out. Vectors are float32.

    Behind a model (m,) that goes in, and an update that comes out, lie the k numbers of the layers that stay at home,
    where the sites agreed on any (model/personal.py).

    layout      the m numbers that the sites share
    personal    the k numbers that stay here
    """

    def __init__(
        self,
        *,
        task: Task,
        site: SiteRecords,
        privacy: Privacy,
        local: SiteOptimiser | None = None,
        measures: Measuring | None = None,
        device: str = "cpu",
        progress: OnStep | None = None,
    ) -> None:
        """Build the model and try one private step on it; nothing is charged, nothing leaves.

        local       the optimiser that the sites agreed on, the task's own by default; the layers that stay at home
        measures    how the sites agreed to judge a model; by exact counts by default
        progress    called with (steps done, steps of the pass)
        Raises AugmentMixes, ModelNotPrivate, LossNotPerRecord, DeviceMissing, OptimiserTwice, PatientsUnknown,
        PatientMissing, MeasureNotPrivate, PersonalFitsNothing, PersonalIsFrozen, NothingIsShared.
        """
        self._task, self._privacy, self._progress = task, privacy, progress
        self._local = local or SiteOptimiser()
        self.stopping = False  # another thread may set it: then the pass ends before its next step
        self.at_once = AT_ONCE  # most records whose gradients are in memory at the same time
        self._device = device_of(device)
        self._agreed, self._measuring = measures, threading.Lock()
        self._bring(site)
        built = build(task)
        self.frozen, self.notices = built.frozen, built.notices
        names = (name for name, _ in built.model.named_parameters())
        check_prefixes(built.layout, self._local.personal, names, task.name)
        self.layout, self.personal = divided(built.layout, self._local.personal)
        self.whole = joined(self.layout, self.personal)  # what lies in a vector, in order
        self.notices += delta_notices(privacy, len(self._units))
        check_private(task, built.model, site.train, self._device)
        self._load(built)

    def _bring(self, site: SiteRecords) -> None:
        """Train on these records from now on, and measure on these."""
        self._units = Units.of(site.train, self._privacy.unit)
        with self._measuring:
            self._measures = judge_of(self._task, site.held_out, self._privacy.unit, self._agreed)
        self._site = site
        self.__dict__.pop("_records_digest", None)

    def leave_out(self, withdrawn: Withdrawn) -> None:
        """From the next pass on neither train nor measure on those. Raises TooFewRecords."""
        self._bring(withdrawn.left(self._site))

    def _load(self, built: Built) -> None:
        """Train this model from now on."""
        self._plain = built.model.to(self._device)
        empty(self._plain)  # each pass brings the model
        # Another one, so that measuring a model never writes into one that is being trained; what trains of it lies in
        # the vector that is measured, and nowhere between.
        values = {id(p): p if not p.requires_grad else nn.Parameter(p.data) for p in self._plain.parameters()}
        self._measured = copy.deepcopy(self._plain, values)
        empty(self._measured)
        self._model = ProjectingModule(self._plain)
        self._moving: Moving = Free(self._trained)
        self._optimiser()  # one that does not fit is told at the start

    @property
    def parameters(self) -> int:
        """m"""
        return self.layout.parameters

    @property
    def _trained(self) -> list[nn.Parameter]:
        """What trains, in the order of a vector."""
        named = dict(self._plain.named_parameters())
        return [named[name] for name, _ in self.whole.tensors]

    @property
    def expected_batch(self) -> float:
        """The public divisor of each step's sum."""
        return float(self._task.expected_batch)

    def initial(self, seed: bytes) -> FlatVector:
        """The model that every site starts from, given 32 public bytes: the same bits everywhere.    (m,)

        Of a new model: a norm's gain keeps what its constructor set, and a pass has moved it in the one that trains.
        """
        return self._first(seed)[: self.parameters]

    def first_personal(self, seed: bytes) -> FlatVector:
        """What the layers that stay at home start from, the same bits everywhere.    (k,)"""
        return self._first(seed)[self.parameters :]

    def _first(self, seed: bytes) -> FlatVector:
        built = build(self._task)
        first = reordered(built.first(self._task, seed), built.layout, self.whole)
        empty(built.model)  # its layers may hold each other: it would stay until they are found to be garbage
        return first

    def _optimiser(self) -> torch.optim.Optimizer:
        return optimiser_of(self._task, self._local, self._moving.parameters)

    def inputs(self, model: FlatVector, rounds_before: int = 0) -> bytes:
        """Names all that an update from `model` (m + k,) follows from beside its seed; empty where a repeated pass may
        differ.

        The model with what of it does not train, the records, the settings, the machine: with the same 32 bytes and the
        same seed `train` gives the same bits, in this process and in any other. docs/adr/0034.
        """
        if self._device.type != "cpu":
            return b""  # sums of a graphics processor may come in another order each time
        task, schedule = self._task, (self._local, rounds_before)
        facts = (task.name, task.expected_batch, task.copies, self.at_once)
        told = [self._privacy, *facts, self._optimiser(), threads_and_versions()]
        frozen, bits = frozen_digest(self._plain), np.ascontiguousarray(model, "<f4").data.cast("B")
        return digest("pass", repr([*told, schedule]).encode(), self.whole.digest, frozen, bits, self._records_digest)

    def _named(self) -> bytes:
        """Names task, settings, records and machine, for processes that make a pass together."""
        told = [
            self._privacy,
            self._local,
            self._task.name,
            self._task.expected_batch,
            self._task.copies,
            threads_and_versions(),
        ]
        return digest("pass", repr(told).encode(), self.whole.digest, self.frozen, self._records_digest)

    @functools.cached_property
    def _records_digest(self) -> bytes:
        """Names the records, and which of them are one unit."""
        return digest("pass", self._site.train.digest(), self._units.digest())

    @property
    def units(self) -> int:
        """How many records, or patients, it trains on."""
        return len(self._units)

    def names(self) -> Iterator[bytes]:
        """What names each record that is brought, held out or not, and each patient: 32 bytes. They stay at the site.

        Records that are held out now may be trained on under another task, or in another home.
        """
        yield from self._site.train.names()
        yield from self._site.held_out.names()

    def train(
        self,
        model: FlatVector,
        charge: Charge,
        seed: Secret,
        rounds_before: int = 0,
        subspace: Subspace | None = None,
    ) -> FlatVector:
        """Return local − model after one private pass from `model`.    (m + k,); in a subspace θ (d,) and k behind it

        charge           this pass's, from Account.charge, durable already; it is used up
        seed             32 bytes, fresh, or those of the very pass that is repeated: never of another model or other
                         records
        rounds_before    of the training, before this pass: where its learning rates stand
        subspace         where the model may move: gradients are clipped, and noised, in its numbers alone
        With `privacy.noise: distributed` the update has no noise yet, and must get it before anything of it leaves.
        Raises PassNotCharged before any record is touched; ModelDiverged when the update is not finite; PassStopped;
        StepOutOfMemory, after which `at_once` may be made smaller: then it is another pass, as `inputs` says.
        """
        shared = subspace is not None and model.flags.writeable  # torch asks for such memory, if only to read
        local = model if shared else model.copy()
        found = self.train_within(local, charge, seed, rounds_before, subspace)
        self.release()
        if found is None:
            _check_finite(found := np.subtract(local, model, out=local))
        return found

    def train_within(
        self,
        local: FlatVector,
        charge: Charge,
        seed: Secret,
        rounds_before: int = 0,
        subspace: Subspace | None = None,
    ) -> FlatVector | None:
        """The same pass, in the memory of `local`, where the model lies that it starts from: it becomes this site's.

        Of a pass in a subspace θ (d,) is returned, with distributed noise the update, and `local` stays as it was.
        Raises what `train` raises.
        """
        charge.use(Mechanism.of_pass(self._privacy))
        noise, samples = BitStream(seed, "training/noise"), BitStream(seed, "training/sampling")
        with repeatable(int(torch_seeds(seed, 1)[0])), self._from(local, subspace):
            done = self._run(self._batches(samples), lambda chosen: self._clipping(chosen, noise), rounds_before)
            moved = done.update if isinstance(done, SummingOptimizer) else self._moving.read()
            if moved is None:
                collect(self._plain, local, self.whole)
        _check_finite(local if moved is None else moved)
        return moved

    def release(self) -> None:
        """Hold no memory of a model until the next pass, which brings it."""
        empty(self._plain)

    def _batches(self, samples: BitStream) -> Iterator[NDArray[np.int64]]:
        """For each step, the units that this process takes.    (B,)"""
        privacy = self._privacy
        return poisson_batches(samples, len(self._units), privacy.sample_rate, privacy.steps_per_round)

    def _clipping(self, chosen: torch.optim.Optimizer, noise: BitStream) -> ClippingOptimizer:
        if self._privacy.is_distributed:
            return SummingOptimizer(chosen, self._privacy, self.expected_batch)
        return KeystreamOptimizer(chosen, self._privacy, self.expected_batch, noise)

    @contextmanager
    def _from(self, model: FlatVector, subspace: Subspace | None) -> Iterator[None]:
        """What trains lies in `model`, and moves in `subspace` alone, if there is one."""
        place_vector(self._plain, model, self.whole)
        self._plain.train()
        self._model.zero_grad(set_to_none=True)  # a pass that ended within a step left gradients of its records
        if subspace is not None:
            self._moving = Projected(self._trained, subspace)
        try:
            yield
        finally:
            self._moving.end()
            self._moving = Free(self._trained)

    def _run(
        self,
        batches: Iterable[NDArray[np.int64]],
        clipping: Callable[[torch.optim.Optimizer], ClippingOptimizer],
        rounds_before: int,
    ) -> ClippingOptimizer:
        """The steps of a pass. Raises PassStopped."""
        chosen, steps = self._optimiser(), self._privacy.steps_per_round
        optimizer, pace = clipping(chosen), paced(chosen, self._local, steps)
        for step, chosen_units in enumerate(batches):  # (B,)
            if self.stopping:
                raise PassStopped  # the pass stays charged, nothing of it leaves, and its seed is kept
            pace(rounds_before * steps + step)
            self._try_step(optimizer, chosen_units)
            if self._progress is not None:
                self._progress(step + 1, steps)
        return optimizer

    def _try_step(self, optimizer: ClippingOptimizer, units: NDArray[np.int64]) -> None:
        """One step. Raises StepOutOfMemory."""
        try:
            self._step(optimizer, units)
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            said = str(error).splitlines()[:1] or [type(error).__name__]
            refused = StepOutOfMemory(at_once=self.at_once, evidence=said[0][:200])
        else:
            return
        self._load(build(self._task))  # a pass that broke off in the middle of a step left something in the old one
        raise refused

    def _step(self, optimizer: ClippingOptimizer, units: NDArray[np.int64]) -> None:
        """One step on `units`; without any, the step is noise alone."""
        copies, gradients = self._task.copies, UnitGradients()
        for piece in self._units.pieces(units, self.at_once, copies):
            self._gradients(piece.rows)
            if self._privacy.unit == PATIENT or copies > 1:
                gradients.gather(piece, self._moving.parameters)
            optimizer.clip()
        optimizer.step()  # noise once, on the sum of all pieces
        self._moving.follow()
        optimizer.forget()

    def _gradients(self, rows: NDArray[np.int64]) -> None:
        """Leave the `grad_sample` (B, …) of each parameter that moves, for the records at `rows`. Raises ValueError."""
        if len(rows) == 0:
            for p in self._moving.parameters:
                p.grad_sample = torch.zeros((0, *p.shape), device=p.device, dtype=p.dtype)  # type: ignore[attr-defined]
            return
        x, y = (as_inputs(part, self._device) for part in self._site.train.batch(rows))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch, on backward hooks where the inputs need no gradient
            x, y = self._task.augment_pair(x, y)
            torch.autograd.backward(loss_of(self._task, self._model(x), y).sum())
        self._moving.take_gradients()
        check_gradients(self._moving.parameters, len(rows))

    def held_out_names(self) -> Iterator[bytes]:
        """What names each record that is held out, and each patient: 32 bytes."""
        yield from self._site.held_out.names()

    @property
    def slots(self) -> int:
        """How many counts a held-out unit moves by one at most, where measures are private; else 0."""
        return self._measures.slots

    @property
    def counts(self) -> int:
        """How many numbers `evaluate` counts."""
        return self._measures.size

    def evaluate(self, model: FlatVector) -> Counts:
        """How `model` (m + k,) does on the held-out records, as the task's measures count it.    (counts,)

        The counts are exact, so they are **not private**: they enter the secure sum alone, and the record says so; or
        the node adds noise to them before (node/runs/looks.py).
        """
        with self._measuring:
            measured = self._measured
            writable = model if model.flags.writeable else model.copy()  # torch asks for such memory
            place_vector(measured, writable, self.whole)
            try:
                return self._measures.count(self._task, measured, self._device)
            finally:
                empty(measured)

    def figures(self, total: Counts, noise: float = 0.0) -> Mapping[str, Figure]:
        """What the sum of all sites' counts says, in order; the first figure is the training's metric.

        noise   standard deviation in each count of a private sum, in records
        """
        return self._measures.figures(total, noise)


def _check_finite(update: FlatVector) -> None:
    """Raises ModelDiverged."""
    odd = not_finite(update)
    if odd:
        raise ModelDiverged(evidence=f"{odd} coordinates", what="the update")


def lacks_memory(error: Exception) -> bool:
    """The system, or a device, has no more memory: torch says so of a processor in words alone."""
    told = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "DefaultCPUAllocator" in told
        or "not enough memory" in told
    )
