"""Messages in their envelopes, sealed and read: one encoding, one signature, limits before anything is unpacked.

A letter is `[kind, body, signature]`; the body is `[version, run, epoch, round, attempt, sender, incarnation, …]`, so
the envelope is under the signature, and the kind is in what is signed. Byte for byte: `docs/spec/wire.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Final

from p2pfl import codec
from p2pfl.codec import Buffer, Malformed, Pieces
from p2pfl.keys import Identity, digest, verify, verify_again
from p2pfl.messages.schema import ENVELOPE, ITEMS, KINDS, SMALL, VERSION, WIRE_BYTES, Envelope, Message
from p2pfl.roster import MOST_PEERS, Roster

MOST_REMEMBERED: Final = 64 << 10  # bytes of a letter
PROOF_LETTERS: Final = 2 * MOST_PEERS + 2  # a false sum: the set, the sum, and each member's root and words


@dataclass(frozen=True, slots=True)
class Letter:
    """A message in its envelope, with the exact bytes that were (or would be) signed."""

    envelope: Envelope
    message: Message
    body: Buffer | Pieces  # of bulk: where its words lie, uncopied
    signature: bytes

    @property
    def wire(self) -> bytes:
        return codec.pack((self.message.kind, self.body, self.signature))

    @property
    def pieces(self) -> Pieces:
        """The wire, with bulk left where it is."""
        return codec.pieces((self.message.kind, self.body, self.signature))

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return codec.size_of(self.body)

    @property
    def digest(self) -> bytes:
        """Names this letter: SHA-256 over its kind and body (a signature is not part of what is said)."""
        return digest("letter/" + type(self.message).__name__, self.signed)

    @property
    def signed(self) -> bytes:
        """The body as one byte string."""
        return b"".join(self.body) if isinstance(self.body, Pieces) else bytes(self.body)

    @property
    def sender(self) -> str:
        return self.envelope.sender

    def __repr__(self) -> str:
        # Dull: the body of a Share or Reveal is a seed in clear, and letters stand in effects, states, tracebacks.
        at, size = self.envelope, self.size
        return f"Letter({type(self.message).__name__} of {at.sender}, {at.round}, {at.attempt}, {size} bytes)"


def _label(cls: type[Message]) -> str:
    return "message/" + cls.__name__.lower()


def _value(message: Message, envelope: Envelope) -> tuple[Any, ...]:
    return (VERSION, *astuple(envelope), *(getattr(message, name) for name, _ in message.specs))


def seal(message: Message, envelope: Envelope, identity: Identity) -> Letter:
    """Put `message` into `envelope` and sign it, unless its kind travels unsigned: then its words are not copied."""
    value = _value(message, envelope)
    body = codec.pack(value) if message.signed else codec.pieces(value)
    if codec.size_of(body) > message.most:
        raise Malformed(f"{type(message).__name__}: body of {codec.size_of(body)} bytes, at most {message.most}")
    signature = identity.sign(_label(type(message)), body) if isinstance(body, bytes) else b""
    return Letter(envelope, message, body, signature)


def rejoin(message: Message, envelope: Envelope, signature: bytes) -> Letter:
    """A signed letter of which the signature alone was sent, all else being known. `authentic` says if it is one."""
    return Letter(envelope, message, codec.pack(_value(message, envelope)), signature)


def read(data: bytes) -> Letter:
    """Decode one letter without judging its signature. Raises Malformed."""
    bulk = len(data) > codec.BULK_BYTES and data[:1] == b"\x93" and not getattr(KINDS.get(data[1]), "signed", True)
    if len(data) > WIRE_BYTES:
        raise Malformed(f"{len(data)} bytes, at most {WIRE_BYTES}")
    outer = codec.unpack_views(data, items=3) if bulk else codec.unpack(data, most=WIRE_BYTES, items=3)
    if not isinstance(outer, tuple) or len(outer) != 3:
        raise Malformed("a letter has three parts")
    kind, body, signature = outer
    cls = KINDS.get(kind) if type(kind) is int else None
    if cls is None or not isinstance(body, (bytes, memoryview)) or not isinstance(signature, bytes):
        raise Malformed(f"no message kind {kind!r}"[:80])
    if len(body) > cls.most or len(signature) != (64 if cls.signed else 0):
        raise Malformed(f"{cls.__name__}: body of {len(body)} bytes (most {cls.most}), signature of {len(signature)}")
    try:
        values = codec.read_row(body, ENVELOPE + cls.specs, most=cls.most, items=ITEMS, canonical=cls.signed)
    except Malformed as error:
        raise Malformed(f"{cls.__name__}: {error}") from None
    if values[0] != VERSION:
        raise Malformed(f"{cls.__name__}: protocol version {values[0]}, this is {VERSION}")
    if cls.signed and not codec.encodes((kind, body, signature), data):
        raise Malformed(f"{cls.__name__}: not the shortest encoding")
    split = len(ENVELOPE)
    make: Callable[..., Any] = cls
    return Letter(Envelope(*values[1:split]), make(*values[split:]), body, signature)


def read_proof(data: bytes) -> tuple[bytes, ...]:
    """The letters of a proof against a liar as a home keeps it, their worth not yet judged. Raises Malformed."""
    wires = codec.unpack(data, most=len(data), items=PROOF_LETTERS)
    if not isinstance(wires, tuple) or not all(isinstance(wire, bytes) for wire in wires):
        raise Malformed("it is no list of letters")
    return wires


def authentic(letter: Letter, roster: Roster) -> bool:
    """True when the letter's sender is in the roster and, if its kind is signed, signed these bytes."""
    if letter.sender not in roster or not letter.message.signed:
        return letter.sender in roster
    check = verify_again if letter.size <= SMALL else verify
    return check(roster[letter.sender].key, _label(type(letter.message)), letter.signed, letter.signature)


def open_letter(data: bytes, roster: Roster, wanted: type[Message] | None = None) -> Letter:
    """`read` plus the signature, for letters that ride inside others. Raises Malformed."""
    if wanted is not None and wanted.signed and len(data) <= MOST_REMEMBERED:
        return _opened_again(bytes(data), roster, wanted.kind)
    return _opened(data, roster, wanted)


def _opened(data: bytes, roster: Roster, wanted: type[Message] | None) -> Letter:
    letter = read(data)
    if wanted is not None and not isinstance(letter.message, wanted):
        raise Malformed(f"{type(letter.message).__name__} where {wanted.__name__} belongs")
    if not authentic(letter, roster):
        raise Malformed(f"{type(letter.message).__name__}: not signed by {letter.sender!r}")
    return letter


@functools.lru_cache(maxsize=1024)
def _opened_again(data: bytes, roster: Roster, kind: int) -> Letter:
    """One ballot rides in every certificate, one bundle in every share. No secret is ever opened this way."""
    return _opened(data, roster, KINDS[kind])
