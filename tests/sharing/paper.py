"""Letters of one attempt, made without running one: every signature is good unless its name says otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from p2pfl.keys import Identity, digest
from p2pfl.messages import Ack, Envelope, Letter, Members, Message, Propose, seal
from p2pfl.roster import Member, Roster
from tests.sharing.liars import STRANGER

RUN = digest("run", b"paper")


class Paper:
    """`n` sites in round 1."""

    def __init__(self, n: int) -> None:
        self.names = tuple(f"site-{k}" for k in range(n))
        self.identities = {name: Identity(hashlib.sha256(name.encode()).digest()) for name in self.names}
        self.roster = Roster(1, tuple(Member(name, one.key) for name, one in self.identities.items()))
        self.coordinator = self.names[1 % n]

    def by(self, name: str, message: Message, *, attempt: int = 0) -> Letter:
        incarnation = hashlib.sha256(name.encode()).digest()[:16]
        return seal(message, Envelope(RUN, 1, 1, attempt, name, incarnation), self.identities[name])

    def elsewhere(self, letter: Letter, **place: Any) -> Letter:
        """The same message at another place, signed by the same site."""
        return seal(letter.message, replace(letter.envelope, **place), self.identities[letter.sender])

    def forged(self, letter: Letter) -> Letter:
        """The same words under a stranger's signature."""
        return seal(letter.message, letter.envelope, STRANGER)

    def ack(self, name: str, *, attempt: int = 0, names: Sequence[str] = (), salt: bytes = b"") -> Letter:
        held = tuple((dealer, digest("bundle", dealer.encode(), salt)) for dealer in names or self.names)
        return self.by(name, Ack(held), attempt=attempt)

    def propose(self, name: str, *, attempt: int = 0) -> Letter:
        return self.by(name, Propose(RUN, RUN, b"{}", b"", 1000, 0, "0.1", RUN), attempt=attempt)

    def members(self, *, attempt: int = 0, deadline_ms: int = 1000, survivors: tuple[str, ...] = ()) -> Letter:
        acks = tuple(self.ack(name, attempt=attempt).wire for name in self.names)
        proposes = tuple(self.propose(name, attempt=attempt).wire for name in self.names)
        message = Members(survivors or self.names, acks, proposes, self.names, deadline_ms)
        return self.by(self.coordinator, message, attempt=attempt)
