"""The whole protocol on one screen: which event in which phase runs which action, and what comes after.

No transition exists outside of these two tables. A pair that is not here is refused: by `UnexpectedMessage`, which
names the peer, if it came over a link; by `UnexpectedEvent` if this node's own code did it. `on` and `when` make the
rows, so that an action for another letter or event is a type error. `tests/sharing/test_table.py` walks all
pairs, and compares `docs/spec/rounds.svg` with the drawing that it makes of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import (
    ballot,
    confirm,
    fetch,
    gather,
    heard,
    leave,
    mask,
    members,
    propose,
    questions,
    roots,
    share,
    unlinked,
    unmask,
    verify,
)
from p2pfl.sharing.state import Phase, State

M = TypeVar("M", bound=m.Message)
E = TypeVar("E", bound=e.Event)
SHARE, PROPOSE, MASK, GATHER = Phase.SHARE, Phase.PROPOSE, Phase.MASK, Phase.GATHER
BALLOT, UNMASK, CONFIRM, FINAL = Phase.BALLOT, Phase.UNMASK, Phase.CONFIRM, Phase.FINAL


@dataclass(frozen=True, slots=True)
class Transition:
    """Run `action` on the state and the letter or event of the row, then stand in `next`. `on` and `when` make it."""

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
class Guarded:
    """After every event: if `true(state)`, run `action`, then stand in `next`."""

    true: Callable[[State], bool]
    action: Callable[[State], list[e.Effect]]
    next: Phase


Cell = Transition | Keep | Ignore
Rows = dict[tuple[Phase, type], Cell]
keep = Keep()


def on(
    phases: Phase | Iterable[Phase],
    kind: type[M],
    action: Callable[[State, Letter[M]], list[e.Effect]],
    then: Phase | None = None,
) -> Rows:
    """In these phases a letter of this kind runs `action`; the round then stands in `then`, or where it stood."""
    return {(phase, kind): Transition(action, then or phase) for phase in _all(phases)}


def when(
    phases: Phase | Iterable[Phase],
    kind: type[E],
    action: Callable[[State, E], list[e.Effect]],
    then: Phase | None = None,
) -> Rows:
    """In these phases an event of this kind runs `action`; the round then stands in `then`, or where it stood."""
    return {(phase, kind): Transition(action, then or phase) for phase in _all(phases)}


def _all(phases: Phase | Iterable[Phase]) -> Iterable[Phase]:
    return (phases,) if isinstance(phases, Phase) else phases


def _each(phases: Iterable[Phase], kinds: Iterable[type], cell: Keep | Ignore) -> Rows:
    return dict.fromkeys(itertools.product(phases, kinds), cell)


def _once(*parts: Rows) -> Rows:
    """All parts together. A pair that has two cells raises TypeError: which of them holds must not hang on order."""
    whole: Rows = {}
    for part in parts:
        twice = whole.keys() & part.keys()
        if twice:
            raise TypeError(f"two cells for {sorted((phase.name, kind.__name__) for phase, kind in twice)}")
        whole |= part
    return whole


def nothing(state: State, event: object = None) -> list[e.Effect]:
    """Nothing to do: the guarded rows say what has changed."""
    return []


_BEFORE_U = (SHARE, PROPOSE)
_BEFORE_BALLOT = (SHARE, PROPOSE, MASK, GATHER)
_UNDECIDED = (*_BEFORE_BALLOT, BALLOT)
_DECIDED = (UNMASK, CONFIRM, FINAL)
_SUMS = (m.SumDigest, m.SumChunk)
_UNCOMPARED = (m.Chunk, m.Nonce, m.Tags, m.Opened)
_GATHERED = (m.Root, *_UNCOMPARED, *_SUMS)
_late = Ignore("SHARE and PROPOSE are over")
_done = Ignore("the sums of this attempt are gathered or given up")
_decided = Ignore("the attempt is decided")
_gone = Ignore("the attempt was given up while the disk was written")

EVENTS: Final = _once(
    # SHARE: seeds, backups and bundles out and in, acknowledgements; training goes on meanwhile
    when(SHARE, e.Begin, share.deal),
    when(SHARE, e.Dealt, share.send),
    on(_BEFORE_U, m.Share, share.accept),
    on(_BEFORE_U, m.Ack, share.accept_ack),
    when(_BEFORE_U, e.Receipted, share.acknowledge),
    # PROPOSE: everyone's grounds, what others hold of them, then one U
    when(_UNDECIDED, e.UpdateReady, propose.hold),  # once U is named it is for the next attempt
    on(_BEFORE_U, m.Propose, propose.accept),
    on(_BEFORE_U, m.Held, heard.accept),
    on(_BEFORE_BALLOT, m.Members, members.accept),
    on(BALLOT, m.Members, members.compare),  # another one may prove its coordinator a liar even then
    when(_BEFORE_U, e.Accepted, mask.request, then=MASK),  # D before a word of y
    # MASK: the words come, the masked chunks go; the masks may have been expanded before
    when((*_BEFORE_U, MASK), e.MasksReady, mask.hold),
    _each((GATHER, BALLOT, *_DECIDED), (e.MasksReady,), Ignore("the words were masked without them")),
    when(MASK, e.WordsReady, mask.hold_words),
    when(MASK, e.SomeSent, mask.send_first),
    when(MASK, e.FirstSent, mask.send, then=GATHER),
    # GATHER: sums of what this peer owns, nonces for one view, the masked sums of all, and the tags that verify them
    on(GATHER, m.Root, gather.accept_root),
    on(BALLOT, m.Root, roots.compare),  # another one may prove its author a liar even then
    on(GATHER, m.Chunk, gather.accept_chunk),
    on(GATHER, m.Nonce, gather.accept_nonce),
    on((GATHER, BALLOT, UNMASK), m.SumDigest, gather.accept_digest),
    on((GATHER, BALLOT, UNMASK), m.SumChunk, gather.accept_sum),  # READYs and a certificate may overtake words of Y
    on(GATHER, m.Tags, verify.accept_tags),
    on(GATHER, m.Opened, verify.accept_opened),
    on((GATHER, BALLOT), m.Want, questions.help_out),
    # BALLOT: READY, then one vote, each durable before it is seen
    when(BALLOT, e.SumsStored, ballot.announce),
    when(BALLOT, e.BallotStored, ballot.send),
    on((MASK, GATHER, BALLOT), m.Ready, ballot.accept_ready),
    on(_UNDECIDED, m.Ballot, ballot.count),
    on(_UNDECIDED, m.Certificate, ballot.accept_certificate),
    # UNMASK: under the certificate, and from it alone
    when(UNMASK, e.CertificateStored, unmask.reveal),
    on(UNMASK, m.Reveal, unmask.accept),
    on((UNMASK, CONFIRM), m.BackupShare, unmask.accept_shares),
    on(UNMASK, m.Total, fetch.accept_part),
    when(UNMASK, e.Applied, confirm.record, then=CONFIRM),
    # CONFIRM: one record, q signatures; FINAL: the round stands, and those who missed it are served
    when((UNMASK, CONFIRM), e.RecordStored, confirm.sign),  # also where the sum was taken back meanwhile (branch.py)
    on(_DECIDED, m.Confirm, confirm.accept),
    on(_DECIDED, m.Want, fetch.serve),
    when(_DECIDED, e.LinkUp, fetch.link_up),
    # a round that is left behind
    when((*_UNDECIDED, UNMASK), e.LeaveStored, leave.send),
    on((*_UNDECIDED, UNMASK, CONFIRM), m.Leave, leave.accept),
    on(FINAL, m.Leave, ballot.answer),
    # time, links, and what is of no use any more
    when(Phase, e.Tick, nothing),
    _each(Phase, (e.Moved, e.Forgotten), Ignore("only the disk has changed")),
    when(_BEFORE_U, e.LinkDown, unlinked.expect),
    when((MASK, GATHER, BALLOT, *_DECIDED), e.LinkDown, nothing),
    when(_UNDECIDED, e.LinkUp, ballot.link_up),
    _each((SHARE, PROPOSE, MASK), _GATHERED, keep),
    _each(_BEFORE_U, (m.Ready,), keep),
    _each((SHARE, PROPOSE, MASK), (m.Want,), keep),
    _each(_UNDECIDED, (m.Reveal, m.BackupShare, m.Confirm), keep),
    _each(_UNDECIDED, (m.Total,), Ignore("nobody was asked for a sum")),
    _each((MASK, GATHER, BALLOT, *_DECIDED), (m.Share, m.Ack, m.Propose, m.Held), _late),
    _each((BALLOT,), _UNCOMPARED, _done),
    _each((CONFIRM, FINAL), _GATHERED, _done),
    _each((CONFIRM, FINAL), (m.Members,), _done),
    _each((UNMASK,), (m.Members, m.Root, m.Chunk, m.Nonce, m.Tags, m.Opened), _done),
    _each((MASK, GATHER, BALLOT, *_DECIDED), (e.Receipted,), _late),
    _each((BALLOT, *_DECIDED), (e.Dealt, e.Accepted, e.WordsReady, e.SomeSent, e.FirstSent), _gone),
    _each(_DECIDED, (e.SumsStored,), _decided),
    on(_DECIDED, m.Ballot, ballot.answer),
    _each(_DECIDED, (m.Ready, m.Certificate, e.BallotStored, e.UpdateReady), _decided),
    _each((CONFIRM, FINAL), (m.Reveal, m.Total, e.CertificateStored, e.LeaveStored), Ignore("the sum is held")),
    _each((CONFIRM, FINAL), (e.Applied,), Ignore("the sum is applied")),
    _each((FINAL,), (m.BackupShare, e.RecordStored), Ignore("the round is final")),
)  # fmt: skip

_abandoned = Guarded(ballot.abandoned, ballot.next_attempt, SHARE)
_certified = Guarded(ballot.certified, ballot.certify, UNMASK)
_voted = Guarded(ballot.voted, nothing, BALLOT)
_survive = Guarded(ballot.enough_readys, ballot.vote_survivors, BALLOT)


def _undecided(phase: Phase) -> tuple[Guarded, ...]:
    return (
        Guarded(questions.lacks, questions.ask, phase),
        Guarded(ballot.gives_up, ballot.give_up, BALLOT),
        Guarded(leave.due, leave.cast, phase),
        Guarded(leave.carried, leave.go_on, phase),
    )


def _before_u(phase: Phase) -> tuple[Guarded, ...]:
    return (
        _abandoned,
        _certified,
        _voted,
        Guarded(propose.may_send, propose.send, PROPOSE),
        Guarded(propose.clock_starts, propose.start_clock, phase),
        Guarded(share.may_acknowledge, share.receipt, phase),
        Guarded(members.can_choose, members.choose, phase),
        Guarded(propose.half_time, propose.pass_on, phase),
        *_undecided(phase),
    )


GUARDED: Final[dict[Phase, tuple[Guarded, ...]]] = {
    SHARE: _before_u(SHARE),
    PROPOSE: _before_u(PROPOSE),
    MASK: (
        _abandoned,
        _certified,
        _voted,
        _survive,
        Guarded(mask.outside, nothing, BALLOT),
        Guarded(mask.is_long, mask.send_first, MASK),
        Guarded(mask.may_send, mask.send, GATHER),
        *_undecided(MASK),
    ),
    GATHER: (
        _abandoned,
        _certified,
        _voted,
        _survive,
        Guarded(gather.may_sum, gather.sum_next, GATHER),
        Guarded(gather.all_summed, gather.open_nonce, GATHER),
        Guarded(gather.views_differ, gather.share_digests, GATHER),
        Guarded(roots.differ, roots.show, GATHER),
        Guarded(verify.can_tag, verify.tag, GATHER),
        Guarded(verify.can_check, verify.check, GATHER),
        Guarded(verify.can_judge, verify.judge, GATHER),
        Guarded(gather.may_vouch, gather.store, BALLOT),
        Guarded(gather.is_overdue, gather.ask, GATHER),
        *_undecided(GATHER),
    ),
    BALLOT: (_abandoned, _certified, _survive, *_undecided(BALLOT)),
    UNMASK: (
        Guarded(fetch.is_asked, fetch.answer, UNMASK),
        Guarded(gather.sums_came_late, gather.keep_sums, UNMASK),
        Guarded(unmask.opened, unmask.compute, UNMASK),
        Guarded(unmask.can_combine, unmask.combine, UNMASK),
        Guarded(unmask.backups_due, unmask.back_up, UNMASK),
        Guarded(fetch.lacks_sum, fetch.want, UNMASK),
        Guarded(leave.due, leave.cast, UNMASK),
        Guarded(leave.carried, leave.go_on, UNMASK),
    ),
    CONFIRM: (
        Guarded(confirm.may_sign, confirm.vow, CONFIRM),
        Guarded(confirm.final, confirm.finish, FINAL),
        Guarded(confirm.lacks_confirms, confirm.ask, CONFIRM),
    ),
    FINAL: (),
}
