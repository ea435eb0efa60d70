"""Events in, effects out: frozen dataclasses, and nothing else.

An event is a fact that the driver (a node, or the simulator) tells the round; every one carries `now`, seconds on a
monotonic clock. An effect is what the driver must do, in order. The driver's one promise: after it has carried out a
`Persist`, and the effects beside it, it hands in `Persist.stored(now)` before any other event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Facts, Pieces
from p2pfl.errors import P2PFLError
from p2pfl.messages import Letter, Message
from p2pfl.sharing.masked_sums import MaskedSums
from p2pfl.sharing.room import Room

Words = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Vector:
    """One segment of a sum: field words (m,), each < p, of the field named by its bits (16, 31 or 61).

    room   whose last words they are
    made   of words that are yet to be made: made(n) writes those before number n, and is asked for them in order
    """

    bits: int
    words: Words
    room: Room | None = field(default=None, compare=False)
    made: Callable[[int], object] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Vector({self.bits} bits, {self.words.size} words)"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What this peer would sum in the round. The fields are those of the Propose message that carries them."""

    model: bytes
    configuration: bytes
    support: bytes
    deadline_ms: int
    clock_ms: int
    epsilon: str
    site_head: bytes
    change: bytes = b""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact, at a time. `now` in seconds on the driver's monotonic clock."""

    now: float


@dataclass(frozen=True, slots=True)
class OfAttempt(Event):
    """An answer or a timer of one attempt. It is dropped when that attempt is over."""

    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Begin(Event):
    """The attempt may start."""


@dataclass(frozen=True, slots=True)
class Received(Event):
    """An authentic letter of this round came over the link of its sender."""

    letter: Letter[Message]


@dataclass(frozen=True, slots=True)
class UpdateReady(Event):
    """Training (or the caller of a sum) has what this peer would sum in `round`, in whichever attempt."""

    round: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class WordsReady(OfAttempt):
    """The answer to `Quantise`: the words that this peer sums in this attempt (masked in place where writeable)."""

    vectors: tuple[Vector, ...]


@dataclass(frozen=True, slots=True)
class SomeSent(OfAttempt):
    """Some of the first masked chunks are on their way: the next ones are to be masked."""


@dataclass(frozen=True, slots=True)
class FirstSent(OfAttempt):
    """The first masked chunks are on their way: the others are to be masked."""


@dataclass(frozen=True, slots=True)
class MasksReady(OfAttempt):
    """The answer to `Ahead`: what is added to the words of each segment, of at least as many words as will come.

    The round masks in this memory, and gathers sums there: nobody else keeps it.
    """

    bundles: dict[str, bytes]
    masks: tuple[Vector, ...]


@dataclass(frozen=True, slots=True)
class Applied(Event):
    """The answer to `Apply`: digest of the model after `round`, and facts that follow from the sum alone."""

    round: int
    model: bytes
    outcome: Facts


@dataclass(frozen=True, slots=True)
class Tick(OfAttempt):
    """Time has passed. What that changes is for the guarded rows to say."""


@dataclass(frozen=True, slots=True)
class Dealt(OfAttempt):
    """This attempt's secrets are durable."""


@dataclass(frozen=True, slots=True)
class Receipted(OfAttempt):
    """The bundles and backup shares that this peer acknowledges are durable."""


@dataclass(frozen=True, slots=True)
class Accepted(OfAttempt):
    """The attempt digest is durable."""


@dataclass(frozen=True, slots=True)
class SumsStored(OfAttempt):
    """The masked sums and READY are durable."""


@dataclass(frozen=True, slots=True)
class BallotStored(OfAttempt):
    """This peer's one ballot is durable."""


@dataclass(frozen=True, slots=True)
class CertificateStored(OfAttempt):
    """The certificate is durable."""


@dataclass(frozen=True, slots=True)
class RecordStored(OfAttempt):
    """This peer's CONFIRM is durable."""


@dataclass(frozen=True, slots=True)
class LeaveStored(OfAttempt):
    """This peer's LEAVE is durable."""


@dataclass(frozen=True, slots=True)
class Moved(OfAttempt):
    """A round that is not final lies in a place of its own on the disk, so that the next can begin."""


@dataclass(frozen=True, slots=True)
class Forgotten(OfAttempt):
    """What the disk held of a round that has no sum is gone."""


@dataclass(frozen=True, slots=True)
class LinkUp(Event):
    """A link to `peer` stands; `incarnation` is that of its process."""

    peer: str
    incarnation: bytes


@dataclass(frozen=True, slots=True)
class LinkDown(Event):
    """The link to `peer` ended. It is dialled again, and nothing is lost, unless its process has died."""

    peer: str


Stored = bytes | Pieces | None  # contents of an item; None removes it


@dataclass(frozen=True, slots=True)
class Send:
    """Deliver `letter` to one peer, or (to = None) to all others."""

    to: str | None
    letter: Letter[Message]


@dataclass(frozen=True, slots=True)
class Persist:
    """Make each (item, bytes) durable, then hand in the event `then`. None in place of bytes removes the item.

    anew   secrets were destroyed: what the items held before must not be found on the disk any more
    """

    items: tuple[tuple[str, Stored], ...]
    then: type[OfAttempt]
    round: int
    attempt: int
    anew: bool = False

    def stored(self, now: float) -> OfAttempt:
        """The event that says that this effect was carried out."""
        return self.then(now, self.round, self.attempt)

    def __repr__(self) -> str:
        return f"Persist({[name for name, _ in self.items]}, then={self.then.__name__})"


@dataclass(frozen=True, slots=True)
class WriteAhead:
    """What a later `Persist` of `item` will hold first: it may be written already. Nothing is durable, nor answered."""

    item: str
    pieces: Pieces


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Hand in `event` when the clock reaches `event.now`."""

    event: Event


@dataclass(frozen=True, slots=True)
class GoOn:
    """Hand in `event` before any other, once what stands before this is carried out, and on its way."""

    event: OfAttempt


@dataclass(frozen=True, slots=True)
class Quantise:
    """Turn the update into words under this attempt digest; `supports` are the members' nominations, in order."""

    round: int
    attempt: int
    attempt_digest: bytes
    survivors: tuple[str, ...]
    supports: tuple[bytes, ...]
    rooms: tuple[Room, ...] = field(default=(), compare=False)
    """None, or one for each vector: its words may be made there."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Expand the masks of this attempt while the update is being made, if its shape is known: then it costs no time.

    `masks(segments, rooms)` gives them for (bits, words) of each, in rooms if there are any; it may run in any thread.
    The answer is always `MasksReady`, with no masks where the shape is not known: words that come meanwhile wait for
    it.
    """

    round: int
    attempt: int
    bundles: dict[str, bytes]  # by peer: the digest of the bundle whose edge is in them; goes back with the answer
    masks: Callable[[tuple[tuple[int, int], ...], tuple[Room, ...]], tuple[Vector, ...]]


@dataclass(frozen=True, slots=True)
class Apply:
    """The checked sum of `round`: apply it to the model after round `base`, answer with `Applied`.

    masked   of which words on the disk the vectors were made; None: of none that stay there
    """

    round: int
    base: int
    attempt_digest: bytes
    supports: tuple[bytes, ...]
    survivors: tuple[str, ...]
    vectors: tuple[Vector, ...]
    configuration: bytes
    masked: MaskedSums | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The round is final: its record, and cosignatures by name, at least q of it or of a round that rests on it."""

    round: int
    record: bytes
    cosignatures: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """q peers go on without this round's sum. `sent`: this peer's masked vector has left, so its update is spent."""

    round: int
    attempt: int
    lacking: tuple[str, ...]
    sent: bool


@dataclass(frozen=True, slots=True)
class Retract:
    """The model is again the one after round `to`: what was applied since is not of the branch that goes on."""

    to: int


@dataclass(frozen=True, slots=True)
class Accuse:
    """A peer broke the protocol; `proof` (letters, as wires) shows it to anyone, where there is such a proof."""

    peer: str
    round: int
    attempt: int
    error: P2PFLError
    proof: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """End with this error, once all that was sent before it has left: the others must be able to find the same."""

    error: P2PFLError


@dataclass(frozen=True, slots=True)
class OfLog:
    """A fact of an attempt, for the site log (docs/spec/ledger.md §1)."""

    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class NoteBundle(OfLog):
    """This peer is bound to the bundle of that digest before a share of it leaves."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class NoteBallot(OfLog):
    """This peer's one vote. Of one to abandon before any U, D and V are empty."""

    survivors: bool
    attempt_digest: bytes
    view: bytes
    waited_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoteAbandoned(OfLog):
    """The attempt ended with the ABANDON certificate of that digest."""

    certificate: bytes
    waited_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoteMissed(OfLog):
    """The round is final without this peer, which was there; the coordinator named the set."""

    coordinator: str


Noted = NoteBundle | NoteBallot | NoteAbandoned | NoteMissed
Effect = (
    Send
    | Persist
    | WriteAhead
    | SetTimer
    | GoOn
    | Quantise
    | Ahead
    | Apply
    | Finished
    | LeftBehind
    | Retract
    | Accuse
    | Stop
    | Noted
)
"""What a driver is told to do. Both drivers match it exhaustively: one that forgets a kind is a type error."""
