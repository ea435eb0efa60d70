"""A site's file or folder of records, as it is handed to a verb: whether it can be read."""

from __future__ import annotations

from pathlib import Path

from p2pfl.errors.training import DataUnreadable
from p2pfl.files import opened


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
