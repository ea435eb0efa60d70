"""The examples run, reduced: what they show holds."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.sites import DEADLINE_S

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1"}


def loaded(file: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's program as a module."""
    path = EXAMPLES / file
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def test_the_index_has_a_line_for_each_example_and_no_other() -> None:
    index = (EXAMPLES / "README.md").read_text()
    listed = set(re.findall(r"^\| \[(\w+)\]", index, re.M))
    assert listed == {folder.name for folder in EXAMPLES.iterdir() if (folder / "README.md").is_file()}


def test_hospitals_of_heart_that_all_fail_are_heard(tmp_path: Path) -> None:
    """Those that have ended by themselves cannot be ended any more; what they said is shown all the same."""
    script = (
        '[ "$1" = join ] || exit 0',
        "said() { for site in cleveland-2 hungary switzerland long-beach; do",
        "[ -s $site/progress.txt ] || return 1; done; }",
        '[ "$5" != cleveland-1/home ] || until said; do :; done',
        'echo "why: $5" >&2; exit 1',
    )
    (tmp_path / "p2pfl").write_text("\n".join(("#!/bin/sh", *script, "")))
    (tmp_path / "p2pfl").chmod(0o700)
    around = environment(tmp_path)
    done = subprocess.run(
        ["sh", str(EXAMPLES / "heart/heart.sh"), "out"],
        cwd=tmp_path,
        env={**around, "PATH": f"{tmp_path}{os.pathsep}{around['PATH']}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 1
    heard = set(re.findall(r"why: (\S+)/home", done.stdout + done.stderr))
    assert heard == {"cleveland-1", "cleveland-2", "hungary", "switzerland", "long-beach"}, done.stderr


def test_five_hospitals_train_on_heart_and_a_sixth_predicts(tmp_path: Path) -> None:
    command = ["sh", str(EXAMPLES / "heart/heart.sh"), "out", "2"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cleveland-1: 2 rounds are final" in done.stdout
    assert "adds to num: 1 or 2 or 3 or 4" in done.stdout
    with (tmp_path / "out/sixth/said.csv").open() as file:
        said = list(csv.reader(file))
    assert said[0] == ["Fall", "num: 1 or 2 or 3 or 4", "predicted (from 0.5)"]
    assert said[1][0] == "F001"
    assert len(said) - 1 == len((tmp_path / "out/sixth/truth.csv").read_text().split()) - 1
    assert "Model card: heart" in (tmp_path / "out/sixth/heart").with_suffix(".md").read_text()


def test_the_made_up_records_of_heart_fit_its_description(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from p2pfl.federation.table_schema import TableSchema
    from p2pfl.training.tasks import heart
    from p2pfl.training.tasks.table import TableTask

    records = loaded("heart/records.py", monkeypatch)
    described = TableSchema.parse((EXAMPLES / "heart/task.yaml").read_bytes(), "task.yaml")
    assert described == heart.heart(), "the built-in one"
    records.write(tmp_path / "made-up.csv", list(records.HEADER), records.made_up(80, "a"))
    assert len(TableTask(described).dataset(str(tmp_path / "made-up.csv"))) == 80


def test_patient_zero_is_found_without_dp_and_stays_within_its_bound_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few models: what holds with certainty. The figures are those of a whole run, in the example's page."""
    example = loaded("patient_zero/patient_zero.py", monkeypatch)
    monkeypatch.setattr(example, "_WORLDS", {})
    without, private = example.attacked(3, 1)
    assert without.auc == 1.0, "every model with Patient Zero has the smaller loss on it"
    assert min(without.inside) > 10 * max(without.outside)
    assert without.bound == 1.0
    assert 0.5 < private.bound < 0.9
    assert private.epsilon <= 3.0
    assert private.advantage[1] <= private.bound, "the interval reaches into what ε allows"
    assert min(without.accuracy, private.accuracy) > 0.85


def test_rates_have_the_intervals_of_clopper_and_pearson(monkeypatch: pytest.MonkeyPatch) -> None:
    scipy = pytest.importorskip("scipy.stats", reason="scipy, of the extra [dev], is not installed")
    example = loaded("patient_zero/patient_zero.py", monkeypatch)
    for hits, count in ((0, 8), (8, 8), (1, 32), (17, 40)):
        wanted = scipy.binomtest(hits, count).proportion_ci(0.95, method="exact")
        assert example.interval(hits, count) == pytest.approx((hits / count, wanted.low, wanted.high), abs=1e-9)


def test_the_made_up_biopsies_can_be_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    example = loaded("patient_zero/patient_zero.py", monkeypatch)
    schema = example.task_of((EXAMPLES / "patient_zero/task.yaml").read_bytes()).schema
    values, label = example.made_up(schema, 400)
    x = example.as_inputs(schema, values)
    weights = x[:200][label[:200] == 1].mean(axis=0) - x[:200][label[:200] == 0].mean(axis=0)
    scores = x[200:] @ weights
    assert scores[label[200:] == 1].mean() > scores[label[200:] == 0].mean() + np.std(scores)
