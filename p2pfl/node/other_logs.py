"""Logs of a home's other studies, decrypted and checked when they are asked for, and again once they have changed.

A process that sums a hundred columns asks before each what the other studies have summed. Their logs may hold the
entries of years, and mostly nobody writes to them meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from p2pfl.home import Home, journal
from p2pfl.home.segments import LogName, SegmentFiles, SegmentState
from p2pfl.ledger.log import Log
from p2pfl.node.site_index import SiteIndex

_Stamp = tuple[int, int, int] | None  # of a file that is there: inode, bytes, when it was last written to in ns


class LogSeen(NamedTuple):
    """A log, and how it stood when it was read. The head may lie in the journal, which grows with every step."""

    segments: tuple[SegmentState, ...]
    files: tuple[_Stamp, _Stamp]  # of the journal, and of the head where that is a file
    head: bytes | None
    log: Log


class OtherLogs:
    """What this process has read of them, or of its own home where another process writes there."""

    def __init__(self) -> None:
        self._read: dict[tuple[Path, LogName], LogSeen] = {}
        self._indices: dict[Path, tuple[Log, SiteIndex]] = {}

    def log(self, home: Home, which: LogName) -> Log:
        """A log of that study, as it stands now. Raises LedgerDamaged and the like."""
        # Looked at first: what is appended while it is read is found to have changed the next time.
        head, held = f"ledger/{which}/head", self._read.get((home.folder, which))
        files = _stamp(home.place(journal.ITEM)), _stamp(home.place(head))
        segments = SegmentFiles(home, which).states()
        if held is not None and (held.segments, held.files) == (segments, files):
            return held.log
        signed = home.read(head)  # decrypts all of the journal
        stands = held is not None and (held.segments, held.head) == (segments, signed)
        log = held.log if held is not None and stands else Log.open(home, which)
        self._read[home.folder, which] = LogSeen(segments, files, signed, log)
        return log

    def site_index(self, home: Home) -> SiteIndex:
        """The site log of that study. Raises LedgerDamaged and the like."""
        log = self.log(home, "site")
        held = self._indices.get(home.folder)
        if held is None or held[0] is not log:
            held = self._indices[home.folder] = log, SiteIndex(log)
        return held[1]


def _stamp(path: Path) -> _Stamp:
    try:
        held = path.stat()
    except FileNotFoundError:
        return None
    return held.st_ino, held.st_size, held.st_mtime_ns
