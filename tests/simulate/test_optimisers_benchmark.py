"""The benchmark of optimisers: each of its rows is a peers.yaml, and a training of one of them runs."""

from __future__ import annotations

import pytest

from benchmarks.optimisers import LOCAL, SETTINGS, Pneumonia, row
from p2pfl.simulate.training import federation_of
from tests.training.settings import arrays


@pytest.mark.parametrize("study", SETTINGS)
def test_each_row_is_a_peers_yaml_and_differs_from_every_other(study: str) -> None:
    files = {federation_of(("a", "b", "c"), (*SETTINGS[study], *chosen)).raw for chosen in LOCAL.values()}
    assert len(files) == len(LOCAL)


def test_a_row_trains_within_its_budget() -> None:
    sites = {f"site-{place}": arrays(24, (1, 28, 28), f"site {place}") for place in range(3)}
    small = ("rounds=1", "privacy.steps_per_round=1", "privacy.sample_rate=0.05")
    found = row(Pneumonia(), sites, (*small, *LOCAL["adam"]), 8.0, (0,))
    assert 0.0 <= float(str(found["mean"])) <= 1.0 and float(str(found["epsilon"])) <= 8.0
