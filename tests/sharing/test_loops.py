"""The compiled module that is used is the one that the source makes: where it is not, numpy does its work unseen."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from p2pfl.sharing import loops

NAME = "p2pfl.sharing._kernel"


def test_the_source_makes_the_module_that_is_asked_for() -> None:
    """Else it is built, and never used: all sums are slower, and each test of the loops is skipped."""
    source = Path(loops.__file__).with_name("_kernel.c").read_text()
    assert re.findall(r'"VERSION", (\d+)\)', source) == [str(loops.VERSION)]


def test_the_module_that_lies_here_was_built_from_this_source() -> None:
    try:
        found = importlib.import_module(NAME)
    except ImportError:
        pytest.skip("the compiled loops are not built here, or not for this processor")
    assert getattr(found, "VERSION", None) == loops.VERSION, "the tests of the loops are skipped; try: make install"


def test_a_module_from_older_source_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    older = ModuleType(NAME)
    older.INSTRUCTIONS = "VAES"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NAME, older)
    assert loops._load() is None
