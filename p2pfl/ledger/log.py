"""One append-only log in a home: durable before visible, one chain, one tree, one signed head.

Each process writes into a segment of its own, made at its first append, and never into an earlier one, so a restored
snapshot repeats no nonce. An unfinished write at the end of the last segment is dropped when it is beyond what a head
signed by this site covers; anything below, or anything that a crash cannot explain, is an IntegrityError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from p2pfl.codec import Malformed
from p2pfl.errors.counts import counted
from p2pfl.errors.ledger import (
    HeadRefused,
    LedgerDamaged,
    LedgerRewritten,
    LedgerShortened,
    OtherFederation,
    RecordRefused,
)
from p2pfl.federation.membership import genesis_digest
from p2pfl.home import Home
from p2pfl.home.rekey import keys_of
from p2pfl.home.segments import LogName, SegmentFiles, SegmentWriter
from p2pfl.keys import SIGNATURE_BYTES, Identity, SignedRecord
from p2pfl.ledger import entry as entries
from p2pfl.ledger import note
from p2pfl.ledger.cross_check import Both, check_heads
from p2pfl.ledger.entry import Entry
from p2pfl.ledger.note import Head
from p2pfl.ledger.read_log import Finding, HashChain, Reading, read_log
from p2pfl.ledger.segment import ENTRY, LATE, Sealer, SegmentFrame, header
from p2pfl.roster import NAME


class Log:
    """The federation log or the site log of a home. Made by `open`."""

    def __init__(self, home: Home, which: LogName, reading: Reading, head_note: str | None) -> None:
        self._home, self.which = home, which
        self._chain: HashChain = reading.chain
        self._head_note = head_note
        self._appender: SegmentWriter | None = None
        self._sealer: Sealer | None = None
        self.dropped: tuple[Finding, ...] = tuple(reading.findings)
        """Unfinished writes at the end of the log, which are not part of it."""
        number, size, good = reading.last or (0, 0, 0)
        self.torn: tuple[int, int] | None = (number, size - good) if size > good else None
        """The segment whose tail was dropped, and the bytes of that tail."""

    @classmethod
    def open(cls, home: Home, which: LogName) -> Log:
        """Read and check the whole log: every frame, the chain, and the newest head that this site signed.

        With a home opened for reading it changes nothing, and may run beside a writer. Raises LedgerDamaged,
        LedgerShortened, LedgerRewritten, HeadRefused.
        """
        head_note = read_head(home, which)  # read before the segments, which are never behind a head
        segments = SegmentFiles(home, which)
        reading = read_log(segments, which)
        if reading.faults:
            first = reading.faults[0]
            raise LedgerDamaged(evidence=str(first), log=which, place=first.place, home=home.path)
        if head_note is not None:
            check_head(home, which, reading, head_note)
        if reading.last is not None and home.locked:
            number, size, good = reading.last
            # Also when nothing is torn: the process that wrote it may have died between its write and its fsync.
            segments.settle(number, good if good < size else size)
        return cls(home, which, reading, head_note)

    def __len__(self) -> int:
        return len(self._chain.entries)

    def __getitem__(self, index: int) -> Entry:
        return self._chain.entries[index]

    def records(self) -> Iterator[Entry]:
        """All entries, oldest first."""
        yield from self._chain.entries

    def root(self) -> bytes:
        """The RFC 6962 root over all records."""
        return self._chain.tree.root()

    def root_at(self, size: int) -> bytes:
        """The root over the first `size` records."""
        return self._chain.root_at(size)

    def head(self) -> bytes:
        """The hash of the last entry; 32 zero bytes before the first."""
        return self._chain.head

    def leaves(self) -> list[bytes]:
        """The leaf hashes of all records."""
        return list(self._chain.leaves)

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """The proof that its first `old` entries are a prefix of its first `new`, or of all, for a witness."""
        return self._chain.tree.consistency(old, new)

    def append(self, record: bytes, signatures: Mapping[str, bytes] | None = None, *, soon: bool = False) -> int:
        """Add one entry; it is durable when its number is returned. Raises RecordRefused, DiskFull, SyncFailed.

        soon   it is durable with the next step of the home
        """
        return self.extend([(record, signatures or {})], soon=soon)

    def extend(self, items: Iterable[SignedRecord], *, soon: bool = False) -> int:
        """Add entries with one fsync (group commit), all or none; returns the number of the first."""
        first, head, frames = len(self), self.head(), []
        items = list(items)
        for index, (record, signatures) in enumerate(items, first):
            self._check_record(record, signatures)
            frames.append((ENTRY, index, head, record, signatures))
            head = entries.entry_hash(head, record)
        if frames:
            self._write(frames, soon=soon)
        for record, signatures in items:
            self._chain.add(record, dict(signatures))
        return first

    def add_signatures(self, index: int, signatures: Mapping[str, bytes]) -> None:
        """Add signatures that came after entry `index`, durable with the next step of the home.

        They are no entry and change no root; the entry stands without them.
        """
        self._check_record(self[index].record, signatures)
        self._write([(LATE, index, bytes(32), b"", signatures)], soon=True)
        self._chain.sign(index, dict(signatures))

    def expect_genesis(self, record: bytes, later: bytes = b"") -> None:
        """Raises OtherFederation when the log begins with another record than this genesis.

        later   in an epoch after the first: SHA-256 of the log's first record, in place of the record
        """
        if len(self) and (genesis_digest(self[0].record) != later if later else self[0].record != record):
            evidence = f"entry 0 is {entries.render(self[0]).strip()[:160]}"
            raise OtherFederation(evidence=evidence, home=self._home.path)

    def sign_head(self, identity: Identity, federation: Log | None = None, epsilon: str = "") -> str:
        """Sign the log's size and root, durably; returns the note. A site log's head states the federation log's too.

        epsilon   of a site log: what its records have spent; empty for nothing

        From then on this machine refuses a shorter log, or another one. Raises ValueError on an empty log.
        """
        extensions: tuple[str, ...] = ()
        if federation is not None:
            stands = Head("", len(federation), federation.root())
            extensions = (f"{note.FEDERATION} {' '.join(stands.text.split())}",)
            extensions += (f"{note.EPSILON} {epsilon}",) if epsilon else ()
        head = Head(self._origin(), len(self), self.root(), extensions)
        text = note.sign(head, self._home.name, identity)
        self._home.replace(f"ledger/{self.which}/head", text.encode("utf-8"))
        self._head_note = text
        return text

    def check_beside(self, site: Log) -> None:
        """Raises LedgerDamaged when this federation log and the home's site log cannot both be whole."""
        both = Both(self._home.name, self._chain, self._head_note, site._chain, site._head_note)
        first = next(check_heads(both), None)
        if first is not None:
            raise LedgerDamaged(evidence=str(first), log=first.log, place=first.place, home=self._home.path)

    def latest_head(self) -> str | None:
        """The newest note that this site signed over this log."""
        return self._head_note

    @property
    def has_segment(self) -> bool:
        """The next entry needs no new file."""
        return self._appender is not None and self._sealer is not None

    def close(self) -> None:
        """Close the segment file."""
        if self._appender is not None:
            self._appender.close()
        self._appender = self._sealer = None

    def _origin(self) -> str:
        if not len(self):
            raise ValueError(f"the {self.which} log is empty: there is nothing to sign")
        return origin(self.which, self._home.name, self[0].record)

    def _check_record(self, record: bytes, signatures: Mapping[str, bytes]) -> None:
        try:
            held = entries.read_record(record)
            if entries.KINDS[held["kind"]].in_log != self.which:
                raise Malformed(f"{held['kind']} belongs to the other log")
            for name, signature in signatures.items():
                if not NAME.fullmatch(name) or len(signature) != SIGNATURE_BYTES:
                    raise Malformed(f"signature of {name[:31]!r}: {len(signature)} bytes")
        except ValueError as error:
            raise RecordRefused(evidence=str(error), log=self.which) from None

    def _write(self, rows: Iterable[tuple[int, int, bytes, bytes, Mapping[str, bytes]]], *, soon: bool) -> None:
        """Seal and append the frames, with one fsync, or with that of the next step."""
        self._home.check_writable(f"ledger/{self.which}")
        data = b""
        if self._appender is None or self._sealer is None:
            segments = SegmentFiles(self._home, self.which)
            number, salt, self._appender = segments.begin_segment()
            self._sealer = Sealer(segments.key_of(number, salt), salt)
            data = header(salt)
        settled = self._sealer.frames
        frames = [
            SegmentFrame(kind, index, settled, before, record, signed) for kind, index, before, record, signed in rows
        ]
        try:
            self._appender.append(data + b"".join(map(self._sealer.seal, frames)), soon=soon)
        except BaseException:
            self.close()  # these frame numbers are spent: the next append begins a segment with a salt of its own
            raise


def origin(which: LogName, name: str, first_record: bytes) -> str:
    """The first line of the heads of a log."""
    return note.site_origin(name) if which == "site" else note.federation_origin(first_record)


def read_head(home: Home, which: LogName) -> str | None:
    """The newest note that this site signed over a log, or None."""
    raw = home.read(f"ledger/{which}/head")
    return None if raw is None else raw.decode("utf-8", "replace")


def check_head(home: Home, which: LogName, reading: Reading, text: str) -> None:
    """Raises HeadRefused, LedgerShortened or LedgerRewritten unless this site signed `text` and the log extends it."""
    chain = reading.chain
    try:
        head, _ = note.parse_note(text)
        mine = any(note.signed_by(text, home.name, key) for key in keys_of(home))
    except ValueError as error:
        raise HeadRefused(evidence=str(error), log=which, home=home.path) from None
    if not mine:
        raise HeadRefused(evidence=f"no signature of {home.name} over it verifies", log=which, home=home.path)
    if head.size > len(chain.entries):
        torn = f"; {reading.findings[0]}" if reading.findings else ""
        evidence = f"the head covers {counted(head.size, 'entry')}, the log has {len(chain.entries)}{torn}"
        raise LedgerShortened(evidence=evidence, log=which, entry=len(chain.entries), home=home.path)
    root, first = chain.root_at(head.size), chain.entries[0].record if chain.entries else b""
    if root != head.root or head.origin != origin(which, home.name, first):
        evidence = f"root of {counted(head.size, 'entry')}: signed {head.root.hex()[:16]}, found {root.hex()[:16]}"
        raise LedgerRewritten(evidence=evidence, log=which, home=home.path)
