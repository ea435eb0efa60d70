"""The examples run: descriptions are read, generated records have the form of real ones, and a round trains."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / name / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_x_rays_train_on_generated_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    xrays = example("xrays")
    few = ["--records", "30", "--seeds", "1", "--set", "rounds=1", "--set", "privacy.steps_per_round=1"]
    monkeypatch.setattr(sys, "argv", ["run.py", *few])
    xrays.main()
    told = capsys.readouterr().out
    assert "cnn at 28×28: 97218 weights; 5 sites, 150 generated images" in told
    assert "ε 3.00" in told or "ε 2.9" in told
    for model, parameters in (("resnet18", "lora"), ("resnet50", "all")):
        assert xrays.described(model, full_size=True).train == parameters
    assert xrays.described("resnet50", full_size=True).size == 224


def test_x_rays_as_files_are_what_the_example_trains_on(tmp_path: Path) -> None:
    xrays = example("xrays")
    sites = xrays.dealt(xrays.generated(40), None)
    xrays.write(sites, tmp_path)
    task = xrays.described("cnn", full_size=False)
    files, held = task.dataset(str(tmp_path / "mayo")), xrays.inputs(*sites["mayo"], task)
    read = sorted((label, x.tobytes()) for x, label in (files[row] for row in range(len(files))))
    assert read == sorted((int(y), x.tobytes()) for x, y in zip(held.x, held.y, strict=True))


def test_hippocampi_are_written_and_read_as_volumes(tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="the extra [volumes] is not installed")
    hippocampus = example("hippocampus")
    hippocampus.write(hippocampus.generated(5), tmp_path)
    held = hippocampus.kept(hippocampus.described(), tmp_path / "uppsala")
    assert held.x.shape == (1, 1, 14, 20, 14) and set(np.unique(held.y)) == {0, 1, 2}
    assert held.x[0, 0][held.y[0] > 0].mean() > held.x[0, 0][held.y[0] == 0].mean() + 0.3
