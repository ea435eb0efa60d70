"""Whether the compiled inner loops are here. Known without numpy, so that `p2pfl status` need not load it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

NUMPY: Final = "numpy"
VERSION: Final = 2  # of the compiled module: one that was built from older source is none


def _load() -> ModuleType | None:
    try:
        found = importlib.import_module("p2pfl.sharing._kernel")
    except ImportError:  # not built here, or not for this processor
        return None
    return found if getattr(found, "VERSION", None) == VERSION else None


MODULE: Final = _load()


def built() -> str:
    """What this processor would run them on: "VAES", "AES-NI", or "numpy" where they are not."""
    return NUMPY if MODULE is None else str(MODULE.INSTRUCTIONS)
