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

from p2pfl.errors.round import TwoStatements, UnexpectedEvent
from p2pfl.keys import Identity
from p2pfl.messages import (
    BackupShare,
    Certificate,
    Envelope,
    Letter,
    Members,
    Message,
    Reveal,
    Share,
    seal,
)
from p2pfl.roster import Roster
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.events import Proposal, Send, SetTimer, Tick
from p2pfl.sharing.history import NO_BASE
from p2pfl.sharing.parts import Confirming, Gathering, Leaving, Masking, Proposals, Sum, Unmasking, Voting
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.vows import Chain

K = TypeVar("K")
M = TypeVar("M", bound=Message)

ATTEMPT_ITEM: Final = "state/attempt"
# The sums of a round outlast it: with its seeds they serve peers that missed it.
SUMS_ITEMS: Final = ("state/sums/0", "state/sums/1")
FINAL_ITEM: Final = "state/total"
LEFT_SLOTS: Final = 8  # rounds left behind with an open outcome; beyond them the oldest is given up
LEFT_ITEMS: Final = tuple((f"state/left/{slot}", f"state/left-sums/{slot}") for slot in range(LEFT_SLOTS))
ITEMS: Final = (ATTEMPT_ITEM, *SUMS_ITEMS, FINAL_ITEM, *(item for pair in LEFT_ITEMS for item in pair))


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
    """What does not change while a process runs one roster epoch.

    draw   k to k fresh secret bytes
    """

    run: bytes
    roster: Roster
    me: str
    identity: Identity
    incarnation: bytes
    federation_digest: bytes
    draw: Callable[[int], bytes]
    spent: Callable[[], Mapping[str, float]]  # by peer: the privacy that the ledger says it has spent
    left_out: Callable[[], Mapping[str, int]]  # by peer: how many of the last final rounds went without it
    # By configuration: the most bytes of a sum under it. A peer may claim any length.
    sum_bytes: Callable[[bytes], int]
    # (configuration, support, peers, peer): raises a RemoteProtocolError that names the peer when the positions that it
    # nominates do not exist under the configuration of its proposal.
    check_support: Callable[[bytes, bytes, int, str], None]
    verify: bool = True  # sums are checked by random linear forms before anyone vouches for them
    hub: str | None = None  # the owner of every chunk of an attempt that it is in

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.roster.names if name != self.me)


@dataclass
class State:
    """One attempt of a round, as this peer knows it. What comes with a phase lies in the parts (`parts.py`)."""

    context: Context
    peers: PeerView
    round: int
    attempt: int = 0
    base: tuple[int, bytes] = NO_BASE  # the round that this one rests on, and the digest of its record
    chain: Chain = ()  # all rounds that are not final of those it rests on
    moved: tuple[tuple[int, bytes], Chain] | None = None  # base and chain from the next attempt on
    leaving: Leaving = field(default_factory=Leaving)
    since: float = -math.inf  # when this process began the round before this one, if it did
    now: float = 0.0  # of the event in hand
    due: dict[str, float] = field(default_factory=dict)  # by what: when the clock makes a difference
    proposal: Proposal | None = None
    restored: bool = False  # this process did not deal here: it masks nothing in this attempt
    follows: bool = False  # begun after the round was left: this peer takes no part, and acts on its outcome
    proposals: Proposals = field(default_factory=Proposals)
    masking: Masking = field(default_factory=Masking)
    members: Letter[Members] | None = None
    named: tuple[Letter[Members], bytes] | None = None  # D, and the set that it was made of
    late: bool = False  # others were in this attempt before this process began it
    missed: bool = False  # U leaves this peer out, which was there (fairness.py)
    spent: bool = False  # words of this attempt have left this process
    gathering: Gathering | None = None
    view: bytes = b""  # V
    voting: Voting = field(default_factory=Voting)
    certificate: Letter[Certificate] | None = None
    unmasking: Unmasking = field(default_factory=Unmasking)
    sum: Sum = field(default_factory=Sum)
    confirming: Confirming = field(default_factory=Confirming)
    outbox: list[Send] = field(default_factory=list)  # to repeat to a peer that comes back as a new process
    said_again: set[str] = field(default_factory=set)  # peers to which it was repeated on their question
    last_abandon: Letter[Certificate] | None = None  # certificate of the attempt before
    skip: Letter[Certificate] | None = None  # ABANDON certificate shown by a peer that is further on
    successor: State | None = None  # the attempt that has taken the place of this one

    @property
    def n(self) -> int:
        return len(self.context.roster.members)

    @property
    def names(self) -> tuple[str, ...]:
        return self.context.roster.names

    @property
    def survivors(self) -> tuple[str, ...]:
        """U, in roster order: empty until one is accepted."""
        return self.members.message.survivors if self.members is not None else ()

    @property
    def owners(self) -> tuple[str, ...]:
        """The peers that sum chunks, in the order in which chunks are dealt: U, or its hub alone."""
        return self.members.message.owners if self.members is not None else ()

    @property
    def inside(self) -> bool:
        """This peer is in U."""
        return self.context.me in self.survivors

    @property
    def closed(self) -> bool:
        """U is accepted, or this peer has given up: what SHARE and PROPOSE bring changes nothing any more.

        The phase is over only once that is durable, and letters of one turn are taken before the disk has written.
        """
        return self.members is not None or self.voting.ballot is not None

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
        s = self.context
        return Envelope(s.run, s.roster.epoch, self.round, self.attempt, s.me, s.incarnation)

    @property
    def laid_out(self) -> Gathering:
        """The part of GATHER. Raises UnexpectedEvent before the words have come."""
        if self.gathering is None:
            raise UnexpectedEvent(event="a row of GATHER", phase="MASK", evidence="no words have come")
        return self.gathering

    def seal(self, message: M) -> Letter[M]:
        return seal(message, self.envelope, self.context.identity)

    def timer(self, what: str, seconds: float) -> SetTimer:
        """Make `past(what)` true `seconds` from now."""
        self.due[what] = self.now + seconds
        return SetTimer(Tick(self.due[what], self.round, self.attempt))

    def past(self, what: str) -> bool:
        """The time of `what` was set and has come."""
        due = self.due.get(what)
        return due is not None and self.now >= due

    @property
    def item(self) -> str:
        """Where on the disk this attempt lies."""
        return ATTEMPT_ITEM if self.leaving.slot is None else LEFT_ITEMS[self.leaving.slot][0]

    @property
    def sums_item(self) -> str:
        """Where on the disk its masked sums lie."""
        return sums_item(self.round) if self.leaving.slot is None else LEFT_ITEMS[self.leaving.slot][1]

    def post(self, letter: Letter[Message], to: str | None = None) -> Send:
        """Send a small letter to one peer or all, and keep it for a peer that comes back as a new process."""
        return _kept(Send(to, letter), self.outbox)

    def post_share(self, letter: Letter[Share], to: str) -> Send:
        """Send a share to its holder, and keep it as long as the secrets that mask."""
        return _kept(Send(to, letter), self.masking.sent)

    def post_opened(self, letter: Letter[Reveal | BackupShare]) -> Send:
        """Send an opened seed, or shares of one, to all, and keep it as long as the secrets that open."""
        return _kept(Send(None, letter), self.unmasking.sent)

    def repeated_to(self, peer: str) -> list[Send]:
        """What was sent in this attempt, for a peer that comes back as a new process."""
        kept = (*self.masking.sent, *self.outbox, *self.unmasking.sent)
        return [Send(peer, sent.letter) for sent in kept if sent.to in (None, peer)]

    def next_attempt(self, attempt: int, certificate: Letter[Certificate] | None) -> State:
        """The state in which `attempt` begins, on the certificate that abandoned the one before; its successor.

        It has nothing of this attempt, and none of its secrets: only the proposal stays as it is.
        """
        base, chain = self.moved or (self.base, self.chain)
        self.successor = State(
            self.context,
            self.peers,
            self.round,
            attempt,
            base,
            chain,
            leaving=self.leaving,
            since=self.since,
            now=self.now,
            proposal=self.proposal if self.moved is None else None,
            last_abandon=certificate,
            outbox=[Send(None, letter) for letter in (certificate, self.leaving.leave) if letter is not None],
        )
        return self.successor

    def rebase(self, base: tuple[int, bytes], chain: Chain) -> None:
        """The model that this peer would sum on is another one now: from the next proposal on."""
        if self.context.me in self.proposals.proposes:
            self.moved = (base, chain)
        else:
            self.base, self.chain, self.proposal = base, chain, None


def _kept(sent: Send, outbox: list[Send]) -> Send:
    outbox.append(sent)
    return sent


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
