"""Which benchmarks run together: `make bench ONLY=links`, or several, `make bench ONLY="sum ledger"`.

A script that stands in no group is a section of its own name: whoever adds benchmarks/NAME.py has added the section
NAME. A script that takes too much of LIMIT_S at its defaults has arguments here, which keep what is promised.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
LIMIT_S: Final = 600.0  # seconds of a section; whatever still runs then is stopped, and the section has failed

GROUPS: Final = {
    "sum": ("secure_sum", "kernel"),
    "links": ("mesh_bandwidth", "mesh_forms"),
    "ledger": ("ledger", "ledger_start"),
    "privacy": ("account", "canary_audit"),
    "others": ("secagg_plus", "tenseal_ckks"),
}

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "at_scale": ("--quick",),
    "batch_schedule": ("--schedules", "2", "--seeds", "2", "--tuned", "1"),
    "compression_table": ("--quick",),
}


def scripts() -> list[str]:
    """The benchmarks of this folder, by name."""
    return sorted(path.stem for path in HERE.glob("[a-z]*.py"))


def sections() -> dict[str, tuple[str, ...]]:
    """By section the scripts that are there; those of no group are sections of their own, in order of name."""
    there, grouped = scripts(), {name for group in GROUPS.values() for name in group}
    found = {section: tuple(name for name in group if name in there) for section, group in GROUPS.items()}
    return found | {name: (name,) for name in there if name not in grouped}


def chosen(only: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The sections that `only` names; a script of a group may be named alone. All, when it names none.

    Raises ValueError, which lists what there is, for a name that is neither.
    """
    known, found = sections(), dict[str, tuple[str, ...]]()
    for name in only:
        if name in known:
            found[name] = known[name]
        elif name in scripts():
            found[name] = (name,)
        else:
            raise ValueError(f"no section or script is called {name}; there are {' '.join(known)}")
    return found or known
