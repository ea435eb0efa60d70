"""Whether a head may be cosigned, from the head held, the head offered, and the proof between them. Pure.

A cosignature states: "the log that I saw last is a prefix of this one". So a shortened log and a second history are
refused, and the reason says which of the two it is. Persist the new head before sending the cosignature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from p2pfl.ledger.note import Head
from p2pfl.merkle import consistent


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
