"""benchmarks/record_gradients.py: both ways make the same θ, and one of them holds every record's whole gradient."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import record_gradients
from benchmarks.record_gradients import CASES, WAYS, Afterwards, trainer, update
from p2pfl.training import local
from p2pfl.training.gradients.clipping import check_gradients
from p2pfl.training.gradients.projection import Projected

BATCH = 3


@pytest.mark.parametrize("way", WAYS)
def test_whole_gradients_are_formed_by_one_way_alone(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()
    taken = Projected.take_gradients

    def taking(moving: Projected) -> None:
        seen.append(sum(one.numel() for one in check_gradients(one.parameter for one in moving._all)))
        taken(moving)

    monkeypatch.setattr(local, "Projected", Afterwards if way == WAYS[1] else Projected)
    monkeypatch.setattr(Projected, "take_gradients", taking)
    made, agreed = trainer("cnn", BATCH)
    numbers = len(update(made, agreed))
    assert seen == [BATCH * (made.parameters if way == WAYS[1] else numbers)]


def test_both_ways_make_the_same_update(monkeypatch: pytest.MonkeyPatch) -> None:
    as_made = update(*trainer("cnn", BATCH))
    monkeypatch.setattr(local, "Projected", Afterwards)
    np.testing.assert_allclose(update(*trainer("cnn", BATCH)), as_made, rtol=1e-4, atol=1e-5)


def test_projecting_as_they_are_made_takes_less_memory() -> None:
    held = [record_gradients.measured("cnn", way)[-1] for way in WAYS]
    whole = 4 * 205_761 * CASES["cnn"].records
    assert held[0] < 0.7 * held[1] and held[1] > 0.8 * whole
