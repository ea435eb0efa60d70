"""The example of a Flower client: run as its README says, with fewer sites and rounds; it names nothing of p2pfl."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr, of the extra [flower], is not installed")
pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "flower"


def test_the_client_is_flowers_and_torchs_alone() -> None:
    text = (EXAMPLE / "client.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported == {"flwr", "sklearn", "torch"}


def test_the_readmes_line_trains_it_between_real_processes(tmp_path: Path) -> None:
    assert "python examples/flower/run.py\n" in (EXAMPLE / "README.md").read_text()
    command = [sys.executable, "examples/flower/run.py", "--sites", "3", "--rounds", "3", "--folder", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"3 sites, 3 rounds, 10090 parameters: accuracy 0\.\d+ → (0\.\d+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) > 0.6
    assert done.stderr.count("round 1  3 of 3 sites") == 1, "the sites' words are not mixed: one is seen"
