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
from p2pfl.sharing.phases import (
    ballot,
    confirm,
    fetch,
    gather,
    leave,
    mask,
    members,
    propose,
    questions,
    share,
    unmask,
    verify,
)
from p2pfl.sharing.state import Phase, State

SHARE, PROPOSE, MASK, GATHER = Phase.SHARE, Phase.PROPOSE, Phase.MASK, Phase.GATHER
BALLOT, UNMASK, CONFIRM, FINAL = Phase.BALLOT, Phase.UNMASK, Phase.CONFIRM, Phase.FINAL


@dataclass(frozen=True, slots=True)
class Transition:
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
class When:
    """After every event: if `true(state)`, run `action`, then stand in `next`."""

    true: Callable[[State], bool]
    action: Callable[[State], list[e.Effect]]
    next: Phase


Cell = Transition | Keep | Ignore
keep = Keep()


def _each(phases: Iterable[Phase], kinds: Iterable[type], cell: Cell) -> dict[tuple[Phase, type], Cell]:
    return dict.fromkeys(itertools.product(phases, kinds), cell)


def _once(*parts: dict[tuple[Phase, type], Cell]) -> dict[tuple[Phase, type], Cell]:
    """All parts together. A pair that has two cells raises TypeError: which of them holds must not hang on order."""
    whole: dict[tuple[Phase, type], Cell] = {}
    for part in parts:
        twice = whole.keys() & part.keys()
        if twice:
            raise TypeError(f"two cells for {sorted((phase.name, kind.__name__) for phase, kind in twice)}")
        whole |= part
    return whole


def _stay(phases: Iterable[Phase], kind: type, action: Callable[[State, Any], list[e.Effect]]) -> dict[Any, Cell]:
    return {(phase, kind): Transition(action, phase) for phase in phases}


_BEFORE_U = (SHARE, PROPOSE)
_BEFORE_BALLOT = (SHARE, PROPOSE, MASK, GATHER)
_UNDECIDED = (*_BEFORE_BALLOT, BALLOT)
_DECIDED = (UNMASK, CONFIRM, FINAL)
_GATHERED = (m.Root, m.Chunk, m.SumDigest, m.Nonce, m.SumChunk, m.Tags, m.Opened)
_late = Ignore("SHARE and PROPOSE are over")
_done = Ignore("the sums of this attempt are gathered or given up")
_decided = Ignore("the attempt is decided")
_gone = Ignore("the attempt was given up while the disk was written")

EVENTS: Final = _once(
    # SHARE: seeds, backups and bundles out and in, acknowledgements; training goes on meanwhile
    {(SHARE, e.Begin): Transition(share.deal, SHARE)},
    {(SHARE, e.Dealt): Transition(share.send, SHARE)},
    _stay(_BEFORE_U, m.Share, share.accept),
    _stay(_BEFORE_U, m.Ack, share.acknowledged),
    _stay(_BEFORE_U, e.Receipted, share.acknowledge),
    # PROPOSE: everyone's grounds, what others hold of them, then one U
    _stay(_UNDECIDED, e.UpdateReady, propose.hold),  # once U is named it is for the next attempt
    _stay(_BEFORE_U, m.Propose, propose.accept),
    _stay(_BEFORE_U, m.Held, propose.passed),
    _stay((SHARE, PROPOSE, MASK, GATHER), m.Members, members.members),
    _stay((BALLOT,), m.Members, members.compare),  # another one may prove its coordinator a liar even then
    {(phase, e.Accepted): Transition(mask.request, MASK) for phase in _BEFORE_U},  # D before a word of y
    # MASK: the words come, the masked chunks go; the masks may have been expanded before
    _stay(_BEFORE_U, e.MasksReady, mask.hold),
    _stay((MASK,), e.MasksReady, mask.hold),
    _each((GATHER, BALLOT, *_DECIDED), (e.MasksReady,), Ignore("the words were masked without them")),
    {(MASK, e.WordsReady): Transition(mask.send, GATHER)},
    # GATHER: sums of what this peer owns, nonces for one view, the masked sums of all, and the tags that verify them
    {(GATHER, m.Root): Transition(gather.root, GATHER)},
    {(GATHER, m.Chunk): Transition(gather.chunk, GATHER)},
    {(GATHER, m.SumDigest): Transition(gather.summed, GATHER)},
    {(GATHER, m.Nonce): Transition(gather.nonce, GATHER)},
    {(GATHER, m.SumChunk): Transition(gather.sum_chunk, GATHER)},
    {(GATHER, m.Tags): Transition(verify.accept, GATHER)},
    {(GATHER, m.Opened): Transition(verify.opened, GATHER)},
    _stay((GATHER, BALLOT), m.Want, questions.help_out),
    # BALLOT: READY, then one vote, each durable before it is seen
    {(BALLOT, e.SumsStored): Transition(ballot.announce, BALLOT)},
    {(BALLOT, e.BallotStored): Transition(ballot.send, BALLOT)},
    _stay((MASK, GATHER, BALLOT), m.Ready, ballot.ready),
    _stay(_UNDECIDED, m.Ballot, ballot.count),
    _stay(_UNDECIDED, m.Certificate, ballot.shown),
    # UNMASK: under the certificate, and from it alone
    {(UNMASK, e.CertificateStored): Transition(unmask.reveal, UNMASK)},
    {(UNMASK, m.Reveal): Transition(unmask.accept, UNMASK)},
    _stay((UNMASK, CONFIRM), m.BackupShare, unmask.piece),
    {(UNMASK, m.Total): Transition(fetch.fetched, UNMASK)},
    {(UNMASK, m.SumDigest): Transition(gather.summed, UNMASK)},  # a certificate may overtake words of Y
    {(UNMASK, m.SumChunk): Transition(gather.sum_chunk, UNMASK)},
    {(UNMASK, e.Applied): Transition(confirm.record, CONFIRM)},
    # CONFIRM: one record, q signatures; FINAL: the round stands, and those who missed it are served
    {(CONFIRM, e.RecordStored): Transition(confirm.sign, CONFIRM)},
    _stay(_DECIDED, m.Confirm, confirm.accept),
    _stay(_DECIDED, m.Want, fetch.serve),
    _stay(_DECIDED, e.LinkUp, fetch.link_up),
    # a round that is left behind
    _stay((*_UNDECIDED, UNMASK), e.LeaveStored, leave.send),
    _stay((*_UNDECIDED, UNMASK, CONFIRM), m.Leave, leave.accept),
    {(FINAL, m.Leave): Transition(ballot.answer, FINAL)},
    # time, links, and what is of no use any more
    _stay(Phase, e.Tick, ballot.passes),
    _each(Phase, (e.Moved, e.Forgotten), Ignore("only the disk has changed")),
    _stay(Phase, e.LinkDown, ballot.passes),
    _stay(_UNDECIDED, e.LinkUp, ballot.link_up),
    _each((SHARE, PROPOSE, MASK), _GATHERED, keep),
    _each(_BEFORE_U, (m.Ready,), keep),
    _each((SHARE, PROPOSE, MASK), (m.Want,), keep),
    _each(_UNDECIDED, (m.Reveal, m.BackupShare, m.Confirm), keep),
    _each(_UNDECIDED, (m.Total,), Ignore("nobody was asked for a sum")),
    _each((MASK, GATHER, BALLOT, *_DECIDED), (m.Share, m.Ack, m.Propose, m.Held), _late),
    _each((BALLOT, CONFIRM, FINAL), _GATHERED, _done),
    _each((CONFIRM, FINAL), (m.Members,), _done),
    _each((UNMASK,), (m.Members, m.Root, m.Chunk, m.Nonce, m.Tags, m.Opened), _done),
    _each((MASK, GATHER, BALLOT, *_DECIDED), (e.Receipted,), _late),
    _each((BALLOT, *_DECIDED), (e.Dealt, e.Accepted, e.WordsReady), _gone),
    _each(_DECIDED, (e.SumsStored,), _decided),
    _stay(_DECIDED, m.Ballot, ballot.answer),
    _each(_DECIDED, (m.Ready, m.Certificate, e.BallotStored, e.UpdateReady), _decided),
    _each((CONFIRM, FINAL), (m.Reveal, m.Total, e.CertificateStored, e.LeaveStored), Ignore("the sum is held")),
    _each((CONFIRM, FINAL), (e.Applied,), Ignore("the sum is applied")),
    _each((FINAL,), (m.BackupShare, e.RecordStored), Ignore("the round is final")),
)  # fmt: skip

_abandoned = When(ballot.abandoned, ballot.next_attempt, SHARE)
_certified = When(ballot.certified, ballot.certify, UNMASK)
_voted = When(ballot.voted, ballot.wait, BALLOT)
_survive = When(ballot.enough_readys, ballot.vote_survivors, BALLOT)


def _undecided(phase: Phase) -> tuple[When, ...]:
    return (
        When(questions.lacks, questions.ask, phase),
        When(ballot.gives_up, ballot.give_up, BALLOT),
        When(leave.due, leave.cast, phase),
        When(leave.carried, leave.go_on, phase),
    )


def _before_u(phase: Phase) -> tuple[When, ...]:
    return (
        _abandoned,
        _certified,
        _voted,
        When(propose.may_send, propose.send, PROPOSE),
        When(propose.clock_starts, propose.start_clock, phase),
        When(share.may_acknowledge, share.receipt, phase),
        When(members.can_choose, members.choose, phase),
        When(propose.half_time, propose.pass_on, phase),
        *_undecided(phase),
    )


READY: Final[dict[Phase, tuple[When, ...]]] = {
    SHARE: _before_u(SHARE),
    PROPOSE: _before_u(PROPOSE),
    MASK: (
        _abandoned,
        _certified,
        _voted,
        _survive,
        When(mask.outside, ballot.wait, BALLOT),
        *_undecided(MASK),
    ),
    GATHER: (
        _abandoned,
        _certified,
        _voted,
        _survive,
        When(gather.all_summed, gather.open_nonce, GATHER),
        When(gather.views_differ, gather.show, GATHER),
        When(verify.can_tag, verify.tag, GATHER),
        When(verify.can_check, verify.check, GATHER),
        When(verify.can_judge, verify.judge, GATHER),
        When(gather.may_vouch, gather.store, BALLOT),
        When(gather.late, gather.ask, GATHER),
        *_undecided(GATHER),
    ),
    BALLOT: (_abandoned, _certified, _survive, *_undecided(BALLOT)),
    UNMASK: (
        When(gather.came_late, gather.keep, UNMASK),
        When(unmask.opened, unmask.compute, UNMASK),
        When(unmask.can_combine, unmask.combine, UNMASK),
        When(unmask.backups_due, unmask.back_up, UNMASK),
        When(fetch.lacks_sum, fetch.want, UNMASK),
        When(leave.due, leave.cast, UNMASK),
        When(leave.carried, leave.go_on, UNMASK),
    ),
    CONFIRM: (
        When(confirm.may_sign, confirm.vow, CONFIRM),
        When(confirm.final, confirm.finish, FINAL),
        When(confirm.lacks_confirms, confirm.ask, CONFIRM),
    ),
    FINAL: (),
}
