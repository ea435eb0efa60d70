"""What a call takes over from the one before it, which its caller or an error left in mid-round."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl.errors.round import RunUnderWay
from p2pfl.node.active import ActiveRun

ROUND = 3


def source(name: str, *, trains: bool = False) -> Any:
    return SimpleNamespace(name=name, models=SimpleNamespace() if trains else None)


def under_way(*held: int) -> Any:
    return SimpleNamespace(current=object(), number=ROUND, held=held)


def proposed(active: ActiveRun, came: bool = True) -> ActiveRun:
    """The same, whose proposal for the round is made, or has come to nothing."""

    async def make() -> bool:
        return came

    async def made() -> asyncio.Task[bool]:
        task = asyncio.create_task(make())
        await task
        return task

    active.proposing, active.proposed = asyncio.run(made()), (ROUND, (0, b""))
    return active


def test_a_round_stays_its_calls_however_many_were_left_in_it() -> None:
    """The third call had the second one's numbers summed, of which nothing had been proposed."""
    run, calls = under_way(), [source(name) for name in ("first", "second", "third")]
    active = proposed(ActiveRun(run, calls[0], 1))
    for one in calls[1:]:
        active = ActiveRun.after(active, run, one, 1)
    assert (active.source_of(ROUND), active.source_of(ROUND + 1)) == (calls[0], calls[2])
    assert active.proposed[0] == ROUND


def test_a_call_proposes_anew_where_the_one_before_came_to_nothing() -> None:
    run, second = under_way(), source("second")
    active = ActiveRun.after(proposed(ActiveRun(run, source("first"), 1), came=False), run, second, 1)
    assert (active.source_of(ROUND), active.proposed[0]) == (second, 0)


@pytest.mark.parametrize(("came", "held"), [(True, ()), (False, (2,))], ids=["proposed", "rests on sums in memory"])
def test_a_training_with_more_than_its_disk_says_goes_on_in_another_process(came: bool, held: tuple[int, ...]) -> None:
    run = under_way(*held)
    before = proposed(ActiveRun(run, source("first", trains=True), 2), came)
    with pytest.raises(RunUnderWay):
        ActiveRun.after(before, run, source("second", trains=True), 2)


def test_sums_that_wait_for_a_model_wait_for_it_in_the_next_call_too() -> None:
    """They were dropped, and the round was never applied."""
    run, waits = under_way(), [object(), object()]
    before: Any = ActiveRun(run, source("first", trains=True), 5, lacking=True)
    before.delayed.extend(waits)
    after = ActiveRun.after(before, run, source("second", trains=True), 5)
    assert after.model_is_here() == waits


def test_a_training_applies_a_late_sum_to_its_own_models() -> None:
    """That of a round that an earlier call had left behind: its models are another object, and nobody reads them."""
    run, second = under_way(), source("second", trains=True)
    first = source("first", trains=True)
    before = ActiveRun(run, first, 5, older={ROUND - 1: first})
    assert ActiveRun.after(before, run, second, 5).source_of(ROUND - 1) is second
