"""Vows across rounds: whatever is certified when, and whoever lies, two models never become final."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from p2pfl.errors.round import MalformedMessage
from p2pfl.roster import Quorums
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.vows import Vows
from tests.sharing.letters import Paper

# ── the rule ──────────────────────────────────────────────────────────────────────────────────────────────────


def vows(confirmed: Iterable[int] = (), vouched: dict[int, tuple[int, ...]] | None = None, final: int = 0) -> Vows:
    return Vows(final, set(confirmed), dict(vouched or {}))


def test_a_peer_without_vows_may_do_anything_past_the_last_final_round() -> None:
    assert vows().may_vouch(1, 0, ())
    assert vows().may_confirm(1)
    assert vows(final=4).may_vouch(7, 4, ())
    assert not vows(final=4).may_vouch(7, 3, ()), "it ignores a final round"


def test_who_confirmed_a_round_vouches_for_no_later_one_that_does_not_rest_on_it() -> None:
    bound = vows(confirmed=[2])
    assert not bound.may_vouch(3, 0, ())
    assert not bound.may_vouch(3, 1, (1,))
    assert bound.may_vouch(3, 2, (1, 2))
    assert bound.may_vouch(2, 1, (1,)), "of the round itself, another attempt"
    assert bound.may_vouch(1, 0, ()), "of an earlier round"
    assert not vows(confirmed=[2, 3]).may_vouch(4, 2, (2,)), "each of them binds"


def test_who_vouched_for_a_later_round_confirms_none_before_that_it_ignores() -> None:
    bound = vows(vouched={4: (2,)})
    assert not bound.may_confirm(3)
    assert not bound.may_confirm(1)
    assert bound.may_confirm(2), "the later one rests on it"
    assert bound.may_confirm(4), "it is the later one"
    assert bound.may_confirm(5), "it is later still"
    assert not vows(vouched={4: (2,), 5: (4,)}).may_confirm(2), "each of them binds"


def test_a_final_round_settles_what_was_vowed_up_to_it_and_no_more() -> None:
    bound = vows(confirmed=[2, 3, 5], vouched={2: (), 3: (2,), 6: (5,)})
    bound.settled(3)
    assert (bound.final, bound.confirmed, bound.vouched) == (3, {5}, {6: (5,)})


# ── a whole federation of vows ────────────────────────────────────────────────────────────────────────────────


class Federation:
    """Honest peers that keep their vows, c liars that sign everything; an adversary decides all else.

    Rounds are numbers; a certified one knows the rounds that it rests on. What was signed stays signed.
    """

    def __init__(self, n: int) -> None:
        self.quorums = Quorums(n)
        self.honest = [Vows() for _ in range(n - self.quorums.c)]
        self.rests_on: dict[int, frozenset[int]] = {}  # of each certified round
        self.waiting: dict[int, tuple[frozenset[int], list[Vows]]] = {}  # READYs enough to be certified later
        self.signed: dict[int, set[int]] = {}  # CONFIRMs of honest peers
        self.last = 0

    def branches(self) -> list[frozenset[int]]:
        """What a round can rest on: nothing, or a certified round with all that it rests on."""
        return [frozenset(), *(below | {number} for number, below in sorted(self.rests_on.items()))]

    def vouch(self, branch: frozenset[int], who: Iterable[int], *, abandoned: bool) -> None:
        """A new round on this branch. Those of `who` that may, sign READY; it may come to a certificate, or never."""
        self.last += 1
        signers = []
        for index in who:
            peer = self.honest[index]
            chain = tuple(sorted(one for one in branch if one > peer.final))
            on_final = peer.final in (0, *branch)  # a peer's model rests on what is final for it
            if on_final and peer.may_vouch(self.last, max(branch, default=0), chain):
                peer.vouched[self.last] = chain
                signers.append(peer)
        if len(signers) + self.quorums.c >= self.quorums.q:
            self.waiting[self.last] = branch, signers
        elif abandoned:
            for peer in signers:
                peer.vouched.pop(self.last, None)

    def certify(self, number: int) -> None:
        self.rests_on[number] = self.waiting.pop(number)[0]

    def confirm(self, number: int, index: int) -> None:
        peer = self.honest[index]
        if peer.final < number and peer.may_confirm(number):
            peer.confirmed.add(number)
            self.signed.setdefault(number, set()).add(index)

    def show(self, number: int, index: int) -> None:
        """A certificate of a later round that ignores what this peer confirmed frees it."""
        peer = self.honest[index]
        peer.confirmed = {one for one in peer.confirmed if one >= number or one in self.rests_on[number]}

    def finals(self) -> list[int]:
        """Rounds with q CONFIRMs, the liars' among them, and all that they rest on."""
        enough = self.quorums.q - self.quorums.c
        found = [number for number, by in self.signed.items() if len(by) >= enough]
        return sorted({one for number in found for one in (*self.rests_on[number], number)})

    def learn(self, index: int) -> None:
        finals = self.finals()
        if finals and finals[-1] > self.honest[index].final:
            self.honest[index].settled(finals[-1])

    def check(self) -> None:
        finals = self.finals()
        for place, number in enumerate(finals):
            assert set(finals[:place]) <= self.rests_on[number], f"{finals}: {number} does not rest on all before it"


STEPS = ["vouch", "vouch", "certify", "certify", "confirm", "confirm", "confirm", "show", "learn"]


def schedule(seed: int, n: int) -> None:
    """Thirty things that an adversary chooses, each checked."""
    dice, world = random.Random(seed), Federation(n)
    everyone = range(len(world.honest))

    def some() -> list[int]:
        return dice.sample(everyone, dice.randint(0, len(everyone)))

    for _ in range(30):
        step = dice.choice(STEPS)
        if step == "vouch":
            world.vouch(dice.choice(world.branches()), some(), abandoned=dice.random() < 0.5)
        elif step == "certify" and world.waiting:
            world.certify(dice.choice(sorted(world.waiting)))
        elif step in ("confirm", "show") and world.rests_on:
            number = dice.choice(sorted(world.rests_on))
            for index in some():
                (world.confirm if step == "confirm" else world.show)(number, index)
        elif step == "learn":
            world.learn(dice.choice(everyone))
        world.check()


@pytest.mark.claim("LIVE-1")
@pytest.mark.parametrize("n", [3, 4, 5, 7, 10])
def test_the_final_rounds_are_one_chain_whatever_comes_when(n: int) -> None:
    """Whenever each round is certified, confirmed and learnt."""
    for seed in range(1500):
        schedule(seed, n)


@pytest.mark.claim("LIVE-1")
@pytest.mark.parametrize("broken", ["may_vouch", "may_confirm"])
def test_without_either_half_of_the_rule_two_models_become_final(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the schedules of the test above would show it."""
    monkeypatch.setattr(Vows, broken, lambda *_: True)
    with pytest.raises(AssertionError, match="does not rest on"):
        for seed in range(1500):
            schedule(seed, 4)


def test_with_the_whole_rule_the_same_schedules_end_with_one_model() -> None:
    for late in (False, True):
        world = Federation(4)
        world.vouch(frozenset(), [0, 1, 2], abandoned=False)
        if not late:
            world.certify(1)
            for index in range(3):
                world.confirm(1, index)
        world.vouch(frozenset(), [0, 1, 2], abandoned=False)
        assert (2 in world.waiting) is late
        if late:
            world.certify(1)
            for index in range(3):
                world.confirm(1, index)
            assert not world.signed
            world.certify(2)
            for index in range(3):
                world.confirm(2, index)
        assert world.finals() == [2 if late else 1]


def test_a_peer_that_confirmed_alone_goes_on_once_it_is_shown_that_the_others_did() -> None:
    """Round 1 has one CONFIRM; the two others vouched for round 2 without it, and the liar with them."""
    world = Federation(4)
    world.vouch(frozenset(), [0, 1, 2], abandoned=False)
    world.certify(1)
    world.confirm(1, 0)
    world.vouch(frozenset(), [0, 1, 2], abandoned=False)
    assert 2 not in world.honest[0].vouched
    world.certify(2)
    world.show(2, 0)
    world.vouch(frozenset({2}), [0], abandoned=True)
    assert world.honest[0].may_vouch(3, 2, (2,))
    world.confirm(2, 0)
    assert world.signed[2] == {0}
    assert not world.honest[1].may_confirm(1), "and no one else can bring round 1 to an end any more"


# ── links and breaches ────────────────────────────────────────────────────────────────────────────────────────

paper = Paper(4)


def others() -> PeerView:
    return PeerView(paper.roster, "site-2", began=10.0)


def test_a_link_that_never_stood_is_away_since_the_process_began() -> None:
    held = others()
    assert sorted(held.down) == ["site-0", "site-1", "site-3"]
    assert not held.away("site-0", 14.9, 5.0)
    assert held.away("site-0", 15.0, 5.0)
    del held.down["site-0"]
    assert not held.away("site-0", 1e9, 5.0)


def test_one_breach_of_four_is_borne_and_two_leave_no_quorum() -> None:
    for breakers, last in (((), ""), (("site-0", "site-0"), ""), (("site-0", "site-1"), "site-1")):
        held = others()
        for name in breakers:
            held.breaches[name] = MalformedMessage(peer=name, evidence="")
        assert (held.too_many.fields["peer"] if held.too_many is not None else "") == last
