"""Few numbers have one owner: its lie comes into no sum, and its death costs an attempt."""

from __future__ import annotations

from p2pfl import messages as m
from p2pfl.sharing.state import Phase
from tests.sharing.test_round_liars import false_sum
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


def test_a_liar_that_owns_all_numbers_is_in_no_sum_and_the_others_have_theirs() -> None:
    world = Attacked(lies={OWNER: false_sum})
    world.begin()
    world.to_the_end()
    check_that_the_others_go_on(world)
    assert world.left_out() == [OWNER]


def test_where_the_owner_of_all_numbers_dies_the_next_attempt_has_another() -> None:
    world = Attacked(lies={})
    world.begin()
    world.until(lambda: world.stands(OWNER, Phase.GATHER) and not owners_of(world, 0))
    world.peers[OWNER].kill()
    world.until(lambda: all(world.peers[name].disk.ledger for name in world.peers if name != OWNER))
    assert not owners_of(world, 0)
    assert owners_of(world, 1) == {"site-1"}
