"""Nomination with error feedback on a private model of more than 10⁵ parameters: what it sends and learns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from p2pfl.training.records import Arrays, Records
from tests.training.large import federate
from tests.training.settings import arrays, privacy

XRAYS = Path(os.environ.get("P2PFL_TEST_DATA", Path(__file__).parents[2] / "../shared/data")) / "pneumonia_xray28.npz"
PRIVATE = privacy(sample_rate=0.03, steps_per_round=4, max_epsilon=1000.0)
MADE_UP = privacy(sample_rate=0.06, steps_per_round=4, max_epsilon=1000.0)


def bright(count: int, name: str) -> Records:
    """Made-up pictures: noise, and a bright corner where the label is 1."""
    plain = arrays(count, (1, 28, 28), name)
    x = plain.x.copy()
    x[plain.y == 1, :, :14] += 2.0
    return Records(Arrays(x, plain.y, plain.identities))


def test_one_percent_of_a_large_model_learns_and_sends_99_percent_fewer_bytes() -> None:
    sites = [bright(500, f"site {place}") for place in range(3)]
    found = federate(sites, bright(300, "test"), MADE_UP, "nominate", 0.01, 8)
    assert found.parameters >= 100_000
    assert found.sent_bytes <= 0.01 * found.dense_bytes
    assert found.before < 0.6 < 0.9 < found.after


def test_one_percent_learns_pneumonia_from_real_x_rays_with_99_percent_fewer_bytes() -> None:
    if not XRAYS.exists():
        pytest.skip(f"the real X-rays (PneumoniaMNIST) are not at {XRAYS}")
    held = np.load(XRAYS)

    def pictures(part: str, rows: slice) -> Records:
        x, y = held[f"{part}_images"][rows], held[f"{part}_labels"][rows]
        x = ((x.astype(np.float32) / 255 - 0.5) * 2)[:, None]
        return Records(Arrays(x, y.astype(np.int64), (b"",) * len(y)))

    sites = [pictures("train", slice(place, 3000, 5)) for place in range(5)]
    found = federate(sites, pictures("val", slice(None)), PRIVATE, "nominate", 0.01, 24)
    assert found.sent_bytes <= 0.01 * found.dense_bytes
    assert found.after > 0.85
