"""Arrays for `Peer.average`: there and back, clipped, noised on every number, quantised, and charged as what it is."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pfl.errors.adapters import ArraysUnfit, PrivacyAgreed
from p2pfl.errors.training import PassWouldOverspend
from p2pfl.federation.federation import NO_PRIVACY
from p2pfl.keys import Secret
from p2pfl.node.progress import unseen
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.runs.averages import Averaging, encode_average, flatten
from p2pfl.node.runs.passes import PASS, BegunPass, charge_release
from p2pfl.sharing.field import FIELDS
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account, Mechanism, decimal_epsilon
from p2pfl.training.privacy.accounts import EVERYTHING
from tests.node.runs.homes import Killed, Place, charges, draw, places
from tests.training.settings import PRIVACY, draw_of, privacy

PLAIN = Averaging(4.0, None, None)
NAMES = ("ada", "ben", "cyd")


@pytest.mark.parametrize(
    "arrays",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        [np.ones(2), np.zeros((1, 2), np.float16)],
        (np.float64(3.0), np.ones(1)),
        {"w": torch.ones(2, 2), "b": torch.zeros(3, dtype=torch.float64), "n": torch.tensor(4), "k": np.arange(2)},
    ],
    ids=["array", "list", "tuple", "dict of tensors"],
)
def test_arrays_come_back_in_the_structure_shapes_and_kinds_that_went_in(arrays: Any) -> None:
    flat = flatten(arrays)
    found = flat.restore(flat.vector.astype(np.float64))
    assert type(found) is type(arrays)
    if not isinstance(arrays, dict | list | tuple):
        arrays, found = [arrays], [found]
    pairs = [(arrays[key], found[key]) for key in (arrays if isinstance(arrays, dict) else range(len(arrays)))]
    for given, back in pairs:
        assert torch.is_tensor(given) == torch.is_tensor(back)
        one, two = (np.asarray(part) for part in (given, back))
        assert one.shape == two.shape and np.array_equal(one, two)
        assert two.dtype == (one.dtype if one.dtype.kind == "f" else np.float64)


def test_the_layout_tells_structures_apart_and_what_is_no_number_is_refused() -> None:
    layouts = {
        flatten(arrays).layout.digest
        for arrays in (np.ones(4), [np.ones(4)], {"0": np.ones(4)}, [np.ones((2, 2))], [np.ones(2), np.ones(2)])
    }
    assert len(layouts) == 5
    for bad in ([], {}, np.array(["a"]), np.array([np.inf]), np.zeros(0)):
        with pytest.raises(ArraysUnfit):
            flatten(bad)
    for how in (Averaging(0.0, None, None), Averaging(1.0, -1.0, None), Averaging(1.0, None, {"ada": 0.0})):
        with pytest.raises(ArraysUnfit):
            how.check()
    with pytest.raises(ArraysUnfit):
        Averaging(1.0, None, {"ada": 1.0}).weight_of("ben")


def averaged(vectors: list[np.ndarray], how: Averaging, bits: int) -> np.ndarray:
    """As `Peer.average` does it, with the sum in the field in place of the network."""
    layout, field = flatten(vectors[0].astype(np.float32)).layout, FIELDS[bits]
    sent = [
        how.noised(v.astype(np.float32), os.urandom) * how.weight_of(name)
        for v, name in zip(vectors, NAMES, strict=True)
    ]
    parts = [encode_average(one, layout, how, peers=3, bits=bits, draw=os.urandom) for one in sent]
    total = field.sum([part.vector.words for part in parts])
    assert parts[0].within(total, 3)
    assert len({str(part.configuration) for part in parts}) == 1
    return np.asarray(parts[0].reading.read(total)) / how.divisor(NAMES)


@pytest.mark.parametrize(("bits", "close"), [(16, 2e-3), (31, 1e-6), (61, 1e-6)])
def test_the_mean_is_that_of_the_clipped_arrays_over_each_field(bits: int, close: float) -> None:
    draws = np.random.default_rng(1)
    vectors = [draws.normal(size=5000) * scale for scale in (0.02, 0.05, 0.5)]
    clipped = [v * min(1.0, 4.0 / np.linalg.norm(v)) for v in vectors]
    assert np.linalg.norm(vectors[2]) > 4.0
    assert np.allclose(averaged(vectors, PLAIN, bits), np.mean(clipped, axis=0), atol=close)
    weights = {"ada": 1.0, "ben": 3.0, "cyd": 4.0}
    wanted = np.average(clipped, axis=0, weights=list(weights.values()))
    assert np.allclose(averaged(vectors, Averaging(4.0, None, weights), bits), wanted, atol=close)


@pytest.mark.claim("DP-1")
@pytest.mark.parametrize("bits", [16, 31])
def test_the_noise_is_on_every_number_at_its_size_and_the_grid_cuts_none(bits: int) -> None:
    how, count = Averaging(0.5, 2.0, None), 20_000
    one = how.noised(np.zeros(count, np.float32), draw_of("noise"))
    assert abs(one.std() / 1.0 - 1) <= 4 / math.sqrt(2 * count) and np.count_nonzero(one) == count
    mean = averaged([np.zeros(count)] * 3, how, bits)
    assert abs(mean.std() * math.sqrt(3) - 1) <= 0.05
    again = how.noised(np.zeros(count, np.float32), draw_of("other noise"))
    assert abs(float((one * again).mean())) <= 4 / math.sqrt(count)


@pytest.mark.claim("DP-1")
def test_noise_is_added_in_float64_and_rounded_once_on_the_grid() -> None:
    """Rounded to float32 before, it would have gaps that move with the numbers that it hides."""
    how, vector = Averaging(0.5, 2.0, None), np.full(1000, 0.01, np.float32)
    drawn = BitStream(Secret(draw_of("noise")(32), "seed"), "training/noise").normals(vector.size) * (2.0 * 0.5)
    found = how.noised(vector, draw_of("noise"))
    assert np.array_equal(found, vector.astype(np.float64) + drawn)
    assert np.count_nonzero(found != found.astype(np.float32)) > 990


def test_whatever_a_site_puts_in_lies_within_the_clip_before_its_noise() -> None:
    for size in (1, 3, 5000):
        vector = np.full(size, 7.0, np.float32)
        assert np.linalg.norm(PLAIN.noised(vector, draw)) <= 4.0
    small = np.array([0.25, -0.5], np.float32)
    assert np.array_equal(PLAIN.noised(small, draw), small)


# ── what it costs ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def place(tmp_path: Path) -> Place:
    one, _ = places(tmp_path, "privacy.max_epsilon=20")
    return one


def charged(place: Place, how: Averaging) -> str:
    run = place.started()
    private = replace(place.federation, privacy=how.charged_as(place.federation.privacy))
    return charge_release(private, place.home, run.logs, run.run, unseen)


@pytest.mark.claim("DP-4")
def test_a_noised_average_is_charged_as_a_release_at_half_its_noise(place: Place) -> None:
    how = Averaging(1.0, 2.0, None)
    assert float(charged(place, how)) == pytest.approx(Account().after(how_mechanism(1.0), 1e-5), abs=1e-5)
    (entry,) = charges(place.started())
    assert entry["mechanism"] == {
        "mechanism": "poisson-gaussian", "noise_multiplier": "1.0", "sample_rate": "1.0", "steps": 1
    }  # fmt: skip
    assert float(charged(place, how)) > float(entry["after"])
    with pytest.raises(PassWouldOverspend):
        for _ in range(40):
            charged(place, how)
    assert read_accounts(place.home).epsilon(EVERYTHING, 1e-5) <= 20


def how_mechanism(noise: float) -> Any:
    return Mechanism(noise, 1.0, 1)


@pytest.mark.claim("PLAIN-1")
def test_without_noise_all_must_have_agreed_and_the_account_is_infinite(place: Place, tmp_path: Path) -> None:
    with pytest.raises(PrivacyAgreed):
        PLAIN.charged_as(PRIVACY)
    assert PLAIN.charged_as(NO_PRIVACY) is NO_PRIVACY
    assert Averaging(1.0, 2.0, None).charged_as(NO_PRIVACY).max_epsilon == math.inf
    (tmp_path / "other").mkdir()
    agreed, _ = places(tmp_path / "other", "privacy=none")
    assert charged(agreed, PLAIN) == "inf"


@pytest.mark.claim("DP-4")
def test_an_average_behind_one_that_its_home_forgot_has_a_charge_of_its_own(place: Place) -> None:
    """Its peers know of one average more than a restored home: that is charged, and taken for this one it was free."""
    how, said, run = Averaging(1.0, 2.0, None), Account().after(how_mechanism(1.0), 1e-5), place.started()
    run.logs.learn_spent(float(decimal_epsilon(said)))
    private = replace(place.federation, privacy=how.charged_as(place.federation.privacy))
    after = charge_release(private, place.home, run.logs, run.run, unseen)
    assert float(after) == pytest.approx(Account().after(Mechanism(1.0, 1.0, 2), 1e-5), abs=1e-5)
    assert len(charges(run)) == 2


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize("was_charged", [True, False])
def test_a_pass_that_a_crash_cut_never_runs_on_the_charge_of_an_average(place: Place, was_charged: bool) -> None:
    run = place.started()
    if was_charged:
        place.trainer.dies = True
        with pytest.raises(Killed):
            run.propose(1, 0)
        place.trainer.dies = False
    else:
        model = run.digest_of(run.model)
        begun = BegunPass(run.run, 1, 1, "0.000000", 0, model, run.maker.inputs(run.model, 0), Secret(bytes(32)))
        place.home.replace(PASS, begun.to_bytes())
    before = len(charges(place.started()))
    charged(place, Averaging(1.0, 8.0, None))
    place.started().propose(1, 0)
    assert len(charges(place.started())) == before + 2, "the average's, and the pass's own"
    assert privacy().noise_multiplier in {
        float(one["mechanism"]["noise_multiplier"]) for one in charges(place.started())
    }
