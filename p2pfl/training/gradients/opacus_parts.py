"""What a pass takes of Opacus: gradients record by record, and the check of a model's layers. Nothing else is loaded.

`import opacus` brings its engine, its accountants and all its optimisers, and with them scipy, sympy and torch's
sharded tensors: 115 MB, and more time than torch itself. Of these a pass uses nothing: it clips and adds noise here
(clipping.py), and the node computes ε (privacy/accountant.py). Whoever asks opacus for any of them later gets them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

import torch

ENGINE: Final = "opacus.privacy_engine"


def _light() -> None:
    """Load the package without its engine, unless it is there already."""
    if "opacus" in sys.modules:
        return
    stand_in: Any = ModuleType(ENGINE)
    stand_in.PrivacyEngine = None
    sys.modules[ENGINE] = stand_in
    try:
        opacus = importlib.import_module("opacus")
    finally:
        del sys.modules[ENGINE]
    for name in ("PrivacyEngine", "privacy_engine"):
        vars(opacus).pop(name, None)
    vars(opacus)["__getattr__"] = _later
    # Its rule for convolutions asks whether a layer is sharded, and takes for granted that the engine has loaded that.
    if not hasattr(torch.distributed, "fsdp"):
        vars(torch.distributed)["fsdp"] = _Sharding("torch.distributed.fsdp")


class _Sharding(ModuleType):
    """torch.distributed.fsdp where nothing is sharded; an import of it takes its place."""

    FSDPModule = type("FSDPModule", (), {})

    def __getattr__(self, name: str) -> Any:
        """Of anything else, the real package's. Raises AttributeError."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _later(name: str) -> Any:
    """An attribute of the package that was left out: its engine, or a package within it. Raises AttributeError."""
    if name == "PrivacyEngine":
        return importlib.import_module(ENGINE).PrivacyEngine
    try:
        return importlib.import_module(f"opacus.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module 'opacus' has no attribute {name!r}") from None


_light()

from opacus import GradSampleModule, __version__  # noqa: E402
from opacus.utils.tensor_utils import unfold2d, unfold3d  # noqa: E402
from opacus.validators import ModuleValidator  # noqa: E402

__all__ = ["GradSampleModule", "ModuleValidator", "__version__", "unfold2d", "unfold3d"]
