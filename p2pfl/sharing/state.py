"""What one peer knows in one attempt, and what of it must survive a crash.

Mutable, but every action checks first and changes after, so that a refused event changes nothing. Secrets are
`Secret`s; `snapshot` is the only place that turns them into bytes, for the sealed home and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np

from p2pfl import codec
from p2pfl.keys import Identity, Secret, digest
from p2pfl.messages import Envelope, Letter, Message, Share, Total, read, seal
from p2pfl.roster import Roster
from p2pfl.sharing.chunks import Chunk as Piece
from p2pfl.sharing.events import OfAttempt, Persist, Proposal, Send, Vector, Words
from p2pfl.sharing.field import FIELDS

ATTEMPT_ITEM: Final = "state/attempt"
SUMS_ITEM: Final = "state/sums"
FINAL_ITEM: Final = "state/total"


class Phase(Enum):
    """Where a round stands. A round moves down this list; ABANDON leads back to SHARE with the next attempt."""

    SHARE = "share"
    PROPOSE = "propose"
    MASK = "mask"
    GATHER = "gather"
    BALLOT = "ballot"
    UNMASK = "unmask"
    CONFIRM = "confirm"
    FINAL = "final"


@dataclass(frozen=True)
class Setting:
    """What does not change while a process runs one roster epoch. `draw(k)` returns k fresh secret bytes."""

    run: bytes
    roster: Roster
    me: str
    identity: Identity
    incarnation: bytes
    manifest: bytes
    draw: Callable[[int], bytes]

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.roster.names if name != self.me)


@dataclass(frozen=True)
class Deal:
    """This peer's secrets of one attempt."""

    self_mask: Secret
    nonce: Secret
    bundle: Letter
    edges: dict[str, Secret] = field(default_factory=dict)  # outgoing; empty after a restart: they mask no more
    shares: dict[str, Share] = field(default_factory=dict)


@dataclass
class State:
    """One attempt, as this peer knows it. Dicts are by peer name unless said otherwise."""

    setting: Setting
    round: int
    attempt: int = 0
    now: float = 0.0  # of the event in hand
    proposal: Proposal | None = None
    deal: Deal | None = None
    restored: bool = False  # this process did not deal here: it masks nothing in this attempt
    # SHARE, PROPOSE
    bundles: dict[str, Letter] = field(default_factory=dict)
    received: dict[str, Secret] = field(default_factory=dict)
    acks: dict[str, Letter] = field(default_factory=dict)
    proposes: dict[str, Letter] = field(default_factory=dict)
    dealt: bool = False  # this peer's shares have left
    acknowledged: bool = False
    clock_set: bool = False
    members: Letter | None = None
    # MASK, GATHER
    pieces: tuple[Piece, ...] = ()
    bits: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    roots: dict[str, bytes] = field(default_factory=dict)
    partial: dict[int, Words] = field(default_factory=dict)  # by chunk, owned by this peer
    contributed: dict[int, set[str]] = field(default_factory=dict)  # by chunk
    sum_digests: dict[int, bytes] = field(default_factory=dict)  # by chunk
    view: bytes = b""
    nonces: dict[str, bytes] = field(default_factory=dict)
    views: dict[str, bytes] = field(default_factory=dict)
    sums: dict[int, Words] = field(default_factory=dict)  # by chunk
    # BALLOT
    ready: Letter | None = None
    readys: dict[str, Letter] = field(default_factory=dict)
    ballot: Letter | None = None
    ballots: dict[str, Letter] = field(default_factory=dict)
    certificate: Letter | None = None
    # UNMASK, CONFIRM
    masked: tuple[Vector, ...] = ()
    reveals: dict[str, Secret] = field(default_factory=dict)
    total: tuple[Vector, ...] = ()
    record: bytes = b""
    confirms: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)  # record, cosignature
    settled: set[str] = field(default_factory=set)  # peers in whose ledgers the round is
    wanted_from: str = ""
    parts: list[tuple[Total, Words]] = field(default_factory=list)  # of a fetched total, in order
    outbox: list[Send] = field(default_factory=list)  # to repeat to a peer that comes back as a new process
    last_abandon: Letter | None = None  # certificate of the attempt before
    skip: Letter | None = None  # ABANDON certificate shown by a peer that is further on

    @property
    def n(self) -> int:
        return len(self.setting.roster.members)

    @property
    def names(self) -> tuple[str, ...]:
        return self.setting.roster.names

    @property
    def attempt_digest(self) -> bytes:
        """D: empty until a U is accepted."""
        return attempt_digest(self.members) if self.members is not None else b""

    @property
    def coordinator(self) -> str:
        return self.names[(self.round + self.attempt) % self.n]

    @property
    def envelope(self) -> Envelope:
        s = self.setting
        return Envelope(s.run, s.roster.epoch, self.round, self.attempt, s.me, s.incarnation)

    def seal(self, message: Message) -> Letter:
        return seal(message, self.envelope, self.setting.identity)

    def persist(self, then: type[OfAttempt], *beside: tuple[str, bytes | None]) -> Persist:
        """Make this attempt durable as it stands, with what is given beside it; then `then`."""
        # The attempt last: a process that dies in between must not find a READY without the sums that it vouches for.
        return Persist((*beside, (ATTEMPT_ITEM, snapshot(self))), then, self.round, self.attempt)

    def post(self, message: Message, to: str | None = None) -> Send:
        """Seal a small letter for one peer or all, and keep it for a peer that comes back as a new process."""
        sent = Send(to, self.seal(message))
        self.outbox.append(sent)
        return sent

    def renew(self, attempt: int, certificate: Letter) -> None:
        """Become the state in which `attempt` begins: nothing of the abandoned one is left but the proposal."""
        fresh = State(self.setting, self.round, attempt, self.now, self.proposal, last_abandon=certificate)
        fresh.outbox.append(Send(None, certificate))
        vars(self).update(vars(fresh))


def attempt_digest(members: Letter) -> bytes:
    """D: binds the envelope (run, epoch, round, attempt) and U with its acks, proposals, owners and deadline."""
    return digest("attempt", members.body)


def total_digest(vectors: tuple[Vector, ...]) -> bytes:
    """H(Σx) over every segment's field and little-endian words."""
    parts: list[bytes] = []
    for vector in vectors:
        parts += [vector.bits.to_bytes(1, "big"), np.ascontiguousarray(vector.words).tobytes()]
    return digest("total", *parts)


# ── what survives a crash ─────────────────────────────────────────────────────────────────────────────────────


def snapshot(state: State) -> bytes:
    """The attempt as bytes for the sealed home: enough to cast the one ballot, reveal, and confirm after a restart."""
    deal = state.deal
    secrets = (deal.self_mask.reveal(), deal.nonce.reveal(), deal.bundle.wire) if deal else (b"", b"", b"")
    letters = (state.members, state.ready, state.ballot, state.certificate, state.last_abandon)
    wires = tuple(letter.wire if letter else b"" for letter in letters)
    bundles = tuple(bundle.wire for bundle in state.bundles.values())
    return codec.pack((1, state.round, state.attempt, *secrets, *wires, state.view, state.record, bundles))


def place_of(data: bytes) -> tuple[int, int]:
    """Round and attempt of what `snapshot` wrote. Raises Malformed."""
    version, number, attempt, *_ = codec.unpack(data, most=1 << 27, items=256)
    if version != 1:
        raise codec.Malformed(f"attempt snapshot of version {version}")
    return number, attempt


def restore(setting: Setting, data: bytes) -> State:
    """The state that `snapshot` wrote, in a new process. Raises Malformed when the bytes are not a snapshot."""
    version, number, attempt, self_mask, nonce, bundle, *rest = codec.unpack(data, most=1 << 27, items=256)
    if version != 1:
        raise codec.Malformed(f"attempt snapshot of version {version}")
    *wires, view, record, bundles = rest
    members, ready, ballot, certificate, last_abandon = (read(wire) if wire else None for wire in wires)
    state = State(setting, number, attempt, restored=True, members=members, ready=ready, ballot=ballot)
    state.certificate, state.last_abandon, state.view, state.record = certificate, last_abandon, view, record
    if last_abandon is not None:
        state.outbox.append(Send(None, last_abandon))
    state.bundles = {letter.sender: letter for letter in map(read, bundles)}
    if bundle:
        state.deal = Deal(Secret(self_mask, "self-mask seed"), Secret(nonce, "nonce"), read(bundle))
    return state


def pack_sums(vectors: tuple[Vector, ...], attempt: bytes) -> bytes:
    """Masked sums under their attempt digest, for the sealed home."""
    return codec.pack((attempt, tuple((vector.bits, vector.words.tobytes()) for vector in vectors)))


def read_vectors(data: bytes, attempt: bytes) -> tuple[Vector, ...]:
    """Undo `pack_sums`; sums of another attempt are none. Raises Malformed."""
    held, rows = codec.unpack(data, most=1 << 40, items=64)
    if held != attempt:
        return ()
    return tuple(Vector(bits, FIELDS[bits].from_bytes(words)) for bits, words in rows)
