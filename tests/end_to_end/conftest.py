"""What end-to-end tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.processes import Sites, federation

MakeSites = Callable[..., Sites]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSites]:
    """Makes federations; their processes are gone when the test is over."""
    with ExitStack() as held:
        count = 0

        def one(sites: int = 3, *overrides: str, **options: Any) -> Sites:
            nonlocal count
            count += 1
            return held.enter_context(federation(tmp_path / str(count), sites, overrides, **options))

        yield one
