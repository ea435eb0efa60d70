"""Task files that this site's people have read and approved: by digest, with the text that they saw.

A task is code that runs on patients' records. peers.yaml pins it by its digest, which says that it is the same file
everywhere, and not that anybody has read it: so no site runs one before its own people said so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.training import TaskNotApproved
from p2pfl.home import Home
from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.node.logs import Logs

APPROVED: Final = "membership/tasks"
MOST_KEPT: Final = 16  # texts; the digests of older ones stay in the site log


def approved(home: Home) -> dict[bytes, bytes]:
    """The approved files, oldest first: SHA-256 ► text."""
    data = home.read(APPROVED)
    if data is None:
        return {}
    rows = codec.unpack(data, most=len(data), items=MOST_KEPT)
    return dict(rows)


def approve(home: Home, sha256: bytes, text: bytes) -> None:
    """Keep that `text` was read and approved. The log says so once a process runs it."""
    with home.beside():
        held = {one: kept for one, kept in approved(home).items() if one != sha256} | {sha256: text}
        home.replace(APPROVED, codec.pack([list(row) for row in list(held.items())[-MOST_KEPT:]]))


def check(home: Home, sha256: bytes, path: str) -> None:
    """Raises TaskNotApproved."""
    if sha256 not in approved(home):
        evidence = f"SHA-256 {sha256.hex()[:16]}…; approved here are {counted(len(approved(home)), 'file')}"
        raise TaskNotApproved(evidence=evidence, path=path, home=home.path)


def note(logs: Logs, sha256: bytes) -> None:
    """Once in the site log: this site's people approved the task that runs."""
    options: Mapping[str, str] = {"sha256": sha256.hex()}
    mark = sha256.hex().encode()
    if not any(b'"task approve"' in one.record and mark in one.record for one in logs.site.records()):
        logs.note(OperatorEntry(time=logs.time, command="task approve", options=options))
