"""The messages that decide an attempt and bring its sum: BALLOT, UNMASK, CONFIRM, evidence, and what a peer missed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from p2pfl.codec import Many, Raw, Row, Tail, Text, Whole, limited
from p2pfl.messages.schema import (
    BULK,
    CHUNK,
    COUNTER,
    EPSILON,
    HASH,
    LARGE,
    NAME,
    NAMES,
    PATH,
    SIGNATURE,
    SMALL,
    Message,
    wire,
)
from p2pfl.roster import MOST_PEERS

NOTE: Final = Raw(1 << 10)  # a signed head of a site log as text, with one cosignature or none; empty: there is none
CHANGE: Final = Row((Raw(1 << 20), Many(Row((NAME, SIGNATURE)), MOST_PEERS)))  # a record, and who signed it
MOST_CHANGES: Final = 4  # newest ones in a Hello; a site further behind is given the file by hand

OUTCOME_BYTES: Final = 32 << 10

# ── BALLOT ────────────────────────────────────────────────────────────────────────────────────────────────────


@wire(13)
@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Everything of GATHER is checked and on this peer's disk."""

    attempt_digest: bytes = limited(HASH)
    view: bytes = limited(HASH)


@wire(14)
@dataclass(frozen=True, slots=True)
class Ballot(Message):
    """The sender's one vote in an attempt: SURVIVORS(D, V) on q Readys, or ABANDON, naming the peers waited for."""

    survivors: int = limited(Whole(1))  # 1: SURVIVORS, 0: ABANDON
    attempt_digest: bytes = limited(Raw(32, exactly=(0, 32)))
    view: bytes = limited(Raw(32, exactly=(0, 32)))
    readys: tuple[str, ...] = limited(NAMES)  # peers whose Ready for (D, V) the sender holds, in roster order
    waited_for: tuple[str, ...] = limited(NAMES)


@wire(15, most=LARGE)
@dataclass(frozen=True, slots=True)
class Certificate(Message):
    """Enough equal ballots to decide an attempt, and the Members message that gives D its meaning."""

    ballots: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))
    members: bytes = limited(Raw(LARGE))  # empty in an ABANDON before any U


@wire(16)
@dataclass(frozen=True, slots=True)
class Leave(Message):
    """The sender goes on without this round's sum. It binds no vote; q of them carry everyone into the next round."""

    lacking: tuple[str, ...] = limited(NAMES)  # peers whose ballot is missing; after a certificate, whose b_i


@wire(28, most=LARGE)
@dataclass(frozen=True, slots=True)
class Handed(Message):
    """Signed letters of others, handed on to a peer that lacks them. Each counts by its own signature."""

    letters: tuple[bytes, ...] = limited(Many(Raw(LARGE), 3 * MOST_PEERS))


@wire(24, most=LARGE)
@dataclass(frozen=True, slots=True)
class Evidence(Message):
    """Letters that together prove that their author broke the protocol, for anyone with the roster to check."""

    proof: tuple[bytes, ...] = limited(Many(Raw(LARGE), 2 * MOST_PEERS))


# ── UNMASK and CONFIRM ────────────────────────────────────────────────────────────────────────────────────────


@wire(17)
@dataclass(frozen=True, slots=True)
class Reveal(Message):
    """Self-mask seeds under the attempt's one SURVIVORS certificate."""

    seeds: tuple[tuple[str, bytes], ...] = limited(Many(Row((NAME, HASH)), MOST_PEERS))

    def __repr__(self) -> str:
        return f"Reveal(of={[name for name, _ in self.seeds]})"


@wire(18, most=1 << 20)
@dataclass(frozen=True, slots=True)
class BackupShare(Message):
    """The sender's Shamir shares of silent members' self-mask seeds: (dealer, share, salt, edge commitment, path)."""

    shares: tuple[tuple[str, bytes, bytes, bytes, tuple[bytes, ...]], ...] = limited(
        Many(Row((NAME, HASH, HASH, HASH, PATH)), MOST_PEERS)
    )

    def __repr__(self) -> str:
        return f"BackupShare(of={[row[0] for row in self.shares]})"


@wire(19, most=40 << 10)
@dataclass(frozen=True, slots=True)
class Confirm(Message):
    """What the sender's record of the round holds beyond its certificate, and its signature over the whole record."""

    total: bytes = limited(HASH)  # digest of the sum
    model: bytes = limited(HASH)  # … and of the model that came of it
    outcome: bytes = limited(Raw(OUTCOME_BYTES))  # canonical facts
    cosignature: bytes = limited(SIGNATURE)


class Question(StrEnum):
    """What a Want asks for."""

    SUM = "sum"
    CONFIRMS = "confirms"
    NOTHING = "nothing"  # its sender lacks nothing of the round any more
    WORDS = "words"  # of GATHER, those named as lacking
    LETTERS = "letters"  # what the receiver has said in the round so far: its sender dropped that, and begins it now
    VOTE = "vote"  # what the receiver's vote stands on; of the READYs, those named as lacking


class Item(IntEnum):
    """What is lacking of an author. A chunk is named by its number, the others by 0."""

    CHUNK = 0  # of the author's masked vector; of the sum, when the author owns it
    ROOT = 1
    NONCE = 2
    TAGS = 3
    READY = 4


Lacking = tuple[str, int, int]  # author, Item, number


@wire(20)
@dataclass(frozen=True, slots=True)
class Want(Message):
    """Asks for something of the envelope's round, or says that its sender lacks nothing of it any more."""

    what: str = limited(Text(16, "|".join(Question)))
    lacking: tuple[Lacking, ...] = limited(Many(Row((NAME, Whole(max(Item)), COUNTER)), 4 * MOST_PEERS))


@wire(21, most=BULK)
@dataclass(frozen=True, slots=True)
class Total(Message):
    """Part of a round's sum: bound by V in the certificate while it is masked, else by the record that q signed."""

    masked: int = limited(Whole(1))
    segment: int = limited(COUNTER)
    bits: int = limited(Whole(61))
    length: int = limited(COUNTER)  # words of the whole segment
    start: int = limited(COUNTER)
    words: bytes | memoryview = limited(Tail(CHUNK.most))
    segments: int = limited(COUNTER)


# ── between nodes: what a peer says of itself, and what one that was away is given ────────────────────────────


@wire(22, most=LARGE)
@dataclass(frozen=True, slots=True)
class Hello(Message):
    """What a peer says of itself on each new link (the mesh's greeting); the envelope gives its round and attempt."""

    link: bytes = limited(HASH)  # the link's joint nonce: a hello of another link does not fit
    federation_digest: bytes = limited(HASH)
    genesis: bytes = limited(SIGNATURE)  # over the genesis record, as it goes into the ledger
    agreement: bytes = limited(Raw(64, exactly=(0, 64)))  # over the agreement record, when peers.yaml names one
    final_round: int = limited(COUNTER)  # 0 in this version: entries and root say how far the sender is
    entries: int = limited(COUNTER)  # size of that log …
    root: bytes = limited(HASH)  # … and its Merkle root
    epsilon: str = limited(EPSILON)
    cosigned: bytes = limited(NOTE)  # the last head of the receiver's site log that the sender cosigned
    echo: tuple[bytes, ...] = limited(Many(Raw(1 << 20), 32))  # the receiver's own latest signed statements
    changes: tuple[tuple[bytes, tuple[tuple[str, bytes], ...]], ...] = limited(Many(CHANGE, MOST_CHANGES))


@wire(25)
@dataclass(frozen=True, slots=True)
class Behind(Message):
    """The sender's federation log holds `entries` entries and it needs those that follow, and perhaps the model."""

    entries: int = limited(COUNTER)
    model: bytes = limited(Raw(32, exactly=(0, 32)))  # digest of the model that it asks for; empty: none
    start: int = limited(COUNTER)  # byte of the model from which on


@wire(26, most=LARGE)
@dataclass(frozen=True, slots=True)
class Entries(Message):
    """Entries of the sender's federation log from `first` on: record, and who signed it."""

    first: int = limited(COUNTER)
    entries: int = limited(COUNTER)  # of the whole log
    rows: tuple[tuple[bytes, tuple[tuple[str, bytes], ...]], ...] = limited(
        Many(Row((Raw(1 << 20), Many(Row((NAME, SIGNATURE)), MOST_PEERS))), 128)
    )


@wire(29, most=2 << 20)
@dataclass(frozen=True, slots=True)
class Changed(Message):
    """A change of membership that enough sites of this epoch signed; its receiver may not have it yet."""

    record: bytes = limited(Raw(1 << 20))
    signatures: tuple[tuple[str, bytes], ...] = limited(Many(Row((NAME, SIGNATURE)), MOST_PEERS))


@wire(30)
@dataclass(frozen=True, slots=True)
class SiteHead(Message):
    """The sender's newest signed head of its site log, which asks for the receiver's cosignature."""

    note: bytes = limited(NOTE)
    held: int = limited(COUNTER)  # entries of the head that, so the sender believes, the receiver cosigned; 0: none
    proof: tuple[bytes, ...] = limited(Many(HASH, 64))  # that the head extends that one (RFC 6962)


@wire(31)
@dataclass(frozen=True, slots=True)
class Cosigned(Message):
    """The newest head of the receiver's site log that the sender holds, with its cosignature; it answers a SiteHead."""

    note: bytes = limited(NOTE)


@wire(27, most=BULK)
@dataclass(frozen=True, slots=True)
class ModelPart(Message):
    """Part of a model's bytes (little-endian float32); bound by the model's digest in a record that q peers signed."""

    model: bytes = limited(HASH)
    length: int = limited(COUNTER)  # bytes of the whole
    start: int = limited(COUNTER)
    data: bytes | memoryview = limited(Tail(CHUNK.most))
