"""Which pages are generated, and by which function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tools.reference import commands, entries, errors, events, metrics, settings

FOLDER: Final = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "cli.md": commands.page,
    "errors.md": errors.page,
    "exit-codes.md": errors.statuses,
    "events.md": events.page,
    "ledger-entries.md": entries.page,
    "metrics.md": metrics.page,
    "peers-yaml.md": settings.page,
}
