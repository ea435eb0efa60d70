"""Messages that leave together: as few TLS records as they fill, and each is judged as if it had come alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from p2pfl.mesh import Delivered, LinkClosed
from p2pfl.mesh.framing import DATA, FIRST, LAST, PING, Header
from p2pfl.mesh.pump import RECORD_BYTES
from p2pfl.mesh.router import MOST_IN
from p2pfl.mesh.zmtp import GREETING, MOST_HELD, READY, encode_parts
from tests.mesh.sites import OVERALL_S, Sites, running
from tests.mesh.test_awaited import ends
from tests.mesh.test_doctor_port import rogue, until_down, wire

RECORD_COST = 22  # bytes that TLS 1.3 adds to the content of a record


def test_what_one_turn_says_to_a_peer_is_one_record() -> None:
    async def scene() -> None:
        made = await ends()
        before = made.near.bytes_sent
        letters = [(b"h" * 30, bytes([number]) * number) for number in range(60)]
        for header, body in letters:
            assert made.router.send("bob", header, memoryview(body))
        assert made.near.bytes_sent == before, "nothing leaves before the loop's next turn"
        content = b"".join(encode_parts(header, len(body)) + body for header, body in letters)
        assert await made.far.read_exactly(len(content)) == content
        assert made.near.bytes_sent - before == len(content) + RECORD_COST
        made.close()

    asyncio.run(scene())


def test_a_long_body_shares_its_first_record_with_what_stands_before_it() -> None:
    async def scene() -> None:
        made = await ends()
        before, body = made.near.bytes_sent, bytes(range(256)) * 4000
        assert made.router.send("bob", b"small", memoryview(b"letter")) and made.router.send(
            "bob", b"long", memoryview(body)
        )
        content = encode_parts(b"small", 6) + b"letter" + encode_parts(b"long", len(body)) + body
        assert await made.far.read_exactly(len(content)) == content
        assert made.near.bytes_sent - before == len(content) + RECORD_COST * -(-len(content) // RECORD_BYTES)
        made.close()

    asyncio.run(scene())


def test_while_tcp_is_full_the_loop_has_nothing_to_do_for_the_link() -> None:
    async def scene() -> None:
        made, said = await ends(), list[bytes]()
        while not made.near.stalled:
            said.append(len(said).to_bytes(4, "big") + bytes(100_000))
            assert made.router.send("bob", b"header", memoryview(said[-1]))
            await asyncio.sleep(0)
        assert made.router.send("bob", b"one more") and made.router.send("bob", b"and one")
        assert not made.local._send_due
        content = b"".join(encode_parts(b"header", len(body)) + body for body in said)
        content += encode_parts(b"one more", None) + encode_parts(b"and one", None)
        assert await made.far.read_exactly(len(content)) == content
        made.close()

    asyncio.run(scene())


def test_nothing_is_said_before_the_far_end_is_ready() -> None:
    """libzmq at the far end gives its pipe up for good when a message comes before its own READY has left."""

    async def scene() -> None:
        made = await ends(ready=False)
        assert made.router.send("bob", b"early")
        await made.far.write(GREETING + READY[:-1])
        await made.passed(len(GREETING + READY) - 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert made.near.bytes_sent == made.sent_before
        await made.far.write(READY[-1:])
        assert await made.far.read_exactly(7) == encode_parts(b"early", None)
        made.close()

    asyncio.run(scene())


def test_a_record_full_of_the_smallest_messages_is_read_in_turns() -> None:
    """One peer's crowd holds up nobody: between two turns the loop does everything else, and TCP is not read."""

    async def scene() -> None:
        made = await ends()
        count = 40 * MOST_IN
        said = [b"%d" % number for number in range(count)]
        await made.far.write(b"".join(encode_parts(header, None) for header in said))
        most = held = 0
        async with asyncio.timeout(OVERALL_S):
            while held < count:
                await asyncio.sleep(0)
                most, held = max(most, len(made.told) - held), len(made.told)
        assert made.told == said
        assert most <= 2 * MOST_IN, f"{most} in one turn"
        await made.far.write(encode_parts(b"and on", None))
        await made.whole(*said, b"and on")
        made.close()

    asyncio.run(scene())


def test_a_crowd_of_the_smallest_messages_takes_neither_memory_nor_the_loop() -> None:
    """A thousandth of what has come is made into messages at a time; the rest waits as it came, and TCP is not read."""

    async def scene() -> None:
        made = await ends()
        count, smallest = 20_000, encode_parts(b"", None)
        await made.far.write(smallest * count)
        most = 0
        async with asyncio.timeout(OVERALL_S):
            while len(made.told) < count:
                await asyncio.sleep(0)
                most = max(most, len(made.local._decoder.messages))
        assert most <= MOST_HELD, f"{most} messages were made before anybody took them"
        await made.far.write(encode_parts(b"and on", None))
        await made.whole(*[b""] * count, b"and on")
        made.close()

    asyncio.run(scene())


def test_what_is_no_zmtp_behind_a_crowd_ends_the_tunnel_all_the_same() -> None:
    async def scene() -> None:
        made = await ends()
        said = [b"%d" % number for number in range(5 * MOST_IN)]
        await made.far.write(b"".join(encode_parts(header, None) for header in said) + b"\x04\x07")
        async with asyncio.timeout(OVERALL_S):
            while not made.ended:
                await asyncio.sleep(0)
        assert made.told == said[: len(made.told)] and made.ended == [made.ended[0]]
        assert made.ended[0].startswith("malformed ZMTP: flags 0x04")
        made.close()

    asyncio.run(scene())


def test_a_tunnel_that_is_over_keeps_no_part_that_had_begun() -> None:
    async def scene() -> None:
        made = await ends()
        begun = encode_parts(b"header", 1 << 20) + bytes(9)
        await made.far.write(begun)
        await made.passed(len(begun))
        assert made.local.lacking == (1 << 20) - 9
        made.near.close()
        assert not made.local.lacking and not made.local.full
        made.close()

    asyncio.run(scene())


def test_of_a_record_with_a_part_that_is_no_zmtp_no_message_counts() -> None:
    """As before: what is checked is what came together, and the sender says the rest again on the next link."""

    async def scene() -> None:
        made = await ends()
        await made.far.write(encode_parts(b"good", None) + b"\x04\x07" + encode_parts(b"good too", None))
        async with asyncio.timeout(OVERALL_S):
            while not made.ended:
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert made.told == [] and made.ended[0].startswith("malformed ZMTP")
        made.close()

    asyncio.run(scene())


def data(opened: Any, number: int, body: bytes, flags: int = FIRST | LAST) -> bytes:
    return wire(Header(DATA, flags, opened.tag, number, 0, len(body) if flags & FIRST else 0), body)


@pytest.mark.claim("NET-7")
@pytest.mark.parametrize("bad", ["gap", "unknown kind", "another link's", "never sent"])
def test_a_bad_frame_amid_good_ones_ends_the_link_and_those_before_it_count(bad: str) -> None:
    """Its sender is named; what it said before is judged as what came alone, and what stood behind it is not heard."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada, sites.mesh("cyd")) as (watch, cyd):
            await cyd.up("ada")
            async with rogue(sites) as (tunnel, opened):
                worst = {
                    "gap": data(opened, 7, b"seven"),
                    "unknown kind": wire(Header(200, 0, opened.tag, 0, 0, 0)),
                    "another link's": wire(Header(PING, 0, bytes(8), 0, 0, 0)),
                    "never sent": wire(Header(PING, 0, opened.tag, 0, 1 << 40, 0)),
                }[bad]
                with contextlib.suppress(OSError):
                    await tunnel.write(
                        data(opened, 0, b"zero") + data(opened, 1, b"one") + worst + data(opened, 2, b"two")
                    )
                assert await until_down(watch) == "malformed frame"
            error = ada.links()["bob"].last_error
            assert error is not None and (error.code, error.fields["peer"]) == ("P2P-MESH-019", "bob")
            assert [one.payload for one in watch.seen if isinstance(one, Delivered)] == [b"zero", b"one"]
            await cyd.mesh.send("ada", b"still here")
            assert await watch.payloads("cyd", 1) == [b"still here"]
            assert [one.peer for one in watch.seen if isinstance(one, LinkClosed)] == ["bob"]

    asyncio.run(scene())


def test_a_frame_that_is_repeated_beside_itself_is_heard_once() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None))
        async with running(ada) as (watch,), rogue(sites) as (tunnel, opened):
            zero, one = data(opened, 0, b"zero"), data(opened, 1, b"one")
            await tunnel.write(zero + zero + one + zero + one + data(opened, 2, b"two"))
            assert await watch.payloads("bob", 3) == [b"zero", b"one", b"two"]
            assert not [each for each in watch.seen if isinstance(each, LinkClosed)]

    asyncio.run(scene())
