"""U, at its coordinator: a complete set, of everyone who is there, that holds together whatever others said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import messages as m
from p2pfl.keys import digest
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing.certificate import compose
from p2pfl.sharing.phases import members
from p2pfl.sharing.state import State
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import examples
from tests.sharing.letters import Paper
from tests.sharing.liars import altering, run
from tests.sharing.peer_fixtures import REST, VICTIM, abandons, leaves, named, paper, seat, sitting, told
from tests.simulate import promises

NAMES, COORDINATOR = paper.names, paper.coordinator
OTHER = digest("other")


# ── the set that is named ─────────────────────────────────────────────────────────────────────────────────────


def test_the_set_is_everyone_when_everyone_acknowledged_everyone() -> None:
    assert members.complete(sitting(COORDINATOR)) == NAMES


def without_its_proposal(state: State) -> None:
    del state.proposals.proposes[VICTIM]


def without_its_acknowledgement(state: State) -> None:
    del state.proposals.acks[VICTIM]


def without_its_bundle(state: State) -> None:
    del state.proposals.bundles[VICTIM]


def on_another_model(state: State) -> None:
    state.proposals.proposes[VICTIM] = paper.propose(VICTIM, model=OTHER)


def on_another_round(state: State) -> None:
    state.proposals.proposes[VICTIM] = paper.propose(VICTIM, rests_on=3)


def whom_nobody_else_acknowledged(state: State) -> None:
    for name in REST:
        state.proposals.acks[name] = paper.ack(name, names=REST)


def who_acknowledged_nobody_else(state: State) -> None:
    state.proposals.acks[VICTIM] = paper.ack(VICTIM, names=(VICTIM,))


def who_dealt_each_another_bundle(state: State) -> None:
    dealt = {name: paper.deal(VICTIM, salt=name.encode()).bundle for name in NAMES}
    for name in NAMES:
        own: Any = paper.ack(name).message
        held = tuple((dealer, dealt[name].digest if dealer == VICTIM else one) for dealer, one in own.held)
        state.proposals.acks[name] = paper.by(name, m.Ack(held, ()))
    state.proposals.bundles[VICTIM] = dealt[COORDINATOR]


def who_is_proven_to_lie(state: State) -> None:
    state.peers.proven[VICTIM] = paper.by("site-0", m.Evidence(()))


def who_gave_the_coordinator_another_bundle(state: State) -> None:
    """And everyone else the one that it acknowledges itself."""
    other = paper.deal(VICTIM, salt=b"x").bundle
    own: Any = paper.ack(COORDINATOR).message
    held = tuple((dealer, other.digest if dealer == VICTIM else one) for dealer, one in own.held)
    state.proposals.bundles[VICTIM], state.proposals.acks[COORDINATOR] = other, paper.by(COORDINATOR, m.Ack(held, ()))


def of_whom_the_coordinator_holds_a_bundle_that_it_has_not_acknowledged_yet(state: State) -> None:
    """It came back as a new process and dealt anew; what its first one said was passed on by somebody."""
    state.proposals.bundles[VICTIM] = paper.elsewhere(paper.deal(VICTIM, salt=b"x").bundle, incarnation=bytes(16))


LEFT_OUT: list[Callable[[State], None]] = [
    without_its_proposal,
    without_its_acknowledgement,
    without_its_bundle,
    on_another_model,
    on_another_round,
    whom_nobody_else_acknowledged,
    who_acknowledged_nobody_else,
    who_dealt_each_another_bundle,
    who_is_proven_to_lie,
    who_gave_the_coordinator_another_bundle,
    of_whom_the_coordinator_holds_a_bundle_that_it_has_not_acknowledged_yet,
]


@pytest.mark.parametrize("way", LEFT_OUT, ids=lambda way: way.__name__)
def test_one_of_four_that_does_not_fit_is_left_out_of_the_set(
    way: Callable[[State], None],
) -> None:
    """The set of the others holds together."""
    state = sitting(COORDINATOR)
    way(state)
    assert members.complete(state) == REST
    state.now = 1.0  # nobody is waited for any more
    assert compose(named(state), paper.roster).bundles.keys() == set(REST)


SEVEN = Paper(7)
DEALT = {(name, salt): SEVEN.deal(name, salt=salt).bundle for name in SEVEN.names for salt in (b"", b"x")}


SALTS = st.sampled_from([b"x", None])
SITES = st.sampled_from(SEVEN.names)


@pytest.mark.claim("LIAR-6")
@examples(200)
@given(
    st.lists(st.tuples(SITES, SITES, SALTS), max_size=4),
    st.lists(st.tuples(SITES, SALTS), max_size=2),
    st.sets(SITES, max_size=2),
)
def test_whatever_was_said_to_a_coordinator_the_set_that_it_names_holds_together(
    acks: list[tuple[str, str, bytes | None]], bundles: list[tuple[str, bytes | None]], elsewhere: set[str]
) -> None:
    """Some acknowledge nothing of some, or another bundle; some bundles did not come; some propose on other grounds."""
    state = sitting(SEVEN.coordinator, on=SEVEN)
    salts: dict[tuple[str, str], bytes | None] = {(holder, dealer): salt for holder, dealer, salt in acks}
    for holder in SEVEN.names:
        row = {dealer: salts.get((holder, dealer), b"") for dealer in SEVEN.names}
        state.proposals.acks[holder] = SEVEN.by(holder, m.Ack(digests(row), ()))
    for dealer, salt in bundles:
        state.proposals.bundles.pop(dealer, None)
        if salt is not None:
            state.proposals.bundles[dealer] = DEALT[dealer, salt]
    for name in elsewhere:
        state.proposals.proposes[name] = SEVEN.propose(name, model=OTHER)
    if len(members.complete(state)) >= SEVEN.roster.quorums.q:
        state.now = 1.0
        compose(named(state), SEVEN.roster)


def digests(row: dict[str, bytes | None]) -> tuple[tuple[str, bytes], ...]:
    return tuple((dealer, DEALT[dealer, salt].digest) for dealer, salt in row.items() if salt is not None)


@examples(60)
@given(st.sets(st.sampled_from(SEVEN.names), max_size=2), st.data())
def test_two_liars_of_seven_are_all_that_a_set_loses_whatever_they_acknowledge(
    liars: set[str], data: st.DataObject
) -> None:
    """The honest five hold one another's bundles, and any of the two's; the set has at least those five, or more."""
    state = sitting(SEVEN.coordinator, on=SEVEN)
    salts = st.sampled_from([b"", b"x", None])
    for holder in SEVEN.names:
        row = {dealer: data.draw(salts) if dealer in liars or holder in liars else b"" for dealer in SEVEN.names}
        state.proposals.acks[holder] = SEVEN.by(holder, m.Ack(digests(row), ()))
    assert len(members.complete(state)) >= 5


# ── when it is named ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_set_is_durable_before_anyone_sees_it() -> None:
    """Else a coordinator that dies in between, and names another one, is proven a liar by two letters."""
    found = seat(sitting(COORDINATOR))
    effects = found.advance(0.0)
    stored = next(place for place, one in enumerate(effects) if isinstance(one, e.Persist))
    assert not any(isinstance(one, e.Send) for one in effects[:stored])
    assert effects[stored].then is e.Accepted


def test_nobody_but_the_coordinator_names_a_set_and_it_names_one_only() -> None:
    assert members.can_choose(sitting(COORDINATOR))
    assert not any(members.can_choose(sitting(name)) for name in NAMES if name != COORDINATOR)
    state = sitting(COORDINATOR)
    members.choose(state)
    assert not members.can_choose(state)


def test_a_present_peer_is_waited_for_longer_than_an_absent_one() -> None:
    """Three quarters of the phase for one that is there, a quarter for one that is away."""
    state = sitting(COORDINATOR)
    state.due = {"away": 1.0, "half": 2.0, "choose": 3.0, "propose": 4.0}
    without_its_proposal(state)
    patience = 0.25  # a quarter of the second that all ask for
    for now, down_since, may in (
        (2.9, None, False),
        (3.0, None, True),
        (0.9, 0.0, False),
        (1.0, 0.0, True),
        (1.0, 1.0 - patience, True),
        (1.0, 1.1 - patience, False),
    ):
        state.now = now
        state.peers.down = {} if down_since is None else {VICTIM: down_since}
        assert members.can_choose(state) is may, (now, down_since)


def test_fewer_than_a_quorum_is_never_named_however_late_it_is() -> None:
    state = sitting(COORDINATOR)
    state.now = 1e9
    without_its_proposal(state)
    assert members.can_choose(state)
    del state.proposals.acks["site-0"]
    assert not members.can_choose(state)


def test_a_proven_liar_is_not_waited_for() -> None:
    state = sitting(COORDINATOR)
    who_is_proven_to_lie(state)
    state.now = 0.0  # before any of the phase's times
    assert members.can_choose(state)


@pytest.mark.parametrize("attempt", [0, 1])
def test_whom_more_than_c_named_is_left_out_and_the_set_says_on_which_grounds(attempt: int) -> None:
    state = sitting(NAMES[(1 + attempt) % 4], attempt)
    grounds = abandons("site-0", "site-2") if attempt else leaves("site-0", "site-2")
    wires = tuple(letter.wire for letter in grounds)
    if attempt:
        state.leaving.abandons = members.with_abandon(state, wires)
    else:
        state.leaving.grounds = wires
    state.now = 0.0
    assert members.complete(state) == REST
    assert members.can_choose(state)
    letter = named(state)
    assert isinstance(letter.message, m.Members)
    assert letter.message.grounds == tuple(one.wire for one in grounds)
    assert members.refusal(sitting("site-0", attempt), letter, compose(letter, paper.roster)) == ""


def test_whom_more_than_c_named_stays_when_there_is_no_quorum_without_it() -> None:
    state = sitting(COORDINATOR)
    state.leaving.grounds = tuple(letter.wire for letter in leaves("site-0", "site-2"))
    del state.proposals.proposes["site-0"]
    assert members.complete(state) == NAMES[1:]


# ── attacks ───────────────────────────────────────────────────────────────────────────────────────────────────


def another_bundle(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
    """The same share under a second bundle, of which nobody else hears."""
    assert isinstance(letter.message, m.Share)
    held = m.read_letter(letter.message.bundle)
    body = replace(held.message, nonce=bytes(32))  # type: ignore[type-var]
    return replace(letter.message, bundle=m.seal(body, held.envelope, liar.identity).wire)


@pytest.mark.parametrize("liar", ["site-0", "site-2", "site-3"])
def test_a_dealer_that_gives_the_coordinator_a_bundle_of_its_own_makes_no_liar_of_it(liar: str) -> None:
    lie = altering(m.Share, another_bundle, to=[COORDINATOR])
    federation = run({liar: lie}, peers=4, rounds=2)
    promises.check(federation, beside=[liar])
    for peer in federation.peers.values():
        assert set(peer.run.peers.proven if peer.run else ()) <= {liar}
    assert all(peer.final_round == 2 for name, peer in federation.peers.items() if name != liar)


def smaller(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
    """A set without site-3, which holds together, too."""
    held = letter.message
    assert isinstance(held, m.Members)
    keep = [place for place, name in enumerate(held.survivors) if name != "site-3"]
    rows = {
        field: tuple(getattr(held, field)[place] for place in keep)
        for field in ("survivors", "bundles", "acks", "proposes", "owners")
    }
    return replace(held, **rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("told", [["site-0"], ["site-3"], ["site-0", "site-2"], ["site-0", "site-3"]])
def test_a_coordinator_that_tells_two_sets_costs_no_round(told: list[str]) -> None:
    """It makes no liar of anybody else."""
    federation = run({COORDINATOR: altering(m.Members, smaller, to=told)}, peers=4, rounds=2)
    promises.check(federation, beside=[COORDINATOR])
    honest = [peer for name, peer in federation.peers.items() if name != COORDINATOR]
    assert all(peer.final_round == 2 and peer.error is None for peer in honest)
    if told != ["site-3"]:  # who alone is told that it is out of the set, looks away, and is missed
        assert all(COORDINATOR in peer.run.peers.proven for peer in honest if peer.run is not None)


def test_of_one_without_a_link_what_others_heard_is_newer_unless_it_says_less() -> None:
    state = sitting(COORDINATOR)
    state.peers.down[VICTIM] = 0.0
    found = seat(state)
    held: Any = paper.ack(VICTIM).message
    newer, older = (paper.by(VICTIM, m.Ack(rows, (COORDINATOR,))) for rows in (held.held, held.held[1:]))
    for ack in (newer, older):
        told(found, paper.by("site-0", m.Held((ack.wire,), (), ())))
        assert state.proposals.acks[VICTIM] == newer


class DiesWithItsSet(SimulatedFederation):
    """The coordinator dies right after its set left it; that set reaches one peer, the others never."""

    dead = ""  # the incarnation that died, in hex

    def dies(self, peer: SimulatedPeer) -> bool:
        last = self.log[-1][1] if self.log else None
        if self.dead or last is None or last.sender != peer.name or not isinstance(last.message, m.Members):
            return False
        self.dead = last.envelope.incarnation.hex()
        self.clock.at(self.now + 1.0, lambda: self.start(peer))
        return True

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if self.dead or not isinstance(letter.message, m.Members) or to == "site-0":
            super()._carry(sender, to, letter)


def test_a_coordinator_that_dies_as_it_names_a_set_comes_back_and_is_no_liar() -> None:
    federation = DiesWithItsSet(4, length=8)
    federation.run()
    assert federation.dead
    promises.check(federation)
    promises.everything_is_final(federation)
    named: dict[tuple[int, int], set[bytes]] = {}
    for _, letter in federation.log:
        if isinstance(letter.message, m.Members):
            named.setdefault(promises.place_of(letter), set()).add(letter.digest)
    assert all(len(sets) == 1 for sets in named.values()), "two sets in one attempt, under one signature"
