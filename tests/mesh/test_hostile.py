"""Members and strangers that mean harm: dropped, named where they have a name, at a bounded price; the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time
import tracemalloc
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.errors.mesh import RefusedThere
from p2pfl.mesh import Delivered, Limits, LinkClosed, Mesh, Refused, opening
from p2pfl.mesh.certificates import build_context, issue
from p2pfl.mesh.framing import ACK, DATA, FIRST, LAST, PING, Header
from p2pfl.mesh.listener import Listener, bind
from p2pfl.mesh.opening import LinkHello
from p2pfl.mesh.refusal_log import ALL_STRANGERS, PER_CALLER, REMEMBERED, RefusalLog
from p2pfl.mesh.token_bucket import caller_of
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address
from tests.mesh.sites import OVERALL_S, QUICK, Sites, Watch, running, sends_at_once
from tests.mesh.tcp_proxy import Proxy
from tests.mesh.test_doctor_port import closed, only_tls, rogue, silent, until_down, wire

ENDLESS = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"  # a TLS record whose ClientHello never ends


async def from_host(host: str, address: Address) -> socket.socket:
    """A connection that comes from another address of this machine."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((host, 0))
    await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
    return sock


# ── strangers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_handshake_that_trickles_is_dropped_in_time() -> None:
    """However busy it looks."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada", limits=replace(QUICK, handshake_s=0.3))) as (ada,):
            sock = await silent(sites.addresses["ada"], ENDLESS)
            end = asyncio.ensure_future(closed(sock))
            while not end.done():
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_sendall(sock, b"\0")
                await asyncio.wait([end], timeout=0.02)
            await ada.refusal("P2P-MESH-017")

    asyncio.run(scene())


@pytest.mark.claim("NET-7")
def test_a_host_that_calls_without_end_is_closed_unread() -> None:
    """A member of another host connects meanwhile."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, caller_burst=8, callers_per_s=0.0, handshake_s=OVERALL_S)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=limits)
        async with running(ada) as (watch,):
            crowd = [await from_host("127.0.0.2", sites.addresses["ada"]) for _ in range(40)]
            for each in crowd[8:]:
                await closed(each)  # without a word, and without a handshake
            async with running(sites.mesh("bob")) as (bob,):
                await bob.up("ada")
            for each in crowd[:8]:
                each.close()
            assert not [event for event in watch.told if getattr(event, "error", None) is not None]

    asyncio.run(scene())


@pytest.mark.claim("NET-7")
def test_what_strangers_send_is_not_kept() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada", limits=replace(QUICK, unauthenticated_bytes=1 << 15))):

            async def pour() -> None:
                sock = await silent(sites.addresses["ada"])
                with contextlib.suppress(OSError):
                    for _ in range(64):
                        await asyncio.get_running_loop().sock_sendall(sock, ENDLESS + bytes(16_375))
                await closed(sock)

            await pour()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(100):
                await pour()
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert grown < 1 << 20, f"{grown} bytes are kept of 100 callers that sent a mebibyte each"

    asyncio.run(scene())


@pytest.mark.claim("NET-9")
def test_a_stranger_that_says_something_else_every_time_fills_no_log() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada", roster=sites.unreached("bob", "cyd"))) as (ada,):
            for turn in range(60):
                await closed(await silent(sites.addresses["ada"], b"noise %d" % turn))
            assert len(ada.told) == PER_CALLER[0]
            async with only_tls(sites) as bob:  # a member is told of by its own name, whatever strangers have said
                with contextlib.suppress(OSError):
                    await bob.write(bytes(64))
                    await bob.read_exactly(1 << 20)
                assert (await ada.refusal("P2P-MESH-019")).peer == "bob"

    asyncio.run(scene())


def test_an_opening_that_trickles_ends_however_busy_it_looks() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, opening_s=0.5, opening_bytes_per_s=1e6)
        site = sites.mesh("ada", roster=sites.unreached("bob"), limits=limits)
        async with running(site) as (ada,), only_tls(sites) as tunnel:
            tunnel._encrypt(memoryview(bytes(10_000)))
            for byte in tunnel._out.read():  # no record is whole before ten seconds are over
                if ada.told:
                    break
                with contextlib.suppress(OSError):
                    tunnel._tcp.send(bytes([byte]))
                await asyncio.sleep(0.001)
            assert (await ada.refusal("P2P-MESH-017")).peer == "bob"

    asyncio.run(scene())


@pytest.mark.parametrize(("count", "seconds"), [(5, 31.389), (1 << 20, 1079.96)])
def test_an_opening_has_time_for_its_bytes_over_the_slowest_link(count: int, seconds: float) -> None:
    async def scene() -> None:
        sites, (end, far) = Sites("ada", "bob"), socket.socketpair()
        leaf = issue(sites.identities["ada"], "ada", time.time())
        tunnel = Tunnel(end, build_context(leaf, sites.roster, accepting=False), Limits(), time.monotonic)
        assert tunnel._allowed_s(count) is None, "the handshake has a time of its own"
        tunnel.mark_authenticated(0.0)
        assert tunnel._allowed_s(count) == pytest.approx(seconds)
        tunnel.close()
        far.close()

    asyncio.run(scene())


def test_strangers_take_no_more_room_in_the_log_however_many_addresses_they_have() -> None:
    clock = [0.0]
    news = RefusalLog(lambda: clock[0])
    for k in range(20_000):
        clock[0] += 0.001
        news.is_news(None, f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}", "a reason")
    assert len(news._hosts) <= ALL_STRANGERS[0] + 3
    for k in range(2_000):
        clock[0] += 10.0  # as slowly as strangers are told of
        news.is_news(None, f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}", "a reason")
    assert len(news._hosts) <= REMEMBERED


def test_an_ipv6_network_is_one_caller() -> None:
    news = RefusalLog(lambda: 0.0)
    assert sum(news.is_news(None, f"2001:db8::{k:x}", f"reason {k}") for k in range(60)) == PER_CALLER[0]
    assert news.is_news(None, "2001:db8:0:1::1", "a reason"), "the network beside it"
    assert caller_of("fe80::1%eth0") == caller_of("fe80::2")
    assert caller_of("::ffff:10.1.2.3") == caller_of("10.1.2.3") == "10.1.2.3"
    assert caller_of("::ffff:10.1.2.4") != caller_of("10.1.2.3")


def test_connections_of_an_ipv6_network_are_counted_together() -> None:
    async def scene() -> None:
        async def serve(sock: socket.socket, address: Address) -> None:
            raise AssertionError

        listener = Listener(bind(Address("127.0.0.1", 0)), serve, replace(QUICK, callers_per_s=0.0), lambda: 0.0)
        served = [listener._may_connect(f"2001:db8::{k:x}") for k in range(2 * QUICK.caller_burst)]
        assert sum(served) == QUICK.caller_burst
        assert listener._may_connect("2001:db8:0:1::1")
        await listener.close()

    asyncio.run(scene())


@pytest.mark.claim("NET-9")
def test_a_members_reasons_and_those_of_all_strangers_are_bounded() -> None:
    clock = [0.0]
    news = RefusalLog(lambda: clock[0])
    assert sum(news.is_news("bob", "", f"reason {k}") for k in range(1000)) == PER_CALLER[0]
    assert news.is_news("cyd", "", "a reason")
    assert not news.is_news("cyd", "", "a reason")
    assert sum(news.is_news(None, f"10.0.{k % 250}.{k // 250}", f"{k}") for k in range(5000)) == ALL_STRANGERS[0]
    clock[0] = 3600.0
    assert news.is_news("bob", "", "another reason")
    news.forget("cyd")
    assert news.is_news("cyd", "", "a reason")


# ── members ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("NET-7")
@pytest.mark.parametrize("kind", [PING, ACK], ids=["pings", "acknowledgements"])
def test_a_member_that_floods_its_link_is_cut_and_named(kind: int) -> None:
    """It floods it with nothing; the others go on."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=replace(QUICK, empty_burst=50))
        async with running(ada, sites.mesh("cyd")) as (watch, cyd):
            await cyd.up("ada")
            async with rogue(sites) as (tunnel, opened):
                with contextlib.suppress(OSError):
                    await tunnel.write(wire(Header(kind, 0, opened.tag, 0, 0, 0)) * 200)
                await watch.until(lambda seen: any(isinstance(one, LinkClosed) for one in seen))
                (down,) = [one for one in watch.seen if isinstance(one, LinkClosed)]
                assert (down.peer, down.reason) == ("bob", "flooded")
                assert down.error is not None
                assert (down.error.code, down.error.fields["peer"]) == ("P2P-MESH-061", "bob")
            await cyd.mesh.send("ada", b"still here")
            assert await watch.payloads("cyd", 1) == [b"still here"]

    asyncio.run(scene())


@pytest.mark.claim("NET-8")
@pytest.mark.parametrize("linked", [True, False], ids=["on its link", "in its opening"])
def test_a_member_whose_records_hold_next_to_nothing_is_cut_and_named(linked: bool) -> None:
    """Each record costs the loop the same, whatever it holds, and so does each update of the key: it holds nothing."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,):
            if linked:
                async with rogue(sites) as (tunnel, opened):
                    frame = wire(Header(DATA, FIRST, opened.tag, 0, 0, 1 << 20), bytes(1 << 17))
                    await in_crumbs(tunnel, frame)
                    assert await until_down(watch) == "TLS records that hold nothing"
                    error = ada.links()["bob"].last_error
            else:
                async with only_tls(sites) as tunnel:
                    await opening.send_hello(tunnel, LinkHello(bytes(15) + b"b", bytes(32), opening.NO_SESSION, 0))
                    await in_crumbs(tunnel, b"\x02" + (1 << 20).to_bytes(4, "big") + bytes(1 << 17))
                    error = (await watch.refusal("P2P-MESH-019")).error
            assert error is not None
            assert (error.code, error.fields["peer"]) == ("P2P-MESH-019", "bob")
            assert "next to nothing" in error.evidence

    async def in_crumbs(tunnel: Tunnel, data: bytes) -> None:
        with contextlib.suppress(OSError):
            for at in range(len(data)):
                tunnel._encrypt(memoryview(data)[at : at + 1])
                if at % 1000 == 0:
                    await tunnel._flush()

    asyncio.run(scene())


@pytest.mark.claim("NET-8")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
def test_a_member_that_updates_its_key_without_end_is_cut_and_named(tmp_path: Path) -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=replace(QUICK, opening_s=600.0))
        leaf = issue(sites.identities["bob"], "bob", time.time())
        (tmp_path / "leaf").write_bytes(leaf.certificate + leaf.key.reveal())
        async with running(ada) as (watch,):
            client = await asyncio.create_subprocess_exec(
                "openssl",
                "s_client",
                "-connect",
                str(sites.addresses["ada"]),
                "-cert",
                tmp_path / "leaf",
                "-key",
                tmp_path / "leaf",
                "-alpn",
                "p2pfl/1",
                "-tls1_3",
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
            updating = asyncio.ensure_future(update(client))
            assert "next to nothing" in (await watch.refusal("P2P-MESH-019")).error.evidence
            updating.cancel()
            with contextlib.suppress(ProcessLookupError):
                client.kill()
            await client.wait()

    async def update(client: Process) -> None:
        assert client.stdin is not None
        with contextlib.suppress(OSError):
            while True:
                # A line's end could be the first byte of what the client reads, and no command.
                client.stdin.write(b"K")
                await client.stdin.drain()
                await asyncio.sleep(0)

    asyncio.run(scene())


def test_a_member_that_sends_past_its_window_is_cut() -> None:
    """Small payloads, without waiting for an acknowledgement."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        # Nothing but its window ends the link: this process may take long for what came.
        patient = replace(QUICK, silence_s=OVERALL_S)
        limits = replace(patient, payload_burst=16, payloads_per_s=0.0, window_bytes=1 << 16)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=limits)
        async with running(ada) as (watch,), rogue(sites) as (tunnel, opened):
            frames = [wire(Header(DATA, FIRST | LAST, opened.tag, k, 0, 1), b"x") for k in range(6000)]
            with contextlib.suppress(OSError):
                await tunnel.write(b"".join(frames))
            assert await until_down(watch) == "malformed frame"
            error = ada.links()["bob"].last_error
            assert error is not None
            assert "sent without waiting" in error.evidence

    asyncio.run(scene())


def test_an_honest_sender_of_many_small_payloads_is_slowed_and_loses_nothing() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        slow = replace(QUICK, payload_burst=4, payloads_per_s=400.0, window_bytes=1 << 14)
        async with running(sites.mesh("ada", limits=slow), sites.mesh("bob", limits=slow)) as (ada, bob):
            await bob.up("ada")
            sent = [b"%d" % k for k in range(300)]
            for each in sent:
                await bob.mesh.send("ada", each)
            assert await ada.payloads("bob", 300) == sent
            assert not [one for one in ada.seen if isinstance(one, LinkClosed)]

    asyncio.run(scene())


def test_a_member_that_reconnects_in_a_storm_waits_and_is_named() -> None:
    """The others get in."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, opening_burst=3, openings_per_s=0.0)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=limits)
        async with running(ada) as (watch,):
            for turn in range(3):
                async with rogue(sites):
                    await watch.linked("bob", turn + 1)
            async with only_tls(sites):
                said = await watch.refusal("P2P-MESH-062")
                assert said.peer == "bob"
            async with running(sites.mesh("cyd")) as (cyd,):
                await cyd.up("ada")

    asyncio.run(scene())


def test_of_the_connections_that_a_member_leaves_half_open_the_oldest_give_way() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        patient = replace(QUICK, opening_s=600.0)  # so that nothing but its turn ends a connection
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=patient)
        async with running(ada), contextlib.AsyncExitStack() as held:
            crowd = [await held.enter_async_context(only_tls(sites)) for _ in range(7)]
            for each in crowd[:3]:
                with pytest.raises(OSError):
                    await each.read_exactly(1 << 20)
            async with rogue(sites):
                assert ada.links()["bob"].state == "up"

    asyncio.run(scene())


@pytest.mark.claim("NET-7")
def test_a_member_that_never_reads_holds_up_nobody_and_its_queue_is_bounded() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, outgoing_bytes=4 << 20, window_bytes=2 << 20)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=limits)
        async with running(ada, sites.mesh("cyd")) as (watch, cyd):
            await cyd.up("ada")
            async with rogue(sites):
                await watch.up("bob")
                payload = bytes(1 << 20)
                while await sends_at_once(ada, "bob", payload):
                    assert ada.links()["bob"].queued < 8 << 20
                for _ in range(20):
                    await ada.send("cyd", payload)
                assert len(await cyd.payloads("ada", 20)) == 20
                assert ada.links()["bob"].queued < 8 << 20
                assert ada.links()["bob"].payload_sent == 0

    asyncio.run(scene())


class Behind(Watch):
    """An owner that takes nothing before it is told to."""

    def __init__(self, mesh: Mesh) -> None:
        self._taken, self._takes = 0, False
        super().__init__(mesh)

    async def _read(self) -> None:
        async for event in self.mesh.events():
            self.seen.append(event)
            self._take()
            self._news.set()

    def take(self) -> None:
        """Deal with all that has come, and with what comes."""
        self._takes = True
        self._take()

    def _take(self) -> None:
        while self._takes and self._taken < len(self.seen):
            event = self.seen[self._taken]
            if isinstance(event, Delivered):
                self.mesh.payload_taken(event.peer, len(event.payload))
            self._taken += 1

    @property
    def refused(self) -> set[str]:
        return {event.error.code for event in self.seen if isinstance(event, Refused)}


@contextlib.asynccontextmanager
async def behind(mesh: Mesh) -> AsyncIterator[Behind]:
    async with asyncio.timeout(OVERALL_S):
        await mesh.start()
        try:
            yield Behind(mesh)
        finally:
            await mesh.stop(flush_s=0.0)


@pytest.mark.claim("NET-7")
def test_a_member_has_no_new_window_for_each_connection_while_the_owner_is_behind() -> None:
    """Cut again and again, an honest sender waits for the owner, is accused of nothing, and loses nothing."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, undelivered_bytes=1 << 20, window_bytes=1 << 20)
        proxy = Proxy(sites.addresses["bob"])
        ada = sites.mesh("ada", roster=sites.reached_at("bob", proxy.address), limits=limits)
        bob = sites.mesh("bob", roster=sites.reached_at("ada", None), limits=limits)
        async with proxy.running(), running(ada) as (sender,), behind(bob) as owner:
            sent = [b"%2d" % k + bytes(1 << 18) for k in range(48)]
            for each in sent:
                await ada.send("bob", each)
            while "P2P-MESH-066" not in owner.refused and len(owner.taken("ada")) < len(sent):
                before = len(owner.taken("ada"))
                await owner.until(lambda seen, n=before: len(owner.taken("ada")) > n or bool(owner.refused))  # type: ignore[misc]
                proxy.cut()
            assert sum(map(len, owner.taken("ada"))) < 4 << 20
            said = await sender.refusal("P2P-MESH-020")
            assert "has not dealt with all that ada sent" in said.error.happened
            owner.take()
            assert await owner.payloads("ada", len(sent)) == sent
            assert owner.refused == {"P2P-MESH-066"}
            assert [one.error for one in owner.seen if isinstance(one, LinkClosed) and one.error is not None] == []

    asyncio.run(scene())


def test_a_member_has_no_new_window_for_each_process_either() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, undelivered_bytes=1 << 18)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=limits)
        async with behind(ada) as owner:
            async with rogue(sites) as (tunnel, opened):
                size = 1 << 18
                await tunnel.write(wire(Header(DATA, FIRST | LAST, opened.tag, 0, 0, size), bytes(size)))
                await owner.payloads("bob", 1)
            with pytest.raises(RefusedThere):
                async with rogue(sites):
                    pass
            await owner.refusal("P2P-MESH-066")
            owner.take()
            async with rogue(sites):
                await owner.linked("bob", 2)

    asyncio.run(scene())


def test_an_owner_that_is_behind_with_one_peer_goes_on_with_the_others() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, undelivered_bytes=1 << 20, window_bytes=1 << 20, outgoing_bytes=2 << 20)
        ada, bob, cyd = (sites.mesh(name, limits=limits) for name in ("ada", "bob", "cyd"))
        async with running(bob, cyd) as (one, two):
            await ada.start()
            try:
                held = ada.events()
                await one.up("ada")
                await two.up("ada")
                while await sends_at_once(bob, "ada", bytes(1 << 18)):
                    pass
                taken: dict[str, int] = {"bob": 0, "cyd": 0}
                sending = asyncio.ensure_future(everything(two, 40))
                async for event in held:
                    payload = getattr(event, "payload", None)
                    if payload is None:
                        continue
                    taken[event.peer] += 1
                    if event.peer == "cyd":
                        ada.payload_taken("cyd", len(payload))  # bob's are never done
                    if taken["cyd"] == 40:
                        break
                await sending
                assert taken["bob"] * (1 << 18) < 4 << 20
            finally:
                await ada.stop(flush_s=0.0)

    async def everything(watch: Watch, count: int) -> None:
        for _ in range(count):
            await watch.mesh.send("ada", bytes(1 << 18))

    asyncio.run(scene())
