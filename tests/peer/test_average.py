"""Peer.average between three sites: the same bits, charged where there is noise, refused where none is agreed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pfl.errors.adapters import ArraysUnfit, PrivacyAgreed
from p2pfl.errors.round import ConfigurationDiffers, GaveUpWaiting
from p2pfl.errors.training import PassWouldOverspend
from p2pfl.federation import draft
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.verify import verify
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.peer import Peer
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.training.privacy.accounts import EVERYTHING
from tests.peer.sites import NAMES, Sites

TASK = draft.python_lines("own")


def arrays_of(name: str) -> dict[str, Any]:
    at = NAMES.index(name) + 1.0
    return {"w": torch.full((2, 2), at), "b": np.array([at, -at], np.float32)}


def everywhere(do: Callable[[BlockingPeer], Any]) -> dict[str, Callable[[BlockingPeer], Any]]:
    return dict.fromkeys(NAMES, do)


@pytest.mark.claim("PLAIN-1")
def test_a_loop_of_ones_own_averages_round_after_round_and_its_account_is_infinite(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy=none")

    def loop(peer: BlockingPeer) -> Any:
        first = peer.average(arrays_of(peer.peer.name), clip=10.0)
        second = peer.average([first["b"] + 1.0], clip=100.0, weights={"ada": 1, "ben": 1, "cyd": 2})
        return first, second

    found = sites.all(everywhere(loop))
    for first, second in found.values():
        assert torch.allclose(first["w"], torch.full((2, 2), 2.0), atol=1e-5) and first["w"].dtype == torch.float32
        assert np.allclose(first["b"], [2.0, -2.0], atol=1e-5) and first["b"].dtype == np.float32
        assert np.allclose(second[0], [3.0, -1.0], atol=1e-4)
    one, two = found["ada"], found["cyd"]
    assert torch.equal(one[0]["w"], two[0]["w"]) and np.array_equal(one[1][0], two[1][0])
    for name in NAMES:
        with Home.open(tmp_path / name, unlock=[KeyFile(tmp_path / f"{name}.key")], write=False) as home:
            assert read_accounts(home).epsilon(EVERYTHING, 1e-5) == float("inf")
            assert verify(home).verified


def test_noise_is_charged_before_it_leaves_and_without_it_nothing_does(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy.max_epsilon=2")

    def ask(peer: BlockingPeer) -> Any:
        with pytest.raises(PrivacyAgreed):
            peer.average(np.ones(50), clip=10.0)
        with pytest.raises(ArraysUnfit):
            peer.average(np.ones(50), clip=10.0, weights={"who": 1.0})
        return peer.average(np.ones(50), clip=10.0, noise=8.0)

    found = sites.all(everywhere(ask))
    assert len({one.tobytes() for one in found.values()}) == 1  # type: ignore[union-attr]
    assert np.abs(found["ada"] - 1).max() > 1  # type: ignore[operator]
    with Home.open(tmp_path / "ben", unlock=[KeyFile(tmp_path / "ben.key")], write=False) as home:
        assert 0.5 < read_accounts(home).epsilon(EVERYTHING, 1e-5) < 2
        report = verify(home)
        assert report.verified


def test_who_waits_in_vain_has_spent_nothing(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy.max_epsilon=2")
    for _ in range(2):
        with (
            pytest.raises(GaveUpWaiting),
            Peer.join_blocking(
                tmp_path / "peers.yaml", **{**sites.options("ada"), "wait_s": 0.5, "linger_s": 0.0}
            ) as peer,
        ):
            peer.average(np.ones(5), clip=10.0, noise=8.0)
    with Home.open(tmp_path / "ada", unlock=[KeyFile(tmp_path / "ada.key")], write=False) as home:
        assert read_accounts(home).epsilon(EVERYTHING, 1e-5) == 0.0


def test_a_call_beyond_the_budget_is_refused_before_anything_leaves(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy.max_epsilon=0.1")
    found = sites.all(everywhere(lambda peer: peer.average(np.ones(5), clip=10.0, noise=1.0)))
    assert all(isinstance(one, PassWouldOverspend) for one in found.values()), found


def test_sites_that_average_other_shapes_are_told(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy=none")
    found = sites.all(
        {name: lambda peer: peer.average(np.ones(2 + (peer.peer.name == "cyd")), clip=1.0) for name in NAMES}
    )
    assert all(isinstance(one, ConfigurationDiffers) for one in found.values())
    assert "vectors differs" in found["ada"].render()  # type: ignore[union-attr]
