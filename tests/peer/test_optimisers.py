"""Momentum, a running mean and an early stop between real sites: one model, one end, the same at all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2pfl import Trained
from p2pfl.federation import draft
from p2pfl.peer.blocking import BlockingPeer
from tests.peer.sites import NAMES, Sites
from tests.training.settings import Small, arrays

FEW = ("rounds=6", "privacy.noise_multiplier=4.0", "privacy.steps_per_round=3", "privacy.sample_rate=0.1")
CHOSEN = ("server.method=momentum", "average.decay=0.8", "local.optimiser=momentum", "local.schedule=cosine")
NEVER_BETTER = ("stop.patience=1", "stop.least=1.0")  # no AUC rises by one


def test_a_training_of_real_sites_ends_early_at_all_of_them_with_one_running_mean(tmp_path: Path) -> None:
    sites = Sites(tmp_path, draft.python_lines("small"), *FEW, *CHOSEN, *NEVER_BETTER)

    def train(peer: BlockingPeer) -> Trained:
        return peer.train(Small(), data=arrays(60, (4,), peer.peer.name))

    found = sites.all(dict.fromkeys(NAMES, train))
    results = [one for one in found.values() if isinstance(one, Trained)]
    assert len(results) == 3, found
    assert {one.rounds for one in results} == {2}, "the second measured round was no better by one"
    assert len({one.vector.tobytes() for one in results}) == 1 and np.isfinite(results[0].vector).all()
    assert all("one measured round" in one.ended for one in results)
    assert all(one.final is not None for one in results), "the last model was measured"
    assert {one.epsilon for one in results} == {results[0].epsilon}

    def again(peer: BlockingPeer) -> Trained:
        return peer.train(Small(), data=arrays(60, (4,), peer.peer.name))

    once_more = sites.all(dict.fromkeys(NAMES, again))
    assert all(isinstance(one, Trained) and one.rounds == 2 for one in once_more.values()), "what is over stays so"
