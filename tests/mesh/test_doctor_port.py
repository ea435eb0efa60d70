"""Unknown callers cannot hold the port, and members that break the protocol lose their link by name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from p2pfl.mesh import LinkClosed, opening
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.certificates import Leaf, build_context, issue
from p2pfl.mesh.framing import DATA, FIRST, LAST, PING, Header
from p2pfl.mesh.listener import Listener, holder_of
from p2pfl.mesh.opening import LinkHello, OpenedLink, Side
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.mesh.zmtp import GREETING, READY
from p2pfl.roster import Address
from tests.mesh.sites import OVERALL_S, QUICK, Greetings, Sites, Watch, respelt, running
from tests.mesh.test_zmtp import part

HASTY = replace(QUICK, handshake_s=0.2)


async def silent(address: Address, say: bytes = b"") -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (address.host, address.port))
    await loop.sock_sendall(sock, say)
    return sock


async def closed(sock: socket.socket) -> None:
    """Wait until the far end closes."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(sock, 4096):
            pass
    sock.close()


def test_a_caller_that_never_finishes_its_handshake_is_dropped_and_named() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada", limits=HASTY)) as (ada,):
            await closed(await silent(sites.addresses["ada"], b"\x16\x03\x01"))
            said = await ada.refusal("P2P-MESH-017")
            assert "a caller from 127.0.0.1" in said.error.happened

    asyncio.run(scene())


def test_a_caller_that_says_nothing_is_dropped_without_a_word() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada", limits=HASTY)) as (ada,):
            await closed(await silent(sites.addresses["ada"]))
            assert ada.told == []

    asyncio.run(scene())


def test_a_caller_that_says_too_much_before_it_is_known_is_dropped() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        stingy = replace(QUICK, unauthenticated_bytes=600)
        async with running(sites.mesh("ada", limits=stingy), sites.mesh("bob", roster=sites.roster)) as (ada, _):
            await ada.refusal("P2P-MESH-017")

    asyncio.run(scene())


def test_the_oldest_unknown_caller_gives_way_and_members_still_get_in() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=replace(QUICK, unauthenticated=3))
        async with running(ada):
            crowd = [await silent(sites.addresses["ada"]) for _ in range(8)]
            for each in crowd[:5]:
                await closed(each)
            async with running(sites.mesh("bob")) as (bob,):
                await bob.up("ada")
            for each in crowd[5:]:
                each.close()

    asyncio.run(scene())


@pytest.mark.claim("NET-10")
def test_without_descriptors_for_a_caller_the_loop_goes_on_with_everything_else() -> None:
    tried, third = list[int](), asyncio.Event()

    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            tried.append(1)
            if len(tried) == 3:
                third.set()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def serve(sock: socket.socket, address: Address) -> None:
        raise AssertionError

    async def scene() -> None:
        sock = Exhausted()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        listener = Listener(sock, serve, QUICK, time.monotonic)
        caller = await silent(Address("127.0.0.1", sock.getsockname()[1]))
        while not tried:
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(tried) < 100
        async with asyncio.timeout(OVERALL_S):
            await third.wait()  # it is tried again
        await listener.close()
        caller.close()

    asyncio.run(scene())


@contextlib.asynccontextmanager
async def rogue(sites: Sites, *, greets: bool = True) -> AsyncIterator[tuple[Tunnel, OpenedLink]]:
    """Bob's keys in other hands: a tunnel to ada, opened as the rules say, with ZMTP's greetings said and heard."""
    address = sites.addresses["ada"]
    leaf = issue(sites.identities["bob"], "bob", time.time())
    context = build_context(leaf, sites.roster, accepting=False)
    tunnel = Tunnel(await silent(address), context, QUICK, time.monotonic)
    await authenticate(tunnel, Route(address, "ada"), leaf, sites.roster, "bob")
    hello = LinkHello(os.urandom(16), os.urandom(32), opening.NO_SESSION, 0)
    opened = await opening.open_link(tunnel, Side("bob", "ada", hello, Greetings("bob"), lambda _: True))
    try:
        if greets:
            await tunnel.write(GREETING + READY)
            await tunnel.read_exactly(len(GREETING + READY))
        yield tunnel, opened
    finally:
        tunnel.close()


@contextlib.asynccontextmanager
async def only_tls(sites: Sites, leaf: Leaf | None = None) -> AsyncIterator[Tunnel]:
    """Bob's keys in other hands: TLS to ada is done, and nothing is said inside it yet."""
    address = sites.addresses["ada"]
    leaf = leaf or issue(sites.identities["bob"], "bob", time.time())
    context = build_context(leaf, sites.roster, accepting=False)
    tunnel = Tunnel(await silent(address), context, QUICK, time.monotonic)
    try:
        await authenticate(tunnel, Route(address, "ada"), leaf, sites.roster, "bob")
        yield tunnel
    finally:
        tunnel.close()


def wire(header: Header, body: bytes | None = None) -> bytes:
    """A message as a tunnel writes it."""
    head = part(30)[:2] + header.encode()
    if body is None:
        return head
    size = struct.pack("!BQ", 2, len(body)) if len(body) > 255 else bytes([0, len(body)])
    return b"\x01" + head[1:] + size + body


async def until_down(ada: Watch) -> str:
    await ada.until(lambda seen: isinstance(ada.told[-1:] and ada.told[-1], LinkClosed))
    down = ada.told[-1]
    assert isinstance(down, LinkClosed)
    return down.reason


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n" + bytes(64),
        GREETING.replace(b"NULL\0", b"PLAIN"),
        GREETING + READY + part(8, more=True) * 50_000,
        GREETING + READY + part(30, more=True) + b"\x02" + (1 << 40).to_bytes(8, "big"),
        GREETING + READY + b"\x04\x07\x04PING" + bytes(2),
    ],
    ids=["http", "plain", "endless-parts", "oversize", "command"],
)
def test_a_member_that_breaks_zmtp_loses_its_link_and_is_named(noise: bytes) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,), rogue(sites, greets=False) as (tunnel, _):
            with contextlib.suppress(OSError):
                await tunnel.write(noise)
            assert await until_down(watch) == "malformed ZMTP"
            error = ada.links()["bob"].last_error
            assert error is not None
            assert (error.code, error.fields["peer"]) == ("P2P-MESH-019", "bob")

    asyncio.run(scene())


@pytest.mark.parametrize(
    "frame",
    [
        Header(DATA, FIRST | LAST, bytes(8), 0, 0, 0),
        Header(9, 0, bytes(8), 0, 0, 0),
        Header(DATA, FIRST | LAST, bytes(8), 5, 0, 0),
        Header(DATA, FIRST | LAST, bytes(8), 0, 77, 0),
    ],
    ids=["total", "kind", "gap", "acknowledged"],
)
def test_a_member_that_breaks_framing_loses_its_link_and_is_named(frame: Header) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,), rogue(sites) as (tunnel, opened):
            await tunnel.write(wire(replace(frame, tag=opened.tag), b"x"))
            assert await until_down(watch) == "malformed frame"
            assert watch.taken("bob") == []

    asyncio.run(scene())


def test_frames_of_an_earlier_link_are_dropped_and_never_after_a_frame_of_this_one() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,), rogue(sites) as (tunnel, opened):
            stale = wire(Header(DATA, FIRST | LAST, bytes(8), 0, 0, 5), b"stale")
            fresh = wire(Header(DATA, FIRST | LAST, opened.tag, 0, 0, 5), b"fresh")
            await tunnel.write(stale * 3 + fresh)
            assert await watch.payloads("bob", 1) == [b"fresh"]
            await tunnel.write(stale)
            assert await until_down(watch) == "malformed frame"

    asyncio.run(scene())


def test_a_member_that_broke_the_rules_may_come_back_and_behave() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,):
            for noise in (GREETING + READY + part(30), b"noise" * 20):
                async with rogue(sites, greets=False) as (tunnel, _):
                    await tunnel.write(noise)
                    await until_down(watch)
            async with running(sites.mesh("bob")) as (bob,):
                await bob.mesh.send("ada", b"sorry")
                assert await watch.payloads("bob", 1) == [b"sorry"]

    asyncio.run(scene())


def test_a_member_that_only_pings_is_answered() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada), rogue(sites) as (tunnel, opened):
            await tunnel.write(wire(Header(PING, 0, opened.tag, 1234, 0, 0)))
            numbers = []
            while 1234 not in numbers:
                size = (await tunnel.read_exactly(2))[1]
                numbers.append(Header.decode(await tunnel.read_exactly(size)).number)

    asyncio.run(scene())


@pytest.mark.parametrize("message", [b"\x07" + bytes(4), b"\x01" + bytes(4), b"\x02\xff\xff\xff\xff"])
def test_a_member_whose_opening_is_malformed_is_refused_and_told(message: bytes) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,):
            address = sites.addresses["ada"]
            leaf = issue(sites.identities["bob"], "bob", time.time())
            context = build_context(leaf, sites.roster, accepting=False)
            tunnel = Tunnel(await silent(address), context, QUICK, time.monotonic)
            await authenticate(tunnel, Route(address, "ada"), leaf, sites.roster, "bob")
            await tunnel.write(message)
            said = await watch.refusal("P2P-MESH-019")
            assert said.peer == "bob"
            tunnel.close()

    asyncio.run(scene())


def test_a_refusal_nested_without_end_is_a_refusal_and_no_fall() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,), only_tls(sites) as tunnel:
            await tunnel.write(b"\x04" + (4096).to_bytes(4, "big") + b"[" * 4096)
            said = await watch.refusal("P2P-MESH-020")
            assert "it did not say why" in said.error.happened

    asyncio.run(scene())


def test_a_members_certificate_that_cannot_be_read_is_refused_and_ends_nothing_else() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        leaf = issue(sites.identities["bob"], "bob", time.time())
        unread = respelt(leaf, sites.identities["bob"], b"\x13\x03b@b")  # OpenSSL takes it; a stricter reader does not
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,), only_tls(sites, unread):
            said = await watch.refusal("P2P-MESH-060")
            assert "a caller from 127.0.0.1" in said.error.happened
            async with running(sites.mesh("bob")) as (bob,):
                await bob.up("ada")

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("version", "more", "older"),
    [
        (2, b"", "this site"),
        (2, bytes(300), "this site"),
        (700, b"\x01", "this site"),
        (0, b"", "bob"),
    ],
)
def test_another_version_of_the_opening_is_named_and_who_is_older(version: int, more: bytes, older: str) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,):
            address = sites.addresses["ada"]
            leaf = issue(sites.identities["bob"], "bob", time.time())
            context = build_context(leaf, sites.roster, accepting=False)
            tunnel = Tunnel(await silent(address), context, QUICK, time.monotonic)
            await authenticate(tunnel, Route(address, "ada"), leaf, sites.roster, "bob")
            hello = LinkHello(os.urandom(16), os.urandom(32), opening.NO_SESSION, 0).encode()[2:]
            body = version.to_bytes(2, "big") + hello + more
            await tunnel.write(b"\x01" + len(body).to_bytes(4, "big") + body)
            said = await watch.refusal("P2P-MESH-023")
            assert f"bob opens links in version {version}, this site in version 1: {older} must" in said.error.happened
            tunnel.close()

    asyncio.run(scene())


def test_the_holder_of_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert holder_of(server.getsockname()[1]).startswith(f"process {os.getpid()} (")
