"""What of the masked sums goes to the disk before READY: the first part of what READY is durable with."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict

import pytest

from p2pfl.codec import Pieces
from p2pfl.errors.home import DiskFull
from p2pfl.messages import SumChunk
from p2pfl.node.effects import AheadOfSteps
from p2pfl.sharing import chunks
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import ahead
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import SUMS_ITEMS, Phase, State
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises

HANG_S = 300.0  # of a thread: whatever it waits for, a busy machine is not the reason


@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_ahead_is_the_first_part_of_what_is_durable_with_ready(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 64)
    begun: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    compared = 0
    plain = SimulatedPeer._carry_out_one

    def noted(peer: SimulatedPeer, effect: e.Effect) -> None:
        nonlocal compared
        if isinstance(effect, e.WriteAhead):
            begun[peer.name, effect.item].append(b"".join(effect.pieces))
        for item, data in effect.items if isinstance(effect, e.Persist) else ():
            parts = begun.pop((peer.name, item), []) if item in SUMS_ITEMS else []
            if isinstance(data, Pieces):
                whole = b"".join(data)
                assert all(whole.startswith(part) for part in parts)
                assert sorted(map(len, parts)) == list(map(len, parts))
                assert parts and len(parts[-1]) > len(whole) / 2
                compared += 1
        plain(peer, effect)

    monkeypatch.setattr(SimulatedPeer, "_carry_out_one", noted)
    weather = Weather(0.0, 0, (1.0, 2.0), (0.0, 0.0))
    SimulatedFederation(4, rounds=2, length=400, bits=31, seed=seed, weather=weather).run()
    assert compared >= 8


def test_a_small_sum_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(peer: SimulatedPeer, effect: e.Effect) -> None:
        assert not isinstance(effect, e.WriteAhead)
        plain(peer, effect)

    plain = SimulatedPeer._carry_out_one
    monkeypatch.setattr(SimulatedPeer, "_carry_out_one", none)
    SimulatedFederation(3, length=1000, bits=31).run()


def test_one_part_is_written_at_a_time_and_the_step_waits_for_it() -> None:
    """What came while one was written is in the newest, and what the step writes itself is not written before it."""
    written: list[str] = []
    first, go_on = threading.Event(), threading.Event()

    def write(run_id: bytes, effect: e.WriteAhead) -> None:
        first.set()
        assert go_on.wait(HANG_S)
        written.append(effect.item)
        if effect.item == "2":
            raise DiskFull(evidence="no room", path="state/sums/0")

    async def told() -> None:
        parts = AheadOfSteps(write)

        def add(number: int) -> None:
            parts.add(b"run", e.WriteAhead(str(number), Pieces()))

        add(0)
        assert await asyncio.to_thread(first.wait, HANG_S)
        add(1)
        add(2)
        go_on.set()
        while written != ["0", "2"]:
            await asyncio.sleep(0)
        go_on.clear()
        add(3)
        add(4)
        go_on.set()
        await parts.done()

    asyncio.run(told())
    assert written[:2] == ["0", "2"] and len(written) <= 3


@pytest.mark.parametrize(
    "error", [DiskFull(evidence="no room", path="state/sums/0"), MemoryError()], ids=lambda one: type(one).__name__
)
def test_a_part_that_could_not_be_written_stops_no_step(error: Exception) -> None:
    async def told() -> None:
        def write(run_id: bytes, effect: e.WriteAhead) -> None:
            raise error

        parts = AheadOfSteps(write)
        parts.add(b"run", e.WriteAhead("state/sums/0", Pieces()))
        while parts._newest is not None:
            await asyncio.sleep(0)
        await parts.done()

    asyncio.run(told())


def test_words_that_come_behind_the_certificate_are_not_written_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """No READY rests on them any more, and Y is unmasked where it lies."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 64)
    late, written, came = "site-3", [], []
    plain, write = Round.handle, ahead.write

    def held_back(one: Round, event: e.Event) -> list[e.Effect]:
        if one.state.context.me == late and isinstance(event, e.Received):
            if isinstance(event.letter.message, SumChunk) and one.state.certificate is None:
                came.append(event)
                return []
            effects = plain(one, event)
            while came and one.phase is Phase.UNMASK:
                effects += plain(one, came.pop(0))
            return effects
        return plain(one, event)

    def noted(state: State, whole: tuple[e.Vector, ...]) -> list[e.Effect]:
        effects = write(state, whole)
        written.append((state.context.me == late and state.certificate is not None, bool(effects)))
        return effects

    monkeypatch.setattr(Round, "handle", held_back)
    monkeypatch.setattr(ahead, "write", noted)
    federation = SimulatedFederation(4, length=400, bits=31)
    federation.run()
    promises.check(federation)
    assert not came and (True, False) in written and (False, True) in written and (True, True) not in written
