"""Two processes of one site make the pass that one makes: the same sample, the same noise once, the same update."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2pfl import ranks
from p2pfl.errors.from_python import RanksApart
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 600  # a hang, not a speed


def both(scene: str, folder: Path) -> list[tuple[int, str]]:
    """How rank 0 and rank 1 ended, and what they said. No agent watches them, as torchrun's would."""
    (port,) = free_ports(1)
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.training.two_ranks", scene, str(folder)]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | told | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=DEADLINE_S)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def test_two_processes_make_the_update_of_one_and_add_its_noise_once(tmp_path: Path) -> None:
    """Also where a rank has no record of a step's sample, or nobody has, and in a subspace; the same bits each time.

    A pass that was given up before, at every rank, leaves nothing behind.
    """
    ended = both("passes", tmp_path)
    assert [status for status, _ in ended] == [0, 0], ended
    assert all("gloo's threads: 0" in text for _, text in ended)  # one of them aborts a process that ends
    for name in ("together", "few", "lowrank", "patients", "personal", "carried", "noise"):
        found = np.load(tmp_path / f"{name}.npz")
        assert np.abs(found["alone"]).max() > 1e-3
        assert np.array_equal(found["one"], found["two"])
        assert np.abs(found["one"] - found["alone"]).max() < 1e-6
        assert found["named"][0] != found["named"][1]  # a pass of one process is not repeated by two
    assert np.array_equal(found["one"], found["alone"])  # of the noise alone, every bit


@pytest.mark.claim("DP-14", "HOME-15")
def test_ranks_keep_the_layers_of_one_process_through_a_withdrawal_and_a_death(tmp_path: Path) -> None:
    """And they pay as often: the pass that died behind its layers starts again from the same numbers."""
    ended = both("home", tmp_path)
    assert [status for status, _ in ended] == [0, 0], ended
    found = np.load(tmp_path / "home.npz")
    for name in ("two", "one"):
        assert (int(found[f"{name}_charges"]), int(found[f"{name}_left"])) == (2, 79)
    before, after = found["two_layers"]
    assert before and before != after
    for name in ("model", "layers"):
        assert np.abs(found[f"two_{name}"] - found[f"one_{name}"]).max() < 1e-6


def test_other_records_begin_no_pass_and_a_rank_that_dies_ends_one(tmp_path: Path) -> None:
    """What died is charged once. As many ranks would repeat it; another number of them is charged anew."""
    (status, text), (died, _) = both("faults", tmp_path)
    assert (status, died) == (1, 9), text
    assert "P2P-TRAIN-096" in text and "Traceback" not in text
    assert json.loads((tmp_path / "told.json").read_text()) == {"charged": 1, "repeated": True, "alone": 2}


def test_processes_on_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RanksApart), ranks():
        pass


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ranks() as alone:
        assert alone.leads and alone.size == 1
