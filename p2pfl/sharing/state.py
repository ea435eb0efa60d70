"""What one peer knows in one attempt.

Mutable, but every action checks first and changes after, so that a refused event changes nothing. Secrets are
`Secret`s; `snapshot.py` is the only place that turns them into bytes, for the sealed home and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeVar

from p2pfl.errors.round import TwoStatements
from p2pfl.keys import Identity, Secret
from p2pfl.messages import (
    Ack,
    BackupShare,
    Ballot,
    Bundle,
    Certificate,
    Confirm,
    Envelope,
    Leave,
    Letter,
    Members,
    Message,
    Nonce,
    Opened,
    Propose,
    Ready,
    Root,
    Share,
    SumDigest,
    Tags,
    Total,
    seal,
)
from p2pfl.roster import Roster
from p2pfl.sharing.chunks import ChunkSpan
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.events import Proposal, Send, SetTimer, Tick, Vector, Words
from p2pfl.sharing.history import NO_BASE
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.vows import Chain

K = TypeVar("K")
M = TypeVar("M", bound=Message)

ATTEMPT_ITEM: Final = "state/attempt"
# Those of one round outlast it: with its seeds they are what peers that missed it are served from.
SUMS_ITEMS: Final = ("state/sums/0", "state/sums/1")
FINAL_ITEM: Final = "state/total"
LEFT_SLOTS: Final = 8  # rounds left behind whose outcome is still open; of more, the oldest is given up
LEFT_ITEMS: Final = tuple((f"state/left/{slot}", f"state/left-sums/{slot}") for slot in range(LEFT_SLOTS))
ITEMS: Final = (ATTEMPT_ITEM, *SUMS_ITEMS, FINAL_ITEM, *(item for pair in LEFT_ITEMS for item in pair))
MOST_SUM: Final = 1 << 30  # bytes, where nobody says how large a sum is


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
class Context:
    """What does not change while a process runs one roster epoch. `draw(k)` returns k fresh secret bytes."""

    run: bytes
    roster: Roster
    me: str
    identity: Identity
    incarnation: bytes
    federation_digest: bytes
    draw: Callable[[int], bytes]
    spent: Callable[[], Mapping[str, float]] = dict  # by peer: the privacy that the ledger says it has spent
    verify: bool = True  # sums are checked by random linear forms before anyone vouches for them
    hub: str | None = None  # who owns every chunk of an attempt that it is in
    # By the configuration that is summed under: the most bytes of its sum. A peer may claim any length.
    sum_bytes: Callable[[bytes], int] = lambda configuration: MOST_SUM
    # Raises a RemoteProtocolError that names the peer, when the positions that it nominates are none under the
    # configuration of its proposal. (configuration, support, peers, peer)
    check_support: Callable[[bytes, bytes, int, str], None] = lambda configuration, support, peers, peer: None

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.roster.names if name != self.me)


@dataclass(frozen=True)
class Backup:
    """This peer's Shamir share of one dealer's self-mask seed, and what shows that it is under the bundle's root."""

    share: Secret
    salt: bytes
    edge: bytes  # commitment to the edge seed, which never leaves the two ends of its edge
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class Deal:
    """This peer's secrets of one attempt."""

    self_mask: Secret
    nonce: Secret
    bundle: Letter[Bundle]
    edges: dict[str, Secret] = field(default_factory=dict)  # outgoing; empty after a restart: they mask no more
    shares: dict[str, Share] = field(default_factory=dict)


@dataclass
class State:
    """One attempt, as this peer knows it. Dicts are by peer name unless said otherwise."""

    setting: Context
    others: PeerView
    round: int
    attempt: int = 0
    base: tuple[int, bytes] = NO_BASE  # the round that this one rests on, and the digest of its record
    chain: Chain = ()  # … and all that are not final of those it rests on
    moved: tuple[tuple[int, bytes], Chain] | None = None  # … from the next attempt on
    slot: int | None = None  # once it is left behind: where on the disk it lies
    now: float = 0.0  # of the event in hand
    since: float = -math.inf  # when this process began the round before this one, if it did
    due: dict[str, float] = field(default_factory=dict)  # by what: when the clock makes a difference
    proposal: Proposal | None = None
    deal: Deal | None = None
    restored: bool = False  # this process did not deal here: it masks nothing in this attempt
    # SHARE, PROPOSE
    bundles: dict[str, Letter[Bundle]] = field(default_factory=dict)
    backups: dict[str, Backup] = field(default_factory=dict)  # by dealer
    received: dict[str, Secret] = field(default_factory=dict)
    acks: dict[str, Letter[Ack]] = field(default_factory=dict)
    proposes: dict[str, Letter[Propose]] = field(default_factory=dict)
    dealt: bool = False  # this peer's shares have left
    fresh: bool = False  # something has come since that may have to be acknowledged
    acknowledged: frozenset[bytes] = frozenset()  # digests of the bundles in this peer's last Ack
    passed_on: frozenset[str] = frozenset()  # whose acknowledgement and proposal the coordinator was shown at half-time
    ahead: tuple[Vector, ...] = ()  # masks that were expanded before U was known …
    ahead_with: dict[str, bytes] = field(default_factory=dict)  # … for the edges to these peers, under these bundles
    members: Letter[Members] | None = None
    named: tuple[Letter[Members], bytes] | None = None  # D, and the set that it was made of
    refused: str = ""  # why this peer does not accept the coordinator's U …
    declined: Letter[Members] | None = None  # … and that U
    early: bool = False  # … which came before half-time, and may be what its coordinator saw
    returned: set[str] = field(default_factory=set)  # members that are new processes since they dealt
    missed: bool = False  # U leaves this peer out, which was there (fairness.py)
    # MASK, GATHER
    pieces: tuple[ChunkSpan, ...] = ()
    segments: tuple[tuple[int, int], ...] = ()  # (bits, words) of each
    mine: tuple[Vector, ...] = ()  # y of this peer
    roots: dict[str, Letter[Root]] = field(default_factory=dict)
    contributed: dict[int, dict[str, Words]] = field(default_factory=dict)  # by chunk owned here, by author
    unchecked: set[tuple[str, int]] = field(default_factory=set)  # of these, who and chunk that came before their root
    sum_digests: dict[int, Letter[SumDigest]] = field(default_factory=dict)  # by chunk
    view: bytes = b""
    nonces: dict[str, Letter[Nonce]] = field(default_factory=dict)
    challenge: bytes = b""
    tags: dict[str, Letter[Tags]] = field(default_factory=dict)
    gathering: tuple[Vector, ...] = ()  # Y, as far as it has come
    sums: dict[int, Words] = field(default_factory=dict)  # by chunk: those that have come, where they lie in Y
    false: dict[int, dict[str, Letter[Opened]]] = field(default_factory=dict)  # by chunk that fails, by author
    compared: bool = False  # sums and tags were compared, once …
    checked: bool = False  # … and agree
    judged: set[int] = field(default_factory=set)  # false chunks of which a liar was named
    claims: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # by owner: (author, chunk) that it lacks
    shown: set[tuple[str, int]] = field(default_factory=set)  # of those, what its author has shown to all
    asked_for: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # by who lacks it: (author, chunk)
    # BALLOT
    ready: Letter[Ready] | None = None
    readys: dict[str, Letter[Ready]] = field(default_factory=dict)
    ballot: Letter[Ballot] | None = None
    ballots: dict[str, Letter[Ballot]] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)  # who voted SURVIVORS in a later attempt, and in which
    questioned: dict[str, int] = field(default_factory=dict)  # how often voters were asked what their vote stands on
    explained: set[str] = field(default_factory=set)  # peers that have asked that, and were answered …
    told: set[str] = field(default_factory=set)  # … with the certificate
    certificate: Letter[Certificate] | None = None
    left: bool = False  # q peers went on without this round's sum
    follows: bool = False  # it is an attempt begun after that: this peer takes no part in it, and acts on its outcome
    leave: Letter[Leave] | None = None
    leaves: dict[str, Letter[Leave]] = field(default_factory=dict)
    # UNMASK, CONFIRM
    masked: tuple[Vector, ...] = ()
    stored: bool = False  # the masked sums are on the disk
    reveals: dict[str, Secret] = field(default_factory=dict)
    pieced: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by dealer, by holder: shares of its seed
    shown_shares: dict[str, dict[str, Letter[BackupShare]]] = field(default_factory=dict)  # … and who said so
    misdealt: set[str] = field(default_factory=set)  # dealers whose shares open something else
    backed_up: frozenset[str] = frozenset()  # dealers whose share this peer has broadcast
    total: tuple[Vector, ...] = ()
    record: bytes = b""
    signed: bool = False  # this peer is bound to the record
    confirms: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)  # record, cosignature
    asked_confirms: int = 0  # times
    settled: set[str] = field(default_factory=set)  # peers in whose ledgers the round is
    confirm_letters: dict[str, Letter[Confirm]] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)  # when each was last given the sum
    wanted: str = ""  # who was asked for the sum
    asked: int = 0  # how many were
    parts: list[tuple[Total, Words]] = field(default_factory=list)  # of a fetched sum, in order
    outbox: list[Send] = field(default_factory=list)  # to repeat to a peer that comes back as a new process
    last_abandon: Letter[Certificate] | None = None  # certificate of the attempt before
    skip: Letter[Certificate] | None = None  # ABANDON certificate shown by a peer that is further on
    grounds: tuple[bytes, ...] = ()  # LEAVEs of the round before: they say who may be left out alive

    @property
    def n(self) -> int:
        return len(self.setting.roster.members)

    @property
    def names(self) -> tuple[str, ...]:
        return self.setting.roster.names

    @property
    def survivors(self) -> tuple[str, ...]:
        """U, in roster order: empty until one is accepted."""
        return self.members.message.survivors if self.members is not None else ()

    @property
    def owners(self) -> tuple[str, ...]:
        """Who sums chunks, in the order in which they are dealt: U, or its hub alone."""
        return self.members.message.owners if self.members is not None else ()

    @property
    def inside(self) -> bool:
        """This peer is in U."""
        return self.setting.me in self.survivors

    @property
    def attempt_digest(self) -> bytes:
        """D: empty until a U is accepted."""
        if self.members is None:
            return b""
        if self.named is None or self.named[0] is not self.members:
            self.named = (self.members, attempt_digest(self.members))
        return self.named[1]

    @property
    def coordinator(self) -> str:
        return self.names[(self.round + self.attempt) % self.n]

    @property
    def envelope(self) -> Envelope:
        s = self.setting
        return Envelope(s.run, s.roster.epoch, self.round, self.attempt, s.me, s.incarnation)

    def seal(self, message: M) -> Letter[M]:
        return seal(message, self.envelope, self.setting.identity)

    def timer(self, what: str, seconds: float) -> SetTimer:
        """`past(what)` holds from so many seconds on."""
        self.due[what] = self.now + seconds
        return SetTimer(Tick(self.due[what], self.round, self.attempt))

    def past(self, what: str) -> bool:
        """The time of `what` was set and has come."""
        due = self.due.get(what)
        return due is not None and self.now >= due

    @property
    def item(self) -> str:
        """Where on the disk this attempt lies."""
        return ATTEMPT_ITEM if self.slot is None else LEFT_ITEMS[self.slot][0]

    @property
    def sums_item(self) -> str:
        """Where on the disk its masked sums lie."""
        return sums_item(self.round) if self.slot is None else LEFT_ITEMS[self.slot][1]

    def post(self, letter: Letter[Message], to: str | None = None) -> Send:
        """Send a small letter to one peer or all, and keep it for a peer that comes back as a new process."""
        sent = Send(to, letter)
        self.outbox.append(sent)
        return sent

    def renew(self, attempt: int, certificate: Letter[Certificate] | None) -> None:
        """Become the state in which `attempt` begins: nothing of the one before is left but the proposal."""
        base, chain = self.moved or (self.base, self.chain)
        fresh = State(
            self.setting,
            self.others,
            self.round,
            attempt,
            base,
            chain,
            slot=self.slot,
            now=self.now,
            proposal=self.proposal if self.moved is None else None,
            last_abandon=certificate,
            leaves=self.leaves,
            leave=self.leave,
            left=self.left,
            grounds=self.grounds,
            since=self.since,
        )
        fresh.outbox += [Send(None, letter) for letter in (certificate, self.leave) if letter is not None]
        vars(self).update(vars(fresh))

    def rebase(self, base: tuple[int, bytes], chain: Chain) -> None:
        """The model that this peer would sum on is another one now: from the next proposal on."""
        if self.setting.me in self.proposes:
            self.moved = (base, chain)
        else:
            self.base, self.chain, self.proposal = base, chain, None


def hold_once(held: dict[K, Letter[M]], key: K, letter: Letter[M], evidence: str) -> bool:
    """Hold what its author says once in an attempt; False when it is held already.

    Raises TwoStatements when the author has said something else before: nothing changes.
    """
    new = key not in held
    before = held.setdefault(key, letter)
    if before.message != letter.message:
        raise two_statements(before, letter, evidence)
    return new


def two_statements(before: Letter[M], letter: Letter[M], evidence: str) -> TwoStatements:
    """The error that carries both letters of an author, which should have said one thing, as its proof."""
    kind = type(letter.message).__name__
    return TwoStatements(peer=letter.sender, message=kind, evidence=evidence, proof=(before, letter))


def sums_item(number: int) -> str:
    """Where the masked sums of round `number` lie while it is not left behind: the next round's lie elsewhere."""
    return SUMS_ITEMS[number % len(SUMS_ITEMS)]
