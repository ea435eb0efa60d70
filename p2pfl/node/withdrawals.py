"""Who withdrew consent, as a home keeps it for all its studies: marks alone, under its own key.

`withdraw` is called beside a running site too. The site reads the list before each round, and what it trains on and
measures is from then on without them; the privacy account of what was done before stays as it is. docs/adr/0063.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from p2pfl.errors.home import WithdrawalsLost
from p2pfl.home import Home, notes
from p2pfl.ledger.log import Log
from p2pfl.node.acts import looked_at_between
from p2pfl.node.logs import Logs
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.site_index import WITHDRAW, SiteIndex
from p2pfl.node.studies import Elsewhere
from p2pfl.training.records.withdrawn import LeavesOut, Withdrawn

ITEM: Final = "accounts/withdrawn"


def read_withdrawn(home: Home) -> Withdrawn:
    """Those of this home. Raises ItemDamaged, Malformed: a list that cannot be read is no empty one."""
    data, key = home.read(ITEM), home.records_key()
    return Withdrawn(key) if data is None else Withdrawn.from_bytes(key, data)


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a withdrawal: how many names were given, were new, and are of records that this home has used."""

    given: int
    new: int
    used: int


def checked_list(home: Home, logs: Logs) -> Withdrawn:
    """Those of this home. Raises as `read_withdrawn`; WithdrawalsLost when its site logs tell of more of them."""
    # The logs first: whoever withdraws meanwhile is in the list before any log tells of it.
    told = logs.withdrawn() + sum(other.withdrawn() for _, other in Elsewhere(home, logs.others).site_logs())
    found = read_withdrawn(home)
    if found.marks.size < told:
        raise WithdrawalsLost(evidence=f"the site log tells of {told}, {ITEM} has {found.marks.size}", home=home.path)
    return found


def withdraw(home: Home, names: Iterable[bytes], at: int) -> Told:
    """The records, and those of the patients, of these names are left out from now on; durable on return.

    names   as of `Records.names`, or of a question's records
    at      Unix seconds
    The site log says that somebody was left out, and how many, once a process writes it; not who. The list is first:
    it never has fewer than the logs tell of. What one that died did not say, the next one does.
    """
    with home.charging():
        held = read_withdrawn(home)
        marks = held.marks_of(names)
        new = np.setdiff1d(marks, held.marks, assume_unique=True)
        used = [group.marks for group in read_accounts(home).groups]
        told = Told(marks.size, new.size, int(np.isin(marks, np.concatenate(used)).sum()) if used else 0)
        if new.size:
            home.replace(ITEM, held.more(new).to_bytes())
        # Under this lock, so that two of them do not tell the same. Not under that of the notes, for which a node may
        # wait: logs may be long.
        untold = held.marks.size + new.size - _told(home)
        if untold > 0:
            notes.put(home, WITHDRAW, at, {"records": int(untold)})
    return told


def _told(home: Home) -> int:
    """How many the notes and the site logs of all studies tell of."""
    logs, untold = looked_at_between(home, lambda: {one.study: Log.open(one, "site") for one in _begun(home)})
    waiting = sum(int(one.options.get("records", 0)) for one in untold if one.command == WITHDRAW)
    return waiting + sum(SiteIndex(log).withdrawn() for log in logs.values())


def _begun(home: Home) -> list[Home]:
    return [one for one in home.studies() if (one.folder / "ledger" / "site").is_dir()]


@dataclass
class Withdrawals:
    """What a training knows of them: read before each round."""

    home: Home
    logs: Logs
    trainer: object
    taken: Withdrawn | None = None

    def take_up(self) -> bool:
        """Who withdrew is left out of what comes; True when that are others than before.

        Raises TooFewRecords, WithdrawalsLost.
        """
        found = checked_list(self.home, self.logs) if self.taken is None else read_withdrawn(self.home)
        if self.taken is not None and (lost := np.setdiff1d(self.taken.marks, found.marks)).size:
            raise WithdrawalsLost(evidence=f"{ITEM} had {lost.size} more in this process", home=self.home.path)
        if self.taken is None and not found.marks.size:
            self.taken = found
        if found == self.taken or not isinstance(self.trainer, LeavesOut):
            return False
        self.trainer.leave_out(found)
        self.taken = found
        return True
