"""Loaded by every Python that a shaken test starts, since this folder is on its PYTHONPATH: shakes it, too."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

if os.environ.get("P2PFL_SHAKEN"):
    spec = importlib.util.spec_from_file_location("shaken", Path(__file__).parent / "shaken.py")
    assert spec is not None and spec.loader is not None
    sys.modules["shaken"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.shake_child()
