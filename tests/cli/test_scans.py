"""Five real processes learn a class for each voxel, from a description in peers.yaml and folders of NIfTI files."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nibabel", reason="the extra [volumes] is not installed")
pytest.importorskip("monai", reason="the extra [volumes] is not installed")

from tests.cli.sites import Sites, Start, ended, facts
from tests.training.volumes import folder

NAMES = ("ada", "ben", "cyd", "dot", "eve")
TASK = """\
# Where is the ball?
volumes:
  classes: [background, ball]
  model: {unet: [4, 8], units: 0}
  size: [16, 16, 16]
  channels: 1
  spacing: [1.0, 1.0, 1.0]
  window: each
  trainable: all
  augmentation: [shift, flip]
  learning_rate: 0.5
  expected_batch: 4
"""
SETTINGS = (
    "rounds=2",
    "privacy.sample_rate=0.3",
    "privacy.steps_per_round=4",
    "privacy.noise_multiplier=0.6",
    "privacy.max_epsilon=90",
)


@pytest.fixture(autouse=True)
def fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI loads matplotlib where it is installed, which looks for fonts in each new home."""
    monkeypatch.setenv("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))


def test_five_sites_learn_a_segmentation(tmp_path: Path, start: Start) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    sites = Sites(tmp_path, *SETTINGS, files=dict.fromkeys(NAMES, b""), task=str(tmp_path / "task.yaml"))
    scans = {name: folder(tmp_path / name / "scans", 24, 100 * place) for place, name in enumerate(NAMES)}
    started = [start("join", *sites.common(name), "--data", str(scans[name]), "--json") for name in NAMES]
    results = [ended(process) for process in started]
    assert [status for status, _, _ in results] == [0] * len(NAMES), [err for _, _, err in results]
    told = [facts(out) for _, out, _ in results]
    assert len({str(one["ledger"]) for one in told}) == 1
    metric = told[0]["metric"]
    assert isinstance(metric, dict) and metric["figure"] == "dice"
    assert 0.0 < metric["final"] <= 1.0 and {"dice_1", "iou_1"} <= set(metric["figures"])
    new = ["--data", str(scans["ben"] / "images")]
    status, out, err = ended(start("predict", *sites.common("ada"), *new, "--json"))
    assert status == 0, err
    told_of_new = facts(out)
    assert (told_of_new["records"], told_of_new["names"]) == (24, ["background", "ball"])
