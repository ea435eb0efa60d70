"""The records of a task on files: which there are, by folder or by CSV; and how one that does not fit is named.

A file's name may be a patient's. So an error names a record by its line in the CSV, or by its place among the files of
its folder in the order of their names, and the person who may see the names looks it up.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2pfl.errors import P2PFLError
from p2pfl.errors.scans import MaskMissing
from p2pfl.errors.training import DataEmpty, MissingColumn, MissingLabel, RaggedRecord, UnknownCode
from p2pfl.files import read_file
from p2pfl.training.records import columns
from p2pfl.training.records.columns import rows_of


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One record.

    file      what is read; `label_file` the mask of a volume
    label     place of its class among the agreed ones
    patient   whose it is; empty where nobody says
    place     how it is called in an error
    """

    file: Path
    label: int
    patient: str
    place: str
    label_file: Path | None = None


class FilesDataset(ABC):
    """A map-style dataset of files, each of which is read when it is asked for.

    A record is known by the digest of its file: under another name, in another folder or in another study it is the
    same record, and spends the same privacy account. So every file is read once at start, to be digested.
    """

    most_bytes: ClassVar[int]  # of a file

    def __init__(self, found: Sequence[FileRecord], source: str) -> None:
        self._files, self._source = tuple(found), source
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._files)

    def identity(self, row: int) -> bytes:
        """SHA-256 of the file, 32 bytes. Raises what `refused` gives."""
        if row not in self._digests:
            self._digests[row] = hashlib.sha256(self.read(row, self._files[row].file)).digest()
        return self._digests[row]

    def patient(self, row: int) -> bytes:
        """The patient of the CSV or of the folder; empty where neither says."""
        return self._files[row].patient.encode()

    def name(self, row: int) -> str:
        """The name of its file, for what is written beside it at this site; it may be a patient's."""
        return self._files[row].file.name

    def read(self, row: int, file: Path) -> bytes:
        """The bytes of a file of the record at `row`."""
        try:
            return read_file(file, self.most_bytes)
        except OSError as error:
            raise self.refused(row, error.strerror or type(error).__name__) from None

    @abstractmethod
    def refused(self, row: int, why: str) -> P2PFLError:
        """The error that names the record at `row` by its place."""


def files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """The files of `folder` and below with one of `endings`, in the order of the bytes of their names."""
    found = (one for one in folder.rglob("*") if one.name.lower().endswith(tuple(endings)) and one.is_file())
    return sorted(found, key=os.fsencode)


def whose(file: Path, folder: Path, patient: str) -> str:
    """The first folder below `folder`, where folders are patients; empty where they are not, or there is none."""
    below = file.relative_to(folder).parts
    return below[0] if patient == "folder" and len(below) > 1 else ""


def by_class(
    place: Path, classes: Sequence[str], endings: Sequence[str], labelled: bool, patient: str = ""
) -> list[FileRecord]:
    """The files of place/CLASS; of the whole folder where labels are not needed. Raises DataEmpty.

    patient   `folder`: those of place/CLASS/PATIENT are of one patient, and so are those of a PATIENT of another class
    """
    found = []
    for label, folder in enumerate(classes) if labelled else [(0, ".")]:
        for number, file in enumerate(files_in(place / folder, endings), start=1):
            told, of = f"file {number} by name of {place / folder}", whose(file, place / folder, patient)
            found.append(FileRecord(file, label, of, told))
    if not found:
        raise DataEmpty(evidence=f"no file in the folders {', '.join(classes)} ends in {' '.join(endings)}", path=place)
    return found


def by_pair(place: Path, endings: Sequence[str], labelled: bool, patient: str = "") -> list[FileRecord]:
    """The files of place/images, each with the label of the same name in place/labels. Raises DataEmpty, MaskMissing.

    patient   `folder`: those of place/images/PATIENT are of one patient
    Where labels are not needed, a folder without `images` is itself the folder of the files.
    """
    images = place / "images" if labelled or (place / "images").is_dir() else place
    found = []
    for number, file in enumerate(files_in(images, endings), start=1):
        inner = file.relative_to(images)
        mask = place / "labels" / inner
        if labelled and not mask.is_file():
            evidence = f"file {number} by name of {images} has none of the same name in {place / 'labels'}"
            raise MaskMissing(evidence=evidence, path=place)
        told = f"file {number} by name of {images}"
        found.append(FileRecord(file, 0, whose(file, images, patient), told, mask if labelled else None))
    if not found:
        raise DataEmpty(evidence=f"no file in {images} ends in {' '.join(endings)}", path=place)
    return found


def by_csv(place: Path, classes: Sequence[str] | None, labelled: bool, patient: str = "") -> list[FileRecord]:
    """The rows of a CSV with the columns path, label and maybe patient; paths begin at its folder.

    classes    what a label may be; None: a label is the path of a mask
    patient    not empty: the column patient is needed, where labels are
    Raises DataUnreadable, DataEmpty, DataNotText, MissingColumn, MissingLabel, RaggedRecord,
    UnknownCode.
    """
    rows = rows_of(columns.read_file(place), str(place))
    _, header = next(rows)
    needed = ("path", *(["label"] if labelled else []), *(["patient"] if labelled and patient else []))
    lacking = [name for name in needed if name not in header]
    if lacking:
        raise MissingColumn(evidence=f"{len(header)} columns", path=place, column=f"column {', '.join(lacking)}")
    found = []
    for line, cells in rows:
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        name, label = row.get("path", ""), row.get("label", "")
        if not name:
            raise RaggedRecord(evidence="it has no path", path=place, line=line)
        if labelled and not label:
            raise MissingLabel(evidence="the cell is empty", path=place, line=line, column="label")
        if labelled and classes is not None and label not in classes:
            evidence = f"known are {', '.join(classes)}"
            raise UnknownCode(evidence=evidence, path=place, line=line, column="label")
        chosen = classes.index(label) if labelled and classes is not None else 0
        mask = place.parent / label if labelled and classes is None else None
        found.append(FileRecord(place.parent / name, chosen, row.get("patient", ""), f"line {line}", mask))
    if not found:
        raise DataEmpty(evidence="a header and no row", path=place)
    return found
