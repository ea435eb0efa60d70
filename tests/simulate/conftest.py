"""What thousands of simulated rounds share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from p2pfl.messages import letters
from tests.sharing.owners import every_site_owns_words

__all__ = ["every_site_owns_words", "letters_read_once"]


@pytest.fixture(scope="module")
def letters_read_once() -> Iterator[None]:
    """A letter that goes to all is decoded by each; here by the first alone, since a letter never changes."""
    patch = pytest.MonkeyPatch()
    patch.setattr(letters, "read_letter", functools.lru_cache(maxsize=4096)(letters.read_letter))
    yield
    patch.undo()
