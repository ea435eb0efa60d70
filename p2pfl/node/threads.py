"""From what size on bytes are read in a thread of their own. Loads nothing: verbs that look at a home need no more."""

from __future__ import annotations

from typing import Final

LARGE_LETTER: Final = 256 << 10  # bytes of a signed letter: to hash so many takes longer than to change threads
