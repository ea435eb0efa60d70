"""Nomination with error feedback on a private model of more than 10⁵ parameters: what it sends and learns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from p2pfl import simulate_training
from p2pfl.simulate.training import SimulatedTraining
from p2pfl.training.records.records import Arrays, Dataset
from tests.training.settings import Images, arrays

XRAYS = Path(os.environ.get("P2PFL_TEST_DATA", Path(__file__).parents[2] / "../shared/data")) / "pneumonia_xray28.npz"
NOMINATE = (
    "compression.method=nominate",
    "compression.density=0.01",
    "privacy.steps_per_round=4",
    "privacy.max_epsilon=99",
)


def bright(count: int, name: str) -> Arrays:
    """Made-up pictures: noise, and a bright corner where the label is 1."""
    plain = arrays(count, (1, 28, 28), name)
    x = plain.x.copy()
    x[plain.y == 1, :, :14] += 2.0
    return Arrays(x, plain.y, plain.identities)


def trained(sites: dict[str, str | Dataset], *settings: str) -> SimulatedTraining:
    (found,) = simulate_training(Images(), sites, settings=(*NOMINATE, *settings))
    assert len(found.model) >= 100_000
    assert found.sent_bytes <= 0.015 * found.dense_bytes
    return found


def test_one_percent_of_a_large_model_learns_and_sends_98_percent_fewer_bytes() -> None:
    sites: dict[str, str | Dataset] = {f"site-{place}": bright(650, f"site {place}") for place in range(3)}
    found = trained(sites, "rounds=8", "privacy.sample_rate=0.06")
    assert found.figures[0]["auc"].value < 0.7 and found.final > 0.9


def test_one_percent_learns_pneumonia_from_real_x_rays() -> None:
    if not XRAYS.exists():
        pytest.skip(f"the real X-rays (PneumoniaMNIST) are not at {XRAYS}")
    held = np.load(XRAYS)
    x = torch.from_numpy(((held["train_images"].astype(np.float32) / 255 - 0.5) * 2)[:, None])
    y = torch.from_numpy(held["train_labels"].astype(np.int64))
    sites: dict[str, str | Dataset] = {
        f"site-{place}": TensorDataset(x[place:4000:5], y[place:4000:5]) for place in range(5)
    }
    assert trained(sites, "rounds=24", "privacy.sample_rate=0.08").final > 0.85
