"""Whether a head may be cosigned, from the head held, the head offered, and the proof between them; and what is held.

A cosignature states: "the log that I saw last is a prefix of this one". So a shortened log and a second history are
refused, and the reason says which of the two it is. Persist the new head before sending the cosignature. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.ledger import note
from p2pfl.ledger.note import Head
from p2pfl.merkle import consistent

MOST_NOTE: Final = 1 << 10  # bytes of a note that crosses a link: one head of a site log, at most two signatures
MOST_HELD: Final = 4 * MOST_NOTE * 1024  # bytes of what a home holds


class Reason(Enum):
    """Why a head may be cosigned, or why not."""

    FIRST = "no head of this log was held before"
    SAME = "it is the head that is held"
    EXTENDS = "the head that is held is proven to be a prefix of it"
    ROLLBACK = "it has fewer entries than the head that is held"
    FORK = "it has as many entries as the head that is held, and another root"
    UNPROVEN = "the proof does not show that the head that is held is a prefix of it"
    OTHER_LOG = "it is of another log"


MAY = frozenset({Reason.FIRST, Reason.SAME, Reason.EXTENDS})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and its reason."""

    reason: Reason

    @property
    def allowed(self) -> bool:
        return self.reason in MAY


def may_cosign(held: Head | None, offered: Head, proof: Sequence[bytes] = ()) -> Verdict:
    """Whether `offered` extends `held`; `proof` is the RFC 6962 consistency proof from the one to the other.

    The signature on `offered` is the caller's to check (`note.signed_by`).
    """
    if held is None:
        return Verdict(Reason.FIRST)
    if held.origin != offered.origin:
        return Verdict(Reason.OTHER_LOG)
    if offered.size < held.size:
        return Verdict(Reason.ROLLBACK)
    if offered.size == held.size:
        return Verdict(Reason.SAME if offered.root == held.root else Reason.FORK)
    if held.size == 0 or consistent(held.root, held.size, offered.root, offered.size, proof):
        return Verdict(Reason.EXTENDS)
    return Verdict(Reason.UNPROVEN)


def head_of(data: bytes, name: str, keys: Sequence[bytes]) -> Head | None:
    """The head of the site log of `name` in this note; None when no signature of `name` with one of `keys` is on it.

    Raises Malformed when it is no note of a site log of that name, with a line on the federation log.
    """
    try:
        text = data.decode("utf-8")
        head, _ = note.parse_note(text)
        stated = note.federation_of(head)
    except ValueError as error:
        raise Malformed(f"no signed head: {error}") from None
    if head.origin != note.site_origin(name) or stated is None:
        raise Malformed(f"a head of {head.origin[:60]!r}, where one of the site log of {name} belongs")
    return head if any(note.signed_by(text, name, key) for key in keys) else None


@dataclass
class HeldNotes:
    """What a home holds of heads of site logs, as notes, by peer.

    cosigned   the newest head of that peer's log that this site cosigned
    refused    a head of that peer's log, under its signature, of another history: it did not extend the one before,
               or was the last one of a log that the peer has lost
    ours       the newest head of this site's log that the peer cosigned
    """

    cosigned: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, bytes] = field(default_factory=dict)
    ours: dict[str, bytes] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """For the disk."""
        return codec.pack(tuple(tuple(sorted(one.items())) for one in (self.cosigned, self.refused, self.ours)))

    @classmethod
    def from_bytes(cls, data: bytes) -> HeldNotes:
        """Read what `to_bytes` wrote. Raises Malformed."""
        kinds = codec.unpack(data, most=MOST_HELD, items=1024)
        if not isinstance(kinds, tuple) or len(kinds) != 3:
            raise Malformed("it is no three lists of notes")
        return cls(*map(_by_name, kinds))


def _by_name(rows: object) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for row in rows if isinstance(rows, tuple) else (None,):
        if not isinstance(row, tuple) or len(row) != 2 or not isinstance(row[0], str) or not isinstance(row[1], bytes):
            raise Malformed("it is no list of notes by site")
        found[row[0]] = row[1]
    return found


def cosigned_by(data: bytes, name: str, key: bytes) -> bool:
    """The note bears a signature of `name` under `key`. Raises ValueError when it is no note."""
    return note.signed_by(data.decode("utf-8"), name, key)
