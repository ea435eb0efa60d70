"""Links between real sockets on loopback."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import replace

import pytest

from p2pfl.mesh.throughput import FILL_BYTES, MOST_SHOWN, Throughput
from tests.mesh.sites import OVERALL_S, Sites, running


def test_every_pair_has_a_link_and_payloads_arrive_in_order() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(*(sites.mesh(name) for name in ("ada", "bob", "cyd"))) as watches:
            for watch in watches:
                await watch.up(*watch.mesh.links())
            sent = [os.urandom(size) for size in (0, 1, 255, 256, 70_000, 1 << 20, (5 << 20) + 17)]
            for payload in sent:
                await watches[0].mesh.send("bob", payload)
            assert await watches[1].payloads("ada", len(sent)) == sent
            print(watches[0].mesh.links())

    asyncio.run(scene())


def test_links_are_asked_for_their_speed_where_somebody_waits_for_it() -> None:
    """Who does not answer is waited for no longer than that, and its speed is not known."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(*(sites.mesh(name) for name in ("ada", "bob"))) as (ada, bob):
            await asyncio.gather(ada.up("bob"), bob.up("ada"))
            assert await ada.mesh.speeds() == [None, None]
            (to_bob, to_cyd) = await ada.mesh.speeds(wait_s=OVERALL_S)
            assert to_bob is not None and to_bob <= MOST_SHOWN
            assert to_cyd is None
            assert await bob.mesh.speeds() == [None, None], "each end asks for itself"
            bob.mesh._links["ada"]._send_control = lambda *of: True  # type: ignore[method-assign]
            link = ada.mesh._links["bob"]
            link.record.throughput = Throughput()
            link.measured.clear()
            status = link.status()
            link.status = lambda: status  # type: ignore[method-assign]
            assert await ada.mesh.speeds(wait_s=0.01) == [None, None], "it is silent"
            seen = itertools.count()
            link.status = lambda: replace(status, last_seen=float(next(seen)))  # type: ignore[method-assign]
            assert await ada.mesh.speeds(wait_s=0.01) == [FILL_BYTES / 0.01, None], (
                "it speaks, and has not answered yet"
            )

    asyncio.run(scene())


def test_a_mesh_says_when_every_peer_was_tried() -> None:
    """One end answers; of the other one there is an error: whoever waits for links that may come is woken by each."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(*(sites.mesh(name) for name in ("ada", "bob"))) as (ada, _):
            await ada.mesh.until_tried()
            links = ada.mesh.links()
            assert (links["bob"].state, links["cyd"].state) == ("up", "down") or links["bob"].last_error is not None
            assert links["cyd"].last_error is not None
            await ada.up("bob")
            await ada.mesh.until_tried()

    asyncio.run(scene())


def test_a_stop_that_is_cut_short_closes_everything_and_may_be_repeated() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob")
        ada, waits = sites.mesh("ada"), asyncio.Event()

        async def finish(flush_s: float) -> None:
            waits.set()
            await asyncio.Event().wait()

        async with running(ada, sites.mesh("bob")) as (one, two):
            await one.up("bob")
            ada._links["bob"].finish = finish  # type: ignore[method-assign]
            stopping = asyncio.ensure_future(ada.stop())
            await waits.wait()
            stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
            await ada.stop()
            await one._task  # the events have ended
            assert ada.links()["bob"].state == "down"
            await two.until(lambda _: two.mesh.links()["ada"].state == "down")

    asyncio.run(scene())


def test_a_listener_may_be_closed_twice() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob")
        ada = sites.mesh("ada")
        async with running(ada):
            assert ada._listener is not None
            await ada._listener.close()
            await ada._listener.close()

    asyncio.run(scene())
