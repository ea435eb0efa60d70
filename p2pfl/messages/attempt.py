"""The messages of one attempt, from the first share to the gathered sum: SHARE, PROPOSE, MASK, GATHER."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.codec import Many, Raw, Row, Whole, limited
from p2pfl.messages.schema import (
    BULK,
    CHUNK,
    COUNTER,
    EPSILON,
    HASH,
    INCARNATION,
    LARGE,
    NAME,
    NAMES,
    PATH,
    SIGNATURE,
    SMALL,
    SUPPORT,
    Message,
    wire,
)
from p2pfl.roster import MOST_PEERS

HELD: Final = Many(Row((NAME, HASH)), MOST_PEERS)  # dealer, digest of its bundle
# Process, signature, further (dealer, digest), peers without a link.
Acknowledged = tuple[bytes, bytes, tuple[tuple[str, bytes], ...], tuple[str, ...]]

# ── SHARE and PROPOSE ─────────────────────────────────────────────────────────────────────────────────────────


@wire(1)
@dataclass(frozen=True, slots=True)
class Bundle(Message):
    """What a dealer binds itself to in one attempt: its self-mask, its nonce, and every share that it sent."""

    self_mask: bytes = limited(HASH)  # commitment to b_i
    nonce: bytes = limited(HASH)  # commitment to the nonce that GATHER opens
    shares: bytes = limited(HASH)  # Merkle root over the salted shares, in roster order


@wire(2)
@dataclass(frozen=True, slots=True)
class Share(Message):
    """One dealer's share for one peer. Secret: it travels inside TLS to its receiver alone."""

    bundle: bytes = limited(Raw(SMALL, least=1))  # the signed Bundle
    edge: bytes = limited(Raw(32, exactly=(0, 32)))  # the seed of the edge dealer → receiver, empty the other way
    backup: bytes = limited(HASH)  # Shamir share of b_i, threshold q−1
    salt: bytes = limited(HASH)
    path: tuple[bytes, ...] = limited(PATH)

    def __repr__(self) -> str:
        return f"Share(edge={len(self.edge)} bytes)"


@wire(3)
@dataclass(frozen=True, slots=True)
class Ack(Message):
    """Digests of all bundles that the sender holds durably, by dealer, in roster order. A later one may hold more.

    It also says to whom the sender has no link: two that say so of one another are in no set together.
    """

    held: tuple[tuple[str, bytes], ...] = limited(HELD)
    unlinked: tuple[str, ...] = limited(NAMES)


@wire(4, most=SUPPORT.most + SMALL)
@dataclass(frozen=True, slots=True)
class Propose(Message):
    """What one peer would sum, and what that rests on. `configuration` is facts, so that a difference can be shown."""

    federation_digest: bytes = limited(HASH)  # digest of peers.yaml
    rests_on: int = limited(COUNTER)  # the last round whose checked sum the sender holds; 0: none
    base: bytes = limited(HASH)  # digest of that round's record; zeros: none
    model: bytes = limited(HASH)  # digest of the model before the round
    configuration: bytes = limited(Raw(4 << 10))
    support: bytes = limited(SUPPORT)  # nominated positions, or empty
    deadline_ms: int = limited(COUNTER)
    clock_ms: int = limited(COUNTER)  # Unix time on the sender's clock
    epsilon: str = limited(EPSILON)  # after this round's charge; decimal text
    site_head: bytes = limited(HASH)  # root of the sender's site log
    change: bytes = limited(Raw(32, exactly=(0, 32)))  # digest of the change of membership that it holds, once due


@wire(5, most=LARGE)
@dataclass(frozen=True, slots=True)
class Members(Message):
    """The coordinator's one set U, with every member's bundle, acknowledgement and proposal as signed by it.

    All members acknowledged the same bundles of U, so each Ack is reduced to what those do not say: its process, its
    signature, what it acknowledges beside them, and to whom it has no link.
    """

    survivors: tuple[str, ...] = limited(NAMES)
    bundles: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))
    acks: tuple[Acknowledged, ...] = limited(Many(Row((INCARNATION, SIGNATURE, HELD, NAMES)), MOST_PEERS))
    proposes: tuple[bytes, ...] = limited(Many(Raw(SUPPORT.most + SMALL), MOST_PEERS))
    owners: tuple[str, ...] = limited(NAMES)
    deadline_ms: int = limited(COUNTER)
    # Why live peers stay out: ballots or LEAVEs that name them, and Acks of those without a link to a member.
    grounds: tuple[bytes, ...] = limited(Many(Raw(1 << 20), MOST_PEERS))


@wire(6, most=LARGE)
@dataclass(frozen=True, slots=True)
class Held(Message):
    """Acknowledgements, proposals and bundles that the sender holds, passed on to the coordinator at half-time."""

    acks: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))
    proposes: tuple[bytes, ...] = limited(Many(Raw(SUPPORT.most + SMALL), MOST_PEERS))
    bundles: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))


# ── MASK and GATHER ───────────────────────────────────────────────────────────────────────────────────────────


@wire(7, most=1 << 20)
@dataclass(frozen=True, slots=True)
class Root(Message):
    """The shape of the sender's masked vector and the hashes of its chunks, in order, under the attempt digest."""

    attempt_digest: bytes = limited(HASH)
    segments: tuple[tuple[int, int], ...] = limited(Many(Row((Whole(61), COUNTER)), 64))  # (bits, words) of each
    leaves: bytes = limited(Raw((1 << 20) - SMALL))  # 32 bytes for each chunk


@wire(8, most=BULK)
@dataclass(frozen=True, slots=True)
class Chunk(Message):
    """Chunk `index` of the sender's masked vector, to its owner; bound by the sender's signed Root."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    words: bytes | memoryview = limited(CHUNK)


@wire(9)
@dataclass(frozen=True, slots=True)
class SumDigest(Message):
    """An owner's digests, for all: of one chunk of the masked sum, and of the members' Roots that it summed under."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    sum_digest: bytes = limited(HASH)
    roots: bytes = limited(HASH)


@wire(10)
@dataclass(frozen=True, slots=True)
class Nonce(Message):
    """The sender's nonce, opened for this one view V of all sum digests."""

    view: bytes = limited(HASH)
    nonce: bytes = limited(HASH)


@wire(11, most=BULK)
@dataclass(frozen=True, slots=True)
class SumChunk(Message):
    """Words of one chunk of the masked sum; bound by the owner's signed SumDigest."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    words: bytes | memoryview = limited(CHUNK)


@wire(12, most=1 << 20)
@dataclass(frozen=True, slots=True)
class Tags(Message):
    """Random linear forms of each of the sender's masked chunks, in order, eight bytes each (sharing/forms.py)."""

    challenge: bytes = limited(HASH)
    tags: bytes = limited(Raw((1 << 20) - SMALL))


@wire(23, most=BULK)
@dataclass(frozen=True, slots=True)
class Opened(Message):
    """One member's masked chunk, opened by its owner to show who lied; bound by the author's signed Root."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    author: str = limited(NAME)
    words: bytes | memoryview = limited(CHUNK)
