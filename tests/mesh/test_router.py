"""The ROUTER and its endpoints: whole messages by name, bounded in each direction, and ZMTP as libzmq speaks it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import zmq

from p2pfl.mesh.connection import STALE_FRAMES
from p2pfl.mesh.router import MOST_IN, MOST_IN_BYTES, MOST_OUT, Router
from p2pfl.mesh.zmtp import BODY_PART_BYTES, GREETING, READY, Decoder, encode_parts
from tests.mesh.sites import OVERALL_S

Told = list[tuple[str, bytes, bytes]]


def staged(scene: Callable[[Router, Told], Awaitable[None]]) -> None:
    """The scene, with a ROUTER and what it was told."""

    async def run() -> None:
        told: Told = []
        router = Router(lambda peer, header, body: told.append((peer, header, bytes(body))), lambda: None)
        try:
            async with asyncio.timeout(OVERALL_S):
                await scene(router, told)
        finally:
            router.close()

    asyncio.run(run())


def test_messages_go_both_ways_under_the_name_of_the_endpoint() -> None:
    async def scene(router: Router, told: Told) -> None:
        bob, cyd = router.connect("bob"), router.connect("cyd")
        long = bytes(range(256)) * 4096
        said = [(b"one", []), (b"two", [b""]), (b"three", [long]), (b"four", [b"head", long])]
        for header, body in said:
            assert router.send("bob", header, *map(memoryview, body))
        taken = [bob.take() for _ in range(5)]
        assert [(one[0], list(map(bytes, one[1]))) for one in taken if one is not None] == said
        assert taken[4] is None and cyd.take() is None
        assert cyd.give((b"header", memoryview(long))) and bob.give((b"alone", None))
        assert cyd.give((b"short", memoryview(b"x")))
        while len(told) < 3:
            await asyncio.sleep(0)
        assert [one for one in told if one[0] == "cyd"] == [("cyd", b"header", long), ("cyd", b"short", b"x")]
        assert ("bob", b"alone", b"") in told

    staged(scene)


def test_what_was_given_is_the_routers_own_and_may_be_written_over_at_once() -> None:
    """A link's next body lies where the one before lay, and whoever reads late reads what was said."""

    async def scene(router: Router, told: Told) -> None:
        cyd = router.connect("cyd")
        body = bytearray(b"1" * BODY_PART_BYTES)
        assert cyd.give((b"first", memoryview(body)))
        body[:] = b"2" * len(body)
        assert cyd.give((b"second", memoryview(body)))
        body[:] = bytes(len(body))
        while len(told) < 2:
            await asyncio.sleep(0)
        assert [read for _, _, read in told] == [b"1" * BODY_PART_BYTES, b"2" * BODY_PART_BYTES]

    staged(scene)


def test_what_waits_for_a_peer_is_bounded_and_room_comes_back() -> None:
    async def scene(router: Router, told: Told) -> None:
        endpoint = router.connect("bob")
        said = [router.send("bob", b"%d" % number) for number in range(MOST_OUT + 3)]
        assert said == [True] * MOST_OUT + [False] * 3
        assert endpoint.take() == (b"0", [])
        assert router.send("bob", b"again") and not router.send("bob", b"one too many")
        taken = [one[0] for one in iter(endpoint.take, None)]
        assert taken == [*(b"%d" % number for number in range(1, MOST_OUT)), b"again"]

    staged(scene)


def test_what_a_peer_gives_is_bounded_in_messages_and_bytes_until_it_was_read() -> None:
    assert MOST_IN <= STALE_FRAMES  # those of a connection before are forgiven

    async def scene(router: Router, told: Told) -> None:
        endpoint, rooms = router.connect("bob"), list[int]()
        endpoint.attach(lambda: None, lambda: rooms.append(len(told)))
        given = [endpoint.give((b"%d" % number, None)) for number in range(MOST_IN + 2)]
        assert given == [True] * MOST_IN + [False] * 2
        while not rooms:
            await asyncio.sleep(0)
        assert rooms == [MOST_IN]  # once, when all was read
        assert [header for _, header, _ in told] == [b"%d" % number for number in range(MOST_IN)]
        long = memoryview(bytes(BODY_PART_BYTES))
        given = [endpoint.give((b"long", long)) for _ in range(MOST_IN_BYTES // BODY_PART_BYTES)]
        assert all(given) and not endpoint.give((b"one too many", None))
        while len(rooms) < 2:
            await asyncio.sleep(0)
        assert endpoint.give((b"more", None))

    staged(scene)


def test_a_tunnel_takes_nothing_that_was_meant_for_the_one_before() -> None:
    async def scene(router: Router, told: Told) -> None:
        endpoint, woken = router.connect("bob"), list[str]()
        first, second = (lambda: woken.append("first")), (lambda: woken.append("second"))
        endpoint.attach(first, lambda: None)
        router.send("bob", b"for the first")
        endpoint.attach(second, lambda: None)
        assert endpoint.take() is None
        endpoint.detach(first)  # late: it changes nothing
        router.send("bob", b"for the second")
        assert woken == ["first", "second"]
        endpoint.detach(second)
        router.send("bob", b"for nobody")
        assert woken == ["first", "second"]

    staged(scene)


def test_libzmq_says_first_what_we_say_and_reads_our_messages(tmp_path: Path) -> None:
    """A site of another make may have libzmq's own ROUTER at the end of its tunnel."""
    body = bytes(range(256)) * 2
    with socket.socket(socket.AF_UNIX) as listener, zmq.Context(1) as context, context.socket(zmq.ROUTER) as router:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.CONNECT_ROUTING_ID, b"bob")
        router.connect(f"ipc://{tmp_path / 's'}")
        end, _ = listener.accept()
        with end:
            end.settimeout(OVERALL_S)
            end.sendall(GREETING + READY)
            said = b""
            while len(said) < len(GREETING + READY):
                said += end.recv(len(GREETING + READY) - len(said))
            assert said == GREETING + READY
            end.sendall(encode_parts(b"header", len(body)) + body + encode_parts(b"alone", None))
            assert [router.recv_multipart() for _ in range(2)] == [[b"bob", b"header", body], [b"bob", b"alone"]]
            router.send_multipart([b"bob", b"there", body])
            decoder = Decoder()
            decoder.feed(memoryview(said))
            while not decoder.messages:
                decoder.feed(memoryview(end.recv(4096)))
            assert list(decoder.messages) == [(b"there", body)]
