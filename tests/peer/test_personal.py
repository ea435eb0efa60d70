"""`peer.train` with a head that stays at home: three sites over real links, one body and three heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl import Trained
from p2pfl.federation import draft
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.verify import verify
from p2pfl.training.model.personal import PersonalState
from tests.peer.sites import NAMES, Sites
from tests.training.settings import Small, arrays

HEADS = ("rounds=2", "privacy.noise_multiplier=4.0", "privacy.steps_per_round=3", "privacy.sample_rate=0.1")


@pytest.mark.claim("DP-14")
def test_sites_train_one_body_and_each_gets_a_model_with_its_own_head(tmp_path: Path) -> None:
    sites = Sites(tmp_path, draft.python_lines("small"), *HEADS, "local.personal=[2]")
    found = sites.all(
        {name: lambda peer, name=name: peer.train(Small(), data=arrays(64, (4,), name)) for name in NAMES}
    )
    bodies, heads = set(), set()
    for name, one in found.items():
        assert isinstance(one, Trained), found
        state: dict[str, Any] = {key: values.numpy() for key, values in one.model.state_dict().items()}
        assert np.array_equal(np.concatenate([state["0.weight"].ravel(), state["0.bias"]]), one.vector)
        assert np.array_equal(np.concatenate([state["2.weight"].ravel(), state["2.bias"]]), one.personal)
        assert one.final is not None
        bodies.add(one.vector.tobytes())
        heads.add(one.personal.tobytes())
        with Home.open(tmp_path / name, unlock=[KeyFile(tmp_path / f"{name}.key")], write=False) as home:
            held = PersonalState.from_file(home.read(PERSONAL) or b"")
            assert np.array_equal(held.after, one.personal) and held.charge == 2
            report = verify(home)
            assert report.verified
    assert (len(bodies), len(heads)) == (1, 3)
    one = found["ada"]
    assert isinstance(one, Trained)
    assert {row["configuration"]["parameters"] for row in one.records} == {15}, "what the ledger knows of is shared"
