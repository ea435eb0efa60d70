"""Few numbers have one owner: its lie comes into no sum, and its death costs an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.errors.round import FalseSum, ProvenLiar
from p2pfl.sharing.field import Field, Words
from p2pfl.sharing.phases import gather
from p2pfl.sharing.state import Phase, State
from tests.simulate import promises
from tests.simulate.attackers import Attacked, check_that_the_others_go_on

OWNER = "site-0"


def owners_of(world: Attacked, attempt: int) -> set[str]:
    """Who told digests of sums in that attempt of the first round."""
    said = [one for _, one in world.log if isinstance(one.message, m.SumDigest)]
    return {one.sender for one in said if promises.place_of(one) == (1, attempt)}


def test_one_site_sums_few_numbers() -> None:
    world = Attacked(lies={})
    world.begin()
    world.to_the_end()
    promises.check(world)
    assert owners_of(world, 0) == {OWNER}


class AddsOne:
    """A field in whose sums the first word is one too high."""

    def __init__(self, field: Field) -> None:
        self.field = field

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)

    def sum(self, vectors: Sequence[Words]) -> Words:
        summed = self.field.sum(vectors)
        summed[0] = (int(summed[0]) + 1) % self.field.p
        return summed


def test_a_liar_that_owns_all_numbers_is_convicted_and_the_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program believes its sum from the start: it opens its nonce for it, and the tags alone find it out."""
    field_of = gather.field_of

    def lying(state: State, index: int) -> Any:
        field = field_of(state, index)
        return AddsOne(field) if state.context.me == OWNER else field

    monkeypatch.setattr(gather, "field_of", lying)
    world = Attacked(lies={})
    world.begin()
    world.to_the_end()
    check_that_the_others_go_on(world)
    assert world.left_out() == [OWNER]
    assert {type(error) for error in world.accused(OWNER).values()} <= {FalseSum, ProvenLiar}
    assert set(world.accused(OWNER)) == set(world.honest)


def test_where_the_owner_of_all_numbers_dies_the_next_attempt_has_another() -> None:
    world = Attacked(lies={})
    world.begin()
    world.until(lambda: world.stands(OWNER, Phase.GATHER) and not owners_of(world, 0))
    world.peers[OWNER].kill()
    world.until(lambda: all(world.peers[name].disk.ledger for name in world.peers if name != OWNER))
    assert not owners_of(world, 0)
    assert owners_of(world, 1) == {"site-1"}
