"""What a node does last: what it hears meanwhile of its own home ends it, and who is asked next is no step forward."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl.errors import P2PFLError
from p2pfl.errors.membership import NoLongerListed
from p2pfl.errors.round import RolledBack
from p2pfl.node.active import ActiveRun
from p2pfl.node.effects import EffectRunner
from p2pfl.node.node import Node
from p2pfl.node.parting import while_taking
from p2pfl.node.steps import Steps
from p2pfl.sharing.events import LeftBehind


def parting(error: P2PFLError) -> list[str]:
    """A node hears of that while it tells the others something; what it told."""
    told: list[str] = []

    async def take() -> None:
        raise error

    async def tell() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        told.append("all")

    async def scene() -> None:
        await while_taking(Steps(), asyncio.create_task(take()), asyncio.create_task(tell()))

    asyncio.run(scene())
    return told


@pytest.mark.claim("HOME-5")
def test_a_home_that_is_shown_at_the_very_end_to_be_an_older_one_does_not_end_well() -> None:
    """It had taken all rounds over from one peer, and another one knew of a pass that it had forgotten."""
    with pytest.raises(RolledBack):
        parting(RolledBack(peer="ben", site="ada", evidence="a later head"))


@pytest.mark.claim("HOME-5")
@pytest.mark.parametrize("last", ["_linger", "_until_cosigned"])
def test_a_node_takes_letters_to_the_end_of_its_last_words_and_hears_of_its_own_home(last: str) -> None:
    """What tells the others something took letters in a task whose error nobody asked for."""

    async def set_back(waits: object) -> None:
        raise RolledBack(peer="ben", site="ada", evidence="a later head")

    async def tell(*given: object) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def scene() -> None:
        node: Any = Node.__new__(Node)
        run = SimpleNamespace(held={}, previous=None, context=SimpleNamespace(run=bytes(32)))
        node._tasks, node._latest = set(), SimpleNamespace(run=run)
        node._end, node._steps = lambda error: None, Steps()
        node.mesh, node.inbox = SimpleNamespace(links=dict, until_tried=tell), SimpleNamespace(next_event=set_back)
        node.catch_up = SimpleNamespace(tell_settled=tell)
        node._witness = SimpleNamespace(until_settled=tell)
        await getattr(node, last)()

    with pytest.raises(RolledBack):
        asyncio.run(scene())


def test_another_error_at_the_very_end_takes_nothing_from_the_others() -> None:
    assert parting(NoLongerListed(count=2, evidence="ben, cyd")) == ["all"]


def test_who_is_asked_for_a_model_next_puts_off_no_end_of_waiting() -> None:
    """Each was asked in turn, for ever, by a site whose --wait began anew with each."""
    node: Any = SimpleNamespace(_site=SimpleNamespace(others=("ben", "cyd")))
    active: Any = SimpleNamespace(run=SimpleNamespace(current=None, final_round=3))
    found = []
    for asked in node._site.others:
        node.catch_up = SimpleNamespace(wanted=asked, came=0, unmet={})
        found.append(Node._waits(node, active))
    assert found[0] == found[1]
    assert set(found[0].missing) == {"ben", "cyd"}


def test_work_whose_caller_is_cancelled_ends_between_two_steps_and_is_waited_for() -> None:
    """Half a step would be an item on the disk without what follows from it: the run would hang behind it."""
    done: list[str] = []

    async def scene() -> None:
        steps, within, go_on = Steps(), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await steps.between(asyncio.sleep(0))
            within.set()
            await go_on.wait()
            done.append("stored")
            await steps.between(asyncio.Event().wait())

        caller = asyncio.create_task(steps.carry_out(work()))
        await within.wait()
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
        caller.cancel()  # a second signal leaves no half step either
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(scene())
    assert done == ["stored"]


def test_work_that_waits_for_an_event_ends_at_once() -> None:
    async def scene() -> None:
        steps = Steps()
        caller = asyncio.create_task(steps.carry_out(steps.between(asyncio.Event().wait())))
        for _ in range(3):
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(scene())


@pytest.mark.parametrize("taken", [True, False])
def test_last_words_that_nobody_takes_end_with_the_time_that_is_given_to_them(taken: bool) -> None:
    """A peer that asked for a model and died kept its queue, and the node that lingered for it never ended."""

    async def scene() -> None:
        steps, never = Steps(), asyncio.Event()

        async def take() -> None:
            while taken:
                await steps.between(asyncio.sleep(0))

        async def last_words() -> None:
            await while_taking(steps, asyncio.create_task(take()), asyncio.create_task(tell()))

        async def tell() -> None:
            await never.wait()

        caller = asyncio.create_task(steps.carry_out(last_words()))
        for _ in range(5):
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(bounded())


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_round_that_is_left_behind_is_told_to_the_call_that_proposed_in_it(waited_for: bool) -> None:
    """The next call was told that its sum was left behind, which had not begun; and the first one's came to none."""
    told: list[str] = []

    async def nothing(*given: object) -> None:
        """No log is here."""

    run: Any = SimpleNamespace()
    first: Any = SimpleNamespace(models=None, left=lambda _: told.append("first"))
    second: Any = SimpleNamespace(models=None, left=lambda _: told.append("second"))
    active = ActiveRun(run, second, 1, older={} if waited_for else {3: first})
    runner: Any = EffectRunner.__new__(EffectRunner)
    runner._place = lambda *_: {"time": 0, "run": bytes(32), "epoch": 1, "round": 3, "attempt": 0}
    runner._note, runner._observer = nothing, lambda _: None
    asyncio.run(runner._left_behind(active, LeftBehind(round=3, attempt=0, lacking=(), sent=True)))
    assert told == (["second"] if waited_for else [])
    assert active.source_of(3) is (second if waited_for else first)
