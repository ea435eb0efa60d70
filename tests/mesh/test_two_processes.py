"""Two processes of one member come at once: one of the two becomes its link, and nothing else ends for it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl.clocks import SYSTEM
from p2pfl.mesh import opening
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.certificates import build_context, issue
from p2pfl.mesh.opening import LinkHello, Side
from p2pfl.mesh.relay import PendingCall, RelayServer
from p2pfl.mesh.tunnel import Tunnel
from tests.mesh.sites import QUICK, Greetings, Sites, running
from tests.mesh.test_doctor_port import silent


async def up_to_the_greeting(sites: Sites, sock: socket.socket) -> tuple[Tunnel, bytes]:
    """Bob's keys in another process: the connection to ada, and the nonce that bob's greeting is made for."""
    leaf = issue(sites.identities["bob"], "bob", time.time())
    tunnel = Tunnel(sock, build_context(leaf, sites.roster, accepting=False), QUICK, time.monotonic)
    await authenticate(tunnel, Route(sites.addresses["ada"], "ada"), leaf, sites.roster, "bob")
    hello = LinkHello(os.urandom(16), os.urandom(32), opening.NO_SESSION, 0)
    await opening.send_hello(tunnel, hello)
    theirs = await opening.receive_hello(tunnel, "ada")
    nonce = opening._joint_nonce(Side("bob", "ada", hello, Greetings("bob"), lambda _: True), theirs)
    return tunnel, nonce


def say_at_once(tunnel: Tunnel, kind: int, body: bytes = b"") -> None:
    tunnel._encrypt(memoryview(struct.pack("!BI", kind, len(body)) + body))
    tunnel._tcp.send(tunnel._out.read())


@pytest.mark.claim("NET-7")
@pytest.mark.parametrize("relayed", [False, True])
def test_a_process_that_comes_while_another_is_accepted_takes_its_place(
    relayed: bool,
) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.unreached("bob", "cyd"))
        async with running(ada) as (watch,):
            if relayed:
                ours, theirs = socket.socketpair()
                route = Route(sites.addresses["cyd"], "bob", relay="cyd", accepting=True)
                ada._spawn(ada._bring_up(ours, route))
            else:
                theirs = await silent(sites.addresses["ada"])
            first, nonce = await up_to_the_greeting(sites, theirs)
            await opening.send_message(first, opening.GREETING, b"bob to ada: " + nonce)
            await opening._receive_body(first, "ada", opening.GREETING)
            await opening._receive_body(first, "ada", opening.ACCEPT)  # ada has chosen it
            second, nonce = await up_to_the_greeting(sites, await silent(sites.addresses["ada"]))
            say_at_once(second, opening.GREETING, b"bob to ada: " + nonce)  # now ada chooses this one
            say_at_once(first, opening.ACCEPT)  # and here the other would come up
            await opening._receive_body(second, "ada", opening.GREETING)
            await opening._receive_body(second, "ada", opening.ACCEPT)
            say_at_once(second, opening.ACCEPT)
            await watch.until(lambda _: bool(watch.ups("bob")))
            link = ada._links["bob"]
            while not (link.tunnel is not None and second._tcp.getsockname() == link.tunnel._tcp.getpeername()):
                await watch.until(lambda _: True)
                await asyncio.sleep(0)
            first.close()
            second.close()

    asyncio.run(scene())


def test_a_call_of_which_one_end_is_gone_when_it_would_be_carried_leaves_no_socket() -> None:
    pairs: list[tuple[socket.socket, socket.socket]] = []

    async def scene() -> None:
        server = RelayServer(QUICK, lambda peer, kind, body: True, SYSTEM)

        def made() -> tuple[socket.socket, socket.socket]:
            pairs.append(socket.socketpair())
            return pairs[0]

        async def write(data: bytes) -> None:
            if len(told) == 1:
                tunnels[0].close()  # while the other end is told
            told.append(data)

        told: list[bytes] = []
        server._socketpair = made
        sites, tunnels = Sites("ada", "bob", "cyd"), list[Tunnel]()
        for name in ("bob", "cyd"):
            leaf = issue(sites.identities[name], name, time.time())
            end, _ = socket.socketpair()
            tunnel = Tunnel(end, build_context(leaf, sites.roster, accepting=False), QUICK, time.monotonic)
            cast(Any, tunnel).write = write
            tunnels.append(tunnel)
        call = PendingCall("bob", "cyd", 1e9, arrived=dict(zip(("bob", "cyd"), tunnels, strict=True)))
        server._pending[b"ticket"] = call
        with pytest.raises(OSError, match="closed"):
            await server._join(b"ticket", call)
        assert all(tunnel.closed for tunnel in tunnels)
        assert (len(server), server.carried.calls) == (0, 0)

    asyncio.run(scene())
    assert [end.fileno() for pair in pairs for end in pair] == [-1, -1]


def test_a_fault_in_answering_a_members_call_ends_that_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob")
        ada, told = sites.mesh("ada"), list[Any]()
        async with running(ada, sites.mesh("bob")) as (watch, other):
            await watch.up("bob")
            await other.up("ada")

            async def broken(*arguments: Any) -> None:
                told.append(SimpleNamespace())
                raise ZeroDivisionError

            ada._relay_client._redeem = broken  # type: ignore[method-assign, assignment]
            task = ada._relay_client._owner.serve(ada._relay_client._answer("cyd", "bob", bytes(16)))
            await asyncio.wait([task])
            await other.mesh.send("ada", b"still here")
            assert await watch.payloads("bob", 1) == [b"still here"]
            assert told
            assert isinstance(task.exception(), ZeroDivisionError)

    asyncio.run(scene())
