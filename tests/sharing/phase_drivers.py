"""Ways to take the right to disclose away from a state that has it, with letters that whoever likes may sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from p2pfl import messages as m
from p2pfl.keys import Secret, digest
from p2pfl.messages import Letter, Message, open_letter, seal
from p2pfl.sharing.certificate import short
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.disclosure import may_be_opened
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase, State
from p2pfl.simulate import SimulatedFederation
from tests.sharing.liars import STRANGER
from tests.sharing.stopped_rounds import ME, standing


@cache
def stood() -> tuple[SimulatedFederation, Round]:
    return standing(Phase.UNMASK, peers=4)


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
    ballots = [open_letter(wire, state.context.roster, m.Ballot).message for wire in message.ballots]
    return state.members, message, ballots  # type: ignore[return-value]


def voters(state: State) -> list[str]:
    return list(state.names[: state.context.roster.quorums.q])


def certified(state: State, members: Letter, view: bytes = digest("view"), **place: Any) -> Letter:
    """A whole SURVIVORS certificate for `members`, by q sites that would sign anything."""
    d, names = attempt_digest(members), voters(state)
    ballots = tuple(by(name, m.Ballot(1, d, view, tuple(names), ()), **place).wire for name in names)
    return by(ME, m.Certificate(ballots, members.wire), **place)


def accept(state: State, members: Letter, **place: Any) -> None:
    state.members, state.certificate = members, certified(state, members, **place)


# ── each of these, done to a state that may reveal, takes the right away ──────────────────────────────────────


def without_certificate(state: State) -> None:
    state.certificate = None


def without_a_deal(state: State) -> None:
    state.unmasking.deal = None


def with_an_abandon_certificate(state: State) -> None:
    names = state.names[: state.context.roster.quorums.a]
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
    last = open_letter(message.ballots[-1], state.context.roster, m.Ballot)
    forged = seal(last.message, last.envelope, STRANGER).wire
    state.certificate = by(ME, replace(message, ballots=(*message.ballots[:-1], forged)))


def with_too_few_readys_in_each_ballot(state: State) -> None:
    _, message, ballots = parts(state)
    wires = tuple(
        by(name, replace(one, readys=one.readys[:-1])).wire for name, one in zip(voters(state), ballots, strict=True)
    )
    state.certificate = by(ME, replace(message, ballots=wires))


def with_something_that_is_no_certificate(state: State) -> None:
    state.certificate = by(ME, m.Want("sum", ()))


def with_q_ballots_and_no_certificate(state: State) -> None:
    """Held ballots are not the certificate: it must be durable first."""
    state.certificate = None
    assert len(state.voting.ballots) >= state.context.roster.quorums.q


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


def of_a_set_whose_letters_are_of_others(state: State) -> None:
    message: Any = parts(state)[0].message
    accept(state, by("site-1", replace(message, survivors=message.survivors[:-1], owners=message.owners[:-1])))


def of_a_set_in_which_somebody_acknowledged_nothing(state: State) -> None:
    message: Any = parts(state)[0].message
    accept(state, by("site-1", replace(message, acks=message.acks[:-1])))


def of_a_set_with_another_bundle_of_this_site(state: State) -> None:
    message: Any = parts(state)[0].message
    held = [m.read_letter(wire) for wire in message.bundles]
    bundle = by(ME, m.Bundle(bytes(32), bytes(32), bytes(32)))
    acks = m.Ack(tuple((one.sender, bundle.digest if one.sender == ME else one.digest) for one in held), ())
    held_by_all = tuple(short(by(name, acks), state.names) for name in state.names)
    bundles = tuple(bundle.wire if m.read_letter(wire).sender == ME else wire for wire in message.bundles)
    accept(state, by("site-1", replace(message, bundles=bundles, acks=held_by_all)))
    assert may_be_opened(state).keys() == set(state.names) - {ME}, "the set holds together"


def after_a_new_deal_in_this_attempt(state: State) -> None:
    assert state.unmasking.deal is not None
    bundle = by(ME, m.Bundle(bytes(32), bytes(32), bytes(32)))
    state.unmasking.deal = replace(state.unmasking.deal, bundle=bundle, self_mask=Secret(bytes(32)))


def in_the_attempt_that_began_after_it(state: State) -> None:
    assert state.certificate is not None
    held = state.certificate
    fresh = state.next_attempt(state.attempt + 1, held)
    fresh.certificate = held
    vars(state).update(vars(fresh))


WAYS: list[Callable[[State], None]] = [
    without_certificate,
    without_a_deal,
    with_an_abandon_certificate,
    with_one_ballot_too_few,
    with_one_ballot_many_times,
    with_a_strangers_ballot,
    with_too_few_readys_in_each_ballot,
    with_something_that_is_no_certificate,
    with_q_ballots_and_no_certificate,
    of_the_next_attempt,
    of_an_earlier_round,
    of_another_run,
    of_another_epoch,
    of_a_set_that_this_site_never_accepted,
    of_no_accepted_set,
    of_a_set_whose_letters_are_of_others,
    of_a_set_in_which_somebody_acknowledged_nothing,
    of_a_set_with_another_bundle_of_this_site,
    after_a_new_deal_in_this_attempt,
    in_the_attempt_that_began_after_it,
]
