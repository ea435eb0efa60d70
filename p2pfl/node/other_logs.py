"""Logs of a home's other studies, decrypted and checked when they are asked for, and again once they have changed.

A process that sums a hundred columns asks before each what the other studies have summed. Their logs may hold the
entries of years, and mostly nobody writes to them meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from p2pfl.home import Home
from p2pfl.home.segments import LogName, SegmentFiles, SegmentState
from p2pfl.ledger.log import Log
from p2pfl.node.site_index import SiteIndex

_Seen = tuple[tuple[SegmentState, ...], bytes | None]  # how its segments stood, and the head that was signed


class OtherLogs:
    """What this process has read of them."""

    def __init__(self) -> None:
        self._read: dict[tuple[Path, LogName], tuple[_Seen, Log]] = {}
        self._indices: dict[Path, tuple[Log, SiteIndex]] = {}

    def log(self, home: Home, which: LogName) -> Log:
        """A log of that study, as it stands now. Raises LedgerDamaged and the like."""
        # Looked at first: what is appended while it is read is found to have changed the next time.
        seen = SegmentFiles(home, which).states(), home.read(f"ledger/{which}/head")
        held = self._read.get((home.folder, which))
        if held is None or held[0] != seen:
            held = self._read[home.folder, which] = seen, Log.open(home, which)
        return held[1]

    def site_index(self, home: Home) -> SiteIndex:
        """The site log of that study. Raises LedgerDamaged and the like."""
        log = self.log(home, "site")
        held = self._indices.get(home.folder)
        if held is None or held[0] is not log:
            held = self._indices[home.folder] = log, SiteIndex(log)
        return held[1]
