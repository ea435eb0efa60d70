"""What people did beside the processes of a home, as an entry of a site log: from the notes of the home."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2pfl.codec import Facts, read_facts
from p2pfl.home import Home
from p2pfl.home.notes import Note, Taken, note_list
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import ActsEntry


def acts_of(held: Sequence[Note]) -> list[Facts]:
    """The notes as an entry says them."""
    return [{"command": one.command, "options": {**one.options, "at": one.at}} for one in held]


def looked_at_between(home: Home, logs: Callable[[], Mapping[str, Log]]) -> tuple[Mapping[str, Log], list[Note]]:
    """Site logs by study, and the notes that no site log of the home has.

    Beside a process that takes up notes: they are looked at before the logs and behind them, until both are the same.
    """
    while True:
        held, found = note_list(home), logs()
        if note_list(home) == held:
            break

    def stand(taken: Taken) -> bool:
        log = found.get(taken.study)
        return stand_in_home(home, taken) if log is None else stand_in(log, taken)

    return found, held.untold(stand)


def stand_in(log: Log, taken: Taken) -> bool:
    """The site log says these notes behind the entries that it had when they were taken up."""
    kind, acts = f'"kind":"{ActsEntry.kind}"'.encode(), acts_of(taken.notes)
    later = (log[index].record for index in range(taken.entries, len(log)))
    return any(kind in record and read_facts(record)["acts"] == acts for record in later)


def stand_in_home(home: Home, taken: Taken) -> bool:
    """The same, of the study of this home that took them up. Raises LedgerDamaged and the like."""
    return stand_in(Log.open(home.as_study(taken.study), "site"), taken)
