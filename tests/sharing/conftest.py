"""What tests of the round share."""

from __future__ import annotations

from tests.sharing.owners import every_site_owns_words

__all__ = ["every_site_owns_words"]
