"""Five real processes train on tables that are not heart disease, described and never programmed.

The records are real and come with scikit-learn. Their descriptions are written by hand, as people write them: ranges
and scales are round figures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sites import Sites, Start, ended, facts

pytest.importorskip("sklearn", reason="scikit-learn, of the extra [dev], is not installed")

NAMES = ("ada", "ben", "cyd", "dot", "eve")
CANCER = """\
# Is a mass malignant? From a needle biopsy's image (Wolberg, Street, Mangasarian 1993; doi 10.24432/C5DW2B).
label:
  diagnosis: {binary: [malignant, benign], positive: [malignant]}
model: {mlp: 8}
learning_rate: 0.01
expected_batch: 3.3
columns:
  mean radius: {number: pixels, low: 1, high: 60, centre: 14, scale: 4}
  mean texture: {number: grey levels, low: 1, high: 100, centre: 19, scale: 5}
  mean concavity: {number: part, low: 0, high: 1, centre: 0.1, scale: 0.1, indicator: true}
  "worst area (px²)": {number: pixels, low: 10, high: 10000, centre: 900, scale: 600}
  size: {code: [small, middle, large], ordered: true}
"""

WINE = """\
# Of which of three vines is a wine? From its chemistry (Aeberhard, Forina 1992; doi 10.24432/C5PC7J).
label:
  vine: {class: [class_0, class_1, class_2]}
model: linear
learning_rate: 0.05
expected_batch: 4
columns:
  alcohol: {number: "% by volume", low: 5, high: 20, centre: 13, scale: 1}
  malic_acid: {number: g/l, low: 0, high: 10, centre: 2.5, scale: 1}
  flavanoids: {number: g/l, low: 0, high: 10, centre: 2, scale: 1}
  color_intensity: {number: absorbance, low: 0, high: 20, centre: 5, scale: 2}
  hue: {number: ratio, low: 0, high: 3, centre: 1, scale: 0.2}
  proline: {number: mg/l, low: 50, high: 3000, centre: 750, scale: 300}
"""
DIABETES = """\
# How far will diabetes have gone a year later? (Efron, Hastie, Johnstone, Tibshirani 2004)
label:
  progression: {number: score, low: 0, high: 500, centre: 150, scale: 75}
model: linear
learning_rate: 0.05
expected_batch: 10
columns:
  age: {number: years, low: 0, high: 120, centre: 50, scale: 15}
  sex: {code: [1, 2]}
  bmi: {number: kg/m², low: 10, high: 80, centre: 26, scale: 5}
  bp: {number: mmHg, low: 30, high: 200, centre: 95, scale: 15}
  s3: {number: mg/dl, low: 5, high: 200, centre: 50, scale: 15}
  s5: {number: log mg/dl, low: 2, high: 8, centre: 4.5, scale: 0.5}
"""


def dealt(header: list[str], rows: list[list[object]], delimiter: str = ",") -> dict[str, bytes]:
    """The records in turn to five sites, a CSV for each."""
    files = {}
    for place, name in enumerate(NAMES):
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows[place :: len(NAMES)])
        files[name] = out.getvalue().encode()
    return files


def biopsies() -> dict[str, bytes]:
    """569 biopsies; the size of the nucleus is told once more, in words."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    kept = [
        list(found.feature_names).index(name)
        for name in ("mean radius", "mean texture", "mean concavity", "worst area")
    ]
    words = [found.target_names[label] for label in found.target]
    sizes = ["small" if row[0] < 12 else "middle" if row[0] < 16 else "large" for row in found.data]
    rows: list[list[object]] = [
        [*(row[place] for place in kept), size, word] for row, size, word in zip(found.data, sizes, words, strict=True)
    ]
    return dealt(["mean radius", "mean texture", "mean concavity", "worst area (px²)", "size", "diagnosis"], rows, ";")


def test_five_sites_learn_from_a_table_of_other_columns(tmp_path: Path, start: Start) -> None:
    """One of them has other names and words, which its column map translates."""
    files = biopsies()
    files["cyd"] = files["cyd"].replace(b"diagnosis", b"Diagnose").replace(b"malignant", b"boesartig")
    (tmp_path / "cyd").mkdir()
    columns = "columns: {Diagnose: diagnosis}\ncodes: {diagnosis: {boesartig: malignant}}\n"
    (tmp_path / "cyd" / "records.columns.yaml").write_text(columns)
    told = learned(tmp_path, start, CANCER, files, "rounds=3")
    assert told["metric"]["final"] > 0.9
    assert CANCER.splitlines()[0] in (tmp_path / "peers.yaml").read_text()
    new = ["--peers", str(tmp_path / "peers.yaml"), "--home", str(tmp_path / "ben" / "home"), "--json"]
    status, out, err = ended(start("predict", *new, "--data", str(tmp_path / "ada" / "records.csv")))
    assert status == 0, err
    assert facts(out)["records"] == len(files["ada"].splitlines()) - 1


def bundled(load: Callable[..., Any], names: list[str], label: str, words: bool, **options: bool) -> dict[str, bytes]:
    """A data set of scikit-learn's, these columns of it."""
    found = load(**options)
    places = [list(found.feature_names).index(name) for name in names]
    labels = [found.target_names[one] for one in found.target] if words else list(found.target)
    rows: list[list[object]] = [[*(row[at] for at in places), one] for row, one in zip(found.data, labels, strict=True)]
    return dealt([*names, label], rows)


def learned(tmp_path: Path, start: Start, description: str, files: dict[str, bytes], *overrides: str) -> dict[str, Any]:
    """What the first of five sites prints when all are done; every one ends well, with the same ledger."""
    file = tmp_path / "task.yaml"
    file.write_text(description)
    sites = Sites(tmp_path, *overrides, files=files, task=str(file))
    results = [ended(process) for process in [start(*sites.join(name, "--json")) for name in sites.names]]
    assert [status for status, _, _ in results] == [0] * len(NAMES), [err for _, _, err in results]
    told: list[dict[str, Any]] = [facts(out) for _, out, _ in results]
    assert len({one["ledger"]["root"] for one in told}) == 1
    return told[0]


OFTEN = ("rounds=2", "privacy.sample_rate=0.1", "privacy.max_epsilon=20")


def test_five_sites_learn_three_classes_and_predict_each(tmp_path: Path, start: Start) -> None:
    from sklearn.datasets import load_wine

    names = ["alcohol", "malic_acid", "flavanoids", "color_intensity", "hue", "proline"]
    files = bundled(load_wine, names, "vine", words=True)
    told = learned(tmp_path, start, WINE, files, *OFTEN)
    assert told["metric"]["figure"] == "auc"
    assert told["metric"]["final"] > 0.9
    assert {"balanced_accuracy", "recall_0", "recall_1", "recall_2"} <= set(told["metric"]["figures"])
    assert told["metric"]["figures"]["recall_2"]["name"] == "recall of class_2"
    files_out = [exported(tmp_path, start, name) for name in ("ben", "cyd")]
    assert files_out[0] == files_out[1], "all sites write the same model, and the same card"
    page = files_out[0][1].decode()
    assert f"ε = {told['epsilon']:.2f} at δ = 1e-05" in page
    assert f"have the root `{told['ledger']['root']}`" in page, "the training's last entry is the ledger's"
    assert "| recall of class\\_2 | " in page and "| cyd | 2 of 2 |" in page

    elsewhere = tmp_path / "elsewhere"  # a hospital that took no part
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_bytes(files_out[0][0])
    model = str(elsewhere / "model.safetensors")
    status, out, err = ended(start("predict", "--model", model, "--data", str(tmp_path / "ada" / "records.csv")))
    assert status == 0, err
    header, first, *_ = out.splitlines()
    assert header.split() == ["record", "class_0", "class_1", "class_2"]
    assert sum(map(float, first.split()[1:])) == pytest.approx(1.0, abs=1e-3)
    status, out, err = ended(start("model", "weights", model))
    assert status == 0, err
    assert "adds to class_2" in out and "each 300 mg/l above 750" in out


def exported(tmp_path: Path, start: Start, name: str) -> tuple[bytes, bytes]:
    """The model's file and its page, as that site writes them."""
    own = ["--peers", str(tmp_path / "peers.yaml"), "--home", str(tmp_path / name / "home")]
    target = tmp_path / name / "model.safetensors"
    status, _, err = ended(start("model", "export", *own, "-o", str(target)))
    assert status == 0, err
    return target.read_bytes(), target.with_suffix(".md").read_bytes()


def test_five_sites_learn_a_number(tmp_path: Path, start: Start) -> None:
    from sklearn.datasets import load_diabetes

    files = bundled(load_diabetes, ["age", "sex", "bmi", "bp", "s3", "s5"], "progression", words=False, scaled=False)
    told = learned(tmp_path, start, DIABETES, files, *OFTEN)
    assert told["metric"]["figure"] == "rmse"
    assert told["metric"]["final"] < told["metric"]["initial"]
    assert told["metric"]["figures"]["r2"]["value"] > 0.1


def test_a_site_whose_file_does_not_fit_is_told_all_of_it_before_anything_is_sent(tmp_path: Path, start: Start) -> None:
    description = tmp_path / "task.yaml"
    description.write_text(CANCER)
    sites = Sites(tmp_path, "rounds=3", files=biopsies(), task=str(description))
    own = tmp_path / "ada" / "records.csv"
    lines = own.read_text().splitlines()
    lines[2] = "99.5;17;0.1;900;small;benign"
    lines[3] = "14;17;0.1;900;huge;sarcoma"
    own.write_text("\n".join(lines) + "\n")
    status, _, err = ended(start(*sites.join("ada", "--check", "--wait", "1")))
    assert status == 2
    assert "error P2P-TRAIN-017: " in err
    assert "column mean radius, line 3: plausible is 1 to 60 (pixels)" in err
    assert "column size, line 4: known are small, middle, large" in err
    assert "column diagnosis, line 4: known are malignant, benign" in err
    assert not any(value in err for value in ("99.5", "huge", "sarcoma"))
