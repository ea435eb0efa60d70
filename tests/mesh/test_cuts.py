"""Links are cut, doubled and restarted; payloads are neither lost nor doubled, and nothing of them can be read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from p2pfl.mesh import Limits, LinkClosed, Mesh
from tests.examples import examples
from tests.mesh.pair import through_a_proxy
from tests.mesh.sites import Sites, Watch, running, sends_at_once
from tests.mesh.tcp_proxy import UNLIMITED, Proxy


def test_nothing_is_lost_or_doubled_when_the_connection_is_cut_at_random_bytes() -> None:
    chance = Random(20)
    budgets = [chance.randrange(1, 2_000) for _ in range(8)] + [chance.randrange(1, 3_000_000) for _ in range(24)]
    sizes = [chance.choice([0, 40, 3_000, 200_000, 1_500_000]) for _ in range(40)]

    async def scene() -> None:
        there = [chance.randbytes(size) for size in sizes]
        back = [chance.randbytes(size) for size in reversed(sizes)]
        async with through_a_proxy(lambda: budgets.pop() if budgets else UNLIMITED) as pair:
            for mine, theirs in zip(there, back, strict=True):
                await asyncio.gather(pair.ada.send("bob", mine), pair.bob.send("ada", theirs))
            while budgets:  # small payloads until every cut has been made
                await pair.ada.send("bob", b"on")
                there.append(b"on")
                await pair.at_bob.payloads("ada", len(there))
                pair.proxy.cut()
            assert await pair.at_bob.payloads("ada", len(there)) == there
            assert await pair.at_ada.payloads("bob", len(back)) == back
            assert len({event.incarnation for event in pair.at_ada.ups("bob")}) == 1

    asyncio.run(scene())


def cut_at(places: Sequence[int], sizes: Sequence[int]) -> None:
    """Payloads go both ways over connections of which each ends at a byte that is given; then over one that lives.

    The bytes of a connection are counted over both directions, so a place may lie in the handshake, in the opening, in
    a frame, in its header or in an acknowledgement, of either side.
    """

    async def scene() -> None:
        left = list(places)
        there = [number.to_bytes(4, "big") + os.urandom(size) for number, size in enumerate(sizes)]
        back = there[::-1]
        async with through_a_proxy(lambda: left.pop(0) if left else UNLIMITED) as pair:
            ada, bob, proxy = pair.ada, pair.bob, pair.proxy
            one, two = pair.at_ada, pair.at_bob
            for mine, theirs in zip(there, back, strict=True):
                await asyncio.gather(ada.send("bob", mine), bob.send("ada", theirs))
            assert await two.payloads("ada", len(there)) == there
            assert await one.payloads("bob", len(back)) == back
            while left:  # what is left of the cuts meets links that have nothing to carry, and then one payload more
                accepted = proxy.accepted
                proxy.cut()
                await proxy.until(lambda accepted=accepted: proxy.accepted > accepted)
            await asyncio.gather(ada.send("bob", b"end"), bob.send("ada", b"end"))
            assert (await two.payloads("ada", len(there) + 1))[len(there) :] == [b"end"]
            assert (await one.payloads("bob", len(back) + 1))[len(back) :] == [b"end"]

    asyncio.run(scene())


# The handshake and the opening are some 9 kB, over both directions; what follows is frames and acknowledgements.
PLACES = st.one_of(st.integers(1, 9_000), st.integers(9_000, 12_000), st.integers(12_000, 2_000_000))


@pytest.mark.claim("NET-6")
@examples(12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(PLACES, min_size=1, max_size=12),
    st.lists(st.sampled_from([0, 40, 3_000, 200_000, 1_200_000]), min_size=1, max_size=8),
)
def test_wherever_connections_are_cut_all_payloads_arrive_once_and_in_their_order(
    places: list[int], sizes: list[int]
) -> None:
    cut_at(places, sizes)


@pytest.mark.claim("NET-6")
def test_a_connection_cut_at_each_part_of_its_beginning_in_turn_loses_nothing() -> None:
    cut_at(range(1, 12_000, 149), [40, 0, 3_000] * 20)


def test_captured_bytes_hold_no_plaintext_and_no_site_name() -> None:
    async def scene() -> None:
        sites = Sites("north-clinic", "south-clinic", "west-clinic")
        proxy = Proxy(sites.addresses["south-clinic"])
        marker = b"PATIENT ZERO" * 2000
        north = sites.mesh("north-clinic", roster=sites.reached_at("south-clinic", proxy.address))
        south = sites.mesh("south-clinic", roster=sites.reached_at("north-clinic", None))
        async with proxy.running(), running(north, south) as (one, two):
            await north.send("south-clinic", marker)
            await south.send("north-clinic", marker)
            await one.payloads("south-clinic", 1)
            await two.payloads("north-clinic", 1)
            captured = bytes(proxy.captured)
            assert len(captured) > 2 * len(marker)
            for secret in (b"PATIENT", b"clinic", b"READY", b"ROUTER", *(key.key for key in sites.identities.values())):
                assert secret not in captured
            facts = one.ups("south-clinic")[0].facts
            assert (facts.version, facts.group) == ("TLSv1.3", two.ups("north-clinic")[0].facts.group)
            assert facts.group != "unknown"

    asyncio.run(scene())


def test_both_ends_make_the_same_nonce_and_another_one_on_every_link() -> None:
    async def scene() -> None:
        async with through_a_proxy() as pair:
            for count in (1, 2, 3):
                await pair.at_ada.linked("bob", count)
                await pair.at_bob.linked("ada", count)
                pair.proxy.cut()
            nonces = [event.nonce for event in pair.at_ada.ups("bob")][:3]
            assert nonces == [event.nonce for event in pair.at_bob.ups("ada")][:3]
            assert len(set(nonces)) == 3

    asyncio.run(scene())


def test_a_restarted_process_is_another_incarnation_and_its_payloads_count_anew() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada"), sites.mesh("bob")) as (one, two):
            await two.mesh.send("ada", b"before")
            await one.mesh.send("bob", b"to the first")
            await one.payloads("bob", 1)
            await two.payloads("ada", 1)
            await two.stop()
            await one.until(lambda seen: isinstance(seen[-1], LinkClosed))
            await one.mesh.send("bob", b"to nobody")
            again = sites.mesh("bob")
            await again.start()
            three = Watch(again)
            try:
                await again.send("ada", b"after")
                assert await one.payloads("bob", 2) == [b"before", b"after"]
                await one.mesh.send("bob", b"to the second")
                assert await three.payloads("ada", 1) == [b"to the second"]
                first, second = one.ups("bob")
                assert first.incarnation != second.incarnation
            finally:
                await again.stop(flush_s=0.0)

    asyncio.run(scene())


def test_a_process_that_another_one_of_its_site_had_displaced_speaks_and_hears_again() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        unreached = sites.reached_at("bob", None)  # ada dials nobody, so that who dials last is heard
        first, second = sites.mesh("bob"), sites.mesh("bob", listens=False)
        async with running(sites.mesh("ada", roster=unreached), first) as (one, two):
            await two.mesh.send("ada", b"of the first")
            await one.mesh.send("bob", b"to the first")
            assert await two.payloads("ada", 1) == [b"to the first"]
            await one.payloads("bob", 1)
            await second.start()
            await one.linked("bob", 2)
            await second.stop()
            while len(two.ups("ada")) < 2 or one.ups("bob")[-1].incarnation != one.ups("bob")[0].incarnation:
                await one.linked("bob", len(one.ups("bob")) + 1)
            await one.mesh.send("bob", b"to the first again")
            await two.mesh.send("ada", b"of the first again")
            assert (await two.payloads("ada", 2))[-1] == b"to the first again"
            assert (await one.payloads("bob", 2))[-1] == b"of the first again"

    asyncio.run(scene())


def test_what_was_queued_before_a_peer_was_ever_seen_arrives() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada")) as (one,):
            await one.mesh.send("bob", b"early")
            async with running(sites.mesh("bob")) as (two,):
                assert await two.payloads("ada", 1) == [b"early"]

    asyncio.run(scene())


def test_two_that_dial_at_once_keep_exactly_one_connection() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        to_bob, to_ada = Proxy(sites.addresses["bob"]), Proxy(sites.addresses["ada"])
        patient = Limits(dial_first_s=0.01, dial_most_s=0.05, flush_s=5.0)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", to_bob.address), limits=patient)
        bob = sites.mesh("bob", roster=sites.reached_at("ada", to_ada.address), limits=patient)
        async with to_bob.running(), to_ada.running():
            for proxy in (to_bob, to_ada):
                proxy.gate.clear()
            async with running(ada, bob) as (one, two):
                await to_bob.until(lambda: to_bob.accepted > 0)
                await to_ada.until(lambda: to_ada.accepted > 0)
                for proxy in (to_bob, to_ada):
                    proxy.gate.set()
                await one.up("bob")
                await two.up("ada")
                for number in range(8):
                    payload = os.urandom(1000 * number)
                    await ada.send("bob", payload)
                    await bob.send("ada", payload)
                    assert (await two.payloads("ada", number + 1))[-1] == payload
                    assert (await one.payloads("bob", number + 1))[-1] == payload
                await to_bob.until(lambda: to_bob.open + to_ada.open == 1)
                await to_ada.until(lambda: to_bob.open + to_ada.open == 1)
                assert one.ups("bob")[-1].nonce == two.ups("ada")[-1].nonce
                assert ada.links()["bob"].state == bob.links()["ada"].state == "up"

    asyncio.run(scene())


def test_a_peer_that_stops_says_so_after_all_that_it_sent() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada"), sites.mesh("bob")) as (one, two):
            await one.up("bob")
            payloads = [os.urandom(600_000) for _ in range(6)]
            for payload in payloads:
                await one.mesh.send("bob", payload)
            await one.stop()
            await two.until(lambda seen: isinstance(seen[-1], LinkClosed))
            assert two.taken("ada") == payloads
            assert two.seen[-1] == LinkClosed("ada", "the peer stopped")

    asyncio.run(scene())


def test_an_owner_that_does_not_read_stops_its_sender_and_loses_nothing() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        tight = Limits(window_bytes=1 << 20, outgoing_bytes=2 << 20, undelivered_bytes=1 << 20, dial_first_s=0.01)
        ada, bob = sites.mesh("ada", limits=tight), sites.mesh("bob", limits=tight)
        async with running(ada) as (one,):
            await bob.start()
            await one.up("bob")
            payload, sent = bytes(256 << 10), 0
            full = asyncio.Event()

            async def send_all() -> None:
                nonlocal sent
                while sent < 40:
                    if not await sends_at_once(ada, "bob", payload):
                        full.set()
                        await ada.send("bob", payload)
                    sent += 1

            sending = asyncio.ensure_future(send_all())
            await full.wait()
            two = Watch(bob)
            assert await two.payloads("ada", 40) == [payload] * 40
            await sending
            await bob.stop(flush_s=0.0)

    asyncio.run(scene())


async def send_all(mesh: Mesh, peer: str, payloads: list[bytes]) -> None:
    for payload in payloads:
        await mesh.send(peer, payload)


@pytest.mark.claim("NET-6")
def test_a_peer_that_takes_nothing_holds_up_no_other_link() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        tight = Limits(window_bytes=1 << 20, outgoing_bytes=2 << 20, undelivered_bytes=1 << 20, dial_first_s=0.01)
        ada, bob, cyd = (sites.mesh(name, limits=tight) for name in ("ada", "bob", "cyd"))
        async with running(ada, cyd) as (one, three):
            await bob.start()  # nobody reads what comes to it
            try:
                await one.up("bob", "cyd")
                payloads = [os.urandom(256 << 10) for _ in range(40)]
                stuck = asyncio.ensure_future(send_all(ada, "bob", payloads))
                await send_all(ada, "cyd", payloads)
                assert await three.payloads("ada", 40) == payloads
                assert not stuck.done()
                assert await Watch(bob).payloads("ada", 40) == payloads
                await stuck
            finally:
                await bob.stop(flush_s=0.0)

    asyncio.run(scene())
