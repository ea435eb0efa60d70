"""Three sites and their entries, for the ledger's tests: small, fixed, complete."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from p2pfl import merkle
from p2pfl.codec import facts
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.segments import LogName
from p2pfl.keys import Identity, digest
from p2pfl.ledger.federation_kinds import AgreementEntry, GenesisEntry
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import (
    AbandonedEntry,
    BallotEntry,
    ChargeEntry,
    CommitmentEntry,
    LookEntry,
    OperatorEntry,
    StartEntry,
)

NAMES = ("charite", "st-olav", "ucl")
SITES = {name: Identity(digest("test identity", name.encode())) for name in NAMES}
RUN = bytes(range(32))
SALT = bytes(range(16))  # of the site's entries
Signed = tuple[bytes, dict[str, bytes]]


def signed(record: bytes, names: tuple[str, ...] = NAMES) -> Signed:
    return record, {name: SITES[name].sign("record", record) for name in names}


def genesis(federation: str = "rare-disease", peers_file: bytes = bytes(32)) -> Signed:
    peers = [(name, SITES[name].key) for name in NAMES]
    settings = {"rounds": 3}
    made = GenesisEntry(federation=federation, epoch=1, federation_digest=peers_file, peers=peers, settings=settings)
    return signed(made.record)


def first_site_root() -> str:
    """The root over the first of `site_records`, in hex: what a site's head was when its rounds began."""
    return merkle.root([site_records(1)[0][0]]).hex()


def round_facts(number: int, **changed: object) -> dict[str, object]:
    """What CONFIRM writes for one round (sharing/phases/confirm.py); it rests on the unchanged round before it."""
    model = [digest("model", bytes([k])).hex() for k in (number, number + 1)]
    return {
        "kind": "round",
        "run": RUN.hex(),
        "epoch": 1,
        "round": number,
        "attempt": 0,
        "rests_on": number - 1,
        "base": base(number - 1),
        "survivors": list(NAMES),
        "left_out": [],
        "attempt_digest": "d" * 64,
        "view": "e" * 64,
        "total": "f" * 64,
        "model_before": model[0],
        "model_after": model[1],
        "configuration": {"purpose": "train"},
        "outcome": {"clipped": "0.01"},
        "epsilon": dict.fromkeys(NAMES, f"0.{number:02}"),
        "site_heads": dict.fromkeys(NAMES, first_site_root()),
        "time_ms": 1_700_000_000_000 + number,
        "salt": digest("salt", bytes([number])).hex(),
        **changed,
    }


@cache
def base(number: int) -> str:
    """The digest, in hex, by which a record names the unchanged round that it rests on; zeros before the first."""
    return base_of(facts(round_facts(number))) if number else bytes(32).hex()


def base_of(record: bytes) -> str:
    """The digest, in hex, by which a record names the record that it rests on."""
    return digest("base", record).hex()


def round_(number: int, names: tuple[str, ...] = NAMES, **changed: object) -> Signed:
    return signed(facts(round_facts(number, **changed)), names)


def federation_records(rounds: int = 3) -> list[Signed]:
    return [genesis(), *(round_(number) for number in range(1, rounds + 1))]


def charge(before: str, after: str, limit: str = "3", *, time: int = 1) -> ChargeEntry:
    """A charge of round 1, from one ε to another."""
    spent: dict[str, Any] = {"before": before, "after": after, "delta": "1e-5", "limit": limit}
    return ChargeEntry(time=time, salt=SALT, run=RUN, round=1, mechanism={"sigma": "1.1"}, **spent)


def look(before: str, after: str, limit: str = "1", *, charged: bool = True, alone: str | None = None) -> LookEntry:
    """A look of round 1 at held-out records, from one ε to another."""
    spent: dict[str, Any] = {"before": before, "after": after, "delta": "1e-5", "limit": limit}
    return LookEntry(
        time=1, salt=SALT, run=RUN, round=1, mechanism={"sigma": "1.1"}, charged=charged, alone=alone, **spent
    )


def agreement(members: Sequence[str] = NAMES, epoch: int = 1) -> bytes:
    """The record that says who signed it."""
    return AgreementEntry(epoch=epoch, sha256=bytes(32), members=members).record


def ballot(number: int = 1, attempt: int = 0, *, survivors: bool, time: int = 1) -> BallotEntry:
    """A vote for all zeros, or one to abandon."""
    named = bytes(32) if survivors else None
    return BallotEntry(
        run=RUN,
        epoch=1,
        round=number,
        attempt=attempt,
        time=time,
        salt=SALT,
        vote="SURVIVORS" if survivors else "ABANDON",
        attempt_digest=named,
        view=named,
        waited_for=() if survivors else ("ucl",),
    )


def site_records(count: int = 6) -> list[Signed]:
    place: dict[str, Any] = {"run": RUN, "epoch": 1, "round": 1, "attempt": 0, "salt": SALT}
    rows = [
        StartEntry(time=1_700_000_000, salt=SALT, version="0.1.0", python="3.11", incarnation="00" * 16),
        OperatorEntry(time=1_700_000_001, salt=SALT, command="join", options={"rounds": 3}),
        charge("0", "0.5", time=1_700_000_002),
        CommitmentEntry(**place, time=1_700_000_003, of="bundle", digest=bytes(32)),
        ballot(time=1_700_000_004, survivors=True),
        AbandonedEntry(**place, time=1_700_000_005, certificate=bytes(32), waited_for=["ucl"]),
    ]
    return [(rows[k % len(rows)].record, {}) for k in range(count)]


def home(folder: Path) -> Home:
    return Home.create(folder / "charite", "charite", [KeyFile(folder / "charite.key")])


def write(at: Home, which: LogName, records: list[Signed], *, head: bool = True) -> None:
    """One process, from start to end: one segment with these entries, and a signed head over the log."""
    log = Log.open(at, which)
    for record, signatures in records:
        log.append(record, signatures)
    if head:
        log.sign_head(at.identity(), Log.open(at, "federation") if which == "site" else None)
    log.close()
    at.settle()


def filled(folder: Path) -> Home:
    """A home with 4 entries in two segments of the federation log, and 6 in two of the site log; heads over all."""
    made = home(folder)
    federation, site = federation_records(), site_records()
    write(made, "federation", federation[:2])
    write(made, "federation", federation[2:])
    write(made, "site", site[:2])
    write(made, "site", site[2:])
    return made
