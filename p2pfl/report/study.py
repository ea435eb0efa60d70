"""A home ► all that a report says of one study in it, verified first. Reads, and writes nothing.

Only entries that were verified are told: a log that grows meanwhile is read up to where it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any, Final

from p2pfl.home import Home
from p2pfl.home.segments import LogName, SegmentFiles
from p2pfl.keys import fingerprint
from p2pfl.ledger import note
from p2pfl.ledger.entry import Entry
from p2pfl.ledger.read_log import read_log
from p2pfl.ledger.verify import Report, verify
from p2pfl.ledger.witness import HeldNotes
from p2pfl.report.facts import facts_of
from p2pfl.report.reported import LedgerFacts

FORMAT: Final = 1
EXAMPLE_SITES: Final = ("mayo", "basel", "charite")  # of docs/hipaa.md: whose commands they are, and two others


@dataclass(frozen=True, slots=True)
class Safeguard:
    """A row of docs/hipaa.md, and the entries of this home that back it. evidence: by log and kind, entry numbers.

    kinds   of entry that back it; none: no entry does
    """

    rules: str
    requirement: str
    does: str
    check: str
    kinds: tuple[str, ...]
    evidence: Mapping[str, Mapping[str, Sequence[int]]]
    yours: str


@dataclass(frozen=True, slots=True)
class SentBytes:
    """What this site sent in one round: on the wire, TLS included; of it, words of the sum.

    taken_up   it is counted from where a process took the round up, which another one had begun
    """

    round: int
    sent: int
    payload: int
    taken_up: bool = False


@dataclass(frozen=True, slots=True)
class Curves:
    """Of the last measured model, over groups of patients large enough to be shown (`least` in each).

    model         its digest, hex
    roc           (1 − specificity, sensitivity)
    calibration   mean score, share of positives, and its 95 % interval
    """

    model: str
    least: int
    roc: Sequence[tuple[float, float]]
    calibration: Sequence[tuple[float, float, float, float]]

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> Curves:
        """What a home holds of them. Raises KeyError, TypeError, ValueError where it is something else."""
        roc = [(float(across), float(up)) for across, up in held["roc"]]
        groups = [(float(a), float(b), float(c), float(d)) for a, b, c, d in held["calibration"]]
        return cls(str(held["model"]), int(held["least"]), roc, groups)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known beside the ledger. card: of the model (docs/spec/model-file.md); no_card: why there is none.

    task   what is learned, in a line
    """

    task: str = ""
    card: Mapping[str, Any] | None = None
    no_card: str = ""
    sent: Sequence[SentBytes] = ()
    curves: Curves | None = None


@dataclass(frozen=True, slots=True)
class StudyReport:
    """What the page shows, and `--json` prints."""

    software: str
    made: str
    site: str
    fingerprint: str
    verification: Report
    ledger: LedgerFacts
    witnesses: Mapping[str, int]
    beside: Beside
    audit: tuple[Safeguard, ...] | None

    @property
    def verified(self) -> bool:
        """Nothing in the ledger is another than what was signed."""
        return self.verification.verified

    @property
    def epsilon_alone(self) -> float | None:
        """With noise in parts ε against all other sites together, as the model's card has it; else None."""
        private = (self.beside.card or {}).get("privacy") or {}
        told = private.get("epsilon_alone")
        return None if told is None else float(told)

    @property
    def dense_bytes(self) -> float:
        """What each site would send in one round of a plain fp32 all-reduce of the whole model; 0 without a model."""
        trained = [one for one in self.ledger.rounds if one.trains]
        if not trained:
            return 0.0
        count = len(self.ledger.epochs.get(trained[-1].epoch, ()))
        return 2 * (count - 1) / count * 4 * trained[-1].parameters if count else 0.0

    def as_json(self) -> dict[str, Any]:
        """One object of plain values; docs/reference/json.md lists its keys."""
        ledger, beside = asdict(self.ledger), asdict(self.beside)
        kinds = ledger.pop("kinds")
        logs = {"federation": self.verification.federation, "site": self.verification.site}
        return {
            "verified": self.verified,
            "report": FORMAT,
            "software": self.software,
            "made": self.made,
            "name": self.site,
            "fingerprint": self.fingerprint,
            **ledger,
            "findings": [asdict(one) for one in self.verification.findings],
            "ledger": {
                which: {
                    "entries": held.entries,
                    "root": held.root.hex(),
                    "head": held.head.hex(),
                    "signed": held.signed,
                    "kinds": {kind: len(found) for kind, found in kinds.get(which, {}).items()},
                }
                for which, held in logs.items()
            },
            "witnesses": dict(self.witnesses),
            "dense_bytes_per_round": round(self.dense_bytes),
            **beside,
            "audit": None if self.audit is None else [asdict(one) for one in self.audit],
        }


def _of_the_model(beside: Beside, ledger: LedgerFacts) -> Beside:
    """`beside`, without curves of another model than the one that the ledger has measured last."""
    last = ledger.last_measured
    known = beside.curves is not None and last is not None and beside.curves.model == last.model_before
    return beside if known else replace(beside, curves=None)


def report_of(home: Home, notes: HeldNotes, beside: Beside, software: str, made: str, *, audit: bool) -> StudyReport:
    """Verify `home`, then read it. notes: `node.witness.held_notes` of it. audit: answer the checklist, too."""
    verification = verify(home)
    federation = _entries(home, "federation", verification.federation.entries)
    ledger = facts_of(federation, _entries(home, "site", verification.site.entries))
    return StudyReport(
        software=software,
        made=made,
        site=home.name,
        fingerprint=fingerprint(home.identity().key),
        verification=verification,
        ledger=ledger,
        witnesses={peer: _size(held) for peer, held in sorted(notes.ours.items())},
        beside=_of_the_model(beside, ledger),
        audit=tuple(safeguards(ledger, home.name)) if audit else None,
    )


def safeguards(ledger: LedgerFacts, site: str) -> list[Safeguard]:
    """Every row of the checklist, with the entries that back it in this ledger; its commands are those of `site`."""
    found = []
    text = (resources.files("p2pfl.report") / "checklist.json").read_text(encoding="utf-8")
    names = [site, *(one.name for one in ledger.sites if one.name != site)]
    # Three at most are named in the checklist; where fewer are known, as before the first round, its own stay.
    called = dict(zip(EXAMPLE_SITES, names, strict=False))
    for row in json.loads(re.sub("|".join(EXAMPLE_SITES), lambda one: called.get(one[0], one[0]), text)):
        evidence = {
            which: {kind: tuple(by_kind[kind]) for kind in row["kinds"] if kind in by_kind}
            for which, by_kind in ledger.kinds.items()
        }
        found.append(Safeguard(**{**row, "kinds": tuple(row["kinds"])}, evidence=evidence))
    return found


def _entries(home: Home, which: LogName, count: int) -> Sequence[Entry]:
    return read_log(SegmentFiles(home, which), which).chain.entries[:count]


def _size(held: bytes) -> int:
    """Entries of this site's log that a note covers; 0 of what is no note."""
    try:
        return note.parse_note(held.decode("utf-8"))[0].size
    except ValueError:
        return 0
