"""Every message that crosses a link: fields, limits, signed or not. The wire, in one file.

A letter is `[kind, body, signature]`; the body is `[version, run, epoch, round, attempt, sender, incarnation, …]`, so
the envelope is under the signature, and the kind is in what is signed. Bulk (`Chunk`, `SumChunk`, `Total`) is not
signed: a digest that is signed binds each of them. Byte for byte: `docs/spec/wire.md`, `tests/vectors/wire.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Final, TypeVar

from p2pfl import codec
from p2pfl.codec import Malformed, Many, Raw, Row, Text, Whole, limited
from p2pfl.keys import Identity, digest, verify, verify_again
from p2pfl.roster import MOST_PEERS, Roster

VERSION: Final = 1
HASH: Final = Raw(32, exactly=(32,))
SIGNATURE: Final = Raw(64, exactly=(64,))
INCARNATION: Final = Raw(16, exactly=(16,))
NAME: Final = Text(31)
EPSILON: Final = Text(32, r"([0-9]+(\.[0-9]+)?|inf)?")  # goes into every ledger: what that would refuse, ends here
NAMES: Final = Many(NAME, MOST_PEERS)
COUNTER: Final = Whole((1 << 53) - 1)
PATH: Final = Many(HASH, 32)
CHUNK: Final = Raw(512 << 10, least=1)
SMALL: Final = 16 << 10  # bytes: an Ack of 200 dealers, the largest of the small signed messages, fits
SUPPORT: Final = Raw(4 << 20)
LARGE: Final = 15 << 20  # bytes: a Members message with every member's nominated support
WIRE_BYTES: Final = 16 << 20  # what the mesh carries as one payload
ITEMS: Final = MOST_PEERS + 8


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a message belongs. `run` names the federation's manifest and purpose; the sender is a roster name."""

    run: bytes = limited(HASH)
    epoch: int = limited(COUNTER)
    round: int = limited(COUNTER)
    attempt: int = limited(COUNTER)
    sender: str = limited(NAME)
    incarnation: bytes = limited(INCARNATION)


class Message:
    """Base of all messages. `kind` is the number on the wire, `most` the largest body in bytes."""

    __slots__ = ()
    kind: ClassVar[int]
    signed: ClassVar[bool]
    most: ClassVar[int]
    specs: ClassVar[tuple[tuple[str, codec.Spec], ...]]


M = TypeVar("M", bound=type[Message])
KINDS: Final[dict[int, type[Message]]] = {}
ENVELOPE: Final = (("version", Whole(VERSION)), *codec.specs_of(Envelope))


def wire(kind: int, *, signed: bool = True, most: int = SMALL) -> Callable[[M], M]:
    """Register a message class under its number. A field without a limit, or a number taken, raises TypeError."""

    def register(cls: M) -> M:
        cls.kind, cls.signed, cls.most, cls.specs = kind, signed, most, codec.specs_of(cls)
        if KINDS.setdefault(kind, cls) is not cls:
            raise TypeError(f"kind {kind} is taken by {KINDS[kind].__name__}")
        return cls

    return register


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
    backup: bytes = limited(Raw(0))  # Shamir share of b_i: none in this version
    salt: bytes = limited(HASH)
    path: tuple[bytes, ...] = limited(PATH)

    def __repr__(self) -> str:
        return f"Share(edge={len(self.edge)} bytes)"


@wire(3)
@dataclass(frozen=True, slots=True)
class Ack(Message):
    """The digests of all bundles that the sender holds, by dealer, in roster order."""

    held: tuple[tuple[str, bytes], ...] = limited(Many(Row((NAME, HASH)), MOST_PEERS))


@wire(4, most=SUPPORT.most + SMALL)
@dataclass(frozen=True, slots=True)
class Propose(Message):
    """What one peer would sum, on which grounds. `configuration` is canonical facts: a difference can be shown."""

    manifest: bytes = limited(HASH)  # digest of peers.yaml
    model: bytes = limited(HASH)  # digest of the model before the round
    configuration: bytes = limited(Raw(4 << 10))
    support: bytes = limited(SUPPORT)  # nominated positions, or empty
    deadline_ms: int = limited(COUNTER)
    clock_ms: int = limited(COUNTER)  # Unix time on the sender's clock
    epsilon: str = limited(EPSILON)  # after this round's charge; decimal text
    site_head: bytes = limited(HASH)  # root of the sender's site log


@wire(5, most=LARGE)
@dataclass(frozen=True, slots=True)
class Members(Message):
    """The coordinator's one set U, with every member's acknowledgement and proposal as signed by it."""

    survivors: tuple[str, ...] = limited(NAMES)
    acks: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))
    proposes: tuple[bytes, ...] = limited(Many(Raw(SUPPORT.most + SMALL), MOST_PEERS))
    owners: tuple[str, ...] = limited(NAMES)
    deadline_ms: int = limited(COUNTER)


@wire(6, most=LARGE)
@dataclass(frozen=True, slots=True)
class Held(Message):
    """Acknowledgements and proposals passed to the coordinator at half-time. Refused in this version: U is everyone."""

    acks: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))
    proposes: tuple[bytes, ...] = limited(Many(Raw(SUPPORT.most + SMALL), MOST_PEERS))


# ── MASK and GATHER ───────────────────────────────────────────────────────────────────────────────────────────


@wire(7)
@dataclass(frozen=True, slots=True)
class Root(Message):
    """Merkle root over the sender's masked chunks, under the attempt digest."""

    attempt_digest: bytes = limited(HASH)
    root: bytes = limited(HASH)


@wire(8, signed=False, most=CHUNK.most + SMALL)
@dataclass(frozen=True, slots=True)
class Chunk(Message):
    """Chunk `index` of the sender's masked vector, to its owner; bound by the signed Root through `path`."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    words: bytes = limited(CHUNK)
    path: tuple[bytes, ...] = limited(PATH)


@wire(9)
@dataclass(frozen=True, slots=True)
class SumDigest(Message):
    """SHA-256 of one chunk of the masked sum, by its owner, to all."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    sum_digest: bytes = limited(HASH)


@wire(10)
@dataclass(frozen=True, slots=True)
class Nonce(Message):
    """The sender's nonce, opened for this one view V of all sum digests."""

    view: bytes = limited(HASH)
    nonce: bytes = limited(HASH)


@wire(11, signed=False, most=CHUNK.most + SMALL)
@dataclass(frozen=True, slots=True)
class SumChunk(Message):
    """Words of one chunk of the masked sum; bound by the owner's signed SumDigest."""

    attempt_digest: bytes = limited(HASH)
    index: int = limited(COUNTER)
    words: bytes = limited(CHUNK)


@wire(12, most=1 << 20)
@dataclass(frozen=True, slots=True)
class Tags(Message):
    """Random linear forms of the sender's masked chunks. Refused in this version: sums are not yet verified."""

    challenge: bytes = limited(HASH)
    tags: tuple[bytes, ...] = limited(Many(Raw(32), MOST_PEERS))


# ── BALLOT ────────────────────────────────────────────────────────────────────────────────────────────────────


@wire(13)
@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Everything of GATHER is checked and on this peer's disk."""

    attempt_digest: bytes = limited(HASH)
    view: bytes = limited(HASH)


@wire(14, most=1 << 20)
@dataclass(frozen=True, slots=True)
class Ballot(Message):
    """The sender's one vote in an attempt: SURVIVORS(D, V) with q Readys, or ABANDON naming who was waited for."""

    survivors: int = limited(Whole(1))  # 1: SURVIVORS, 0: ABANDON
    attempt_digest: bytes = limited(Raw(32, exactly=(0, 32)))
    view: bytes = limited(Raw(32, exactly=(0, 32)))
    readys: tuple[bytes, ...] = limited(Many(Raw(SMALL), MOST_PEERS))
    waited_for: tuple[str, ...] = limited(NAMES)


@wire(15, most=LARGE)
@dataclass(frozen=True, slots=True)
class Certificate(Message):
    """Equal ballots enough to decide an attempt, and the Members message that gives D its meaning."""

    ballots: tuple[bytes, ...] = limited(Many(Raw(1 << 20), MOST_PEERS))
    members: bytes = limited(Raw(LARGE))  # empty in an ABANDON before any U


@wire(16)
@dataclass(frozen=True, slots=True)
class Leave(Message):
    """A round left behind. Refused in this version: a certified round waits for its silent member."""

    lacking: tuple[str, ...] = limited(NAMES)


# ── UNMASK and CONFIRM ────────────────────────────────────────────────────────────────────────────────────────


@wire(17)
@dataclass(frozen=True, slots=True)
class Reveal(Message):
    """Self-mask seeds under the attempt's one SURVIVORS certificate."""

    seeds: tuple[tuple[str, bytes], ...] = limited(Many(Row((NAME, HASH)), MOST_PEERS))

    def __repr__(self) -> str:
        return f"Reveal(of={[name for name, _ in self.seeds]})"


@wire(18)
@dataclass(frozen=True, slots=True)
class BackupShare(Message):
    """Shamir shares of a silent member's self-mask seed. Refused in this version: there are no backups."""

    shares: tuple[tuple[str, bytes], ...] = limited(Many(Row((NAME, Raw(64))), MOST_PEERS))


@wire(19, most=80 << 10)
@dataclass(frozen=True, slots=True)
class Confirm(Message):
    """The round's record as canonical facts, and the sender's signature over it as it goes into the ledger."""

    record: bytes = limited(Raw(64 << 10))
    cosignature: bytes = limited(SIGNATURE)


@wire(20)
@dataclass(frozen=True, slots=True)
class Want(Message):
    """Asks for the checked sum of the envelope's round; or says that its sender lacks nothing of it any more."""

    what: str = limited(Text(16))  # "total" or "nothing"


@wire(21, signed=False, most=CHUNK.most + SMALL)
@dataclass(frozen=True, slots=True)
class Total(Message):
    """Part of a final round's sum; bound by the total's digest in the record that q peers signed."""

    segment: int = limited(COUNTER)
    bits: int = limited(Whole(61))
    length: int = limited(COUNTER)  # words of the whole segment
    start: int = limited(COUNTER)
    words: bytes = limited(Raw(CHUNK.most))
    segments: int = limited(COUNTER)


@wire(22, most=LARGE)
@dataclass(frozen=True, slots=True)
class Hello(Message):
    """What a peer says of itself on each new link (the mesh's greeting); the envelope gives its round and attempt."""

    link: bytes = limited(HASH)  # the receiver's nonce for this link: a hello of another link does not fit
    manifest: bytes = limited(HASH)
    genesis: bytes = limited(SIGNATURE)  # over the genesis record, as it goes into the ledger
    agreement: bytes = limited(Raw(64, exactly=(0, 64)))  # over the agreement record, when peers.yaml names one
    final_round: int = limited(COUNTER)  # the last round in the sender's federation log
    entries: int = limited(COUNTER)  # size of that log …
    root: bytes = limited(HASH)  # … and its Merkle root
    epsilon: str = limited(EPSILON)
    echo: tuple[bytes, ...] = limited(Many(Raw(1 << 20), 8))  # the receiver's own latest signed statements


# ── letters ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Letter:
    """A message in its envelope, with the exact bytes that were (or would be) signed."""

    envelope: Envelope
    message: Message
    body: bytes
    signature: bytes

    @property
    def wire(self) -> bytes:
        return codec.pack((self.message.kind, self.body, self.signature))

    @property
    def digest(self) -> bytes:
        """Names this letter: SHA-256 over its kind and body (a signature is not part of what is said)."""
        return digest("letter/" + type(self.message).__name__, self.body)

    @property
    def sender(self) -> str:
        return self.envelope.sender

    def __repr__(self) -> str:
        # Dull: the body of a Share or Reveal is a seed in clear, and letters stand in effects, states, tracebacks.
        at, size = self.envelope, len(self.body)
        return f"Letter({type(self.message).__name__} of {at.sender}, {at.round}, {at.attempt}, {size} bytes)"


def _label(cls: type[Message]) -> str:
    return "message/" + cls.__name__.lower()


def seal(message: Message, envelope: Envelope, identity: Identity) -> Letter:
    """Put `message` into `envelope` and sign it, unless its kind travels unsigned."""
    body = codec.pack((VERSION, *astuple(envelope), *(getattr(message, name) for name, _ in message.specs)))
    if len(body) > message.most:
        raise Malformed(f"{type(message).__name__}: body of {len(body)} bytes, at most {message.most}")
    signature = identity.sign(_label(type(message)), body) if message.signed else b""
    return Letter(envelope, message, body, signature)


def read(data: bytes) -> Letter:
    """Decode one letter without judging its signature. Raises Malformed."""
    outer = codec.unpack(data, most=WIRE_BYTES, items=3)
    if not isinstance(outer, tuple) or len(outer) != 3:
        raise Malformed("a letter has three parts")
    kind, body, signature = outer
    cls = KINDS.get(kind) if type(kind) is int else None
    if cls is None or not isinstance(body, bytes) or not isinstance(signature, bytes):
        raise Malformed(f"no message kind {kind!r}"[:80])
    if len(body) > cls.most or len(signature) != (64 if cls.signed else 0):
        raise Malformed(f"{cls.__name__}: body of {len(body)} bytes (most {cls.most}), signature of {len(signature)}")
    try:
        values = codec.read_row(body, ENVELOPE + cls.specs, most=cls.most, items=ITEMS, canonical=cls.signed)
    except Malformed as error:
        raise Malformed(f"{cls.__name__}: {error}") from None
    if values[0] != VERSION:
        raise Malformed(f"{cls.__name__}: protocol version {values[0]}, this is {VERSION}")
    if cls.signed and codec.pack((kind, body, signature)) != data:
        raise Malformed(f"{cls.__name__}: not the shortest encoding")
    split = len(ENVELOPE)
    make: Callable[..., Any] = cls
    return Letter(Envelope(*values[1:split]), make(*values[split:]), body, signature)


def authentic(letter: Letter, roster: Roster) -> bool:
    """True when the letter's sender is in the roster and, if its kind is signed, signed these bytes."""
    if letter.sender not in roster or not letter.message.signed:
        return letter.sender in roster
    check = verify_again if len(letter.body) <= SMALL else verify
    return check(roster[letter.sender].key, _label(type(letter.message)), letter.body, letter.signature)


def open_letter(data: bytes, roster: Roster, wanted: type[Message] | None = None) -> Letter:
    """`read` plus the signature, for letters that ride inside others. Raises Malformed."""
    letter = read(data)
    if wanted is not None and not isinstance(letter.message, wanted):
        raise Malformed(f"{type(letter.message).__name__} where {wanted.__name__} belongs")
    if not authentic(letter, roster):
        raise Malformed(f"{type(letter.message).__name__}: not signed by {letter.sender!r}")
    return letter
