"""Two sites that cannot dial one another meet through a third, which carries what it can neither read nor change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.clocks import SYSTEM
from p2pfl.errors.mesh import NoSuchPeer
from p2pfl.keys import Identity
from p2pfl.mesh import Limits, LinkClosed, Mesh, MeshEvent, Refused
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.certificates import RELAY_ALPN, build_context, issue
from p2pfl.mesh.framing import CALL, COME, DECLINED, MalformedFrame
from p2pfl.mesh.relay import (
    JOINED,
    MOST_PAIRS,
    NO_LINK,
    UNKNOWN,
    YOU_ARE_CALLED,
    YOU_CALLED,
    RelayServer,
    decode_come,
    decode_declined,
    decode_name,
    encode_come,
)
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Member, Roster
from tests.end_to_end.proxies import Proxy as Recorder
from tests.mesh.relays import Change, Middle, at, cut, flip, hold, leave_out, records, repeat
from tests.mesh.sites import QUICK, Greetings, Sites, Watch, running
from tests.mesh.tcp_proxy import Proxy
from tests.mesh.test_doctor_port import silent

HASTY = replace(QUICK, silence_s=2.5, heartbeat_s=0.4, handshake_s=3.0, opening_s=3.0, relay_answer_s=3.0)


def path_of(mesh: Mesh, peer: str) -> str:
    path = mesh.links()[peer].path
    return f"{path.kind} {path.via}" if path is not None else "down"


async def exchanged(one: Watch, two: Watch, sizes: list[int]) -> None:
    """Payloads of these sizes go both ways at once; each arrives once and in order."""
    (name, other) = (one.mesh._site.name, two.mesh._site.name)
    there, back = [os.urandom(size) for size in sizes], [os.urandom(size) for size in sizes]
    before = len(two.taken(name)), len(one.taken(other))
    for mine, theirs in zip(there, back, strict=True):
        await asyncio.gather(one.mesh.send(other, mine), two.mesh.send(name, theirs))
    assert (await two.payloads(name, before[0] + len(sizes)))[before[0] :] == there
    assert (await one.payloads(other, before[1] + len(sizes)))[before[1] :] == back


async def talk(one: Watch, two: Watch, done: Callable[[], bool]) -> None:
    """RelayServer payloads until it is `done`, so that something is always on its way."""
    while not done():
        await exchanged(one, two, [200_000] * 4)


@pytest.mark.claim("RELAY-1")
def test_two_sites_that_only_dial_out_meet_through_a_third() -> None:
    """The third sees TLS records and nothing else."""

    async def scene() -> None:
        sites = Sites("ada", "south-clinic", "west-clinic")
        roster = sites.unreached("south-clinic", "west-clinic")
        ada, bob, cyd = (sites.mesh(name, roster=roster, listens=name == "ada") for name in sites.identities)
        middle = Middle(ada)
        async with running(ada, bob, cyd) as (_, two, three):
            await bob.send("west-clinic", marker := b"PATIENT ZERO" * 100_000)
            await cyd.send("south-clinic", marker)
            assert await two.payloads("west-clinic", 1) == await three.payloads("south-clinic", 1) == [marker]
            assert path_of(bob, "west-clinic") == path_of(cyd, "south-clinic") == "relay ada"
            assert two.ups("west-clinic")[0].facts.version == "TLSv1.3"
            seen = [stream for stream in middle.carried if stream]
            assert sum(map(len, seen)) > 2 * len(marker)
            assert ada.relay_server.carried.calls >= ada.relay_server.carried.active >= 1
            assert ada.relay_server.carried.bytes_received > 2 * len(marker)
            for stream in seen:
                assert set(records(stream)) <= {20, 21, 22, 23}
                for secret in (b"PATIENT", b"clinic", *(key.key for key in sites.identities.values())):
                    assert secret not in stream

    asyncio.run(scene())


@pytest.mark.claim("RELAY-1")
def test_what_crosses_each_wire_of_a_call_is_tls_and_nothing_else() -> None:
    async def scene() -> None:
        sites = Sites("ada", "south-clinic", "west-clinic")
        recorder = Recorder(sites.addresses["ada"].port)
        door = replace(sites.addresses["ada"], port=recorder.port)
        outside = tuple(
            replace(member, addresses=(door,) if member.name == "ada" else ()) for member in sites.roster.members
        )
        roster = Roster(1, outside)
        ada, bob, cyd = (sites.mesh(name, roster=roster, listens=name == "ada") for name in sites.identities)
        async with running(ada, bob, cyd) as (_, two, three):
            await exchanged(two, three, [400_000])
        recorder.close()
        assert len(recorder.recorded) >= 8  # both ways of two links and of both ends of the call
        for stream in recorder.recorded:
            assert set(records(stream)) <= {20, 21, 22, 23}
            assert b"clinic" not in stream

    asyncio.run(scene())


def test_a_relay_that_stops_in_the_middle_is_replaced_and_nothing_is_lost_or_doubled() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd", "dot")
        roster = sites.unreached("bob", "cyd")
        meshes = {name: sites.mesh(name, roster=roster, listens=name in ("ada", "dot")) for name in sites.identities}
        async with running(*meshes.values()) as watches:
            _, two, three, _ = watches
            await two.up("cyd")
            first = path_of(meshes["bob"], "cyd").removeprefix("relay ")
            await two.up("ada", "dot")
            await three.up("ada", "dot")

            async def stop() -> None:
                await three.payloads("bob", 3)
                await meshes[first].stop(flush_s=0.0)

            await asyncio.gather(stop(), exchanged(two, three, [400_000] * 8))
            other = "dot" if first == "ada" else "ada"
            assert path_of(meshes["bob"], "cyd") == path_of(meshes["cyd"], "bob") == f"relay {other}"
            assert len({event.incarnation for event in two.ups("cyd")}) == 1

    asyncio.run(scene())


@pytest.mark.claim("RELAY-2")
@pytest.mark.parametrize(
    ("lie", "place"),
    [
        *((lie, place) for lie in (flip, repeat, cut) for place in (200, 30_000, 900_000)),
        *((lie, place) for lie in (leave_out, hold) for place in (200, 900_000)),  # each costs a silence
    ],
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_a_relay_that_tampers_is_left_and_nothing_is_lost(
    lie: Callable[[bytes, int], Iterator[bytes]], place: int
) -> None:
    """It changes, repeats, withholds or cuts what it carries."""

    async def scene(change: Change) -> None:
        sites = Sites("ada", "bob", "cyd", "dot")
        roster = sites.unreached("bob", "cyd")
        limits = HASTY if lie in (hold, leave_out) else QUICK
        meshes = {
            name: sites.mesh(name, roster=roster, listens=name in ("ada", "dot"), limits=limits)
            for name in sites.identities
        }
        liar = meshes["bob"]._relay_client.relay_order("cyd")[0]
        Middle(meshes[liar], change)
        async with running(*meshes.values()) as (_, two, three, _):
            await exchanged(two, three, [300_000] * 5)
            assert path_of(meshes["bob"], "cyd") == f"relay {'dot' if liar == 'ada' else 'ada'}"

    asyncio.run(scene(at(place, lie)))


@pytest.mark.claim("RELAY-2")
def test_a_relay_that_connects_to_another_site_is_found_and_named() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd", "dot")
        roster = sites.unreached("bob", "cyd", "dot")
        meshes = {
            name: sites.mesh(name, roster=roster, listens=name == "ada", limits=HASTY) for name in sites.identities
        }
        relay_server = meshes["ada"].relay_server
        on_call, send_frame, wanted = relay_server.on_call, relay_server._send_frame, list[str]()

        def wrong(caller: str, body: bytes) -> None:
            wanted.append(body.decode())
            on_call(caller, b"dot" if {caller, body.decode()} == {"bob", "cyd"} else body)

        def lie(peer: str, kind: int, body: bytes) -> bool:
            if kind == COME and body[0] == YOU_CALLED:
                body = encode_come(YOU_CALLED, decode_come(body)[1], wanted[-1])
            return send_frame(peer, kind, body)

        relay_server.on_call = wrong  # type: ignore[method-assign]
        relay_server._send_frame = lie
        async with running(*meshes.values()) as (_, two, three, _):
            said = await two.refusal("P2P-MESH-037")
            assert said.peer == "cyd"
            assert "What ada carried for a call with cyd" in said.error.happened
            assert "P2P-MESH-005" in said.error.evidence
            assert not three.ups("bob")

    asyncio.run(scene())


async def answer_to(sites: Sites, name: str, ticket: bytes, identity: Identity | None = None) -> bytes:
    """The relay's answer to a site that comes to ada with this ticket."""
    address = sites.addresses["ada"]
    leaf = issue(identity or sites.identities[name], name, time.time())
    context = build_context(leaf, sites.roster, accepting=False, protocol=RELAY_ALPN)
    tunnel = Tunnel(await silent(address), context, QUICK, time.monotonic)
    try:
        await authenticate(tunnel, Route(address, "ada", protocols=(RELAY_ALPN,)), leaf, sites.roster, name)
        await tunnel.write(ticket)
        return await tunnel.read_exactly(1)
    finally:
        tunnel.close()


@pytest.mark.claim("RELAY-3")
def test_a_stranger_is_not_carried_and_a_member_only_with_its_own_ticket() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd", "dot")
        roster = sites.unreached("bob", "cyd", "dot")
        ada = sites.mesh("ada", roster=roster)
        given: list[bytes] = []
        relay_server = ada.relay_server
        relay_server._send_frame = lambda peer, kind, body: not given.append(body)
        async with running(ada) as (one,):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await answer_to(sites, "bob", bytes(16), Identity.generate())
            await one.refusal("P2P-MESH-006")
            relay_server.on_call("bob", b"cyd")
            ticket = decode_come(given[0])[1]
            for name, shown in (("bob", os.urandom(16)), ("dot", ticket)):
                assert await answer_to(sites, name, shown) == UNKNOWN
                await one.until(lambda seen, name=name: (name, "P2P-MESH-038") in refusals(seen))  # type: ignore[misc]

    asyncio.run(scene())


def refusals(seen: list[MeshEvent]) -> list[tuple[str | None, str]]:
    return [(event.peer, event.error.code) for event in seen if isinstance(event, Refused)]


def relay_server_of(limits: Limits) -> tuple[RelayServer, list[tuple[str, int, bytes]]]:
    said: list[tuple[str, int, bytes]] = []

    def send_frame(peer: str, kind: int, body: bytes) -> bool:
        said.append((peer, kind, body))
        return True

    clock = iter(range(10**6))
    return RelayServer(limits, send_frame, replace(SYSTEM, now=lambda: next(clock) * 1e-6)), said


@pytest.mark.claim("RELAY-3")
def test_a_flood_of_calls_gets_one_ticket_for_each_pair() -> None:
    """No more calls than may be carried at a time."""
    relay_server, said = relay_server_of(replace(QUICK, relay_calls=5))
    for _ in range(1_000):
        relay_server.on_call("bob", b"cyd")
    assert len(relay_server) == 1
    assert len([word for word in said if word[0] == "cyd"]) == 1
    for number in range(1_000):
        relay_server.on_call("bob", f"site-{number}".encode())
    assert len(relay_server) == 5


@pytest.mark.claim("RELAY-4")
def test_what_members_call_through_a_relay_does_not_make_it_flood_whom_they_call() -> None:
    """Each COME is a frame that brings nothing: past 512 of them the callee would cut the honest relay, and name it."""
    relay_server, said = relay_server_of(replace(QUICK, relay_answer_s=0.0))
    for _ in range(1_000):
        relay_server.on_call("bob", b"cyd")
    assert len([word for word in said if word[0] == "cyd"]) == QUICK.call_burst
    for number in range(100_000):
        relay_server.on_call(f"site-{number % 150}", b"cyd")
    assert len([word for word in said if word[0] == "cyd"]) <= QUICK.called_burst + 10
    assert QUICK.called_burst < QUICK.empty_burst
    assert QUICK.called_per_s < QUICK.empty_per_s


def test_calls_for_names_that_nobody_has_are_not_remembered() -> None:
    clock = [0.0]
    relay_server = RelayServer(QUICK, lambda peer, kind, body: False, replace(SYSTEM, now=lambda: clock[0]))
    for number in range(30_000):
        clock[0] += 0.05  # as often as a link takes words that bring nothing
        relay_server.on_call("bob", f"site-{number}".encode())
    assert len(relay_server._pairs) <= MOST_PAIRS
    assert len(relay_server._callees) <= MOST_PAIRS


@pytest.mark.claim("RELAY-4")
def test_whom_others_have_called_does_not_open_too_often_for_that() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        given: list[bytes] = []
        limits = replace(QUICK, opening_burst=1, openings_per_s=0.0, relay_answer_s=2.5)  # bob is waited for thrice
        ada = sites.mesh("ada", roster=sites.unreached("bob", "cyd"), limits=limits)
        ada.relay_server._send_frame = lambda peer, kind, body: not given.append(body)
        async with running(ada) as (one,):
            for _ in range(3):
                given.clear()
                ada.relay_server.on_call("bob", b"cyd")
                with contextlib.suppress(OSError):  # bob does not come
                    await answer_to(sites, "cyd", decode_come(given[0])[1])
            assert ("cyd", "P2P-MESH-062") not in refusals(one.seen)
            for name, shown in (("cyd", bytes(16)), ("cyd", bytes(16))):  # nobody called it: that counts
                with contextlib.suppress(OSError):
                    await answer_to(sites, name, shown)
            await one.until(lambda seen: ("cyd", "P2P-MESH-062") in refusals(seen))

    asyncio.run(scene())


@pytest.mark.claim("RELAY-4")
def test_a_ticket_that_trickles_in_is_waited_for_no_longer_than_tickets_live() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        limits = replace(QUICK, relay_answer_s=0.2, opening_s=600.0)
        async with running(sites.mesh("ada", roster=sites.unreached("bob"), limits=limits)):
            with pytest.raises(OSError):
                await answer_to(sites, "bob", b"1")

    asyncio.run(scene())


@pytest.mark.claim("RELAY-4")
def test_a_relay_that_invents_calls_gets_one_answer_at_a_time_for_each_caller() -> None:
    """It says that the other end is there, and holds what is said: the callee's handshakes must not pile up."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.unreached("bob", "cyd"))
        bob = sites.mesh(
            "bob", roster=sites.unreached("bob", "cyd"), listens=False, limits=replace(QUICK, handshake_s=600.0)
        )
        held: list[Tunnel] = []
        here = asyncio.Event()

        async def serve(tunnel: Tunnel, peer: str, on_called: Callable[[str], None]) -> bool:
            await tunnel.read_exactly(16)
            await tunnel.write(JOINED)
            held.append(tunnel)
            here.set()
            return True

        ada.relay_server.serve = serve  # type: ignore[method-assign]
        async with running(ada, bob) as (one, _):
            await one.up("bob")
            for turn in range(12):
                here.clear()
                while not ada._send_relay_frame("bob", COME, encode_come(YOU_ARE_CALLED, os.urandom(16), "cyd")):
                    await asyncio.sleep(0)  # the link has just come up: ZeroMQ connects in a moment
                await here.wait()
                while len(bob._relay_client._tunnels) > 1:
                    await asyncio.sleep(0)
                assert len(held) == turn + 1
            for tunnel in held:
                tunnel.close()

    asyncio.run(scene())


def test_tickets_that_nobody_comes_with_are_forgotten() -> None:
    relay_server, _ = relay_server_of(replace(QUICK, relay_answer_s=0.0001))
    for number in range(1_000):
        relay_server.on_call("bob", f"site-{number}".encode())
    assert len(relay_server) < 300


@pytest.mark.claim("RELAY-3")
def test_a_member_that_floods_its_relay_with_calls_holds_up_nobody() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd", "dot")
        roster = sites.unreached("bob", "cyd")
        meshes = {name: sites.mesh(name, roster=roster, listens=name in ("ada", "dot")) for name in sites.identities}
        async with running(*meshes.values()) as (one, two, three, four):
            await two.up("ada", "cyd")
            for _ in range(200):
                for callee in (b"cyd", b"bob", b"nobody"):
                    meshes["bob"]._send_relay_frame("ada", CALL, callee)
                await asyncio.sleep(0)
            assert len(meshes["ada"].relay_server) <= 4
            await exchanged(one, four, [100_000])
            await exchanged(two, three, [100_000])

    asyncio.run(scene())


def behind_a_door() -> tuple[Proxy, Mesh, Mesh, Mesh]:
    """ada, bob who has no address, and cyd, whom others reach through the door alone, while it is open."""
    sites = Sites("ada", "bob", "cyd")
    door = Proxy(sites.addresses["cyd"])
    outside = sites.reached_at("cyd", door.address)
    roster = Roster(1, tuple(replace(one, addresses=()) if one.name == "bob" else one for one in outside.members))
    ada, bob, cyd = (sites.mesh(name, roster=roster, listens=name != "bob") for name in ("ada", "bob", "cyd"))
    return door, ada, bob, cyd


def test_when_every_address_fails_a_relay_takes_over() -> None:
    """Nothing is lost or doubled."""

    async def scene() -> None:
        door, ada, bob, cyd = behind_a_door()
        async with running(ada, bob, cyd) as (_, two, three):
            async with door.running():
                await two.until(lambda _: path_of(bob, "cyd") == f"direct {door.address}")
                talking = asyncio.ensure_future(talk(two, three, lambda: path_of(cyd, "bob") == "relay ada"))
                await three.payloads("bob", 2)
            await talking
            assert path_of(bob, "cyd") == path_of(cyd, "bob") == "relay ada"
            assert len({event.incarnation for event in two.ups("cyd")}) == 1

    asyncio.run(scene())


def test_a_direct_connection_that_works_again_is_taken_back() -> None:
    """Nothing is lost or doubled."""

    async def scene() -> None:
        door, ada, bob, cyd = behind_a_door()
        async with running(ada, bob, cyd) as (_, two, three):
            await exchanged(two, three, [200_000] * 3)
            assert path_of(bob, "cyd") == "relay ada"
            talking = asyncio.ensure_future(talk(two, three, lambda: path_of(cyd, "bob").startswith("direct")))
            async with door.running():
                await two.until(lambda _: path_of(bob, "cyd") == f"direct {door.address}")
                await talking
                await exchanged(two, three, [1000] * 3)
                assert path_of(cyd, "bob").startswith("direct 127.0.0.1:")
                assert len({event.incarnation for event in two.ups("cyd")}) == 1
                assert any(isinstance(event, LinkClosed) and "newer" in event.reason for event in two.seen)

    asyncio.run(scene())


def test_five_sites_of_which_three_only_dial_out_have_all_their_links() -> None:
    async def scene() -> None:
        names = ("ada", "bob", "cyd", "dot", "eve")
        sites = Sites(*names)
        roster = sites.unreached("bob", "cyd", "eve")
        meshes = [sites.mesh(name, roster=roster, listens=name in ("ada", "dot")) for name in names]
        async with running(*meshes) as watches:
            for watch in watches:
                await watch.up(*(name for name in names if name != watch.mesh._site.name))

    asyncio.run(scene())


@pytest.mark.claim("MEMBER-12", "RELAY-3")
def test_when_a_relay_cuts_its_link_to_a_member_it_carries_nothing_more_for_it() -> None:
    async def scene() -> None:
        sites, greets = Sites("ada", "bob", "cyd"), Greetings("ada")
        roster = sites.unreached("bob", "cyd")
        ada = sites.mesh("ada", roster=roster, greetings=greets)
        bob, cyd = (sites.mesh(name, roster=roster, listens=False) for name in ("bob", "cyd"))
        async with running(ada, bob, cyd) as (one, two, three):
            await two.up("cyd")
            await three.up("bob")
            refuse, check = NoSuchPeer(peer="bob", evidence="its key is revoked here"), greets.check_greeting

            async def only_others(peer: str, greeting: bytes, nonce: bytes) -> None:
                if peer == "bob":
                    raise refuse
                await check(peer, greeting, nonce)

            greets.check_greeting = only_others  # type: ignore[method-assign]
            ada.cut("bob", refuse)
            assert ada.relay_server.carried.active == len(ada.relay_server) == 0
            for watch, peer in ((two, "cyd"), (three, "bob")):
                await watch.until(lambda seen, peer=peer: LinkClosed in [type(e) for e in seen if e.peer == peer])  # type: ignore[misc]
            assert (await two.refusal("P2P-MESH-020")).peer == "ada"
            assert bob.links()["cyd"].state == cyd.links()["bob"].state == "down"
            assert one.mesh.links()["cyd"].state == "up"

    asyncio.run(scene())


def test_whom_nobody_can_relay_to_is_said_plainly() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        roster = Roster(1, tuple(Member(one.name, one.key) for one in sites.roster.members))
        bob = sites.mesh("bob", roster=roster, listens=False)
        async with running(bob) as (two,):
            assert "no site has a port" in (await two.refusal("P2P-MESH-039")).error.happened
        hub = sites.unreached("bob", "cyd")
        bob = sites.mesh("bob", roster=hub, listens=False, hub="ada")
        async with running(bob, sites.mesh("cyd", roster=hub, listens=False)) as (two, three):
            for watch, peer in ((two, "cyd"), (three, "bob")):
                said = await watch.refusal("P2P-MESH-039")
                assert (said.peer, "no relay is linked" in said.error.happened) == (peer, True)

    asyncio.run(scene())


def test_the_hub_is_asked_first_and_the_others_after_it() -> None:
    async def scene() -> None:
        sites = Sites(*(f"site-{number}" for number in range(6)))
        roster = sites.unreached("site-4", "site-5")
        for hub in ("site-0", "site-3"):
            order = sites.mesh("site-4", roster=roster, hub=hub)._relay_client.relay_order("site-5")
            assert order[0] == hub
            assert set(order) == {"site-0", "site-1", "site-2", "site-3"}

    asyncio.run(scene())


def test_pairs_spread_over_the_relays_and_both_ends_begin_with_the_same_one() -> None:
    async def scene() -> None:
        names = [f"site-{number}" for number in range(12)]
        sites = Sites(*names)
        roster = sites.unreached(*names[4:])
        meshes = {name: sites.mesh(name, roster=roster) for name in names}
        first: dict[str, int] = {}
        for one in names[4:]:
            for other in names[4:]:
                if one < other:
                    order = meshes[one]._relay_client.relay_order(other)
                    assert order == meshes[other]._relay_client.relay_order(one)
                    assert set(order) == set(names[:4])
                    first[order[0]] = first.get(order[0], 0) + 1
        assert set(first) == set(names[:4])

    asyncio.run(scene())


def test_words_with_a_relay_are_those_of_the_specification() -> None:
    text = (Path(__file__).parents[2] / "docs/spec/wire.md").read_text().partition("## 8.")[2]
    ticket = bytes(range(16))
    wanted = [
        b"cyd",
        encode_come(YOU_CALLED, ticket, "cyd"),
        encode_come(YOU_ARE_CALLED, ticket, "ada"),
        bytes([NO_LINK]) + b"cyd",
    ]
    shown = [bytes.fromhex(found) for found in re.findall(r"part two\s+([0-9a-f ]+)$", text, re.M)]
    assert shown == wanted
    assert decode_name(wanted[0]) == "cyd"
    assert decode_come(wanted[2]) == (YOU_ARE_CALLED, ticket, "ada")
    assert decode_declined(wanted[3]) == (NO_LINK, "cyd")
    assert (CALL, COME, DECLINED) == (6, 7, 8)


@given(body=st.binary(max_size=60))
def test_other_words_are_read_whole_or_are_malformed(body: bytes) -> None:
    for read, write in (
        (decode_name, str.encode),
        (decode_come, lambda found: encode_come(*found)),
        (decode_declined, lambda found: bytes([found[0]]) + found[1].encode()),
    ):
        with contextlib.suppress(MalformedFrame):
            assert write(read(body)) == body  # type: ignore[operator]
