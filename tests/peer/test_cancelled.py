"""A call that its caller leaves in mid-round: the round stays that call's, and the next one is asked by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pfl import Peer
from p2pfl.errors.round import RunUnderWay
from p2pfl.node.progress import PhaseEntered, Progress
from p2pfl.peer.blocking import wait_in
from p2pfl.sharing.state import Phase
from tests.federation.sample import TASK
from tests.node.runs.homes import Four
from tests.peer.sites import NAMES, Sites

HANG_S = 60.0


@asynccontextmanager
async def joined(folder: Path) -> AsyncIterator[dict[str, Peer]]:
    """All three sites in this loop."""
    sites = Sites(folder, TASK)
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


def test_a_training_called_again_waits_for_the_pass_of_the_call_that_was_left(tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as peers:
            trainer = Waits()
            others = begun(*(peers[name].train_with(Four(), task="four", rounds=1) for name in ("ben", "cyd")))
            (call,) = begun(peers["ada"].train_with(trainer, task="four", rounds=1))
            await asyncio.to_thread(trainer.within.wait, HANG_S)
            await left(call)
            before = peers["ada"].node._latest
            (again,) = begun(peers["ada"].train_with(trainer, task="four", rounds=1))
            while peers["ada"].node._latest is before:
                await asyncio.sleep(0)
            trainer.go_on.set()
            models = {(await one).records[-1]["model_after"] for one in (again, *others)}
            assert (trainer.most, len(models)) == (1, 1)

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
