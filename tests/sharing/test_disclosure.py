"""Every way to ask for b_i without the one right certificate is refused; and the code has one way out."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import p2pfl
from p2pfl import messages as m
from p2pfl.errors.round import DisclosureRefused
from p2pfl.keys import Secret, digest
from p2pfl.messages import Letter, Message, open_letter, seal
from p2pfl.sharing.disclosure import seed_to_reveal
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase, State, attempt_digest
from p2pfl.simulate import SimulatedFederation
from tests.sharing.liars import STRANGER
from tests.sharing.standing import ME, copied, standing

ROOM = Path(p2pfl.__file__).parent


@cache
def stood() -> tuple[SimulatedFederation, Round]:
    return standing(Phase.UNMASK, peers=4)


@pytest.fixture
def state() -> State:
    return copied(stood()[1]).state


def by(name: str, message: Message, **place: Any) -> Letter:
    """A letter of this attempt, or of another `place`, with the good signature of `name`."""
    federation, found = stood()
    envelope = replace(found.state.envelope, sender=name, incarnation=federation.peers[name].incarnation, **place)
    return seal(message, envelope, federation.peers[name].identity)


def parts(state: State) -> tuple[Letter, m.Certificate, list[m.Ballot]]:
    assert state.members is not None
    assert state.certificate is not None
    message = state.certificate.message
    assert isinstance(message, m.Certificate)
    ballots = [open_letter(wire, state.setting.roster).message for wire in message.ballots]
    return state.members, message, ballots  # type: ignore[return-value]


def voters(state: State) -> list[str]:
    return list(state.names[: state.setting.roster.quorums.q])


def certified(state: State, members: Letter, view: bytes = digest("view"), **place: Any) -> Letter:
    """A whole SURVIVORS certificate for `members`, by q sites that would sign anything."""
    d, names = attempt_digest(members), voters(state)
    readys = tuple(by(name, m.Ready(d, view), **place).wire for name in names)
    ballots = tuple(by(name, m.Ballot(1, d, view, readys, ()), **place).wire for name in names)
    return by(ME, m.Certificate(ballots, members.wire), **place)


def accept(state: State, members: Letter, **place: Any) -> None:
    state.members, state.certificate = members, certified(state, members, **place)


# ── each of these, done to a state that may reveal, takes the right away ──────────────────────────────────────


def without_certificate(state: State) -> None:
    state.certificate = None


def without_a_deal(state: State) -> None:
    state.deal = None


def with_an_abandon_certificate(state: State) -> None:
    names = state.names[: state.setting.roster.quorums.a]
    ballots = tuple(by(name, m.Ballot(0, state.attempt_digest, b"", (), ())).wire for name in names)
    state.certificate = by(ME, m.Certificate(ballots, b""))


def with_one_ballot_too_few(state: State) -> None:
    _, message, _ = parts(state)
    state.certificate = by(ME, replace(message, ballots=message.ballots[:-1]))


def with_one_ballot_many_times(state: State) -> None:
    _, message, _ = parts(state)
    state.certificate = by(ME, replace(message, ballots=message.ballots[:1] * 4))


def with_a_strangers_ballot(state: State) -> None:
    _, message, _ = parts(state)
    last = open_letter(message.ballots[-1], state.setting.roster)
    forged = seal(last.message, last.envelope, STRANGER).wire
    state.certificate = by(ME, replace(message, ballots=(*message.ballots[:-1], forged)))


def with_too_few_readys_in_each_ballot(state: State) -> None:
    _, message, ballots = parts(state)
    wires = tuple(by(name, replace(one, readys=one.readys[:-1])).wire
                  for name, one in zip(voters(state), ballots, strict=True))  # fmt: skip
    state.certificate = by(ME, replace(message, ballots=wires))


def with_something_that_is_no_certificate(state: State) -> None:
    state.certificate = by(ME, m.Want("total"))


def with_q_ballots_and_no_certificate(state: State) -> None:
    """Held ballots are not the certificate: it must be durable first."""
    state.certificate = None
    assert len(state.ballots) >= state.setting.roster.quorums.q


def of_the_next_attempt(state: State) -> None:
    state.attempt += 1


def of_an_earlier_round(state: State) -> None:
    state.round += 1


def of_another_run(state: State) -> None:
    place = {"run": digest("run", b"other")}
    accept(state, by("site-1", parts(state)[0].message, **place), **place)


def of_another_epoch(state: State) -> None:
    accept(state, by("site-1", parts(state)[0].message, epoch=2), epoch=2)


def of_a_set_that_this_site_never_accepted(state: State) -> None:
    message: Any = parts(state)[0].message
    state.certificate = certified(state, by("site-1", replace(message, deadline_ms=7)))


def of_no_accepted_set(state: State) -> None:
    state.members = None


def of_a_set_that_leaves_somebody_out(state: State) -> None:
    message: Any = parts(state)[0].message
    accept(state, by("site-1", replace(message, survivors=message.survivors[:-1])))


def of_a_set_in_which_somebody_acknowledged_nothing(state: State) -> None:
    message: Any = parts(state)[0].message
    accept(state, by("site-1", replace(message, acks=message.acks[:-1])))


def of_a_set_with_another_bundle_of_this_site(state: State) -> None:
    message: Any = parts(state)[0].message
    held = open_letter(message.acks[0], state.setting.roster).message
    other = tuple((name, bytes(32) if name == ME else one) for name, one in held.held)  # type: ignore[attr-defined]
    accept(state, by("site-1", replace(message, acks=tuple(by(name, m.Ack(other)).wire for name in state.names))))


def after_a_new_deal_in_this_attempt(state: State) -> None:
    assert state.deal is not None
    bundle = by(ME, m.Bundle(bytes(32), bytes(32), bytes(32)))
    state.deal = replace(state.deal, bundle=bundle, self_mask=Secret(bytes(32)))


def in_the_attempt_that_began_after_it(state: State) -> None:
    assert state.certificate is not None
    held = state.certificate
    state.renew(state.attempt + 1, held)
    state.certificate = held


WAYS: list[Callable[[State], None]] = [
    without_certificate, without_a_deal, with_an_abandon_certificate, with_one_ballot_too_few,
    with_one_ballot_many_times,
    with_a_strangers_ballot, with_too_few_readys_in_each_ballot, with_something_that_is_no_certificate,
    with_q_ballots_and_no_certificate, of_the_next_attempt, of_an_earlier_round, of_another_run, of_another_epoch,
    of_a_set_that_this_site_never_accepted, of_no_accepted_set, of_a_set_that_leaves_somebody_out,
    of_a_set_in_which_somebody_acknowledged_nothing, of_a_set_with_another_bundle_of_this_site,
    after_a_new_deal_in_this_attempt, in_the_attempt_that_began_after_it,
]  # fmt: skip


def test_under_the_certificate_this_peers_own_seed_comes_out(state: State) -> None:
    assert state.deal is not None
    assert seed_to_reveal(state) == state.deal.self_mask


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_without_the_right_certificate_nothing_comes_out(state: State, way: Callable[[State], None]) -> None:
    seed = seed_to_reveal(state).reveal()
    way(state)
    with pytest.raises(DisclosureRefused) as refused:
        seed_to_reveal(state)
    assert seed.hex() not in refused.value.render()
    assert repr(seed)[2:-1] not in refused.value.render()


@pytest.mark.parametrize("phase", [Phase.SHARE, Phase.PROPOSE, Phase.MASK, Phase.GATHER, Phase.BALLOT])
def test_in_a_phase_before_the_certificate_nothing_comes_out_whatever_flags_say(phase: Phase) -> None:
    state = copied(standing(phase)[1]).state
    state.reveals[ME] = Secret(bytes(32))
    state.view, state.record = digest("view"), b"{}"
    with pytest.raises(DisclosureRefused):
        seed_to_reveal(state)


# ── one way out ───────────────────────────────────────────────────────────────────────────────────────────────


def places_of(found: Callable[[ast.AST], bool]) -> set[str]:
    """file:function of every node in the package for which `found` holds."""
    places = set()
    for file in sorted(ROOM.rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{file.relative_to(ROOM)}:{function.name}"
                places |= {name for node in ast.walk(function) if found(node)}
    return places


def test_self_masks_are_touched_where_they_are_dealt_masked_with_stored_and_disclosed_and_nowhere_else() -> None:
    assert places_of(lambda node: isinstance(node, ast.Attribute) and node.attr == "self_mask") == {
        "sharing/disclosure.py:seed_to_reveal",
        "sharing/phases/mask.py:_masked",
        "sharing/phases/unmask.py:accept",  # a bundle's commitment to another's
        "sharing/state.py:snapshot",
    }


def called(name: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name


def test_a_reveal_is_made_in_one_place_and_that_place_asks_first() -> None:
    assert places_of(called("Reveal")) == {"sharing/phases/unmask.py:reveal"}
    assert places_of(called("seed_to_reveal")) == {"sharing/phases/unmask.py:reveal"}


def test_edge_seeds_leave_in_shares_alone() -> None:
    assert places_of(called("Share")) == {"sharing/phases/share.py:deal"}
    assert places_of(lambda node: isinstance(node, ast.Attribute) and node.attr == "edges") == {
        "sharing/phases/mask.py:_masked"
    }
