"""The first entries of a process in its site log: kept back while they say what the process before it said."""

from __future__ import annotations

from p2pfl import codec
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import ActsEntry, SiteEntry, StartEntry


class Beginning:
    """The first entries of a process: that it started, and which command a person ran.

    A service that is started again and again, and waits each time, does what the process before it did, and nothing
    else: that is no news, and years of it would fill the log. So they are kept back until there is something to note.
    """

    def __init__(self, begun: StartEntry, log: Log) -> None:
        self.held: list[SiteEntry] = [begun]
        last = [codec.read_facts(log[index].record) for index in range(max(0, len(log) - 2), len(log))]
        if last and last[-1]["kind"] == StartEntry.kind:
            del last[:-1]
        self._before = last  # what the process before this one noted, if that is all
        self.repeats = bool(last) and _same(last[0], begun)

    def is_repeated(self, entry: SiteEntry) -> bool:
        """It is what the process before noted last, and is held from now on.

        What people did is noted as it comes, also where they did nothing: a log that grew only otherwise would tell.
        """
        if (
            entry.kind == ActsEntry.kind
            or [len(self.held), len(self._before)] != [1, 2]
            or not _same(self._before[1], entry)
        ):
            return False
        self.held.append(entry)
        return True


def _same(facts: codec.Facts, entry: SiteEntry) -> bool:
    """The facts are those of the entry, but for its time and process."""
    others = codec.read_facts(entry.record)
    return all(facts.get(key) == others.get(key) for key in {*facts, *others} - {"time", "salt", "incarnation"})
