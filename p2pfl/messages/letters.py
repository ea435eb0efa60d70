"""Messages in their envelopes, sealed and read: one encoding, one signature, limits before anything is unpacked.

A letter is `[kind, body, signature]` with the body `[version, run, epoch, round, attempt, sender, incarnation, …]`, so
the signature covers the envelope; its label covers the kind. Bulk is not signed: it is `[kind, head]`, followed by the
raw words. The head is a body in which the number of those bytes takes the place of the words. Byte for byte:
`docs/spec/wire.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeGuard, TypeVar

from p2pfl import codec
from p2pfl.codec import Buffer, Malformed, Pieces
from p2pfl.keys import SIGNATURE_BYTES, Identity, digest, verify, verify_again
from p2pfl.messages.schema import (
    BULK_HEAD,
    COUNTER,
    ENVELOPE,
    KINDS,
    SIGNATURE,
    SMALL,
    VERSION,
    WIRE_BYTES,
    Envelope,
    Message,
)
from p2pfl.roster import MOST_PEERS, Roster

MOST_REMEMBERED: Final = 2 * SMALL  # bytes of the largest letter that is kept in `_opened_again`
VALUE_BYTES: Final = 56  # of a value in a list: the object, and its place in the list
_PLACE: Final = attrgetter(*(name for name, _ in ENVELOPE[1:]))  # what an envelope says, in the order of the wire
BULK_BEGINS: Final = b"\x92"  # an array of two; that of a signed letter is of three
M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)
PARTS: Final = (("kind", COUNTER), ("body", codec.Raw(WIRE_BYTES)), ("signature", SIGNATURE))  # of a signed letter
# msgpack's own signs: an array of three, the largest number of one byte, lengths of bytes by the width in which they
# are said, and 64 bytes.
_THREE: Final = 0x93
_MOST_FIXED: Final = 0x7F
_WIDTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_SIGNED: Final = bytes([0xC4, SIGNATURE_BYTES])
PROOF_LETTERS: Final = 2 * MOST_PEERS + 2  # letters that prove a false sum: set, sum, each member's root and words


@dataclass(frozen=True, slots=True)
class Letter(Generic[M_co]):
    """A message of kind M in its envelope, with the exact bytes that were (or would be) signed."""

    envelope: Envelope
    message: M_co
    body: bytes | Pieces  # of bulk: the head and, not copied, the words
    signature: bytes

    @property
    def wire(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def pieces(self) -> Pieces:
        """The same bytes, without a copy of bulk."""
        if isinstance(self.body, Pieces):
            head, words = self.body
            return codec.with_tail((self.message.kind, head), words)
        return Pieces((codec.pack((self.message.kind, self.body, self.signature)),))

    @property
    def size(self) -> int:
        """Bytes of the body."""
        body = self.body
        return body.size if isinstance(body, Pieces) else len(body)

    @property
    def memory(self) -> int:
        """Bytes that it takes while it is held, about: a short value in a list takes many times its own byte."""
        values = sum(_listed(getattr(self.message, name)) for name, _ in self.message.specs)
        return self.size + VALUE_BYTES * values

    @property
    def digest(self) -> bytes:
        """SHA-256 over kind and body. It names the letter; the signature is not part of what is said."""
        return digest("letter/" + type(self.message).__name__, self.signed)

    @property
    def signed(self) -> bytes:
        """The body as one byte string."""
        return b"".join(self.body) if isinstance(self.body, Pieces) else self.body

    @property
    def sender(self) -> str:
        return self.envelope.sender

    def __repr__(self) -> str:
        # Dull: the body of a Share or Reveal is a seed in clear, and letters stand in effects, states, tracebacks.
        at, size = self.envelope, self.size
        return f"Letter({type(self.message).__name__} of {at.sender}, {at.round}, {at.attempt}, {size} bytes)"


def _listed(value: object) -> int:
    """Values in a list, and in the lists in it."""
    return len(value) + sum(map(_listed, value)) if isinstance(value, tuple) else 0


def _label(cls: type[Message]) -> str:
    return "message/" + cls.__name__.lower()


def _row(message: Message, envelope: Envelope) -> tuple[Any, ...]:
    fields = {name: getattr(message, name) for name, _ in message.specs}
    if message.tail:
        fields[message.tail] = codec.size_of(fields[message.tail])
    return (VERSION, *_PLACE(envelope), *fields.values())


def seal(message: M, envelope: Envelope, identity: Identity) -> Letter[M]:
    """Put `message` into `envelope` and sign it; bulk is neither signed nor copied. Raises Malformed: too large."""
    packed = codec.pack(_row(message, envelope))
    body = Pieces((packed, getattr(message, message.tail))) if message.tail else packed
    if codec.size_of(body) > message.most:
        raise Malformed(f"{type(message).__name__}: body of {codec.size_of(body)} bytes, at most {message.most}")
    return Letter(envelope, message, body, identity.sign(_label(type(message)), packed) if message.signed else b"")


def rejoin(message: M, envelope: Envelope, signature: bytes) -> Letter[M]:
    """A signed letter, made whole where its signature alone was sent. `authentic` tells whether it was signed so."""
    return Letter(envelope, message, codec.pack(_row(message, envelope)), signature)


def read_letter(data: Buffer) -> Letter[Message]:
    """Decode one letter without judging its signature; the words of bulk are a view of `data`. Raises Malformed."""
    if len(data) > WIRE_BYTES:
        raise Malformed(f"{len(data)} bytes, at most {WIRE_BYTES}")
    return _read_bulk(data) if data[:1] == BULK_BEGINS else _read_signed(data)


def kind_said(data: Buffer) -> type[Message] | None:
    """The kind that a signed letter says it is of, before its body is read; None: bulk. Raises Malformed."""
    return None if data[:1] == BULK_BEGINS else _kind_of(*_parts(data)[:2])


def _read_signed(data: Buffer) -> Letter[Message]:
    kind, body, signature = _parts(data)
    cls = _kind_of(kind, body)
    if not cls.signed:
        raise Malformed(f"{cls.__name__}: a bulk letter has two parts, and its words behind them")
    if len(body) > cls.most:
        raise Malformed(f"{cls.__name__}: body of {len(body)} bytes (most {cls.most})")
    envelope, fields = _fields_of(cls, body)
    return Letter(envelope, _made(cls, fields), body, signature)


def _parts(data: Buffer) -> tuple[int, bytes, bytes]:
    """Kind, body, signature. Raises Malformed."""
    if (found := _cut(data)) is not None:
        return found
    try:
        kind, body, signature = codec.read_row(data, PARTS, most=WIRE_BYTES)
    except Malformed as error:
        raise Malformed(f"a letter has three parts: {error}") from None
    return kind, body, signature


def _cut(data: Buffer) -> tuple[int, bytes, bytes] | None:
    """What `codec.read_row` finds by PARTS, where the lengths say at once that it would: a body is copied once.

    None: read it, and find out what is wrong.
    """
    end = len(data) - len(_SIGNED) - SIGNATURE_BYTES
    width = _WIDTHS.get(data[2], 0) if end > 2 else 0
    start = 3 + width
    size = int.from_bytes(data[3:start], "big")
    shortest = width == 1 or size >> (4 * width)  # more than a shorter width could say
    if not width or data[0] != _THREE or data[1] > _MOST_FIXED or size != end - start or not shortest:
        return None
    if data[end : end + len(_SIGNED)] != _SIGNED:
        return None
    return data[1], bytes(data[start:end]), bytes(data[end + len(_SIGNED) :])


def _read_bulk(data: Buffer) -> Letter[Message]:
    outer, words = codec.split_tail(data, most=BULK_HEAD, items=2)
    kind, head = outer
    cls = _kind_of(kind, head)
    if cls.signed:
        raise Malformed(f"{cls.__name__}: a signed letter has three parts")
    envelope, fields = _fields_of(cls, head)
    if fields[cls.tail] != len(words):
        raise Malformed(f"{cls.__name__}: {len(words)} bytes behind it, where it names {fields[cls.tail]}")
    return Letter(envelope, _made(cls, {**fields, cls.tail: words}), Pieces((head, words)), b"")


def _kind_of(kind: object, body: object) -> type[Message]:
    cls = KINDS.get(kind) if type(kind) is int else None
    if cls is None or not isinstance(body, bytes):
        raise Malformed(f"no message kind {kind!r}"[:80])
    return cls


@functools.cache
def _laid_out(kind: int) -> tuple[tuple[tuple[str, codec.Spec], ...], tuple[str, ...]]:
    """The fields of a body of this kind, and the names of those behind the envelope."""
    specs = KINDS[kind].specs
    return ENVELOPE + specs, tuple(name for name, _ in specs)


def _fields_of(cls: type[Message], body: bytes) -> tuple[Envelope, dict[str, Any]]:
    """The envelope, and by name what the body holds of the message. Raises Malformed."""
    specs, names = _laid_out(cls.kind)
    try:
        values = codec.read_row(body, specs, most=cls.most)
    except Malformed as error:
        raise Malformed(f"{cls.__name__}: {error}") from None
    if values[0] != VERSION:
        raise Malformed(f"{cls.__name__}: protocol version {values[0]}, this is {VERSION}")
    split = len(ENVELOPE)
    return Envelope(*values[1:split]), dict(zip(names, values[split:], strict=True))


def _made(cls: Callable[..., Message], fields: dict[str, Any]) -> Message:
    return cls(**fields)


def read_proof(data: bytes) -> tuple[bytes, ...]:
    """The letters of a proof against a liar, as a home stores it; nothing in them is judged. Raises Malformed."""
    wires = codec.unpack(data, most=len(data), items=PROOF_LETTERS)
    if not isinstance(wires, tuple) or not all(isinstance(wire, bytes) for wire in wires):
        raise Malformed("it is no list of letters")
    return wires


def authentic(letter: Letter[Message], roster: Roster) -> bool:
    """True when the letter's sender is in the roster and, if its kind is signed, signed these bytes."""
    if letter.sender not in roster or not letter.message.signed:
        return letter.sender in roster
    check = verify_again if letter.size <= SMALL else verify
    return check(roster[letter.sender].key, _label(type(letter.message)), letter.signed, letter.signature)


def carries(letter: Letter[Message], kind: type[M]) -> TypeGuard[Letter[M]]:
    """True when the letter's message is of this kind."""
    return isinstance(letter.message, kind)


def narrow(letter: Letter[Message], wanted: type[M]) -> Letter[M]:
    """The same letter, known to carry a message of this kind. Raises Malformed when it carries another."""
    if carries(letter, wanted):
        return letter
    raise Malformed(f"{type(letter.message).__name__} where {wanted.__name__} belongs")


def open_letter(data: Buffer, roster: Roster, wanted: type[M]) -> Letter[M]:
    """Decode a letter that may have come inside another, and check its kind and its signature. Raises Malformed.

    wanted   the kind that belongs here; `Message`: any
    """
    if wanted is not Message and wanted.signed and len(data) <= MOST_REMEMBERED:
        return narrow(_opened_again(bytes(data), roster, wanted.kind), wanted)
    return _opened(data, roster, wanted)


def _opened(data: Buffer, roster: Roster, wanted: type[M]) -> Letter[M]:
    letter = narrow(read_letter(data), wanted)
    if not authentic(letter, roster):
        raise Malformed(f"{type(letter.message).__name__}: not signed by {letter.sender!r}")
    return letter


@functools.lru_cache(maxsize=1024)
def _opened_again(data: bytes, roster: Roster, kind: int) -> Letter[Message]:
    """`_opened`, remembered: one ballot rides in every certificate, one bundle in every share.

    The cache is the process's, as are those of `verify_again`, `certificate.compose` and `record.make`; it may be,
    since all of it is public. A letter that holds a secret is never opened this way.
    """
    return _opened(data, roster, KINDS[kind])
