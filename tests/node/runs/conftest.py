"""What tests of runs share: the homes of two sites of three."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.runs.homes import Place, places


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    made = places(tmp_path)
    yield made
    for one in made:
        one.home.close()


@pytest.fixture
def place(both: tuple[Place, Place]) -> Place:
    return both[0]
