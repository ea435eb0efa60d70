"""What a home keeps how long, and what may go: one table, and a setting of this site's own.

Years are counted from the last entry of the study's logs, so a study that goes on loses nothing. The ledger is kept
for six years at least (45 CFR 164.316(b)(2)(i)), and no verb removes it, whatever its age: its entries are one chain,
the privacy accounts are held against it, and it holds what was summed over whom. What else goes is named in it by
digest alone, so it verifies as before. docs/adr/0062.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors.home import KeptForever, KeptLonger
from p2pfl.home import Home, notes
from p2pfl.home.sealing import EVIDENCE
from p2pfl.ledger.log import Log

ITEM: Final = "membership/retention"
LEAST_YEARS: Final = 6  # of the ledger and of proofs: 45 CFR 164.316(b)(2)(i)
MOST_YEARS: Final = 100
LEDGER: Final = "ledger"
TIME: Final = re.compile(rb'"time(_ms)?":([0-9]+)')  # of a canonical record, in which no string holds a bare quote
LATEST_S: Final = 1 << 37  # Unix seconds of a year that a date can have: a clock may say anything


@dataclass(frozen=True, slots=True)
class KeptKind:
    """Items that are kept alike.

    items   of a study; a folder ends with /
    years   unless this site says otherwise
    least   fewer are refused
    """

    name: str
    holds: str
    items: tuple[str, ...]
    years: int
    least: int = 0


KINDS: Final = (
    KeptKind(LEDGER, "both logs and their heads", (), LEAST_YEARS, LEAST_YEARS),
    KeptKind("evidence", "proofs that a site broke the protocol", (f"{EVIDENCE}/",), LEAST_YEARS, LEAST_YEARS),
    KeptKind(
        "models",
        "the model, the update that was made last, and what averages hold back",
        ("checkpoints/", "state/residual", "state/pass", "state/averages/"),
        6,
    ),
    KeptKind("figures", "traffic by round, ROC and calibration", ("state/traffic", "state/curves"), 6),
    KeptKind("answers", "the last sum, until its caller has it", ("state/answer",), 1),
)
BY_NAME: Final = {one.name: one for one in KINDS}


def read_years(home: Home) -> dict[str, int]:
    """For how long this site keeps what. Raises ItemDamaged, Malformed."""
    data = home.read(ITEM)
    return {one.name: one.years for one in KINDS} | ({} if data is None else parse_years(data))


def parse_years(data: codec.Buffer) -> dict[str, int]:
    """What `set_years` wrote. Raises Malformed."""
    found = codec.read_facts(bytes(data))
    for name, years in found.items():
        if name not in BY_NAME or type(years) is not int or not BY_NAME[name].least <= years <= MOST_YEARS:
            raise Malformed("no years of a kind that is kept")
    return dict(found)


def set_years(home: Home, name: str, years: int, at: int) -> None:
    """From now on this site keeps that kind so long; durable, and noted for the site log, on return.

    Raises KeptLonger below what is the least.
    """
    kind = BY_NAME[name]
    if years < kind.least:
        raise KeptLonger(what=f"{name}: {kind.holds}", evidence=f"at least {kind.least} years, not {years}")
    with home.beside():
        notes.put_beside(home, "retention set", at, {"kind": name, "years": years})
        home.replace(ITEM, codec.facts({**_own_years(home), name: years}))


def _own_years(home: Home) -> Mapping[str, int]:
    data = home.read(ITEM)
    return {} if data is None else parse_years(data)


@dataclass(frozen=True, slots=True)
class KeptItems:
    """A kind of items of one study: what of it is there, and the day from which on it may go; None: nothing began."""

    kind: KeptKind
    years: int
    items: Sequence[str]
    until: datetime.date | None

    def is_past(self, today: datetime.date) -> bool:
        """Its time is over, and it is none that stays."""
        return self.until is not None and today >= self.until and self.kind.name != LEDGER


def held_by(home: Home) -> list[KeptItems]:
    """What the home keeps of the study that it sees. Raises LedgerDamaged and the like."""
    years, last = read_years(home), last_entry(home)
    found = []
    for kind in KINDS:
        until = None if last is None else after_years(last, years[kind.name])
        found.append(KeptItems(kind, years[kind.name], _items(home, kind), until))
    return found


def _items(home: Home, kind: KeptKind) -> list[str]:
    found: list[str] = []
    for name in kind.items:
        if name.endswith("/"):
            found += home.items(name.rstrip("/"))
        elif home.exists(name):
            found.append(name)
    return found


def last_entry(home: Home) -> datetime.date | None:
    """The day of the newest entry of either log, UTC; None where there is none."""
    times = [_newest(Log.open(home, "federation")), _newest(Log.open(home, "site"))]
    known = [one for one in times if one is not None]
    return datetime.datetime.fromtimestamp(max(known), datetime.UTC).date() if known else None


def _newest(log: Log) -> int | None:
    """The largest Unix seconds that an entry says; 0 where none does, None of an empty log.

    Of all entries, not of the last: one start with a dead clock, in 1970, would let go what is years from it. Of the
    federation log rounds alone say a time, in milliseconds.
    """
    found = [int(time) // (1000 if ms else 1) for one in log.records() for ms, time in TIME.findall(one.record)]
    return min(max(found, default=0), LATEST_S) if len(log) else None


def after_years(day: datetime.date, years: int) -> datetime.date:
    """The first day on which so many whole years are over."""
    following = day + datetime.timedelta(days=1)
    try:
        return following.replace(year=following.year + years)
    except ValueError:  # 29 February
        return datetime.date(following.year + years, 3, 1)


def prune(home: Home, names: Sequence[str], today: datetime.date, at: int, *, dry: bool) -> dict[str, list[str]]:
    """Remove what is past its time: by kind the items that are gone, or would be.

    home    opened for writing in a study, so no process works in it
    names   kinds; none: all but the ledger
    The note stands in the home before the first item goes, and each goes durably: a crash leaves the rest for the next
    call. Raises KeptForever for the ledger, KeptLonger for another kind that was named and whose time is not over;
    then nothing went.
    """
    check_past(home, names, today)
    gone = {one.kind.name: list(one.items) for one in _chosen(home, names) if one.is_past(today) and one.items}
    for name, items in gone.items() if not dry else ():
        notes.put(home, "retention prune", at, {"kind": name, "items": len(items)})
        for item in items:
            home.remove(item)
    return gone


def check_past(home: Home, names: Sequence[str], today: datetime.date) -> None:
    """Each of the kinds `names` may go. Raises KeptForever, KeptLonger."""
    for one in _chosen(home, names) if names else ():
        _check(one, today)


def _chosen(home: Home, names: Sequence[str]) -> list[KeptItems]:
    return [one for one in held_by(home) if one.kind.name in names or not names]


def _check(one: KeptItems, today: datetime.date) -> None:
    until = f"kept until {one.until}" if one.until is not None else "nothing of this study has begun"
    if one.kind.name == LEDGER:
        raise KeptForever(evidence=f"{until}, {one.years} years after its last entry")
    if not one.is_past(today):
        raise KeptLonger(what=f"{one.kind.name}: {one.kind.holds}", evidence=f"{until}; today is {today}")
