"""Letters overtake bulk on a link, and nothing is lost or comes twice: real sockets."""

from __future__ import annotations

import asyncio
import fcntl
import sys
from typing import Final

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from p2pfl.mesh.local_ends import RouterEnd
from p2pfl.mesh.pump import UNSENT_BYTES
from p2pfl.mesh.router import Router
from tests.examples import examples
from tests.mesh.pair import through_a_proxy
from tests.mesh.sites import Watch
from tests.mesh.tcp_proxy import UNLIMITED
from tests.mesh.test_wakeups import tunnels

WORDS = bytes(512 << 10)  # of a chunk
SIOCOUTQNSD: Final = 0x894B  # linux/sockios.h: bytes of a socket that were not sent yet


def of(watch: Watch, peer: str, kind: bytes) -> list[bytes]:
    """The payloads of one class, which begins so, in the order in which they came."""
    return [payload for payload in watch.taken(peer) if payload.startswith(kind)]


def test_a_letter_does_not_wait_for_the_bulk_that_was_given_before_it() -> None:
    """TCP is held up; what it and ZeroMQ hold by then stands before the letter, and nothing else."""

    async def scene() -> None:
        async with through_a_proxy() as pair:
            ada, at_bob = pair.ada, pair.at_bob
            await pair.at_ada.up("bob")
            await ada.send("bob", b"hello")
            await at_bob.payloads("ada", 1)
            pair.proxy.flow.clear()
            for number in range(48):
                await ada.send("bob", b"bulk %d" % number + WORDS, bulk=True)
            link = ada._links["bob"]
            while link.tunnel is None or not (link.tunnel.stalled or link._outgoing.next_frame() is None):
                await asyncio.sleep(0)  # until TCP or the window takes no more
            await ada.send("bob", b"letter")
            pair.proxy.flow.set()
            taken = await at_bob.payloads("ada", 50)
            # A window of 8 MiB is sent at most before anything is acknowledged.
            assert taken.index(b"letter") <= 18
            assert [payload[: -len(WORDS)] for payload in of(at_bob, "ada", b"bulk")] == [
                b"bulk %d" % k for k in range(48)
            ]

    asyncio.run(scene())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much TCP has not sent is asked of Linux")
def test_tcp_holds_little_that_is_not_on_its_way() -> None:
    """The far end reads nothing. All that TCP has not sent stands before the next letter."""

    async def scene() -> None:
        near, far = await tunnels(0)
        router = Router(lambda peer, header, body: None, lambda: None)
        near.start(RouterEnd(router.connect("bob"), lambda count: None), lambda *why: None)
        while not near.stalled:
            near.send(WORDS)
        unsent = int.from_bytes(fcntl.ioctl(near._tcp, SIOCOUTQNSD, bytes(4)), sys.byteorder)
        assert 0 < unsent <= UNSENT_BYTES + (64 << 10)  # TCP looks before it takes a segment
        near.close()
        far.close()
        router.close()

    asyncio.run(scene())


@pytest.mark.claim("NET-6")
@examples(6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(st.integers(12_000, 3_000_000), min_size=1, max_size=6),
    st.lists(st.tuples(st.booleans(), st.sampled_from([0, 3_000, 500_000, 1_200_000])), min_size=4, max_size=16),
)
def test_wherever_connections_are_cut_each_class_arrives_once_and_in_its_order(
    places: list[int], given: list[tuple[bool, int]]
) -> None:
    async def scene() -> None:
        left = list(places)
        said = [
            (bulk, (b"bulk %d " if bulk else b"letter %d ") % k + bytes(size)) for k, (bulk, size) in enumerate(given)
        ]
        async with through_a_proxy(lambda: left.pop(0) if left else UNLIMITED) as pair:
            ada, at_bob = pair.ada, pair.at_bob
            for bulk, payload in said:
                await ada.send("bob", payload, bulk=bulk)
            await at_bob.payloads("ada", len(said))
            await ada.send("bob", b"letter: end")
            await at_bob.payloads("ada", len(said) + 1)
            for bulk, kind in ((True, b"bulk"), (False, b"letter")):
                end = [] if bulk else [b"letter: end"]
                assert of(at_bob, "ada", kind) == [payload for one, payload in said if one == bulk] + end

    asyncio.run(scene())
