"""What a running node tells its observer: one frozen record an event, in the order in which things happen.

The cli words them. `kind` is the event's name in the JSON log, where names and fields are only ever added to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from p2pfl.errors import P2PFLError
from p2pfl.roster import Roster

NO_PORT: Final = "nowhere (dials out)"  # the address of a node that does not listen


@dataclass(frozen=True, slots=True)
class Listening:
    """The node has started. `address` is where it listens, or "nowhere (dials out)"."""

    kind: ClassVar[str] = "listening"
    address: str


@dataclass(frozen=True, slots=True)
class LinkCameUp:
    """A link stands. `version`, `cipher` and `group` are those of its TLS session.

    `path` is direct, proxy or relay; `via` is the proxy's address or the relay's name, and empty for a direct link.
    """

    kind: ClassVar[str] = "link_up"
    peer: str
    version: str
    cipher: str
    group: str
    path: str
    via: str


@dataclass(frozen=True, slots=True)
class LinkWentDown:
    """A link has ended; the node dials again."""

    kind: ClassVar[str] = "link_down"
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class LinkRefused:
    """A connection did not become a link. `peer` is None where the far end did not show whose it is."""

    kind: ClassVar[str] = "refused"
    peer: str | None
    error: P2PFLError


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """Nothing has moved the round on for a while.

    missing     what each peer owes, by name
    silent      seconds since each absent or owing peer was last heard, by name; None for never
    """

    kind: ClassVar[str] = "waiting"
    round: int
    phase: str
    missing: Mapping[str, str]
    silent: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class PassCharged:
    """A pass over the local records is charged, before its first step. ε spent and its limit, as decimal text."""

    kind: ClassVar[str] = "charged"
    round: int
    epsilon: str
    limit: str


@dataclass(frozen=True, slots=True)
class PassRepeated:
    """A pass that a process before this one began and was charged for is repeated. It costs nothing. ε as before."""

    kind: ClassVar[str] = "repeated"
    round: int
    epsilon: str


@dataclass(frozen=True, slots=True)
class PassWasCut:
    """What makes a pass has ended or lacks memory, as `how` says; the pass is made again, with at most `at_once`
    records at a time."""

    kind: ClassVar[str] = "cut"
    round: int
    how: str
    at_once: int


@dataclass(frozen=True, slots=True)
class PersonalLost:
    """This site's own layers are not in its home, as `why` says: they begin from the task's first values again.

    layers   as peers.yaml names them
    """

    kind: ClassVar[str] = "personal_lost"
    layers: str
    why: str


@dataclass(frozen=True, slots=True)
class HeldOutChanged:
    """This site's held-out records are not those that the study counted first: the next round ends its exact metric."""

    kind: ClassVar[str] = "held_out_changed"


@dataclass(frozen=True, slots=True)
class PassStepped:
    """`step` of the `steps` of this site's pass are done. Not every step is told."""

    kind: ClassVar[str] = "step"
    round: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class PassTrained:
    """A pass over the local records is done."""

    kind: ClassVar[str] = "trained"
    round: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """The attempt has entered another phase, or another attempt has begun."""

    kind: ClassVar[str] = "phase"
    round: int
    attempt: int
    phase: str


@dataclass(frozen=True, slots=True)
class AttemptAbandoned:
    """An attempt has ended without a sum; `waited_for` names the sites whose absence ended it."""

    kind: ClassVar[str] = "abandoned"
    round: int
    attempt: int
    waited_for: Sequence[str]


@dataclass(frozen=True, slots=True)
class RoundLeft:
    """q sites went on without this one's round. `lacking` names the sites it waited for.

    `sent` is whether this site's masked vector had left it.
    """

    kind: ClassVar[str] = "left"
    round: int
    attempt: int
    lacking: Sequence[str]
    sent: bool


@dataclass(frozen=True, slots=True)
class RoundsTakenOver:
    """Rounds up to `round`, finished while this site was away, were taken over from the ledger of `peer`."""

    kind: ClassVar[str] = "caught_up"
    round: int
    peer: str


@dataclass(frozen=True, slots=True)
class ModelLacking:
    """The model that the ledger names is not on this disk: it is fetched from a peer.

    model   the first 16 hex digits of its digest
    """

    kind: ClassVar[str] = "model_lacking"
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class SumLost:
    """What this home keeps of a sum cannot be read: whoever lacks that sum, this site too, has it from another one.

    item   as it is named in the home
    """

    kind: ClassVar[str] = "sum_lost"
    item: str
    why: str


@dataclass(frozen=True, slots=True)
class ChangeApproved:
    """Enough sites have approved a change of the membership: `epoch` begins at round `from_round` at the earliest.

    `hub` is the hub of that epoch where it is another one, else None; `recovered` go on from older homes of their own.
    """

    kind: ClassVar[str] = "change"
    epoch: int
    from_round: int
    added: Sequence[str]
    removed: Sequence[str]
    rotated: Sequence[str]
    hub: str | None
    recovered: Sequence[str]


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """The membership has changed, and this node is of the new epoch. `sites` are the names in `roster`."""

    kind: ClassVar[str] = "epoch"
    epoch: int
    sites: Sequence[str]
    roster: Roster


@dataclass(frozen=True, slots=True)
class RuleBroken:
    """A peer broke a rule. `proof` names what `ledger evidence` keeps of it, or is empty."""

    kind: ClassVar[str] = "breach"
    peer: str
    error: P2PFLError
    proof: str


@dataclass(frozen=True, slots=True)
class RoundFinal:
    """A round is final and in the ledger.

    rounds          final rounds at which the run ends
    survivors       the sites whose vectors are in the sum
    outcome         what the sum said, as facts of the ledger entry
    epsilon         ε spent by each site as decimal text, by name; empty text for none
    configuration   facts of what was summed
    seconds         since the round began here, or since this process took it up
    bytes_sent      on the wire to all peers, since then
    payload_bytes   words of the sum
    taken_up        whether `seconds` and `bytes_sent` count from where this process took it up
    """

    kind: ClassVar[str] = "round"
    round: int
    rounds: int
    survivors: Sequence[str]
    outcome: Mapping[str, Any]
    epsilon: Mapping[str, str]
    configuration: Mapping[str, Any]
    seconds: float
    bytes_sent: int
    payload_bytes: int
    taken_up: bool


Progress = (
    Listening
    | LinkCameUp
    | LinkWentDown
    | LinkRefused
    | StillWaiting
    | PassCharged
    | PassRepeated
    | PassWasCut
    | PersonalLost
    | HeldOutChanged
    | PassStepped
    | PassTrained
    | PhaseEntered
    | AttemptAbandoned
    | RoundLeft
    | RoundsTakenOver
    | ModelLacking
    | SumLost
    | ChangeApproved
    | EpochBegan
    | RuleBroken
    | RoundFinal
)
Observer = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a node's latest run stands, for somebody who looks.

    phase      of the round, or what is done in place of one: genesis, hello, training, ledger, catching up, final
    missing    what each peer owes, by name
    bulk       pieces of words that have come in this attempt, and all that come
    """

    phase: str
    round: int
    missing: Mapping[str, str]
    bulk: tuple[int, int]


def facts_of(event: Progress) -> dict[str, Any]:
    """The fields of `event` by name, as they are."""
    return {field.name: getattr(event, field.name) for field in fields(event)}


def unseen(event: Progress) -> None:
    """The observer of those who do not watch."""
