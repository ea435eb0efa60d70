"""Who owns words where few are summed: by the rule of chunks.py one site; in most tests each, as in a long vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from p2pfl.sharing import chunks

EACH: Final = 1  # bytes of the shortest chunk: every site owns words, however few there are
# Test files that sum few words by the rule as it is.
AS_IT_IS: Final = frozenset({"test_chunks", "test_dropout", "test_forecast", "test_short_sums"})


@pytest.fixture(scope="module", autouse=True)
def every_site_owns_words(request: pytest.FixtureRequest) -> Iterator[None]:
    """Attacks on owners, and what is lacking of one, need several owners; tests sum few words, to be quick."""
    patch = pytest.MonkeyPatch()
    if request.module.__name__.rpartition(".")[2] not in AS_IT_IS:
        patch.setattr(chunks, "LEAST_BYTES", EACH)
    yield
    patch.undo()
