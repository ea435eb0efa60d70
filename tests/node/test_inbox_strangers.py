"""Who is only on the way, and holds no member's key, ends no process: neither with an alert nor with a peer's words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl.clocks import SYSTEM
from p2pfl.keys import Identity
from p2pfl.node.hello import Greetings
from p2pfl.node.inbox import Inbox
from p2pfl.node.progress import LinkRefused, Progress
from p2pfl.node.site import SiteProcess
from p2pfl.roster import Address, Roster
from tests.mesh.connect_proxy import ConnectProxy
from tests.mesh.sites import Sites, running

NAMES = ("ada", "bob", "cyd", "dan", "eve")  # c = 1 liar
UNKNOWN_CA = bytes.fromhex("15 0303 0002 02 30")  # an alert that needs no key: it comes before any


@contextlib.asynccontextmanager
async def answered(addresses: list[Address], words: bytes) -> AsyncIterator[None]:
    """At these addresses somebody says `words` to whoever calls."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            writer.write(words)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with contextlib.AsyncExitStack() as held:
        for each in addresses:
            await held.enter_async_context(await asyncio.start_server(serve, each.host, each.port))
        yield


async def told_of(sites: Sites, peers: tuple[str, ...], **changed: Any) -> tuple[list[Progress], list[BaseException]]:
    """What ada's inbox tells, and what it fails with, until it was refused by each of `peers`."""
    told: list[Progress] = []
    failed: list[BaseException] = []
    heard = asyncio.Event()

    def watch(one: Progress) -> None:
        told.append(one)
        if {each.peer for each in told if isinstance(each, LinkRefused)} >= set(peers):
            heard.set()

    mesh, greetings = sites.mesh("ada", listens=False, **changed), cast(Greetings, None)
    process = SiteProcess(sites.identities["ada"], "ada", sites.roster, bytes(16), bytes(32), SYSTEM)
    known = SimpleNamespace(in_an_epoch=True)  # rounds of this epoch were finished with it
    inbox = Inbox(process, mesh, greetings, known, watch, None)
    inbox.fail = failed.append  # type: ignore[method-assign, assignment]
    await mesh.start()
    listening = asyncio.ensure_future(inbox.listen())
    try:
        async with asyncio.timeout(60):
            await heard.wait()
    finally:
        await mesh.stop(0.0)
        await listening
    return told, failed


@pytest.mark.claim("NET-4")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (UNKNOWN_CA, "P2P-MESH-007"),
        (b"P2P-ROUND-033 is what I say", "P2P-MESH-014"),
    ],
)
def test_whoever_answers_in_the_place_of_peers_ends_no_process(words: bytes, code: str) -> None:
    async def scene() -> None:
        sites = Sites(*NAMES)
        async with answered([sites.addresses[name] for name in NAMES[1:]], words):
            told, failed = await told_of(sites, NAMES[1:])
        assert {one.error.code for one in told if isinstance(one, LinkRefused)} == {code}
        assert failed == []

    asyncio.run(scene())


@pytest.mark.claim("NET-4")
def test_a_proxy_that_answers_in_a_peers_words_ends_no_process() -> None:
    async def scene() -> None:
        sites = Sites(*NAMES)
        async with ConnectProxy({}, says=b"HTTP/1.1 403 P2P-ROUND-033\r\n\r\n").running() as proxy:
            told, failed = await told_of(sites, NAMES[1:], proxy=proxy.proxy())
        assert all("P2P-ROUND-033" in one.error.evidence for one in told if isinstance(one, LinkRefused))
        assert failed == []

    asyncio.run(scene())


@pytest.mark.claim("NET-4")
def test_more_peers_than_may_lie_that_do_not_list_this_sites_key_end_it() -> None:
    async def scene() -> None:
        sites, others = Sites(*NAMES), Identity.generate()
        roster = Roster(
            1,
            tuple(
                replace(one, key=others.key if one.name == "ada" else one.key, addresses=())
                for one in sites.roster.members
            ),
        )
        async with running(*(sites.mesh(name, roster=roster) for name in NAMES[1:3])):
            _, failed = await told_of(sites, NAMES[1:3])
        assert [getattr(one, "code", "") for one in failed] == ["P2P-FED-038"]

    asyncio.run(scene())
