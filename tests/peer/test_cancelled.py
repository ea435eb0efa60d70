"""A call that its caller leaves in mid-round: the round stays that call's, and the next one is asked by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl import Peer
from p2pfl.codec import read_facts
from p2pfl.errors.round import RunUnderWay
from p2pfl.errors.training import PassWouldOverspend
from p2pfl.node.progress import PhaseEntered, Progress
from p2pfl.node.runs.training import TrainingRun
from p2pfl.peer import averages, training
from p2pfl.peer.blocking import wait_in
from p2pfl.peer.epoch import training_run
from p2pfl.sharing.state import Phase
from p2pfl.training.passes import PassStopped
from tests.federation.sample import TASK
from tests.node.runs.homes import Four
from tests.peer.sites import NAMES, Sites

HANG_S = 60.0


@asynccontextmanager
async def joined(folder: Path, *settings: str) -> AsyncIterator[dict[str, Peer]]:
    """All three sites in this loop."""
    sites = Sites(folder, TASK, *settings)
    async with AsyncExitStack() as stack, asyncio.timeout(HANG_S):
        peers = {}
        for name in NAMES:
            options = {**sites.options(name), "linger_s": 1.0}
            peers[name] = await stack.enter_async_context(Peer.join(folder / "peers.yaml", **options))
        yield peers


def proposed(peer: Peer) -> asyncio.Event:
    """Set when the site has proposed in a round."""
    found = asyncio.Event()

    def observe(progress: Progress) -> None:
        if isinstance(progress, PhaseEntered) and progress.phase == Phase.PROPOSE.value:
            found.set()

    peer.watchers.append(observe)
    return found


async def left(call: asyncio.Task[Any]) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def begun(*calls: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(call) for call in calls]


def test_a_sum_that_its_caller_left_is_not_of_the_numbers_of_the_next_one(tmp_path: Path) -> None:
    """The others had the second question's numbers as the first one's answer, and nobody noticed."""

    async def scene() -> None:
        async with joined(tmp_path) as peers:
            there = proposed(peers["ada"])
            (first,) = begun(peers["ada"].sum([1, 2, 3], name="first"))
            (ben,) = begun(peers["ben"].sum([10, 20, 30], name="first"))
            await there.wait()
            await left(first)
            (second,) = begun(peers["ada"].sum([1000, 2000, 3000], name="second"))
            found = [await peers["cyd"].sum([100, 200, 300], name="first"), await ben]
            assert [one.total.tolist() for one in found] == [[111, 222, 333]] * 2
            others = begun(*(peers[name].sum([1, 1, 1], name="second") for name in ("ben", "cyd")))
            assert [(await one).total.tolist() for one in (second, *others)] == [[1002, 2002, 3002]] * 3

    asyncio.run(scene())


def test_a_call_cancelled_within_a_write_goes_on_when_it_is_made_again(tmp_path: Path) -> None:
    """What followed the write was lost: the same call hung, and the others with it."""

    async def scene() -> None:
        async with joined(tmp_path) as peers:
            store, loop = peers["ada"].node._store, asyncio.get_running_loop()
            real, within, go_on = store.replace, asyncio.Event(), threading.Event()

            def slow(*given: Any, **named: Any) -> None:
                loop.call_soon_threadsafe(within.set)
                assert go_on.wait(HANG_S)
                real(*given, **named)

            store.replace = slow  # type: ignore[method-assign]
            (call,) = begun(peers["ada"].sum([1, 2, 3], name="first"))
            others = begun(*(peers[name].sum([10, 20, 30], name="first") for name in ("ben", "cyd")))
            await within.wait()
            call.cancel()
            await asyncio.sleep(0)
            store.replace = real  # type: ignore[method-assign]
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await call
            (again,) = begun(peers["ada"].sum([1, 2, 3], name="first"))
            assert [(await one).total.tolist() for one in (again, *others)] == [[21, 42, 63]] * 3

    asyncio.run(scene())


class Waits(Four):
    """A trainer whose first pass ends when it is told to, and which counts the passes under way."""

    def __init__(self) -> None:
        super().__init__()
        self.within, self.go_on, self.under_way, self.most = threading.Event(), threading.Event(), 0, 0

    def train(self, *given: Any, **named: Any) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.within.set()
        assert self.go_on.wait(HANG_S)
        self.under_way -= 1
        return super().train(*given, **named)

    def stop(self) -> None:
        """It ends when it is told to."""


def test_a_training_called_again_waits_for_the_pass_of_the_call_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads of the home as it begins is what that pass leaves there."""
    made, real = list[int](), training.TrainingRun

    def noted(*given: Any) -> TrainingRun:
        if given[4] is trainer:
            made.append(trainer.under_way)
        return real(*given)

    trainer = Waits()
    monkeypatch.setattr(training, "TrainingRun", noted)

    async def scene() -> None:
        async with joined(tmp_path) as peers:
            node, there = peers["ada"].node, asyncio.Event()
            until_free = node.until_free

            async def told(run_id: bytes) -> None:
                there.set()
                await until_free(run_id)

            others = begun(*(peers[name].train_with(Four(), task="four", rounds=1) for name in ("ben", "cyd")))
            (call,) = begun(peers["ada"].train_with(trainer, task="four", rounds=1))
            await asyncio.to_thread(trainer.within.wait, HANG_S)
            await left(call)
            node.until_free = told  # type: ignore[method-assign]
            (again,) = begun(peers["ada"].train_with(trainer, task="four", rounds=1))
            await there.wait()
            trainer.go_on.set()
            models = {(await one).records[-1]["model_after"] for one in (again, *others)}
            assert (made, trainer.most, len(models)) == ([0, 0], 1, 1)

    asyncio.run(scene())


class Stoppable(Four):
    """A trainer that ends its first pass, or the naming of its inputs, where it is stopped."""

    def __init__(self, within: str) -> None:
        super().__init__()
        self.stopping, self.within, self.names_slowly = False, threading.Event(), within == "its inputs"
        self.go_on = threading.Event()

    def inputs(self, *given: Any, **named: Any) -> bytes:
        if self.names_slowly:
            self.within.set()
            assert self.go_on.wait(HANG_S)
        return super().inputs(*given, **named)

    def train(self, *given: Any, **named: Any) -> Any:
        self.within.set()
        while not self.stopping:
            self.go_on.wait(0.01)
        raise PassStopped


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize("within", ["its pass", "its inputs"])
def test_a_training_stopped_in_mid_pass_goes_on_when_called_again_and_costs_once(tmp_path: Path, within: str) -> None:
    """Each call behind it was told that the pass was stopped, for ever; called soon enough, the round cost two."""

    async def scene() -> None:
        async with joined(tmp_path) as peers:
            ada, stopped = peers["ada"], Stoppable(within)
            others = begun(*(peers[name].train_with(Four(), task="four", rounds=1) for name in ("ben", "cyd")))
            (call,) = begun(ada.train_with(stopped, task="four", rounds=1))
            await asyncio.to_thread(stopped.within.wait, HANG_S)
            await left(call)
            (again,) = begun(ada.train_with(Four(), task="four", rounds=1))
            await asyncio.sleep(0)
            stopped.go_on.set()
            models = {(await one).records[-1]["model_after"] for one in (again, *others)}
            assert len(models) == 1
            entries = [read_facts(one.record) for one in ada.logs.site.records()]
            assert [one["round"] for one in entries if one["kind"] == "charge"] == [1]

    asyncio.run(scene())


def test_a_pass_that_was_stopped_is_told_to_nobody_who_leaves_or_asks_something_else(tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as peers:
            ada, stopped = peers["ada"], Stoppable("its pass")
            calls = begun(
                ada.train_with(stopped, task="four", rounds=1),
                *(peers[name].train_with(Four(), task="four", rounds=1) for name in ("ben", "cyd")),
            )
            await asyncio.to_thread(stopped.within.wait, HANG_S)
            for call in calls:
                await left(call)
            await ada.node.until_free(training_run(ada.federation))
            with pytest.raises(RunUnderWay):  # the round is not final: it goes on with the training
                await ada.sum([1, 2, 3])

    asyncio.run(scene())


def test_the_error_of_a_call_that_was_left_is_raised_by_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum said, at each try, that the budget did not allow the average that somebody had given up before."""
    within, go_on, real = threading.Event(), threading.Event(), averages.charge_release

    def slow(*given: Any) -> str:
        within.set()
        assert go_on.wait(HANG_S)
        return real(*given)

    monkeypatch.setattr(averages, "charge_release", slow)

    async def scene() -> None:
        async with joined(tmp_path, "privacy.max_epsilon=0.5", "privacy.noise_multiplier=50") as peers:
            (call,) = begun(peers["ada"].average(np.ones(4), clip=1.0, noise=0.2))
            others = begun(*(peers[name].sum([10, 20, 30], name="next") for name in ("ben", "cyd")))
            await asyncio.to_thread(within.wait, HANG_S)
            await left(call)
            (again,) = begun(peers["ada"].sum([1, 2, 3], name="next"))
            await asyncio.sleep(0)
            go_on.set()
            assert [(await one).total.tolist() for one in (again, *others)] == [[21, 42, 63]] * 3

    asyncio.run(scene())


def test_the_error_of_a_proposal_is_raised_by_its_own_call(tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path, "privacy.max_epsilon=0.5", "privacy.noise_multiplier=50") as peers:
            others = begun(*(peers[name].sum([10, 20, 30], name="next") for name in ("ben", "cyd")))
            with pytest.raises(PassWouldOverspend):
                await peers["ada"].average(np.ones(4), clip=1.0, noise=0.2)
            for other in others:
                await left(other)

    asyncio.run(scene())


def test_a_training_left_behind_its_proposal_is_taken_up_by_another_process_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as peers:
            there = proposed(peers["ada"])
            calls = begun(*(peers[name].train_with(Four(), task="four", rounds=1) for name in ("ada", "ben")))
            await there.wait()
            for call in calls:
                await left(call)
            with pytest.raises(RunUnderWay):
                await peers["ada"].train_with(Four(), task="four", rounds=1)

    asyncio.run(scene())


def test_a_blocking_call_that_is_interrupted_returns_when_its_step_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, within, ended = asyncio.new_event_loop(), threading.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    begin, calls = asyncio.run_coroutine_threadsafe, list[Any]()

    async def work() -> None:
        within.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            ended.set()

    def struck(timeout: float | None = None) -> None:
        assert within.wait(HANG_S)
        raise KeyboardInterrupt

    def first_is_struck(given: Any, into: asyncio.AbstractEventLoop) -> Any:
        calls.append(begin(given, into))
        if len(calls) == 1:
            calls[0].result = struck
        return calls[-1]

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", first_is_struck)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_in(loop, work())
        assert ended.is_set()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
