"""Links between real sockets on loopback."""

from __future__ import annotations

import asyncio
import os

from tests.mesh.sites import Sites, running


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
