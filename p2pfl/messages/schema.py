"""What every kind of message is made of: its number, its limits, its envelope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from p2pfl import codec
from p2pfl.codec import Many, Raw, Tail, Text, Whole, limited
from p2pfl.roster import MOST_PEERS

VERSION: Final = 1
HASH: Final = Raw(32, exactly=(32,))
SIGNATURE: Final = Raw(64, exactly=(64,))
INCARNATION: Final = Raw(16, exactly=(16,))
NAME: Final = Text(31)
EPSILON: Final = Text(32, r"([0-9]+(\.[0-9]+)?|inf)?")  # what a ledger would refuse must not come so far
NAMES: Final = Many(NAME, MOST_PEERS)
COUNTER: Final = Whole((1 << 53) - 1)
PATH: Final = Many(HASH, 32)
CHUNK: Final = Tail(512 << 10, least=1)
BULK_HEAD: Final = 1 << 10  # bytes of a bulk letter before its words
BULK: Final = CHUNK.most + BULK_HEAD  # bytes
SMALL: Final = 16 << 10  # bytes of most signed messages; the largest of them, an Ack of 200 dealers, fits
SUPPORT: Final = Raw(4 << 20)
LARGE: Final = 15 << 20  # bytes of a Members message with every member's nominated support
WIRE_BYTES: Final = 16 << 20  # bytes of the largest payload that the mesh carries


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a message belongs. `run` names the federation digest and the purpose; the sender is a roster name."""

    run: bytes = limited(HASH)
    epoch: int = limited(COUNTER)
    round: int = limited(COUNTER)
    attempt: int = limited(COUNTER)
    sender: str = limited(NAME)
    incarnation: bytes = limited(INCARNATION)


class Message:
    """Base of all messages. `kind` is the number on the wire, `most` the largest body in bytes.

    `tail` names the field of bulk, which follows the letter; it is empty in a message without one. Bulk is not signed.
    """

    __slots__ = ()
    kind: ClassVar[int]
    signed: ClassVar[bool]
    most: ClassVar[int]
    specs: ClassVar[tuple[tuple[str, codec.Spec], ...]]
    tail: ClassVar[str]


M = TypeVar("M", bound=type[Message])
KINDS: Final[dict[int, type[Message]]] = {}
ENVELOPE: Final = (("version", Whole(VERSION)), *codec.specs_of(Envelope))


def wire(kind: int, *, most: int = SMALL) -> Callable[[M], M]:
    """Register a message class under its number.

    Raises TypeError for a field without a limit, a second field of bulk, and a number that is taken.
    """

    def register(cls: M) -> M:
        cls.kind, cls.most, cls.specs = kind, most, codec.specs_of(cls)
        tails = [name for name, spec in cls.specs if isinstance(spec, Tail)]
        if len(tails) > 1:
            raise TypeError(f"{cls.__name__} has {len(tails)} fields of bulk")
        cls.tail, cls.signed = "".join(tails), not tails
        if KINDS.setdefault(kind, cls) is not cls:
            raise TypeError(f"kind {kind} is taken by {KINDS[kind].__name__}")
        return cls

    return register
