"""The parts of an attempt's state, in the order of its phases. Dicts are by peer name unless said otherwise.

A part holds what letters may bring at any time, and is there from the start; `Gathering` has the shape of the words, so
it is there from MASK on. Secrets lie in two parts, and nowhere else but in the letters that these keep: `Masking` hides
what this peer sends, `Unmasking` opens it. To destroy a part's secrets is to put an empty one in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2pfl.keys import Secret
from p2pfl.messages import (
    Ack,
    BackupShare,
    Ballot,
    Bundle,
    Confirm,
    Lacking,
    Leave,
    Letter,
    Members,
    Nonce,
    Opened,
    Propose,
    Ready,
    Root,
    Share,
    SumDigest,
    Tags,
    Total,
)
from p2pfl.sharing.chunks import ChunkSpan
from p2pfl.sharing.events import Send, Vector, Words
from p2pfl.sharing.masking import SegmentMasks

# Processes of one dealer whose bundles are held in an attempt, which may last for a whole training: more than a site
# dies in one, and few enough that it costs the others little when a liar makes up as many as it likes.
MOST_DEALT: Final = 16

# ── SHARE and PROPOSE ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Said:
    """What one process of a peer dealt, acknowledged and proposed."""

    bundle: Letter[Bundle]
    ack: Letter[Ack]
    propose: Letter[Propose]


@dataclass
class Proposals:
    """Who dealt, acknowledged and proposed what: of this U is made."""

    bundles: dict[str, Letter[Bundle]] = field(default_factory=dict)
    # By digest: bundles whose dealers have dealt anew since. What is acknowledged of one holds all the same.
    older: dict[bytes, Letter[Bundle]] = field(default_factory=dict)
    acks: dict[str, Letter[Ack]] = field(default_factory=dict)
    proposes: dict[str, Letter[Propose]] = field(default_factory=dict)
    dealt: bool = False  # this peer's shares have left
    fresh: bool = False  # something has come since that may have to be acknowledged
    acknowledged: Ack | None = None  # the last that this process says or is about to say
    passed_on: dict[str, Letter[Ack]] = field(default_factory=dict)  # of peers that the coordinator was shown whole
    told: dict[str, Said] = field(default_factory=dict)  # by peer: the best of what others pass on of it, whole
    acks_passed_on: dict[str, set[bytes]] = field(default_factory=dict)  # digests of those handed to the coordinator
    refused: str = ""  # why this peer does not accept the coordinator's U
    declined: Letter[Members] | None = None  # that U
    unblamed: bool = False  # for a reason that its coordinator may not have seen: it is not named
    returned: set[str] = field(default_factory=set)  # members that are new processes since they dealt


@dataclass
class Making:
    """y of this peer while it is made, chunk by chunk, where x or the masks lay."""

    segments: tuple[tuple[int, int], ...]  # (bits, words) of each
    pieces: tuple[ChunkSpan, ...]
    masks: tuple[SegmentMasks, ...]  # by segment
    hashes: list[bytes] = field(default_factory=list)  # of the chunks that are made, in order


@dataclass
class Masking:
    """What masks this peer's words, and the masked words. Destroyed at its vote to give up, and by a certificate."""

    edges: dict[str, Secret] = field(default_factory=dict)  # seeds of outgoing edges; empty after a restart
    shares: dict[str, Share] = field(default_factory=dict)  # what this peer deals
    sent: list[Send] = field(default_factory=list)  # shares, to repeat to a peer that comes back as a new process
    received: dict[str, Secret] = field(default_factory=dict)  # seeds of incoming edges, by dealer
    older: dict[bytes, Secret] = field(default_factory=dict)  # the same of older bundles, by digest
    ahead: tuple[Vector, ...] = ()  # masks that were expanded before U was known
    ahead_with: dict[str, bytes] = field(default_factory=dict)  # peers whose edges are in them: their bundles' digests
    expanding: bool = False  # they were asked for, and have not come
    expansions: int = 0  # times that they were asked for in this attempt
    words: tuple[Vector, ...] | None = None  # x, until its masks are there
    making: Making | None = None  # y, of which the first chunks have left
    mine: tuple[Vector, ...] = ()  # y of this peer, once it is whole
    contributed: dict[int, dict[str, Words]] = field(default_factory=dict)  # by chunk owned here, by author
    unchecked: set[tuple[str, int]] = field(default_factory=set)  # (author, chunk) of those that came before their root


# ── MASK and GATHER ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Gathering:
    """The masked sum Y, chunk by chunk, and what verifies it; laid out once the shape of the words is known."""

    segments: tuple[tuple[int, int], ...]  # (bits, words) of each
    pieces: tuple[ChunkSpan, ...]
    roots: dict[str, Letter[Root]] = field(default_factory=dict)
    roots_digest: bytes = b""  # names the Roots of all of U, once they are here
    to_sum: list[int] = field(default_factory=list)  # chunks owned here that are whole since a root has come
    under_others: set[int] = field(default_factory=set)  # chunks that their owners summed under other Roots
    sum_digests: dict[int, Letter[SumDigest]] = field(default_factory=dict)  # by chunk
    nonces: dict[str, Letter[Nonce]] = field(default_factory=dict)
    challenge: bytes = b""
    tags: dict[str, Letter[Tags]] = field(default_factory=dict)
    words: tuple[Vector, ...] = ()  # Y, as far as it has come
    sums: dict[int, Words] = field(default_factory=dict)  # by chunk: those that have come, where they lie in Y
    sum_tags: dict[int, bytes] = field(default_factory=dict)  # by chunk: the forms' values on its sum, once it was made
    in_order: int = 0  # chunks of Y from the first on that have all come
    ahead_words: int = 0  # words of Y that the disk was given before the last have come
    opened: dict[int, dict[str, Letter[Opened]]] = field(default_factory=dict)  # before this peer has compared
    false: dict[int, dict[str, Letter[Opened]]] = field(default_factory=dict)  # by chunk that fails, by author
    compared: bool = False  # sums and tags were compared, once
    checked: bool = False  # they agree
    judged: set[int] = field(default_factory=set)  # false chunks of which a liar was named
    claims: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # by owner: (author, chunk) that it lacks
    shown: set[tuple[str, int]] = field(default_factory=set)  # of those, what its author has shown to all


# ── BALLOT and LEAVE ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Voting:
    """READYs and ballots, and what peers asked one another about them."""

    ready: Letter[Ready] | None = None  # this peer's own
    readys: dict[str, Letter[Ready]] = field(default_factory=dict)
    ballot: Letter[Ballot] | None = None  # this peer's own
    ballots: dict[str, Letter[Ballot]] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)  # by voter for SURVIVORS in a later attempt: that attempt
    questioned: dict[str, int] = field(default_factory=dict)  # how often each voter was asked what its vote stands on
    explained: set[str] = field(default_factory=set)  # peers that have asked that, and were answered
    told: set[str] = field(default_factory=set)  # peers that were answered with the certificate
    shown_end: set[str] = field(default_factory=set)  # peers in an earlier attempt that were shown that it is over
    asked_for: dict[str, set[Lacking]] = field(default_factory=dict)  # by asker
    asked_sum: set[str] = field(default_factory=set)  # peers that follow a certificate which has yet to come here


@dataclass
class Leaving:
    """How the round is left behind. The one part that all attempts of a round share."""

    left: bool = False  # q peers went on without this round's sum
    leave: Letter[Leave] | None = None  # this peer's own
    leaves: dict[str, Letter[Leave]] = field(default_factory=dict)
    grounds: tuple[bytes, ...] = ()  # LEAVEs of the round before: they say who may be left out alive …
    abandons: tuple[bytes, ...] = ()  # … and so do ballots of this round's ABANDONs that name somebody, the last first
    slot: int | None = None  # once it is left behind: where on the disk it lies


# ── UNMASK and CONFIRM ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Backup:
    """This peer's Shamir share of one dealer's self-mask seed, and what shows that it is under the bundle's root."""

    share: Secret
    salt: bytes
    edge: bytes  # commitment to the edge seed, which never leaves the two ends of its edge
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class Deal:
    """The secrets of one attempt that this peer's bundle binds it to, and that outlive its masking."""

    self_mask: Secret
    nonce: Secret
    bundle: Letter[Bundle]


@dataclass
class Unmasking:
    """What opens self-masks under a certificate. Destroyed once the round is final."""

    deal: Deal | None = None
    backups: dict[str, Backup] = field(default_factory=dict)  # by dealer
    older: dict[bytes, Backup] = field(default_factory=dict)  # of older bundles, by digest
    pieced: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by dealer, by holder: shares of its seed
    shown_shares: dict[str, dict[str, Letter[BackupShare]]] = field(default_factory=dict)  # the letters that held them
    sent: list[Send] = field(default_factory=list)  # seeds and shares, to repeat to a peer that comes back
    let_go: bool = False  # the disk may hold more than this: the secrets of another attempt

    def of_members(self, survivors: Sequence[str], me: str) -> Unmasking:
        """What of it a certificate of this U lets live: of a bundle outside of U nothing may ever be opened."""
        backups = {name: backup for name, backup in self.backups.items() if name in survivors}
        return Unmasking(self.deal if me in survivors else None, backups)


@dataclass
class Sum:
    """The masked sum Y, the seeds that were opened, and the sum Σx; or its parts, as another peer sends them."""

    masked: tuple[Vector, ...] = ()
    stored: bool = False  # Y is on the disk
    reveals: dict[str, Secret] = field(default_factory=dict)  # opened self-mask seeds of U
    misdealt: set[str] = field(default_factory=set)  # dealers whose shares open something else
    backed_up: frozenset[str] = frozenset()  # dealers whose share this peer has broadcast
    total: tuple[Vector, ...] = ()
    wanted: str = ""  # the peer that was asked for the sum
    asked: int = 0  # peers that were asked
    parts: list[tuple[Total, Words]] = field(default_factory=list)  # of a fetched sum, in order
    gone: set[str] = field(default_factory=set)  # peers that were asked, and hold its words no more
    without: set[str] = field(default_factory=set)  # … and that have none of them just now
    kept: Callable[[], tuple[Vector, ...]] | None = None  # of a final round: reads Σx, which the disk alone holds

    @property
    def here(self) -> bool:
        """Σx is held, or on the disk."""
        return bool(self.total) or self.kept is not None

    def keep(self, kept: Callable[[], tuple[Vector, ...]] | None) -> None:
        """The words are held no more; `kept` reads them from the disk, where somebody may still ask for them."""
        for vector in self.total:
            if vector.room is not None:
                vector.room.leave()
        self.total, self.masked, self.wanted, self.kept = (), (), "", kept

    def lent(self) -> tuple[Vector, ...]:
        """The words of Σx, for letters that may wait: nobody writes to them from now on."""
        if self.kept is not None:
            return self.kept()
        for vector in self.total:
            if vector.room is not None:
                vector.room.lend()
        return self.total

    def take_back(self) -> None:
        """The disk is about to hold something else: the words are held again."""
        if self.kept is not None:
            self.total, self.kept = self.kept(), None


@dataclass
class Confirming:
    """The record of the round, and the signatures that make it final."""

    record: bytes = b""
    signed: bool = False  # this peer is bound to the record
    confirms: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)  # record, cosignature
    confirm_letters: dict[str, Letter[Confirm]] = field(default_factory=dict)
    asked_confirms: int = 0  # times
    settled: set[str] = field(default_factory=set)  # peers in whose ledgers the round is …
    here: bool = False  # … and it is in this peer's own
    served: dict[str, float] = field(default_factory=dict)  # when each was last given the sum …
    relinked: dict[str, float] = field(default_factory=dict)  # … and when a new link last let it ask again at once
