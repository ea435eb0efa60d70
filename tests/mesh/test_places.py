"""Bytes that are decrypted to their place: wherever records and packets are cut, and whoever reads late."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.mesh import router
from p2pfl.mesh.pump import CHUNK_BYTES, RECORD_BYTES
from p2pfl.mesh.router import MOST_IN, MOST_IN_BYTES
from p2pfl.mesh.zmtp import BODY_PART_BYTES, LEAST_SPARED, encode_parts
from tests.examples import examples
from tests.mesh.test_awaited import WAIT_S, Ends, ends

Views = list[tuple[bytes, memoryview]]


def messages(lengths: list[int], seed: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Messages of bodies so long, and all of them as the far end says them."""
    drawn = random.Random(seed)
    said = [(b"%d" % number, drawn.randbytes(length)) for number, length in enumerate(lengths)]
    return said, b"".join(encode_parts(header, len(body)) + body for header, body in said)


def sealed(made: Ends, content: bytes, sizes: list[int]) -> bytes:
    """The far end's TLS records of `content`, so long by turns."""
    wire, at, turn = bytearray(), 0, 0
    while at < len(content):
        size = sizes[turn % len(sizes)]
        made.far._encrypt(memoryview(content)[at : at + size])
        wire += made.far._out.read()
        at, turn = at + size, turn + 1
    return bytes(wire)


async def told(views: Views, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(views) < count:
            await asyncio.sleep(0)


def staged(scene: Callable[[Ends, Views], Awaitable[None]]) -> None:
    """With both ends of a link, and what the ROUTER's owner was given and still looks at."""

    async def run() -> None:
        made, views = await ends(), Views()
        made.router._on_message = lambda peer, header, body: views.append((header, body))
        try:
            await scene(made, views)
        finally:
            made.close()

    asyncio.run(run())


LENGTHS = st.one_of(
    st.integers(0, 300),
    st.integers(RECORD_BYTES - 2, RECORD_BYTES + 2),
    st.integers(LEAST_SPARED - 1, LEAST_SPARED + 1),
    st.integers(LEAST_SPARED, 5 * LEAST_SPARED),
)
RECORDS = st.lists(st.one_of(st.integers(60, 600), st.just(RECORD_BYTES)), min_size=1, max_size=4)
PACKETS = st.lists(st.sampled_from([1, 30, 1000, RECORD_BYTES + 22, 100_000, CHUNK_BYTES]), min_size=1, max_size=6)


@given(st.lists(LENGTHS, min_size=1, max_size=12), RECORDS, PACKETS, st.sampled_from([1, 100_000, MOST_IN_BYTES]))
@examples(20)
def test_what_was_given_stays_what_was_said_wherever_it_was_cut(
    lengths: list[int], records: list[int], packets: list[int], most: int
) -> None:
    """Its owner keeps all of it, though memory of one body serves the next; it takes as much at once as it likes."""
    said, content = messages(lengths, len(lengths))

    async def scene(made: Ends, views: Views) -> None:
        wire, loop, at, turn = sealed(made, content, records), asyncio.get_running_loop(), 0, 0
        while at < len(wire):
            size = packets[turn % len(packets)] if turn < 200 else CHUNK_BYTES
            await loop.sock_sendall(made.far._tcp, wire[at : at + size])
            at, turn = at + size, turn + 1
        await told(views, len(said))
        assert [(header, bytes(body)) for header, body in views] == said
        assert not made.ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router, "MOST_IN_BYTES", most)
        staged(scene)


def test_what_came_with_the_end_is_given_before_it_is_told_also_to_who_reads_late() -> None:
    said, content = messages([10] * (2 * MOST_IN), 0)

    async def scene(made: Ends, views: Views) -> None:
        wire = sealed(made, content, [RECORD_BYTES])
        with contextlib.suppress(ssl.SSLWantReadError):  # it waits for no answer
            made.far._ssl.unwrap()
        wire += made.far._out.read()
        assert made.far._tcp.send(wire) == len(wire)  # near has all of it at once, and its owner reads half at once
        async with asyncio.timeout(WAIT_S):
            while not made.ended:
                await asyncio.sleep(0)
        await told(views, len(said))
        assert [(header, bytes(body)) for header, body in views] == said
        assert made.ended == ["closed by the far end: None"]

    staged(scene)


def test_a_link_on_which_nothing_comes_holds_no_memory_for_a_body() -> None:
    async def scene(made: Ends, views: Views) -> None:
        said, content = messages([BODY_PART_BYTES], 1)
        await made.far.write(content)
        await told(views, len(said))
        assert made.local._decoder._spare is not None
        made.near.look()
        assert made.local._decoder._spare is None and not made.local._decoder.room

    staged(scene)
