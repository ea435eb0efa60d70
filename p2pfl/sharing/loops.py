"""Whether the compiled inner loops are here. Known without numpy, so that `p2pfl status` need not load it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

NUMPY: Final = "numpy"


def _load() -> ModuleType | None:
    try:
        return importlib.import_module("p2pfl.sharing._kernel")
    except ImportError:  # not built here, or not for this processor
        return None


MODULE: Final = _load()


def built() -> str:
    """What this processor would run them on: "VAES", "AES-NI", or "numpy" where they are not."""
    return NUMPY if MODULE is None else str(MODULE.INSTRUCTIONS)
