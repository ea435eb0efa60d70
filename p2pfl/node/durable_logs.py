"""What is read of a home's two logs without waiting for whoever writes to them: as far as they are durable.

A thread that notes a charge, or that a round is final, holds the lock of the logs through an fsync. The event loop asks
at each hello, head and question how far they are, and waits for no disk: it sees them as they were before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Final

from p2pfl import codec
from p2pfl.federation.membership import Change, Epochs
from p2pfl.ledger.log import Log
from p2pfl.ledger.note import Head, federation_of
from p2pfl.sharing.history import NO_BASE, Base

FinalRound = tuple[int, str, bytes]  # of a run: its last one, the model after it, digest of its record
NOT_BEGUN: Final[FinalRound] = (0, "", NO_BASE[1])


@dataclass(frozen=True, slots=True)
class LogsStand:
    """How far both logs were when nobody wrote to them.

    entries, site   how many the federation log has, and the site log
    site_head       the note of the newest head that this site signed over its site log
    final, rounds   by run: its last final round, and how many are final
    """

    entries: int
    site: int
    site_head: str | None
    final: Mapping[str, FinalRound]
    rounds: Mapping[str, int]


class DurableLogs:
    """Both logs, append-only, in memory. Whoever writes does so in `writing`; the methods here take no lock."""

    def __init__(self, federation: Log, site: Log) -> None:
        self.federation, self.site, self.epochs = federation, site, Epochs()
        self._lock = RLock()
        self._depth = 0  # of the thread that writes
        self._final: dict[str, FinalRound] = {}  # by run
        self._rounds: dict[str, list[codec.Facts]] = {}  # by run: the records of its final rounds
        self.show()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One thread at a time; behind it everybody sees what it wrote, unless it failed."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            self.show()

    def show(self) -> None:
        """For the thread that holds the lock: the logs are seen as they are now, once its last step is over."""
        if not self._depth:
            rounds = {run: len(records) for run, records in self._rounds.items()}
            head = self.site.latest_head()
            self._stand = LogsStand(len(self.federation), len(self.site), head, dict(self._final), rounds)

    @property
    def entries(self) -> int:
        """How many the federation log holds."""
        return self._stand.entries

    def stands(self) -> tuple[int, bytes]:
        """Entries of the federation log, and its root."""
        size = self._stand.entries
        return size, self.federation.root_at(size)

    def root_at(self, size: int) -> bytes:
        """The root over the first `size` entries of the federation log."""
        return self.federation.root_at(size)

    def site_root(self) -> bytes:
        """The root of the site log."""
        return self.site.root_at(self._stand.site)

    def site_head(self) -> str | None:
        """The note of the newest head that this site signed over its site log."""
        return self._stand.site_head

    def site_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """That the first `old` entries of the site log are a prefix of its first `new`; empty for 0."""
        return self.site.consistency(old, new) if old else ()

    def site_extends(self, head: Head) -> bool:
        """The first entries of the site log are those that the head is over."""
        return head.size <= self._stand.site and self.site.root_at(head.size) == head.root

    def counts(self, name: str, head: Head) -> bool:
        """The head of that site's log was signed after the site last joined: before, it may have had another log.

        Raises ValueError when it says nothing of the federation log.
        """
        stated = federation_of(head)
        if stated is None:
            raise ValueError("it says nothing of the federation log")
        return stated[0] > max(self.epochs.added.get(name, -1), self.epochs.recovered.get(name, -1))

    def same_account(self, name: str, head: Head) -> bool:
        """The head was signed after the site was added last: what its records had spent then they have spent now."""
        stated = federation_of(head)
        return stated is not None and stated[0] > self.epochs.added.get(name, -1)

    def final_round(self, run_id: bytes) -> int:
        """The last final round of `run`; 0 before the first."""
        return self.base(run_id)[0]

    def base(self, run_id: bytes) -> Base:
        """The last final round of `run`, and the digest of its record."""
        number, _, record = self._stand.final.get(run_id.hex(), NOT_BEGUN)
        return number, record

    def final_rounds(self) -> dict[bytes, int]:
        """By run, its last final round."""
        return {bytes.fromhex(run_id): number for run_id, (number, *_) in self._stand.final.items()}

    def bases(self) -> dict[bytes, Base]:
        """By run, its last final round and the digest of that record."""
        return {bytes.fromhex(run_id): (number, record) for run_id, (number, _, record) in self._stand.final.items()}

    def rounds(self, run_id: bytes) -> list[codec.Facts]:
        """The records of `run`'s rounds, in order. Nobody changes them: they are read once, when they come."""
        run = run_id.hex()
        return self._rounds.get(run, [])[: self._stand.rounds.get(run, 0)]

    @property
    def in_an_epoch(self) -> bool:
        """The last entry is a round of an epoch that goes on."""
        return bool(self._stand.entries) and not self.epochs.announced and self.epochs.rounds > 0

    @property
    def founders(self) -> frozenset[str]:
        """The sites with which the federation began; none before its genesis is written."""
        if not self._stand.entries:
            return frozenset()
        return frozenset(name for name, _ in codec.read_facts(self.federation[0].record)["peers"])

    def changes(self, most: int) -> list[Change]:
        """The newest changes of membership that are in force, oldest first."""
        ends = [index for index in self.epochs.ends if index < self._stand.entries]
        held = [self.federation[index] for index in ends[-most:]]
        return [Change(one.record, one.signatures) for one in held]
