"""Torch without its compiler, until something asks for it.

The first step of any torch optimiser imports `torch._dynamo`, to tell the compiler what not to compile: 70 MB, sympy
among them, and more than a second, in a process that compiles nothing. Here a stand-in answers those questions, and is
replaced by the real package as soon as a task asks for anything else of it (torch.compile, say).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, Final

COMPILER: Final = "torch._dynamo"


class _StandIn(ModuleType):
    """What an optimiser asks of the compiler where none is at work."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing is recorded that could be broken off."""

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        """Nothing is compiled: the function is as it is."""
        return function if function is not None else lambda inner: inner

    def __getattr__(self, name: str) -> Any:
        """Of anything else, the real package's. Raises AttributeError."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(_real(self), name)


def _real(stand_in: ModuleType) -> ModuleType:
    import torch

    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER]
        vars(torch).pop("_dynamo", None)
        if torch.are_deterministic_algorithms_enabled():  # the compiler has not heard of it
            torch.use_deterministic_algorithms(True, warn_only=torch.is_deterministic_algorithms_warn_only_enabled())
    return importlib.import_module(COMPILER)


def without_compiler() -> None:
    """From now on the compiler is loaded when it is asked for; where it is loaded already, nothing changes."""
    import torch

    if COMPILER not in sys.modules:
        stand_in = _StandIn(COMPILER)
        stand_in.__spec__ = importlib.util.find_spec(COMPILER)  # it can be had, whoever asks
        sys.modules[COMPILER] = stand_in
        vars(torch)["_dynamo"] = stand_in


def set_deterministic(mode: bool, *, warn_only: bool) -> None:
    """torch.use_deterministic_algorithms, which loads the compiler to tell it so: not where the stand-in is."""
    import torch

    if isinstance(sys.modules.get(COMPILER), _StandIn):
        torch._C._set_deterministic_algorithms(mode, warn_only=warn_only)
    else:
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)
