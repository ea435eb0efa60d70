"""errors.md and exit-codes.md: every error a person can meet, from p2pfl.errors itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from p2pfl import errors
from p2pfl.errors import P2PFLError, all_leaves
from tools.reference.markdown import GENERATED, cell, table

HEAD = f"""\
# Errors

{GENERATED}
Every error has a stable code, and says what happened, the evidence (a measured fact), likely causes and a command to
try. *Words in italics* are filled in where the error occurs. The last column is the [exit status](exit-codes.md) of a
command that ends with it.
"""
STATUSES = f"""\
# Exit statuses

{GENERATED}
The same number always means the same thing; the error in front of it says more. What a service manager should do with
each is in [operations.md](../operations.md#stop).
"""
PLACE = re.compile(r"\{(\w+)[^}]*\}")
ROOMS = {
    "USE": "How a command was called",
    "FED": "peers.yaml, cards and changes of membership",
    "KEY": "Keys of a home",
    "HOME": "The home and its disk",
    "MESH": "Links",
    "ROUND": "Rounds, and sites that break the protocol",
    "SHARE": "Sharing",
    "TRAIN": "Data, training and privacy",
    "STATS": "Statistics over several tables",
    "LEDGER": "The ledger",
    "REPORT": "Reports and the dashboard",
}
MEANING = {
    "EXIT_DONE": "done",
    "EXIT_FAILED": "failed for a stated reason",
    "EXIT_USAGE": "wrong use, or a wrong file or setting: somebody here must mend it",
    "EXIT_PEER": "a named peer broke the protocol",
    "EXIT_BUDGET": "the privacy budget does not allow the next pass",
    "EXIT_INTEGRITY": "a ledger, a key or a home is not what was signed",
    "EXIT_INTERRUPTED": "interrupted by SIGTERM or Ctrl-C; nothing final is lost",
}


def _filled(text: str) -> str:
    """A template with its `{field}` places in italics."""
    return PLACE.sub(r"*\1*", cell(text))


def _command(leaf: type[P2PFLError]) -> str:
    """The command to try, its places in capitals."""
    command = PLACE.sub(lambda field: field[1].upper(), leaf.command)
    return f"`{command}`".replace("|", "\\|") if command else "–"


def _room(leaf: type[P2PFLError]) -> str:
    return leaf.code.split("-")[1]


def _sections(found: list[type[P2PFLError]]) -> Iterator[str]:
    for room in dict.fromkeys(map(_room, found)):
        yield f"## {ROOMS[room]}: P2P-{room}\n"
        rows = [
            (
                f"`{leaf.code}`",
                _filled(leaf.__doc__ or ""),
                _filled("; ".join(leaf.likely)) or "–",
                _command(leaf),
                str(leaf.exit_status),
            )
            for leaf in found
            if _room(leaf) == room
        ]
        yield table(("code", "what it says", "likely", "try", "exit"), rows)


def page() -> str:
    return "\n".join([HEAD, *_sections(all_leaves())])


def statuses() -> str:
    """Each EXIT_ constant, what it means, and the rooms whose errors end with it."""
    rows = []
    for name, meaning in MEANING.items():
        status = getattr(errors, name)
        count = sum(leaf.exit_status == status for leaf in all_leaves())
        rows.append((str(status), meaning, str(count) if count else "–"))
    return "\n".join([STATUSES, table(("status", "meaning", "errors that end with it"), rows)])
