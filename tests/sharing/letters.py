"""Letters of one attempt, made without running one: every signature is good unless its name says otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from p2pfl import merkle
from p2pfl.keys import Identity, digest
from p2pfl.messages import Ack, BackupShare, Bundle, Envelope, Letter, Members, Message, Propose, seal
from p2pfl.roster import Member, Roster
from p2pfl.sharing import certificate, shamir
from p2pfl.sharing.digests import commitment, edge_commitment, share_leaf
from tests.sharing.liars import STRANGER

RUN = digest("run", b"paper")


@dataclass(frozen=True)
class Dealt:
    """What one site drew for one attempt, and its bundle. `salt` tells one deal from another."""

    bundle: Letter
    self_mask: bytes
    nonce: bytes
    rows: tuple[tuple[str, bytes, bytes, bytes, tuple[bytes, ...]], ...]  # of a BackupShare, one for each holder


class Paper:
    """`n` sites in round 1, of which each asks for a deadline of a second."""

    def __init__(self, n: int) -> None:
        self.names = tuple(f"site-{k}" for k in range(n))
        self.identities = {name: Identity(hashlib.sha256(name.encode()).digest()) for name in self.names}
        self.roster = Roster(1, tuple(Member(name, one.key) for name, one in self.identities.items()))
        self.coordinator = self.names[1 % n]

    def by(self, name: str, message: Message, *, attempt: int = 0, process: str = "") -> Letter:
        """Sealed by `name`; another `process` of it has another incarnation."""
        incarnation = hashlib.sha256((name + process).encode()).digest()[:16]
        return seal(message, Envelope(RUN, 1, 1, attempt, name, incarnation), self.identities[name])

    def elsewhere(self, letter: Letter, **place: Any) -> Letter:
        """The same message at another place, signed by the same site."""
        return seal(letter.message, replace(letter.envelope, **place), self.identities[letter.sender])

    def forged(self, letter: Letter) -> Letter:
        """The same words under a stranger's signature."""
        return seal(letter.message, letter.envelope, STRANGER)

    def deal(self, name: str, *, attempt: int = 0, salt: bytes = b"", opens: bytes | None = None) -> Dealt:
        """A bundle over good shares, or (a liar's) over shares that open `opens`."""
        mine = (name.encode(), attempt.to_bytes(1, "big"), salt)
        self_mask, nonce, threshold = digest("b", *mine), digest("nonce", *mine), self.roster.quorums.q - 1
        polynomial = b"".join(digest("coefficient", *mine, bytes([k])) for k in range(threshold - 1))
        backups = shamir.split(self_mask if opens is None else opens, threshold, len(self.names), polynomial)
        salts = [digest("salt", *mine, holder.encode()) for holder in self.names]
        bound = [edge_commitment(each, b"") for each in salts]
        leaves = [share_leaf(*row) for row in zip(salts, bound, backups, strict=True)]
        body = Bundle(commitment("self-mask", self_mask), commitment("nonce", nonce), merkle.root(leaves))
        paths = merkle.paths(leaves)
        rows = tuple((name, *row) for row in zip(backups, salts, bound, paths, strict=True))
        return Dealt(self.by(name, body, attempt=attempt), self_mask, nonce, rows)

    def backup(self, holder: str, dealt: Dealt) -> Letter:
        """The holder's share of what was dealt, shown."""
        row = dealt.rows[self.names.index(holder)]
        return self.by(holder, BackupShare((row,)), attempt=dealt.bundle.envelope.attempt)

    def ack(self, name: str, *, attempt: int = 0, names: Sequence[str] = (), salt: bytes = b"") -> Letter:
        """`name` holds the bundles of `names` (of all, when none is given)."""
        held = tuple(
            (dealer, self.deal(dealer, attempt=attempt, salt=salt).bundle.digest) for dealer in names or self.names
        )
        return self.by(name, Ack(held, ()), attempt=attempt)

    def propose(self, name: str, *, attempt: int = 0, **fields: Any) -> Letter:
        message = Propose(RUN, 0, bytes(32), RUN, b"{}", b"", 1000, 0, "0.1", RUN, b"")
        return self.by(name, replace(message, **fields), attempt=attempt)

    def members(self, *, attempt: int = 0, survivors: tuple[str, ...] = (), **fields: Any) -> Letter:
        """The coordinator's U (all, when none are given), which holds together unless `fields` say otherwise."""
        chosen = survivors or self.names
        message = Members(
            chosen,
            tuple(self.deal(name, attempt=attempt).bundle.wire for name in chosen),
            tuple(certificate.short(self.ack(name, attempt=attempt), chosen) for name in chosen),
            tuple(self.propose(name, attempt=attempt).wire for name in chosen),
            chosen,
            1000 << min(attempt, 3),
            (),
        )
        return self.by(self.coordinator, replace(message, **fields), attempt=attempt)
