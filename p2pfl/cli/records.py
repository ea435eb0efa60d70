"""A site's file or folder of records, as it is handed to a verb: whether it can be read, and its column map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl.errors.training import DataUnreadable
from p2pfl.federation import strict_yaml
from p2pfl.files import is_file, opened

if TYPE_CHECKING:
    from p2pfl.training.records.column_map import MapFile


def column_map(data: Path, columns: Path | None) -> MapFile | None:
    """The column map that was named, else the one beside the data: their.columns.yaml for their.csv, else none."""
    beside = data.with_suffix(".columns.yaml") if data.name else data  # a path of "." has no name
    chosen = columns or (beside if is_file(beside) else None)
    if chosen is None:
        return None
    from p2pfl.training.records.column_map import MapFile  # only on this path: it brings numpy

    return MapFile.of(strict_yaml.load(chosen), str(chosen))


def check_readable(path: Path) -> None:
    """A file or folder of records can be opened. Raises DataUnreadable: before anything slow happens."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif not path.is_fifo():  # it is read once
            with opened(path):
                pass
    except OSError as error:
        raise DataUnreadable(evidence=error.strerror or type(error).__name__, path=path) from None
