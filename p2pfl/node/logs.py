"""A home's two logs as the node uses them: what goes into which, when a head is signed, and how far a run got.

Every method that writes is durable when it returns. The training thread charges while the node's thread votes, so
both write under one lock. What the event loop asks takes none (durable_logs.py).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from p2pfl import codec
from p2pfl._version import __version__
from p2pfl.errors.ledger import MembershipBroken
from p2pfl.federation.membership import Epochs
from p2pfl.home import Home
from p2pfl.keys import Identity, SignedRecord
from p2pfl.ledger.entry import Entry, own_facts
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import DroppedEntry, SiteEntry, StartEntry
from p2pfl.node.beginning import Beginning
from p2pfl.node.durable_logs import DurableLogs
from p2pfl.node.other_logs import OtherLogs
from p2pfl.node.pledge import Pledge
from p2pfl.node.site_index import SiteIndex
from p2pfl.sharing.digests import base_digest
from p2pfl.sharing.fairness import WINDOW, left_out


def epochs_of(home: Home, log: Log) -> Epochs:
    """What the federation log of `home` says of membership. Raises MembershipBroken."""
    steps = Epochs()
    for one in log.records():
        step(steps, one, home)
    return steps


def step(steps: Epochs, one: Entry, home: Home) -> codec.Facts:
    """Take in the next entry of the federation log of `home`; what it says. Raises MembershipBroken."""
    try:
        facts = own_facts(one)
        steps.add_entry(one.record, one.signatures, facts)
    except codec.Malformed as error:
        raise MembershipBroken(evidence=f"entry {one.index}: {error}", home=home.path) from None
    return facts


class Logs(DurableLogs):
    """Both logs of one home, open for one federation. Raises OtherFederation when the home serves another.

    Raises LedgerDamaged when one log is not the other's, MembershipBroken when its epochs do not follow.
    """

    def __init__(self, home: Home, identity: Identity, pledge: Pledge, wall: Callable[[], float]) -> None:
        self.home, self._identity, self._pledge, self._wall = home, identity, pledge, wall
        super().__init__(Log.open(home, "federation"), Log.open(home, "site"))
        self.federation.expect_genesis(pledge.genesis, pledge.log)
        self.federation.check_beside(self.site)
        self.charging = threading.RLock()  # of this process: a charge, and its entry, before another one looks
        self._closed = False
        self._beginning: Beginning | None = None  # of this process, while it has done nothing else
        self._name = home.name
        self._spent: dict[str, float] = {}  # by site: the largest epsilon that a round, or a recovery, says of it
        self._index = SiteIndex(self.site)
        self.others = OtherLogs()  # of the home's other studies
        for one in self.federation.records():  # each is parsed here, once, and never again
            self._count(one.record, step(self.epochs, one, home))
        self.show()

    def _count(self, record: bytes, facts: codec.Facts) -> None:
        if facts.get("kind") == "round":
            run_id = facts["run"]
            self._final[run_id] = (facts["round"], facts["model_after"], base_digest(record))
            for name, text in facts["epsilon"].items():
                self._spend(name, text)
            self._rounds.setdefault(run_id, []).append(facts)
        for name, text in facts.get("recovered", {}).items():
            self._spend(name, text)

    def _spend(self, name: str, text: str) -> None:
        self._spent[name] = max(self._spent.get(name, 0.0), float(text or 0.0))

    def learn_spent(self, spent: float) -> None:
        """A peer shows, under this site's own signature, that its records have spent so much: it counts from now on."""
        with self.writing():
            if spent > max(self._spent.get(self._name, 0.0), self._index.charged()):
                self._spent[self._name] = spent
                if len(self.site):
                    self._sign_site()

    def _sign_site(self) -> None:
        spent = max(self._spent.get(self._name, 0.0), self._index.charged())
        self.site.sign_head(self._identity, self.federation, f"{spent:.6f}" if spent else "")

    @property
    def time(self) -> int:
        """Unix time in whole seconds, as entries carry it."""
        return int(self._wall())

    def started(self, incarnation: bytes) -> None:
        """This process begins to work in the home; what a crash left unfinished in a log is told, and the heads follow.

        So however often a process dies between an entry and its head, no head is behind by more than one round.
        """
        for log in (self.federation, self.site):
            if log.torn is not None:
                segment, size = log.torn
                self.note(DroppedEntry(time=self.time, log=log.which, segment=segment, bytes=size))
        python = ".".join(map(str, sys.version_info[:3]))
        begun = StartEntry(time=self.time, version=__version__, python=python, incarnation=incarnation.hex())
        begun = begun.salted(self.home.draw)
        with self.writing():
            self._beginning = Beginning(begun, self.site)
            if not self._beginning.repeats:
                self.note(begun)
            if len(self.federation):
                self.federation.sign_head(self._identity)
            self._sign_site()

    @property
    def genesis(self) -> bytes:
        """SHA-256 of the first entry, as a peers.yaml of a later epoch names it; empty in epoch 1."""
        return self._pledge.log

    def spent(self) -> Mapping[str, float]:
        """By site, the epsilon that the ledger says it has spent, over all runs."""
        return self._spent

    def left_out(self, run_id: bytes) -> Mapping[str, int]:
        """By site, how many of the last final rounds of `run` went without it."""
        return left_out(self._rounds.get(run_id.hex(), [])[-WINDOW:])

    def last_round(self, run_id: bytes) -> codec.Facts | None:
        """The record of the last final round of `run`; None before the first."""
        held = self._rounds.get(run_id.hex())
        return held[-1] if held else None

    def missed(self, run_id: bytes) -> frozenset[str]:
        """The sites that the last final round of `run` went without."""
        last = self.last_round(run_id)
        return frozenset(last["left_out"]) if last else frozenset()

    def count(self, run_id: bytes) -> int:
        """How many rounds of `run` are final: those that were left behind have numbers too."""
        return len(self._rounds.get(run_id.hex(), ()))

    def model_after(self, run_id: bytes) -> bytes | None:
        """Digest of the model after the last final round of `run`."""
        held = self._final.get(run_id.hex())
        return bytes.fromhex(held[1]) if held else None

    def charges(self, run_id: bytes) -> int:
        """How many passes of `run` the site log says were charged."""
        with self._lock:
            return self._index.charges()[run_id]

    def looks(self, run_id: bytes) -> int:
        """How many looks of `run` the site log says were charged."""
        with self._lock:
            return self._index.looks()[run_id]

    def standing(self, marks: Collection[str]) -> list[codec.Facts]:
        """Queries of these data in the site log that were answered, or may still be."""
        with self._lock:
            return list(self._index.standing(marks))

    def revocations(self) -> dict[bytes, int]:
        """By key of a peer, how often this site revoked it, or accepted it again."""
        with self._lock:
            return self._index.revocations()

    def withdrawn(self) -> int:
        """How many records and patients the site log tells of whose consent was withdrawn."""
        with self._lock:
            return self._index.withdrawn()

    def questions(self) -> int:
        """How many questions of the home were counted, over all its studies, when the site log said so last."""
        with self._lock:
            return self._index.questions()

    def unsummed(self, run_id: bytes) -> tuple[dict[int, str], int]:
        """By round of `run` that went without this site although it was there, who named the set; and the last round
        of which this site's operator has seen that."""
        with self._lock:
            return dict(self._index.missed(run_id)), self._index.looked(run_id)

    def begin(self, genesis: Mapping[str, bytes], agreement: Mapping[str, bytes]) -> None:
        """Write the genesis with everybody's signature, and the agreement where there is one."""
        items = [(self._pledge.genesis, dict(genesis))]
        if self._pledge.agreement:
            items.append((self._pledge.agreement, dict(agreement)))
        with self.writing():
            if not len(self.federation):
                self.federation.extend(items)
                for record, signed in items:
                    self.epochs.add_entry(record, signed)
                self.federation.sign_head(self._identity)

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """One step of the home; what it adds to the logs nobody sees, and no peer is shown, before it is durable."""
        with self.writing(), self.home.one_step():
            yield

    def finish(self, record: bytes, cosignatures: Mapping[str, bytes]) -> None:
        """A round is final. From here on this machine refuses a shorter log."""
        with self.writing():
            index = self.federation.append(record, dict(cosignatures))
            facts = own_facts(self.federation[index])
            self.epochs.add_entry(record, cosignatures, facts)
            self._count(record, facts)
            self.federation.sign_head(self._identity)
            self._sign_site()

    def rows(self, first: int, most: int, most_bytes: int) -> list[SignedRecord]:
        """Entries from `first` on with their signatures: at most `most`, and `most_bytes` but for the first of them."""
        with self._lock:
            found: list[SignedRecord] = []
            size = 0
            for index in range(first, min(len(self.federation), first + most)):
                entry = self.federation[index]
                size += len(entry.record) + 128 * len(entry.signatures)
                if size > most_bytes and found:
                    break
                found.append((entry.record, entry.signatures))
            return found

    def adopt(self, rows: Sequence[SignedRecord]) -> None:
        """Entries that this site took no part in, checked (sharing/history.py); durable."""
        with self.writing():
            self.federation.extend([(record, dict(signed)) for record, signed in rows])
            for record, signed in rows:
                self.epochs.add_entry(record, signed)
                self._count(record, codec.read_facts(record))
            self.federation.sign_head(self._identity)
            self._sign_site()

    def cosign(self, record: bytes, cosignatures: Mapping[str, bytes], *, wait: bool = True) -> bool:
        """Signatures over the last entry that came after it was written: durable with the next step.

        wait   else False, and nothing done, where that might wait for the disk or for a thread
        """
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            last = len(self.federation) - 1
            if last < 0 or self.federation[last].record != record:
                return True
            late = {name: one for name, one in cosignatures.items() if name not in self.federation[last].signatures}
            if late and not (wait or self.federation.has_segment):
                return False
            if late:
                self.federation.add_signatures(last, late)
                self.show()
            return True
        finally:
            self._lock.release()

    def note(self, entry: SiteEntry, *, soon: bool = False) -> None:
        """One entry of the site log; before it, those with which this process began, if they were kept back so far.

        soon   it is durable with the next step of the home
        """
        with self.writing():
            entry, beginning = entry.salted(self.home.draw), self._beginning
            if beginning is not None and beginning.repeats and beginning.is_repeated(entry):
                return
            self._beginning = None
            if beginning is not None and beginning.repeats:
                for one in beginning.held:
                    self.site.append(one.record)
            self.site.append(entry.record, soon=soon)

    def note_at_once(self, entry: SiteEntry) -> bool:
        """`note` it with the next step; False, and nothing noted, where that might wait for the disk or a thread."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            ready = self._beginning is None and self.site.has_segment
            if ready:
                self.site.append(entry.salted(self.home.draw).record, soon=True)
                self.show()
            return ready
        finally:
            self._lock.release()

    def close(self) -> None:
        """Sign how the site log stands, and let go of the files."""
        with self.writing():
            if len(self.site) and not self._closed:
                self._sign_site()
            self._closed = True
            self.federation.close()
            self.site.close()
