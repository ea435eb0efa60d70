"""One private pass: per-record gradients are right, clipped, noised by our keystream, and charged before."""

from __future__ import annotations

import dataclasses
import inspect
import os
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors.training import (
    DeviceMissing,
    LossNotPerRecord,
    ModelDiverged,
    ModelNotPrivate,
    PassNotCharged,
)
from p2pfl.federation.federation import NO_PRIVACY, Privacy
from p2pfl.keys import Secret
from p2pfl.training.gradients.clipping import KeystreamOptimizer
from p2pfl.training.local import PassStopped, Trainer
from p2pfl.training.measures.scores import BINS, bins_of
from p2pfl.training.models import build, predict
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account
from p2pfl.training.records.records import SiteRecords
from p2pfl.training.records.sampling import poisson_batches
from p2pfl.training.task import Task
from p2pfl.training.update import place_vector, read_vector, write_vector
from tests.training.settings import PRIVACY, Images, Small, privacy, read, records, site

WIDE = privacy(max_epsilon=1e6)


SEED = Secret(bytes(range(32)), "seed of a test's pass")


def trainer(task: Task, *, of: SiteRecords | None = None, private: Privacy = PRIVACY) -> Trainer:
    shape = getattr(task, "shape", (4,))
    return Trainer(task=task, site=of or site(40, shape), privacy=private)


def one_pass(which: Trainer, private: Privacy = PRIVACY, seed: Secret = SEED) -> np.ndarray:
    return which.train(which.initial(bytes(32)), Account().charge(private), seed)


def noise() -> BitStream:
    return BitStream(SEED, "training/noise")


def per_record(which: Trainer, task: Task, rows: np.ndarray) -> np.ndarray:
    """The slow obvious way: a batch of one for each record.    (B, m)"""
    model, found = task.model(), []
    write_vector(model, which.initial(bytes(32)))
    for row in rows:
        model.zero_grad()
        x, y = (torch.from_numpy(part) for part in which._site.train.batch(np.array([row])))
        task.loss(model(x), y).sum().backward()
        found.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None]))
    return np.array(found)


def grad_samples(which: Trainer) -> np.ndarray:
    return np.concatenate(
        [p.grad_sample.numpy().reshape(len(p.grad_sample), -1) for p in which._model.parameters()], axis=1
    )


@pytest.mark.claim("DP-1")
@pytest.mark.parametrize("task", [Small(), Images()], ids=["small", "images"])
def test_per_record_gradients_are_those_of_batches_of_one(task: Task) -> None:
    which = trainer(task)
    place_vector(which._plain, which.initial(bytes(32)))
    rows = np.array([3, 0, 17])
    which._gradients(rows)
    assert np.allclose(grad_samples(which), per_record(which, task, rows), atol=1e-6)


def capture(which: Trainer, rows: np.ndarray, private: Privacy, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """[clipped sum before noise] of one step on `rows`."""
    seen: list[np.ndarray] = []
    add = KeystreamOptimizer.add_noise

    def spy(self: KeystreamOptimizer) -> None:
        seen.append(np.concatenate([p.summed_grad.numpy().ravel() for p in self.params]))
        add(self)

    monkeypatch.setattr(KeystreamOptimizer, "add_noise", spy)
    sgd = torch.optim.SGD(which._model.parameters(), lr=0.0)
    which._step(KeystreamOptimizer(sgd, private, 1.0, noise()), rows)
    return seen


@pytest.mark.claim("DP-1")
def test_the_clipped_sum_is_that_of_the_loop_and_within_records_times_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    task, private = Small(), privacy(max_grad_norm=0.05)
    which = trainer(task, private=private)
    place_vector(which._plain, which.initial(bytes(32)))
    rows = np.arange(20)
    gradients = per_record(which, task, rows)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    assert norms.max() > 0.05
    (found,) = capture(which, rows, private, monkeypatch)
    assert np.allclose(found, (gradients * np.minimum(1, 0.05 / (norms + 1e-6))).sum(axis=0), atol=1e-6)
    assert np.linalg.norm(found) <= len(rows) * 0.05 * (1 + 1e-6)


def test_a_batch_in_pieces_gives_one_clipped_sum_and_one_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    which = trainer(Small())
    place_vector(which._plain, which.initial(bytes(32)))
    rows = np.arange(20)
    whole = capture(which, rows, PRIVACY, monkeypatch)
    which.at_once = 6
    pieces = capture(which, rows, PRIVACY, monkeypatch)
    # The second capture wraps the first spy, which sees the step too: one noise for each of the two steps.
    assert len(pieces) == 1
    assert np.allclose(pieces[-1], whole[0], atol=1e-6)


def test_sum_and_noise_are_added_in_float64_and_rounded_once() -> None:
    """Noise rounded to float32 before it is added leaves a lattice that the sum shifts, visible in the low bits."""
    which, private = trainer(Small()), privacy(noise_multiplier=1.0, max_grad_norm=0.1)
    place_vector(which._plain, which.initial(bytes(32)))
    stream, seen = Secret(bytes(32)), []
    alike = BitStream(stream, "training/noise")

    class Seen(KeystreamOptimizer):
        def add_noise(self) -> None:
            seen.append([p.summed_grad.numpy().ravel().astype(np.float64) for p in self.params])
            super().add_noise()
            seen.append([p.grad.numpy().ravel() for p in self.params])

    sgd = torch.optim.SGD(which._model.parameters(), lr=0.0)
    which._step(Seen(sgd, private, 3.0, BitStream(stream, "training/noise")), np.arange(10))
    sums, found = seen
    early = 0
    for total, grad in zip(sums, found, strict=True):
        drawn = alike.normals(total.size) * 0.1
        assert np.array_equal(grad, ((total + drawn) / 3.0).astype(np.float32))
        early += np.count_nonzero(grad != (total.astype(np.float32) + drawn.astype(np.float32)) / np.float32(3.0))
    assert early, "the order of rounding shows in these very numbers"


def fine_bits(total: float) -> int:
    """Of sums that are all `total`, noised: how many come out near 0 with bits finer than 2⁻²⁵."""
    weights = nn.Parameter(torch.zeros(1 << 19))
    optimizer = KeystreamOptimizer(torch.optim.SGD([weights]), privacy(noise_multiplier=1.0), 1.0, noise())
    weights.summed_grad = torch.full((weights.numel(),), total)
    optimizer.add_noise()
    assert weights.grad is not None
    found = weights.grad.numpy().astype(np.float64)
    near = found[np.abs(found) < 2.0**-10] * 2.0**25
    assert near.size > 100
    return int(np.count_nonzero(near != np.rint(near)))


@pytest.mark.claim("DP-1")
def test_low_bits_of_what_a_step_gives_do_not_tell_whether_a_record_was_in_it() -> None:
    """A record with a gradient of 1, and none: numbers near 0 are as fine with it as without."""
    assert min(fine_bits(0.0), fine_bits(1.0)) > 100


def test_were_noise_rounded_before_it_is_added_low_bits_would_tell_it_for_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it was. Noise near -1 has no finer bits in float32: with the record nothing has, and one bit rules it out."""

    def rounded_first(optimizer: KeystreamOptimizer) -> None:
        std = optimizer.noise_multiplier * optimizer.max_grad_norm
        for p in optimizer.params:
            p.grad = p.summed_grad + torch.from_numpy(optimizer._noise.normals(p.numel()) * std).float()

    monkeypatch.setattr(KeystreamOptimizer, "add_noise", rounded_first)
    assert fine_bits(0.0) > 100 and fine_bits(1.0) == 0


def noise_of(which: Trainer, private: Privacy, steps: int) -> np.ndarray:
    """What empty steps add, in units of the noise's standard deviation.    (steps, m)"""
    found = []
    sgd = torch.optim.SGD(which._model.parameters(), lr=1.0)
    optimizer = KeystreamOptimizer(sgd, private, 1.0, noise())
    for _ in range(steps):
        place_vector(which._plain, np.zeros(which.parameters, dtype=np.float32))
        which._step(optimizer, np.zeros(0, dtype=np.int64))
        found.append(-np.concatenate([p.detach().numpy().ravel() for p in which._plain.parameters()]))
    return np.array(found) / (private.noise_multiplier * private.max_grad_norm)


@pytest.mark.claim("DP-1")
def test_an_empty_batch_is_noise_of_the_agreed_size_on_every_coordinate() -> None:
    private = privacy(noise_multiplier=1.7, max_grad_norm=0.3)
    noise = noise_of(trainer(Images(), private=private), private, 4)
    count = noise.size
    assert abs(noise.std() - 1) <= 4 / np.sqrt(2 * count)
    assert abs(noise.mean()) <= 4 / np.sqrt(count)
    assert abs((noise**4).mean() - 3) <= 4 * np.sqrt(96 / count)
    assert np.count_nonzero(noise) == count
    # A keystream used twice shows as correlation from step to step.
    assert abs((noise[0] * noise[1]).mean()) <= 4 / np.sqrt(noise.shape[1])


@pytest.mark.claim("DP-1")
def test_an_empty_batch_leaves_nothing_where_each_site_adds_its_part_of_the_noise() -> None:
    """It ended the pass, which is charged, and so every repetition of it."""
    private = privacy(noise="distributed", parts=2, steps_per_round=1, sample_rate=1e-9)
    moved = one_pass(trainer(Images(), private=private), private)
    assert moved.size and not moved.any()


def separation(false_alarms: float, misses: float) -> float:
    """μ of the Gaussian mechanism that a guesser with these error rates shows at least."""
    normal = NormalDist()
    return normal.inv_cdf(1 - false_alarms) - normal.inv_cdf(misses)


@pytest.mark.claim("DP-2")
def test_the_mechanism_keeps_its_promise_audited_from_outside() -> None:
    """One-hot gradients through the real noise, guessed at C/2. False alarms: 1 in 10 000."""
    which = trainer(Images())
    trials = noise_of(which, PRIVACY, 1)[0] * PRIVACY.noise_multiplier  # noise of each coordinate, C = 1
    out, present = trials[: len(trials) // 2], trials[len(trials) // 2 :] + 1.0
    slack = 3.9 * 0.5 / np.sqrt(len(out))  # both error rates, at the worst binomial spread
    false_alarms, misses = float((out > 0.5).mean()), float((present <= 0.5).mean())
    promised = 1 / PRIVACY.noise_multiplier
    assert separation(false_alarms + slack, misses + slack) <= promised
    assert separation(false_alarms, misses) > 0.97 * promised


@pytest.mark.claim("DP-3")
def test_torchs_seed_decides_nothing_of_noise_or_samples() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        np.random.seed(7)
        found.append(one_pass(trainer(Small()), seed=Secret(os.urandom(32))))
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.claim("DP-3")
def test_passes_of_two_seeds_share_no_noise_even_from_the_same_model() -> None:
    which = trainer(Small())
    assert np.abs(one_pass(which) - one_pass(which, seed=Secret(bytes(32)))).max() > 1e-3


def test_a_site_with_few_records_still_takes_every_step_and_is_charged_for_it() -> None:
    seen: list[tuple[int, int]] = []
    few = SiteRecords(records(2, (4,)), records(2, (4,)))
    which = Trainer(
        task=Small(),
        site=few,
        privacy=PRIVACY,
        progress=lambda step, steps: seen.append((step, steps)),
    )
    account = Account()
    which.train(which.initial(bytes(32)), account.charge(PRIVACY), SEED)
    assert seen == [(step, 80) for step in range(1, 81)]
    assert account.history[0].steps == 80


def test_without_privacy_a_pass_is_plain_sgd_over_the_same_batches() -> None:
    private = dataclasses.replace(NO_PRIVACY, sample_rate=0.2, steps_per_round=6)
    task, of = Small(), site(40, (4,))
    which = trainer(task, of=of, private=private)
    found = one_pass(which, private)
    model = build(task).model
    write_vector(model, which.initial(bytes(32)))
    optimizer = task.optimiser(model.parameters())
    for rows in poisson_batches(BitStream(SEED, "training/sampling"), len(of.train), 0.2, 6):
        optimizer.zero_grad()
        if len(rows):
            x, y = (torch.from_numpy(part) for part in of.train.batch(rows))
            (task.loss(model(x), y).sum() / task.expected_batch).backward()
            optimizer.step()
    assert np.allclose(found, read_vector(model) - which.initial(bytes(32)), atol=1e-6)
    assert np.abs(found).max() > 1e-3


def test_a_pass_that_is_told_to_stop_ends_before_its_next_step_and_gives_nothing() -> None:
    seen: list[int] = []

    def progress(step: int, steps: int) -> None:
        seen.append(step)
        if step == 3:
            which.stopping = True

    which = Trainer(task=Small(), site=site(40, (4,)), privacy=PRIVACY, progress=progress)
    with pytest.raises(PassStopped):
        which.train(which.initial(bytes(32)), Account().charge(PRIVACY), SEED)
    assert seen == [1, 2, 3]


@pytest.mark.claim("DP-4")
def test_a_pass_without_a_charge_of_its_own_touches_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    which = trainer(Small())
    charge = Account().charge(PRIVACY)
    which.train(which.initial(bytes(32)), charge, SEED)
    touched: list[object] = []
    monkeypatch.setattr(Trainer, "_step", lambda *_: touched.append(1))
    for bad in (charge, Account().charge(privacy(sample_rate=0.01))):
        with pytest.raises(PassNotCharged):
            which.train(which.initial(bytes(32)), bad, SEED)
    assert not touched


@pytest.mark.claim("DP-6")
def test_the_divisor_is_public_and_does_not_follow_a_sites_number_of_records() -> None:
    sizes = [np.linalg.norm(one_pass(trainer(Small(), of=site(count, (4,)), private=WIDE), WIDE)) for count in (4, 8)]
    assert 0.9 < sizes[0] / sizes[1] < 1.1  # noise, drawn alike, dominates both: divided by 4 and 8 it would be near 2


def test_an_update_that_is_not_finite_is_an_error_and_not_an_update() -> None:
    class Explodes(Small):
        learning_rate: ClassVar[float] = 1e38

    with pytest.raises(ModelDiverged):
        one_pass(trainer(Explodes()))


def test_the_update_is_local_minus_global_and_the_model_before_is_untouched() -> None:
    which = trainer(Small())
    before = which.initial(bytes(32))
    kept = before.copy()
    update = which.train(before, Account().charge(PRIVACY), SEED)
    assert np.array_equal(before, kept)
    assert update.dtype == np.float32
    assert update.shape == (which.parameters,)


# ── what cannot be trained privately says so ──────────────────────────────────────────────────────────────────


class MeanLoss(Small):
    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return super().loss(outputs, labels).mean()


class BatchLoss(Small):
    """Shape (B,), yet every entry depends on the whole batch."""

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = super().loss(outputs, labels)
        return loss * loss.mean()


class InPlace(Small):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 1), nn.ReLU(inplace=True))


class AddsInPlace(Small):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner(x)
            out += x
            return self.last(out)  # type: ignore[no-any-return]

    def model(self) -> nn.Module:
        return self.Block()


class Unused(Small):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    def model(self) -> nn.Module:
        return self.Block()


class WithBatchNorm(Images):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 26 * 26, 1))


def test_a_loss_that_is_not_one_number_a_record_is_refused_at_start() -> None:
    with pytest.raises(LossNotPerRecord) as caught:
        trainer(MeanLoss())
    assert "shape ()" in caught.value.render()


@pytest.mark.parametrize("task", [BatchLoss(), AddsInPlace(), InPlace(), Unused()], ids=lambda one: type(one).__name__)
def test_what_opacus_lets_through_and_would_break_is_advice_at_start(task: Task) -> None:
    torch.manual_seed(1)  # of some first weights the batch's mean loss hardly changes what is mixed in
    with pytest.raises(ModelNotPrivate) as caught:
        trainer(task)
    assert caught.value.likely


class Drops(Small):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 1))


class BatchLossBehindDropout(BatchLoss, Drops):
    pass


def test_dropout_hides_no_loss_that_mixes_records() -> None:
    assert trainer(Drops()).parameters == 19
    with pytest.raises(ModelNotPrivate) as caught:
        trainer(BatchLossBehindDropout())
    assert "other records" in caught.value.evidence


class RepeatsALabel(Small):
    """A loss that puts a label into its error, as torch's own do for one that is out of range."""

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if int(labels.max()) > 0:
            raise IndexError(f"Target {4711 * int(labels.max())} is out of bounds.")
        return super().loss(outputs, labels)


@pytest.mark.claim("CLI-2")
def test_what_is_said_of_a_model_that_fails_repeats_no_value_of_a_record() -> None:
    with pytest.raises(ModelNotPrivate) as caught:
        trainer(RepeatsALabel())
    assert "4711" not in caught.value.render()
    assert "IndexError" in caught.value.evidence
    with pytest.raises(ModelNotPrivate) as caught:
        trainer(InPlace())
    assert "inplace" in caught.value.evidence  # advice that needs no record is kept whole


def test_an_operation_in_place_is_told_with_its_line_and_a_layer_with_its_name() -> None:
    with pytest.raises(ModelNotPrivate) as caught:
        trainer(AddsInPlace())
    line = inspect.getsourcelines(AddsInPlace.Block.forward)[1] + 2  # out += x
    assert caught.value.evidence.startswith(f"test_local.py:{line}: RuntimeError")
    assert "in place:" not in caught.value.evidence
    with pytest.raises(ModelNotPrivate) as caught:
        trainer(InPlace())
    assert "\nin place: 1 (ReLU), 3 (ReLU)\n" in caught.value.evidence


def test_batch_norm_is_replaced_with_a_notice() -> None:
    which = trainer(WithBatchNorm())
    assert which.notices == ("1: BatchNorm2d is replaced by GroupNorm",)
    assert "1.weight" in dict(which.layout.tensors)


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(DeviceMissing) as caught:
        Trainer(task=Small(), site=site(40, (4,)), privacy=PRIVACY, device="cuda:99")
    assert "cuda:99" in caught.value.happened


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_held_out_record_is_counted_once_in_its_class_and_bin() -> None:
    of = site(40, (4,))
    which = trainer(Small(), of=of)
    model = which.initial(bytes(32))
    found = which.evaluate(model)
    assert (found.shape, found.dtype) == ((which.counts,), np.dtype(np.int64))
    counts, (_, labels) = found[: 2 * BINS].reshape(2, BINS), read(of.held_out)
    assert counts.sum(axis=1).tolist() == [int((labels == 0).sum()), int((labels == 1).sum())]
    bins = bins_of(predict(Small(), model, of.held_out))
    assert all(counts[label, place] > 0 for label, place in zip(labels, bins, strict=True))


def test_training_without_noise_to_speak_of_learns() -> None:
    quiet = privacy(noise_multiplier=0.01, sample_rate=0.5, steps_per_round=300, max_epsilon=1e12)

    class Fast(Small):
        learning_rate = 1.0
        expected_batch = 100.0

    which = trainer(Fast(), of=site(200, (4,)), private=quiet)
    model = which.initial(bytes(32)) + one_pass(which, quiet)
    assert which.figures(which.evaluate(model))["accuracy"].value > 0.9


def test_noise_samples_and_torchs_numbers_of_one_seed_are_streams_of_their_own() -> None:
    labels = ("training/noise", "training/sampling", "training/torch")
    assert len({BitStream(SEED, label).words(4).tobytes() for label in labels}) == 3
