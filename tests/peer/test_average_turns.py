"""`Peer.average` with the compression of the study: three sites over real links, and their restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.errors.training import PassWouldOverspend
from p2pfl.federation import draft
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.peer.blocking import BlockingPeer
from tests.peer.sites import NAMES, Sites

TASK = draft.python_lines("own")
QUARTER = ("compression.method=nominate", "compression.density=0.25")


def test_changes_come_out_in_their_turn_over_a_restart_the_same_bits_everywhere(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy=none", *QUARTER)

    def steps(peer: BlockingPeer, first: int, last: int) -> list[Any]:
        at = NAMES.index(peer.peer.name) + 1.0
        return [peer.average({"w": np.full(8, at)}, clip=20.0, step=step)["w"] for step in range(first, last)]

    found = [
        sites.all(dict.fromkeys(NAMES, lambda peer, at=at: steps(peer, at, at + 2)))  # type: ignore[misc]
        for at in (0, 2)
    ]
    rows = [np.concatenate([np.stack(half[name]) for half in found]) for name in NAMES]  # type: ignore[arg-type]
    assert rows[0].tobytes() == rows[1].tobytes() == rows[2].tobytes()
    assert [np.count_nonzero(row) for row in rows[0]] == [2, 2, 2, 2]
    # A number whose turn is the k-th has what k calls put in: 2 on the mean, each.
    for step, row in enumerate(rows[0]):
        assert np.allclose(row[row != 0], 2.0 * (step + 1), atol=1e-4)


def test_what_the_budget_refuses_is_held_back_by_nobody(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, "privacy.max_epsilon=0.1", *QUARTER)
    found = sites.all(dict.fromkeys(NAMES, lambda peer: peer.average(np.ones(8), clip=10.0, noise=1.0, step=0)))
    assert all(isinstance(one, PassWouldOverspend) for one in found.values()), found
    with Home.open(tmp_path / "ada", unlock=[KeyFile(tmp_path / "ada.key")], write=False) as home:
        assert not list(home.items("state/averages"))
