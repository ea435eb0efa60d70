"""Five real processes train on tables that are not heart disease, described and never programmed.

The records are real and come with scikit-learn. Their descriptions are written by hand, as people write them: ranges
and scales are round figures.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

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
expected_batch: 2.0
columns:
  mean radius: {number: pixels, low: 1, high: 60, centre: 14, scale: 4}
  mean texture: {number: grey levels, low: 1, high: 100, centre: 19, scale: 5}
  mean concavity: {number: part, low: 0, high: 1, centre: 0.1, scale: 0.1, indicator: true}
  "worst area (px²)": {number: pixels, low: 10, high: 10000, centre: 900, scale: 600}
  size: {code: [small, middle, large], ordered: true}
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
    description = tmp_path / "task.yaml"
    description.write_text(CANCER)
    files = biopsies()
    files["cyd"] = files["cyd"].replace(b"diagnosis", b"Diagnose").replace(b"malignant", b"boesartig")
    sites = Sites(tmp_path, "rounds=3", files=files, task=str(description))
    columns = "columns: {Diagnose: diagnosis}\ncodes: {diagnosis: {boesartig: malignant}}\n"
    (tmp_path / "cyd" / "records.columns.yaml").write_text(columns)
    assert CANCER.splitlines()[0] in sites.peers.read_text()

    results = [ended(process) for process in [start(*sites.join(name, "--json")) for name in sites.names]]
    assert [status for status, _, _ in results] == [0] * len(NAMES), [err for _, _, err in results]
    told = [facts(out) for _, out, _ in results]
    assert len({one["ledger"]["root"] for one in told}) == 1  # type: ignore[index]
    metric = told[0]["metric"]
    assert metric["final"] > 0.9  # type: ignore[index]

    new = ["--peers", str(sites.peers), "--home", str(tmp_path / "ben" / "home"), "--json"]
    status, out, err = ended(start("predict", *new, "--data", str(tmp_path / "ada" / "records.csv")))
    assert status == 0, err
    assert facts(out)["records"] == len(files["ada"].splitlines()) - 1


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
