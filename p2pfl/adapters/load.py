"""MODULE:NAME ► the client that it names, of the folder in which the command runs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

from p2pfl.adapters.algorithm import Algorithm, Settings
from p2pfl.errors import P2PFLError
from p2pfl.errors.adapters import ClientUnusable


def named(kind: str, reference: str) -> Any:
    """The object that `reference`, MODULE:NAME, names. The module is looked for among the installed ones first.

    Raises ClientUnusable, whose evidence repeats no text of the module's own exceptions.
    """
    module, colon, name = reference.partition(":")
    if not (colon and module and name):
        raise ClientUnusable(kind=kind, reference=reference, evidence="it is not MODULE:NAME")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # last: a file here takes the place of no package
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise ClientUnusable(kind=kind, reference=reference, evidence=f"no module {error.name}") from error
    except AttributeError as error:
        raise ClientUnusable(kind=kind, reference=reference, evidence=f"{_at(error)}: no {error.name}") from error
    except (Exception, SystemExit) as error:  # a script that ends the process when it is loaded is none either
        evidence = f"{type(error).__name__} at {_at(error)} while it was loaded"
        raise ClientUnusable(kind=kind, reference=reference, evidence=evidence) from error
    return found


def _at(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def algorithm(kind: str, reference: str, node: Settings, run: Settings, site: str) -> Algorithm:
    """The client of that kind. Raises ClientUnusable, AdapterMissing."""
    found = named(kind, reference)
    try:
        if kind == "flower":
            from p2pfl.adapters import flower

            return flower.algorithm_of(found, reference, node, run)
        if kind == "monai":
            from p2pfl.adapters import monai

            return monai.algorithm_of(found, reference, node, run, site)
        from p2pfl.adapters import sklearn

        return sklearn.algorithm_of(found, reference, node, run)
    except P2PFLError:
        raise
    except (Exception, SystemExit) as error:
        evidence = f"{type(error).__name__} at {_at(error)} while it was made"
        raise ClientUnusable(kind=kind, reference=reference, evidence=evidence) from error
