"""What ails a link is called by its name: one fault at a time, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.errors.mesh import OurKeyNotListed
from p2pfl.keys import Identity
from p2pfl.mesh import LinkClosed, Refused, opening
from p2pfl.mesh.certificates import issue
from p2pfl.mesh.events import Path as Route
from p2pfl.mesh.probe import client as probe_client
from p2pfl.mesh.probe import wire
from p2pfl.mesh.probe.diagnose import judge_relays
from p2pfl.mesh.probe.diagnosis import Diagnosis
from p2pfl.mesh.probe.handshake import trial_handshake
from p2pfl.mesh.probe.wire import About
from p2pfl.roster import Address, Roster
from tests.mesh.connect_proxy import ConnectProxy
from tests.mesh.doctors import BRISK, PEERS_FILE, doctor_ports, examined, site_of
from tests.mesh.sites import OVERALL_S, Sites, free_address, running
from tests.mesh.tcp_proxy import Proxy
from tests.mesh.test_doctor_port import only_tls

SITES = ("ada", "bob", "cyd")
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(OVERALL_S):
            await scene()

    asyncio.run(bounded())


def codes(found: Diagnosis) -> list[str]:
    return [error.code for error in found.errors]


@contextlib.asynccontextmanager
async def service(address: Address, talk: Talk) -> AsyncIterator[None]:
    async with await asyncio.start_server(talk, address.host, address.port):
        yield


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass
    writer.close()


def test_five_sites_that_examine_one_another_find_nothing_wrong() -> None:
    names = ("ada", "bob", "cyd", "dot", "eve")

    async def scene() -> None:
        sites = Sites(*names)
        async with doctor_ports(sites, *names):
            rows = await asyncio.gather(
                *(examined(sites, name, *(peer for peer in names if peer != name)) for name in names)
            )
        for one in (found for row in rows for found in row):
            assert (one.there, one.back, one.errors, one.notes) == ("ok", "ok", [], [])
            assert one.tls is not None
            assert one.tls.version == "TLSv1.3"
            assert one.clock is not None
            assert one.to_bytes_s
            assert one.from_bytes_s
            assert one.facts is not None
            assert one.facts.software == "0.1.0"

    run(scene)


def test_a_site_that_runs_join_is_examined_while_its_links_go_on() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        meshes = [sites.mesh(name, about=About("0.1.0", PEERS_FILE)) for name in SITES]
        async with running(*meshes) as watches:
            for watch, name in zip(watches, SITES, strict=True):
                await watch.up(*(peer for peer in SITES if peer != name))
            # Beside its own join, whose port the others reach.
            found = await examined(sites, "ada", "bob", "cyd")
            assert [(one.there, one.back, one.errors) for one in found] == [("ok", "ok", [])] * 2
            assert not [event for watch in watches for event in watch.seen if isinstance(event, LinkClosed)]

    run(scene)


def test_a_join_that_dials_a_doctor_is_sent_away_without_a_word() -> None:
    """It links when a join is there."""

    async def scene() -> None:
        sites = Sites(*SITES)
        roster = sites.unreached("ada", "cyd")
        mesh = sites.mesh("ada", roster=roster, listens=False)
        async with doctor_ports(sites, "bob", roster=roster) as (port,), running(mesh) as (ada,):
            await port.changed.wait()
            await port.close()
            async with running(sites.mesh("bob", roster=roster)):
                await ada.up("bob")
            assert (port.visitors, port.turned_away) == ({"ada"}, {})
            assert not [event for event in ada.told if isinstance(event, Refused)]

    run(scene)


def test_whom_a_doctor_does_not_let_in_is_kept_for_the_person_to_see() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with doctor_ports(sites, "bob") as (port,):
            stranger = Identity.generate()
            odd = Roster(
                1, tuple(replace(one, key=stranger.key) if one.name == "ada" else one for one in sites.roster.members)
            )
            with pytest.raises(OurKeyNotListed):
                await trial_handshake(
                    site_of(sites, "ada", roster=odd, identity=stranger), "bob", sites.addresses["bob"]
                )
            await port.changed.wait()
        assert [error.code for error in port.turned_away.values()] == ["P2P-MESH-006"]

    run(scene)


def test_a_site_that_is_down_and_a_name_that_nobody_knows_are_told_apart() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        roster = sites.reached_at("cyd", Address("no-such-host.invalid", 7443))
        down, unnamed = await examined(sites, "ada", "bob", "cyd", roster=roster)
        assert (down.there, down.back, codes(down)) == ("no", "unknown", ["P2P-MESH-043"])
        assert codes(unnamed) == ["P2P-MESH-004"]

    run(scene)


def test_a_port_that_drops_packets_is_not_one_where_nobody_listens() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        with socket.socket() as full:  # with a backlog of none, taken: Linux then drops every further SYN
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = Address("127.0.0.1", full.getsockname()[1])
            held = [socket.socket() for _ in range(2)]
            for one in held:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect((address.host, address.port))
            (found,) = await examined(sites, "ada", "bob", roster=sites.reached_at("bob", address))
            for one in held:
                one.close()
        assert codes(found) == ["P2P-MESH-003"]
        assert "no answer within 2 s" in found.errors[0].evidence
        assert f"nc -vz -w 5 127.0.0.1 {address.port}" in found.errors[0].suggestion

    run(scene)


@pytest.mark.parametrize(("talk", "code"), [(http, "P2P-MESH-013"), (silence, "P2P-MESH-017")])
def test_another_service_at_a_listed_address_is_called_what_it_is(talk: Talk, code: str) -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with service(sites.addresses["bob"], talk):
            (found,) = await examined(sites, "ada", "bob")
        assert (found.there, codes(found)) == ("no", [code])

    run(scene)


def test_a_service_that_speaks_no_more_than_tls_1_2_is_told_so(tmp_path: Path) -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        leaf = issue(sites.identities["bob"], "bob", time.time())
        (tmp_path / "leaf").write_bytes(leaf.certificate + leaf.key.reveal())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(tmp_path / "leaf")
        address = sites.addresses["bob"]
        with socket.create_server((address.host, address.port)) as server:

            def serve() -> None:  # a thread, as asyncio closes before the alert has left
                with contextlib.suppress(OSError):
                    context.wrap_socket(server.accept()[0], server_side=True)

            serving = asyncio.ensure_future(asyncio.to_thread(serve))
            (found,) = await examined(sites, "ada", "bob")
            await serving
        assert codes(found) == ["P2P-MESH-010"]

    run(scene)


def test_another_members_key_at_a_listed_address_is_the_wrong_key() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        swapped = sites.reached_at("bob", sites.addresses["cyd"])
        async with doctor_ports(sites, "cyd"):
            (found,) = await examined(sites, "ada", "bob", roster=swapped)
        assert codes(found) == ["P2P-MESH-005"]

    run(scene)


def test_a_site_with_a_new_key_is_a_stranger_to_those_that_hold_the_old_one() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        old = sites.roster
        sites.identities["bob"] = Identity.generate()
        sites.roster = Roster(
            1, tuple(replace(one, key=sites.identities["bob"].key) if one.name == "bob" else one for one in old.members)
        )
        async with doctor_ports(sites, "bob"):
            (found,) = await examined(sites, "ada", "bob", roster=old)
        assert codes(found) == ["P2P-MESH-006"]

    run(scene)


def test_a_peers_yaml_that_differs_is_fetched_and_its_first_line_named() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        theirs = PEERS_FILE.replace(b"8", b"9")
        async with doctor_ports(sites, "bob", peers_file=theirs):
            (found,) = await examined(sites, "ada", "bob", reachable=False)
        assert (found.there, codes(found)) == ("ok", ["P2P-ROUND-033"])
        assert found.theirs == theirs
        assert "first difference in line 2" in found.errors[0].evidence

    run(scene)


def test_a_clock_that_is_ahead_is_measured_however_long_the_round_trip() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with doctor_ports(sites, "bob", wall=lambda: time.time() + 600):
            (found,) = await examined(sites, "ada", "bob")
        assert found.clock is not None
        assert abs(found.clock.ahead_s - 600) <= found.clock.round_trip_s

    run(scene)


def test_a_clock_so_wrong_that_its_certificate_is_of_the_future_is_a_refusal() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with doctor_ports(sites, "bob", wall=lambda: time.time() + 2 * 86400):
            (found,) = await examined(sites, "ada", "bob")
        assert codes(found) == ["P2P-MESH-009"]

    run(scene)


def test_a_listed_address_that_nobody_can_dial_is_found_by_the_far_ends_dialling() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with doctor_ports(sites, "bob"):
            # Ada believes that her port is open; something between it and bob is not.
            (found,) = await examined(sites, "ada", "bob")
        assert (found.there, found.back, found.works, codes(found)) == ("ok", "no", True, ["P2P-MESH-045"])
        assert str(sites.addresses["ada"]) in found.errors[0].happened
        assert "P2P-MESH-043" in found.errors[0].evidence

    run(scene)


def test_a_site_without_addresses_is_said_to_be_one_and_is_no_failure() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        roster = sites.reached_at("ada", None)
        async with doctor_ports(sites, "bob", roster=roster):
            (outward,) = await examined(sites, "ada", "bob", roster=roster)
            (inward,) = await examined(sites, "bob", "ada", roster=roster)
        assert (outward.there, outward.back, outward.errors) == ("ok", "none", [])
        assert (inward.there, inward.back, inward.errors) == ("none", "unknown", [])

    run(scene)


def test_two_sites_without_addresses_go_through_a_third() -> None:
    """RelayTrial a third that one of them reaches; there is no way otherwise."""

    async def scene() -> None:
        sites = Sites(*SITES)
        roster = sites.unreached("ada", "bob")
        async with doctor_ports(sites, "cyd", roster=roster):
            bob, cyd = await examined(sites, "ada", "bob", "cyd", roster=roster)
        judge_relays((bob, cyd), roster, "ada")
        assert (bob.works, bob.path, bob.errors) == (True, Route("relay", "cyd"), [])
        assert "if bob has a link with it" in bob.notes[0]
        bob, cyd = await examined(sites, "ada", "bob", "cyd", roster=roster)
        judge_relays((bob, cyd), roster, "ada")
        assert (bob.works, codes(bob)) == (False, ["P2P-MESH-039"])
        (bob,) = await examined(sites, "ada", "bob", roster=sites.unreached(*SITES))
        assert codes(bob) == ["P2P-MESH-039"]

    run(scene)


@pytest.mark.claim("RELAY-4")
def test_the_oldest_half_open_connections_to_a_doctor_give_way() -> None:
    """Of those that one member leaves half open."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        patient = replace(BRISK, opening_s=600.0)  # so that nothing but its turn ends a connection
        async with (
            asyncio.timeout(OVERALL_S),
            contextlib.AsyncExitStack() as held,
            doctor_ports(sites, "ada", limits=patient),
        ):
            crowd = [await held.enter_async_context(only_tls(sites)) for _ in range(7)]
            for each in crowd[:3]:
                with pytest.raises(OSError):
                    await each.read_exactly(1 << 20)
            await opening.receive_hello(crowd[6], "ada")
            await opening.send_message(crowd[6], opening.PROBE)
            await opening.receive_message(crowd[6], "ada", {wire.FACTS: wire.FACTS_BYTES})

    asyncio.run(scene())


def test_a_site_behind_a_proxy_is_examined_through_it() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        outside = Address("bob.hospital.example", 7443)  # a name that only the proxy knows
        roster = sites.reached_at("bob", outside)
        http = ConnectProxy({str(outside): sites.addresses["bob"]})
        async with doctor_ports(sites, "bob"), http.running():
            bob, cyd = await examined(sites, "ada", "bob", "cyd", roster=roster, reachable=False, proxy=http.proxy())
        assert (bob.there, bob.path, bob.errors) == ("ok", Route("proxy", str(outside)), [])
        assert codes(cyd) == ["P2P-MESH-033"]

    run(scene)


def test_a_second_address_that_fails_is_a_note_beside_one_that_works() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        dead, alive = free_address(), sites.addresses["bob"]
        roster = Roster(
            1,
            tuple(replace(one, addresses=(dead, alive)) if one.name == "bob" else one for one in sites.roster.members),
        )
        async with doctor_ports(sites, "bob"):
            (found,) = await examined(sites, "ada", "bob", roster=roster, reachable=False)
        assert (found.there, found.errors) == ("ok", [])
        assert found.way is not None
        assert found.way.address == alive
        assert f"not through {dead}: P2P-MESH-043" in found.notes[0]

    run(scene)


def test_a_site_that_comes_a_little_later_is_waited_for() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        proxy = Proxy(sites.addresses["bob"])  # a door behind which nobody is, until it has been tried
        roster = sites.reached_at("bob", proxy.address)
        async with proxy.running():
            waiting = asyncio.ensure_future(
                examined(sites, "ada", "bob", roster=roster, reachable=False, wait_s=OVERALL_S)
            )
            await proxy.until(lambda: proxy.accepted > 0 and not proxy.open)
            async with doctor_ports(sites, "bob"):
                (found,) = await waiting
        assert (found.there, found.errors) == ("ok", [])

    run(scene)


# ── packets ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_client, "STALL_S", 3.0)
    monkeypatch.setattr(probe_client, "BLOCK_S", 3.0)


async def through(count: int, *, segment: int = 0) -> Diagnosis:
    """What ada finds of bob behind a proxy that swallows everything after some bytes."""
    sites = Sites(*SITES)
    proxy = Proxy(sites.addresses["bob"], lambda: count, stalls=True, segment=segment)
    async with doctor_ports(sites, "bob"), proxy.running():
        roster = sites.reached_at("bob", proxy.address)
        (found,) = await examined(sites, "ada", "bob", roster=roster, reachable=False)
    return found


@pytest.mark.usefixtures("brisk")
def test_a_path_that_stands_still_after_so_many_bytes_is_no_matter_of_size() -> None:
    """In the test of sizes, and in that of speed."""

    async def scene() -> None:
        for found in await asyncio.gather(through(20_000), through(300_000)):
            assert (found.there, found.works, codes(found)) == ("stalls", False, ["P2P-MESH-044"])

    run(scene)


@pytest.mark.usefixtures("brisk")
def test_a_path_on_which_only_small_segments_pass_loses_large_packets() -> None:
    """In the handshake, whose first flight fills more than a packet, and in the test of sizes."""

    async def scene() -> None:
        for found in await asyncio.gather(through(2_000, segment=1000), through(20_000, segment=1000)):
            assert codes(found) == ["P2P-MESH-042"]
            assert found.errors[0].suggestion.startswith("ping -M do -s ")

    run(scene)


@pytest.mark.usefixtures("brisk")
def test_a_cut_in_the_middle_of_a_test_is_not_called_packet_loss() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        proxy = Proxy(sites.addresses["bob"], lambda: 20_000)
        async with doctor_ports(sites, "bob"), proxy.running():
            roster = sites.reached_at("bob", proxy.address)
            (found,) = await examined(sites, "ada", "bob", roster=roster, reachable=False)
        assert codes(found) == ["P2P-MESH-047"]

    run(scene)
