"""The step after the sum: each method is its formula, bit for bit, however the model is cut up and wherever it lay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.models import CardUnfit
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation.optimisers import ModelAverage, ServerOptimiser
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.keys import Secret
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.training.local import Trainer
from p2pfl.training.model.card import ModelCard, model_facts
from p2pfl.training.model.file import ModelFile, held_state, model_file
from p2pfl.training.model.state import ModelState, StateLayout, name_of
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account
from p2pfl.training.records.records import SiteRecords
from p2pfl.training.records.sampling import poisson_batches
from p2pfl.training.server import after
from p2pfl.training.update import BLOCK, TensorLayout, read_vector, write_vector
from tests.examples import examples
from tests.training.cards import card_facts
from tests.training.settings import Small, privacy, records

VECTOR = Path(__file__).parent / "vectors" / "model-state.json"
METHODS = (ServerOptimiser(), ServerOptimiser("mean", 0.5), ServerOptimiser("momentum", 0.7, 0.8))
METHODS = (*METHODS, ServerOptimiser("adam", 0.1, 0.9, 0.99, 1e-3))
AVERAGES = (ModelAverage(), ModelAverage(0.75), ModelAverage(1.0))

servers, averages = st.sampled_from(METHODS), st.sampled_from(AVERAGES)
sums = st.lists(st.lists(st.floats(-50.0, 50.0), min_size=5, max_size=5), min_size=1, max_size=4)


def layout(server: ServerOptimiser, average: ModelAverage, m: int) -> StateLayout:
    return StateLayout.of(TensorLayout((("w", (m,)),)), server, average)


def start(server: ServerOptimiser, average: ModelAverage, m: int = 5) -> ModelState:
    return layout(server, average, m).first(np.linspace(-1.5, 2.0, m).astype(np.float32), server)


def moved(
    state: ModelState, server: ServerOptimiser, average: ModelAverage, rounds: Sequence[Sequence[float]]
) -> ModelState:
    for total in rounds:
        found = after(state, server, average, np.array(total), 3)
        assert found is not None
        state = found
    return state


# ── what each method computes ─────────────────────────────────────────────────────────────────────────────────


def by_hand(server: ServerOptimiser, average: ModelAverage, x: float, rounds: Sequence[float]) -> tuple[float, float]:
    """The model and the running mean of one coordinate, in Python's floats, which fuse and reorder nothing."""
    single = lambda value: float(np.float32(value))  # noqa: E731
    m, v, a = 0.0, single(server.tau * server.tau), x
    whole = 0.0
    for total in rounds:
        delta = total / 3.0
        step = delta
        if server.method == "momentum":
            m = server.momentum * m + delta
            step = m
        if server.method == "adam":
            m = server.momentum * m + (1.0 - server.momentum) * delta
            v = server.beta2 * v + (1.0 - server.beta2) * (delta * delta)
            step = m / (v**0.5 + server.tau)
        x = single(x + server.learning_rate * step)
        m, v = single(m), single(v)
        whole = 1.0 + average.decay * whole
        a = single(a * (1.0 - 1.0 / whole) + x * (1.0 / whole))
    return x, a


@given(servers, averages, sums)
@examples(60)
def test_a_step_is_its_formula_to_the_last_bit(
    server: ServerOptimiser, average: ModelAverage, rounds: list[list[float]]
) -> None:
    first = start(server, average)
    found = moved(first, server, average, rounds)
    for place, x in enumerate(first.model):
        model, mean = by_hand(server, average, float(x), [total[place] for total in rounds])
        assert float(found.model[place]) == model
        if average.decay:
            assert float(found.shown[place]) == mean
    assert found.steps == (0 if found.layout.plain else len(rounds))


@given(servers, averages, st.integers(0, 2 * BLOCK), st.integers(1, 2 * BLOCK))
@examples(20)
def test_a_step_of_a_part_of_the_model_is_that_part_of_its_step(
    server: ServerOptimiser, average: ModelAverage, first: int, length: int
) -> None:
    draw = np.random.default_rng(3)
    m = 2 * BLOCK + 7
    whole, total = start(server, average, m), draw.standard_normal(m)
    part = slice(first, min(first + length, m))
    small = layout(server, average, part.stop - first).first(whole.model[part].copy(), server)
    moved_whole, moved_part = (
        moved(state, server, average, [given, given * 0.5]) for state, given in ((whole, total), (small, total[part]))
    )
    for kind in whole.layout.kinds:
        assert moved_whole.row(kind)[part].tobytes() == moved_part.row(kind).tobytes()


@given(st.data(), servers, averages)
@examples(30)
def test_what_is_not_in_the_support_had_no_update(
    data: st.DataObject, server: ServerOptimiser, average: ModelAverage
) -> None:
    places = data.draw(st.lists(st.integers(0, BLOCK + 4), unique=True, max_size=8).map(sorted))
    state = moved(start(server, average, BLOCK + 5), server, average, [np.ones(BLOCK + 5)])  # type: ignore[list-item]
    support, total = np.array(places, np.int64), np.linspace(-3.0, 4.0, len(places))
    dense = np.zeros(BLOCK + 5)
    dense[support] = total
    one, other = after(state, server, average, total, 2, support), after(state, server, average, dense, 2)
    assert one is not None and other is not None and one.data.tobytes() == other.data.tobytes()


@pytest.mark.parametrize("decay", [0.6, 0.99, 1.0])
def test_the_running_mean_is_the_weighted_mean_of_the_models_after_each_round(
    decay: float,
) -> None:
    server, average = ServerOptimiser("momentum", 0.5, 0.5), ModelAverage(decay)
    state, models = start(server, average), []
    for total in np.random.default_rng(5).standard_normal((6, 5)):
        state = moved(state, server, average, [list(total)])
        models.append(state.model.astype(np.float64))
        weights = decay ** np.arange(len(models))[::-1]
        assert np.allclose(state.shown, np.average(models, axis=0, weights=weights), atol=1e-6)
    once = moved(start(server, average), server, average, [[1.0] * 5])
    assert np.array_equal(once.shown, once.model), "it holds nothing of the first model"


@pytest.mark.parametrize("server", [ServerOptimiser("mean", 900.0), ServerOptimiser("momentum", 900.0, 0.99)])
def test_a_step_beyond_every_float_leaves_the_model(server: ServerOptimiser) -> None:
    state = start(server, ModelAverage())
    for _ in range(200):
        found = after(state, server, ModelAverage(), np.full(5, 1e37), 1)
        if found is None:
            break
        state = found
    assert found is None and np.isfinite(state.data).all()


def test_what_does_not_fit_is_refused_rather_than_broadcast() -> None:
    for server in METHODS:
        state = start(server, ModelAverage(0.5))
        for total, survivors in ((np.zeros(1), 2), (np.zeros(5, np.float32), 2), (np.zeros(5), 0)):
            with pytest.raises(ValueError):
                after(state, server, ModelAverage(0.5), total, survivors)


# ── a state is one thing: a file, bytes on the wire, a name ───────────────────────────────────────────────────


@given(servers, averages, sums, st.integers(0, 4))
@examples(30)
def test_a_state_that_was_written_or_fetched_midway_goes_on_as_if_it_had_not_been(
    server: ServerOptimiser, average: ModelAverage, rounds: list[list[float]], cut: int
) -> None:
    first = start(server, average)
    midway = moved(first, server, average, rounds[:cut])
    from_file = first.layout.from_file(b"".join(midway.to_file({"task": "five"})))
    fetched = first.layout.from_bytes(bytes(midway.wire))
    assert fetched is not None and from_file.digest == fetched.digest == midway.digest
    wanted = moved(first, server, average, rounds).digest
    assert {moved(one, server, average, rounds[cut:]).digest for one in (midway, from_file, fetched)} == {wanted}


def test_the_name_of_a_state_covers_each_row_and_its_steps() -> None:
    server, average = ServerOptimiser("adam"), ModelAverage(0.5)
    state = moved(start(server, average), server, average, [[1.0] * 5])
    names = {state.digest, moved(start(server, average), server, average, [[0.0] * 5]).digest}
    for place in range(state.data.size):
        data = state.data.copy()
        data.view("<u4")[place] ^= 1
        names.add(ModelState(state.layout, data).digest)
    assert len(names) == 2 + state.data.size
    plain = start(ServerOptimiser(), ModelAverage())
    assert plain.digest == name_of(plain.model, plain.layout.tensors), "of a plain one, the model's"


def test_a_file_of_another_training_is_refused() -> None:
    momentum, adam = (start(ServerOptimiser(method), ModelAverage()) for method in ("momentum", "adam"))
    held = b"".join(momentum.to_file({"task": "five"}))
    for other in (adam.layout, start(ServerOptimiser(), ModelAverage()).layout):
        with pytest.raises(ModelMisfit):
            other.from_file(held)
    with pytest.raises(ModelMisfit):
        momentum.layout.from_file(held.replace(b'"steps":"0"', b'"steps":"x"'))
    assert adam.layout.from_bytes(bytes(momentum.wire)) is None


def test_the_holder_of_an_exported_mean_can_compute_the_name_in_the_ledger() -> None:
    server, average = ServerOptimiser("momentum"), ModelAverage(0.5)
    state = moved(start(server, average), server, average, [[1.0] * 5, [0.5] * 5])
    held = held_state(b"".join(state.to_file({"task": "five"})), "a home")
    assert held.digest == state.digest and np.array_equal(held.data, state.data)
    said = card_facts(TaskChoice(python="five"), state.layout.tensors, state.shown, model=model_facts(held))
    exported = model_file(held.layout.tensors, held.shown, ModelCard.of(said))
    found = ModelFile.read(exported, "exported")  # which computes the name of the state from the digests of its rows
    assert np.array_equal(found.vector, state.shown) and not np.array_equal(found.vector, state.model)
    assert found.expect_card().facts["model"]["state"] == state.digest.hex()
    for key, value in (("steps", state.steps + 1), ("row", "model"), ("kinds", ["model", "average", "momentum"])):
        with pytest.raises(CardUnfit):
            other = ModelCard.of({**said, "model": {**said["model"], key: value}})
            ModelFile.read(model_file(held.layout.tensors, held.shown, other), "spoilt")
    plain = start(ServerOptimiser(), ModelAverage())
    assert held_state(b"".join(plain.to_file({"task": "five"})), "a home").digest == plain.digest


def vector() -> dict[str, object]:
    """Three rounds of each method: the bytes that travel, and the name that sites sign."""
    rounds = [[3.0, -1.5, 0.25, 0.0, 7.0], [-3.0, 0.75, 0.125, 1e-3, 2.0], [0.5, 0.5, -0.5, -2.0, 1.0]]
    found = []
    for server in METHODS:
        for average in AVERAGES[:2]:
            state = moved(start(server, average), server, average, rounds)
            said = {name: getattr(server, name) for name in ("method", "learning_rate", "momentum", "beta2", "tau")}
            file = hashlib.sha256(b"".join(state.to_file({"task": "five"}))).hexdigest()
            found.append(
                {
                    **said,
                    "average": average.decay,
                    "wire": bytes(state.wire).hex(),
                    "digest": state.digest.hex(),
                    "file": file,
                }
            )
    return {
        "tensors": [["w", [5]]],
        "model": start(*METHODS[:1], AVERAGES[0]).model.tolist(),
        "survivors": 3,
        "totals": rounds,
        "states": found,
    }


def test_the_vectors_are_what_is_computed() -> None:
    assert json.loads(VECTOR.read_text()) == vector()


# ── one step a round ──────────────────────────────────────────────────────────────────────────────────────────

ONE = privacy(steps_per_round=1, sample_rate=0.3, max_epsilon=1000.0)
SIZES = (20, 45, 70)  # records of each site: unlike, and none of them is in any number that leaves
ROUNDS, BETA = 6, 0.9


class Steady(Small):
    learning_rate, expected_batch = 0.5, 12.0


def seed_of(site: int, number: int) -> Secret:
    return Secret(hashlib.sha256(bytes([site, number])).digest(), "seed of a pass")


def clipped(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """The gradient of one record, clipped to 1, by plain autograd."""
    model.zero_grad()
    loss = Steady().loss(model(torch.from_numpy(x[None])), torch.from_numpy(y[None]))
    torch.autograd.backward(loss.sum())
    found = np.concatenate([p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None]).astype(
        np.float64
    )
    return found / max(1.0, float(np.linalg.norm(found)))


def pooled(first: NDArray[np.float32]) -> NDArray[np.float32]:
    """DP-SGD with momentum over the union of the records: every record that was drawn counts once, wherever it lies."""
    model = Steady().model()
    write_vector(model, first)
    optimizer = torch.optim.SGD(model.parameters(), lr=Steady.learning_rate, momentum=BETA)
    for number in range(ROUNDS):
        total = np.zeros(first.size)
        for place, size in enumerate(SIZES):
            held, seed = records(size, (4,), f"site {place}"), seed_of(place, number)
            (rows,) = poisson_batches(BitStream(seed, "training/sampling"), size, ONE.sample_rate, 1)
            for row in rows:
                x, y = held.batch(np.array([row]))
                total += clipped(model, x[0], y[0])
            noise = BitStream(seed, "training/noise")  # drawn tensor by tensor
            total += np.concatenate([noise.normals(p.numel()) for p in model.parameters()]) * ONE.noise_multiplier
        gradient, start_ = total / (len(SIZES) * Steady.expected_batch), 0
        for p in model.parameters():
            p.grad = torch.from_numpy(gradient[start_ : start_ + p.numel()].astype(np.float32)).view_as(p)
            start_ += p.numel()
        optimizer.step()
    return read_vector(model)


@pytest.mark.claim("DP-6")
def test_momentum_after_the_sum_with_one_step_a_round_is_momentum_of_pooled_dp_sgd() -> None:
    """To within the quantiser's step. So records count alike at large and small sites, and no size is told."""
    held_out = records(10, (4,), "held out")
    sites = [SiteRecords(records(size, (4,), f"site {place}"), held_out) for place, size in enumerate(SIZES)]
    trainers = [Trainer(task=Steady(), site=one, privacy=ONE) for one in sites]
    server, average = ServerOptimiser("momentum", 1.0, BETA), ModelAverage()
    state = StateLayout.of(trainers[0].layout, server, average).first(trainers[0].initial(bytes(32)), server)
    first, quantiser = state.model, Quantiser(FIELDS[31], 3, 10.0, 1.0, rotate=False)
    for number in range(ROUNDS):
        words = []
        for place, trainer in enumerate(trainers):
            update = trainer.train(state.model, Account().charge(ONE), seed_of(place, number), number)
            words.append(quantiser.quantise(update, bytes(32), bytes([place]) * 32)[0])
        total = quantiser.dequantise_sum(FIELDS[31].sum(words), 3, bytes(32), first.size)
        found = after(state, server, average, total, 3)
        assert found is not None
        state = found
    assert float(np.abs(state.model - first).max()) > 0.05
    assert np.allclose(state.model, pooled(first), atol=1e-5)
