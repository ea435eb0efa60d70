"""The ledger's rates: durable appends, chain and tree verified, signatures against bare Ed25519.

    python -m benchmarks.ledger [--json] [--entries N] [--rounds K]

Appends are to a home on this machine's disk, each group with its fsync; the disk's own rate is beside them. Chain and
tree are verified from the encrypted segments. Signatures are checked as `ledger verify` checks a federation log of five
sites, form and order of the entries included, against the same signatures given to the library one by one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks._long_ledger import round_entry
from benchmarks._report import Finding, interleave, machine, rates, ratios, show
from p2pfl.home import Home
from p2pfl.home.disk import Disk
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.segments import SegmentFiles
from p2pfl.keys import Identity, SignedRecord, digest, signing_input
from p2pfl.ledger.entry import FIRST, Entry
from p2pfl.ledger.federation_kinds import GenesisEntry
from p2pfl.ledger.log import Log
from p2pfl.ledger.read_log import HashChain, read_log
from p2pfl.ledger.site_kinds import BallotEntry
from p2pfl.ledger.verify import check_federation

GROUP = 64
SITES = {f"site-{k}": Identity(digest("benchmark identity", bytes([k]))) for k in range(5)}
RUN = bytes(32)


def ballots(count: int) -> list[SignedRecord]:
    """Site entries of the commonest kind."""
    return [(ballot(k).record, {}) for k in range(count)]


def ballot(number: int) -> BallotEntry:
    """A vote in the first attempt of a round."""
    return BallotEntry(
        time=number,
        salt=RUN[:16],
        run=RUN,
        epoch=1,
        round=number,
        attempt=0,
        vote="SURVIVORS",
        attempt_digest=RUN,
        view=RUN,
        waited_for=(),
    )


def rounds(count: int) -> list[Entry]:
    """A federation log: a genesis and rounds, each signed by all five."""
    names = list(SITES)
    peers = [(name, site.key) for name, site in SITES.items()]
    first = GenesisEntry(federation="benchmark", epoch=1, federation_digest=RUN, peers=peers, settings={})
    records, base = [first.record], RUN
    trained: dict[str, Any] = {"configuration": {"purpose": "train"}, "epsilon": dict.fromkeys(names, "1.5")}
    for k in range(1, count + 1):
        records.append(round_entry(k, names, RUN, base=base, time_ms=k, **trained).record)
        base = digest("base", records[-1])
    chain = HashChain()
    for record in records:
        chain.add(record, {name: site.sign("record", record) for name, site in SITES.items()})
    return chain.entries


def bare(log: list[Entry]) -> Callable[[], None]:
    """The same signatures, with nothing around them."""
    keys = {name: Ed25519PublicKey.from_public_bytes(site.key) for name, site in SITES.items()}
    jobs = [
        (keys[name], signature, signing_input("record", each.record))
        for each in log
        for name, signature in each.signatures.items()
    ]

    def verify() -> None:
        for key, signature, data in jobs:
            key.verify(signature, data)

    return verify


def checked(log: list[Entry]) -> None:
    """What `ledger verify` does with the entries."""
    if check_federation(log):
        raise RuntimeError("the benchmark's own log does not verify")


def chained(log: HashChain) -> None:
    """Chain and tree alone, from records in memory."""
    again = HashChain()
    for each in log.entries:
        again.add(each.record, {})
    if again.tree.root() != log.tree.root() or again.head == FIRST:
        raise RuntimeError("the benchmark's own log does not verify")


def synced(disk: Disk, folder: Path, times: int) -> None:
    """The disk's own rate: an append of one frame's size, and an fsync."""
    path = folder / "plain"
    descriptor = disk.open(path, os.O_CREAT | os.O_TRUNC)
    for _ in range(times):
        disk.write(descriptor, bytes(400), path)
        disk.sync(descriptor, path)
    os.close(descriptor)


def opened(folder: Path, name: str) -> Home:
    """A new home for one side of the comparison."""
    return Home.create(folder / name, name, [KeyFile(folder / f"{name}.key")])


def findings(seconds: Mapping[str, tuple[float, ...]], entries: int, singles: int, signatures: int) -> list[Finding]:
    """The measured rates and their promises (docs/benchmarks.md)."""
    one, many = rates(singles, seconds["one"]), rates(entries, seconds["groups"])
    ratio = ratios(seconds["bare"], seconds["signatures"])
    return [
        Finding("appended durably, one by one", one, "entries/s"),  # as fast as the disk confirms
        Finding(f"appended durably, in groups of {GROUP}", many, "entries/s", at_least=2000),
        Finding("one by one / the disk's own append and fsync", ratios(seconds["disk"], seconds["one"])),
        Finding("verified: decryption, chain and tree", rates(entries, seconds["read"]), "entries/s", at_least=50_000),
        Finding("verified: chain and tree alone", rates(entries, seconds["chain"]), "entries/s"),
        Finding("signatures verified", rates(signatures, seconds["signatures"]), "per s"),
        Finding("signatures / bare Ed25519", ratio, at_least=0.8),
    ]


def main() -> int:
    """Measure and print; the exit status is 0 when every promise holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    items = ballots(given.entries)
    alone = items[: max(given.entries // 20, 10)]
    federation = rounds(max(given.entries // 100, 5))
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        with opened(at, "one") as one, opened(at, "groups") as groups, opened(at, "read") as read:
            singly, grouped = Log.open(one, "site"), Log.open(groups, "site")
            Log.open(read, "site").extend(items)
            whole = read_log(SegmentFiles(read, "site"), "site").chain
            tasks = {
                "one": lambda: [singly.append(record) for record, _ in alone],
                "groups": lambda: [grouped.extend(items[k : k + GROUP]) for k in range(0, len(items), GROUP)],
                "disk": lambda: synced(one.disk, at, len(alone)),
                "read": lambda: read_log(SegmentFiles(read, "site"), "site"),
                "chain": lambda: chained(whole),
                "signatures": lambda: checked(federation),
                "bare": bare(federation),
            }
            seconds = interleave(tasks, given.rounds)
    found = findings(seconds, len(items), len(alone), len(federation) * len(SITES))
    return show("ledger", found, machine("cryptography"), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
