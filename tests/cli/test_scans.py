"""Five real processes learn a class for each voxel, from a description in peers.yaml and folders of NIfTI files."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nibabel", reason="the extra [volumes] is not installed")
pytest.importorskip("monai", reason="the extra [volumes] is not installed")

import nibabel
import numpy as np

from tests.cli.sites import Sites, Start, ended, facts
from tests.training.volumes import ball, folder, write

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
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])[:, [2, 0, 1, 3]]
    turned[:3, 3] = 7.0, -8.0, 9.0
    new, masks = tmp_path / "new", tmp_path / "masks"
    for number, affine in enumerate((np.eye(4), turned)):
        write(new / f"scan {number}.nii.gz", ball(number)[0], affine)
    asked = ["predict", *sites.common("ada"), "--data", str(new), "--masks", str(masks)]
    status, out, err = ended(start(*asked, "--json"))
    assert status == 0, err
    told_of_new = facts(out)
    assert (told_of_new["records"], told_of_new["names"]) == (2, ["background", "ball"])
    assert told_of_new["masks"] == str(masks) and masks.stat().st_mode & 0o077 == 0
    assert sorted(one.name for one in masks.iterdir()) == ["00001-scan_0.nii.gz", "00002-scan_1.nii.gz"]
    predictions = told_of_new["predictions"]
    assert isinstance(predictions, list)
    for number, said in enumerate(predictions):
        mask = nibabel.load(masks / f"{number + 1:05}-scan_{number}.nii.gz")
        given = nibabel.load(new / f"scan {number}.nii.gz")
        assert mask.shape == given.shape and np.array_equal(mask.affine, given.affine)
        assert [int((mask.get_fdata() == place).sum()) for place in range(2)] == said
    status, _, err = ended(start(*asked))
    assert status != 0 and "00001-scan_0.nii.gz" in err  # nothing is written over
