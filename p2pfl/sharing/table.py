"""The whole protocol on one screen: which event in which phase runs which action, and what comes after.

No transition exists outside of these two tables. A pair that is not here is refused: `UnexpectedMessage` naming the
peer if it came over a link, `UnexpectedEvent` if this node's own code did it. `tests/sharing/test_table.py` walks all
pairs, and compares `docs/spec/rounds.svg` with the drawing that it makes of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import ballot, confirm, gather, mask, propose, share, unmask
from p2pfl.sharing.state import Phase, State

SHARE, PROPOSE, MASK, GATHER = Phase.SHARE, Phase.PROPOSE, Phase.MASK, Phase.GATHER
BALLOT, UNMASK, CONFIRM, FINAL = Phase.BALLOT, Phase.UNMASK, Phase.CONFIRM, Phase.FINAL


@dataclass(frozen=True, slots=True)
class Row:
    """Run `action`, then stand in `next`."""

    action: Callable[[State, Any], list[e.Effect]]
    next: Phase


@dataclass(frozen=True, slots=True)
class Keep:
    """Too early: held (one for each sender, kind and chunk), and handed in again when the phase changes."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """Expected, and of no more use. The reason is part of the protocol."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """Refused in this version, with the step that will bring it."""

    reason: str


@dataclass(frozen=True, slots=True)
class When:
    """After every event: if `true(state)`, run `action`, then stand in `next`."""

    true: Callable[[State], bool]
    action: Callable[[State], list[e.Effect]]
    next: Phase


Cell = Row | Keep | Ignore | Later
keep = Keep()


def _each(phases: Iterable[Phase], kinds: Iterable[type], cell: Cell) -> dict[tuple[Phase, type], Cell]:
    return dict.fromkeys(itertools.product(phases, kinds), cell)


_ROWS: Final[dict[tuple[Phase, type], Cell]] = {
    # SHARE: seeds and bundles out and in, one acknowledgement; training goes on meanwhile
    (SHARE, e.Begin): Row(share.deal, SHARE),
    (SHARE, e.Dealt): Row(share.send, SHARE),
    (SHARE, m.Share): Row(share.accept, SHARE),
    (SHARE, m.Ack): Row(share.acknowledged, SHARE),
    (SHARE, e.UpdateReady): Row(propose.hold, SHARE),
    (SHARE, m.Propose): Row(propose.accept, SHARE),
    (SHARE, m.Members): keep,
    # PROPOSE: everyone's grounds, then one U
    (PROPOSE, m.Share): Ignore("repeated to a new process"),
    (PROPOSE, m.Ack): Row(share.acknowledged, PROPOSE),
    (PROPOSE, m.Propose): Row(propose.accept, PROPOSE),
    (PROPOSE, m.Members): Row(propose.members, PROPOSE),
    (PROPOSE, e.Accepted): Row(mask.request, MASK),  # D is durable before the first word of y leaves
    (PROPOSE, e.ProposeDeadline): Row(ballot.out_of_time, BALLOT),
    # MASK: the words come, the masked chunks go
    (MASK, e.WordsReady): Row(mask.send, GATHER),
    (MASK, m.Members): Row(propose.members, MASK),  # the same one again, or a second statement
    (MASK, e.ProposeDeadline): Ignore("U came in time"),
    (MASK, e.GatherDeadline): Row(ballot.out_of_time, BALLOT),
    # GATHER: sums of what this peer owns, nonces for one view, the masked sums of all
    (GATHER, m.Root): Row(gather.root, GATHER),
    (GATHER, m.Chunk): Row(gather.chunk, GATHER),
    (GATHER, m.SumDigest): Row(gather.summed, GATHER),
    (GATHER, m.Nonce): Row(gather.nonce, GATHER),
    (GATHER, m.SumChunk): Row(gather.sum_chunk, GATHER),
    (GATHER, m.Members): Row(propose.members, GATHER),
    (GATHER, e.ProposeDeadline): Ignore("U came in time"),
    (GATHER, e.GatherDeadline): Row(ballot.out_of_time, BALLOT),
    # BALLOT: READY, then one vote, each durable before it is seen
    (BALLOT, e.SumsStored): Row(ballot.announce, BALLOT),
    (BALLOT, m.Ready): Row(ballot.ready, BALLOT),
    (BALLOT, e.BallotStored): Row(ballot.send, BALLOT),
    (BALLOT, e.UpdateReady): Row(propose.hold, BALLOT),  # for the next attempt
    (BALLOT, e.Dealt): Ignore("the attempt was given up before its shares left"),
    (BALLOT, e.Accepted): Ignore("the attempt was given up while U was stored"),
    (BALLOT, e.WordsReady): Ignore("the attempt was given up while the words were made"),
    (BALLOT, e.ProposeDeadline): Ignore("this peer has vouched or voted"),
    (BALLOT, e.GatherDeadline): Ignore("this peer has vouched or voted"),
    # UNMASK: under the certificate, and from it alone
    (UNMASK, e.CertificateStored): Row(unmask.reveal, UNMASK),
    (UNMASK, m.Reveal): Row(unmask.accept, UNMASK),
    (UNMASK, m.Confirm): Row(confirm.accept, UNMASK),
    (UNMASK, m.Total): Row(confirm.fetched, UNMASK),
    (UNMASK, m.Want): keep,  # of a peer that heard this one confirm, before this one died and came back
    (UNMASK, e.LinkUp): Row(confirm.link_up, UNMASK),
    (UNMASK, e.Applied): Row(confirm.record, CONFIRM),
    # CONFIRM: one record, q signatures
    (CONFIRM, e.RecordStored): Row(confirm.send, CONFIRM),
    (CONFIRM, m.Confirm): Row(confirm.accept, CONFIRM),
    (CONFIRM, m.Reveal): Ignore("repeated to a new process"),
    (CONFIRM, m.Total): Ignore("the sum is held"),
    (CONFIRM, m.Want): Row(confirm.serve, CONFIRM),
    # FINAL: the round stands; those who missed it are served
    (FINAL, m.Confirm): Row(confirm.accept, FINAL),
    (FINAL, m.Reveal): Ignore("repeated to a new process"),
    (FINAL, m.Total): Ignore("the sum is held"),
    (FINAL, m.Want): Row(confirm.serve, FINAL),
}
_BEFORE_BALLOT = (SHARE, PROPOSE, MASK, GATHER)
_UNDECIDED = (*_BEFORE_BALLOT, BALLOT)
_DECIDED = (UNMASK, CONFIRM, FINAL)
_GATHERED = (m.Root, m.Chunk, m.SumDigest, m.Nonce, m.SumChunk)
_done = Ignore("the sums of this attempt are gathered or given up")
_decided = Ignore("the attempt is decided")

EVENTS: Final[dict[tuple[Phase, type], Cell]] = {
    **_ROWS,
    **_each((SHARE, PROPOSE, MASK), _GATHERED, keep),
    **_each(_BEFORE_BALLOT, (m.Ready,), keep),
    **_each(_UNDECIDED, (m.Reveal, m.Confirm, m.Want), keep),
    **_each((MASK, GATHER, BALLOT, *_DECIDED), (m.Share, m.Ack, m.Propose), _done),
    **_each((BALLOT, *_DECIDED), (m.Members, *_GATHERED), _done),
    **_each(_DECIDED, (m.Ready, m.Ballot, m.Certificate), _decided),
    **_each(_DECIDED, (e.UpdateReady, e.ProposeDeadline, e.GatherDeadline), _decided),
    **{(phase, m.Ballot): Row(ballot.count, phase) for phase in _UNDECIDED},
    **{(phase, m.Certificate): Row(ballot.shown, phase) for phase in _UNDECIDED},
    **{(phase, e.LinkUp): Row(ballot.link_up, phase) for phase in (*_UNDECIDED, CONFIRM, FINAL)},
    **_each(Phase, (m.Held,), Later("U is the whole roster in this version: there is nothing to pass on")),
    **_each(Phase, (m.Tags,), Later("sums are not yet verified by tags")),
    **_each(Phase, (m.Leave,), Later("a certified round waits for its silent member in this version")),
    **_each(Phase, (m.BackupShare,), Later("self-masks have no backups in this version")),
}

_abandoned = When(ballot.abandoned, ballot.next_attempt, SHARE)
_certified = When(ballot.certified, ballot.certify, UNMASK)
_voted = When(ballot.voted, ballot.wait, BALLOT)

READY: Final[dict[Phase, tuple[When, ...]]] = {
    SHARE: (_abandoned, _voted, When(propose.settled, propose.send, PROPOSE)),
    PROPOSE: (
        _abandoned,
        _voted,
        When(propose.clock_starts, propose.start_clock, PROPOSE),
        When(propose.complete, propose.choose, PROPOSE),
    ),
    MASK: (_abandoned, _certified, _voted),
    GATHER: (
        _abandoned,
        _certified,
        _voted,
        When(gather.all_summed, gather.open_nonce, GATHER),
        When(gather.gathered, gather.store, BALLOT),
    ),
    BALLOT: (
        _abandoned,
        _certified,
        When(ballot.enough_readys, ballot.vote_survivors, BALLOT),
        When(ballot.hopeless, ballot.let_go, BALLOT),
    ),
    UNMASK: (When(unmask.opened, unmask.compute, UNMASK), When(confirm.settled_elsewhere, confirm.want, UNMASK)),
    CONFIRM: (When(confirm.final, confirm.finish, FINAL),),
    FINAL: (),
}
