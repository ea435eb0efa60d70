"""Frames: exactly once, in order, whatever is cut and whenever; and nothing malformed gets in."""

from __future__ import annotations

import tracemalloc
from array import array
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.mesh import framing
from p2pfl.mesh.framing import (
    ACK,
    DATA,
    FIRST,
    FRAME_COST,
    LAST,
    PAYLOAD_BYTES,
    PING,
    Header,
    Incoming,
    MalformedFrame,
    Outgoing,
    cut,
)
from tests.examples import examples

TAG = b"link-tag"
WINDOW = 8 << 20
LARGE = memoryview(bytes(1 << 20))
EMPTY = memoryview(b"")


def header(number: int, flags: int = FIRST | LAST, total: int = 0, acknowledged: int = 0) -> Header:
    return Header(DATA, flags, TAG, number, acknowledged, total)


class Wire:
    """Two ends and the frames between them. Cutting loses what is on its way, in both directions."""

    def __init__(self, window: int) -> None:
        self.sender, self.taker = Outgoing(window), Incoming(window)
        self.there: deque[tuple[Header, memoryview]] = deque()
        self.back: deque[int] = deque()
        self.taken: list[bytes] = []

    def send(self, *, bulk: bool = True) -> None:
        while (frame := self.sender.next_frame(bulk=bulk)) is not None:
            self.there.append((header(frame.number, frame.flags, frame.total), frame.body))
            self.sender.mark_sent()

    def deliver(self) -> None:
        if self.there:
            payload = self.taker.receive(*self.there.popleft())
            if payload is not None:
                self.taken.append(payload)

    def acknowledge(self) -> None:
        self.taker.mark_acknowledged()
        self.back.append(self.taker.expected)

    def hear(self) -> None:
        if self.back:
            self.sender.acknowledge(self.back.popleft())

    def cut(self, said: int | None = None) -> None:
        """A new link; `said` is the number in a hello that was written before later acknowledgements arrived."""
        self.there.clear()
        self.back.clear()
        self.sender.resume(self.taker.expected if said is None else said)
        self.taker.resume()


STEPS = st.lists(
    st.sampled_from(["letter", "bulk", "send", "send letters", "deliver", "acknowledge", "hear", "cut", "late cut"]),
    max_size=80,
)


@examples(200)
@given(steps=STEPS, sizes=st.lists(st.integers(0, 40), min_size=1, max_size=20), window=st.integers(1, 40_000))
def test_each_class_arrives_once_and_in_order_whatever_overtakes_and_is_cut(
    steps: list[str], sizes: list[int], window: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:  # small frames, so that short payloads have several
        patch.setattr(framing, "CUT_BYTES", 8)
        patch.setattr(framing, "LEAST_CUT_BYTES", 8)
        patch.setattr(framing, "RESERVED_BYTES", window // 4)
        patch.setattr(framing, "MOST_OVERTAKING", 300)
        wire, hello = Wire(window), 0
        offered: dict[str, list[bytes]] = {"letter": [], "bulk": []}
        said: list[bytes] = []

        def taken(kind: str) -> list[bytes]:
            return [payload for payload in wire.taken if (payload[:1] == b"b") == (kind == "bulk")]

        for index, step in enumerate(steps):
            if step in offered:
                payload = step[:1].encode() + bytes([index]) * (1 + sizes[index % len(sizes)])
                offered[step].append(payload)
                said.append(payload)
                wire.sender.queue_payload(payload, bulk=step == "bulk")
            elif step == "late cut":
                wire.cut(hello)
            elif step == "send letters":
                wire.send(bulk=False)
            else:
                getattr(wire, step)()
            if step == "cut":
                hello = wire.taker.expected
            assert wire.sender.in_flight <= max(window, 8 + FRAME_COST)
            assert all(taken(kind) == all_of[: len(taken(kind))] for kind, all_of in offered.items())
        while wire.sender.queued:
            wire.send()
            wire.deliver()
            wire.acknowledge()
            wire.hear()
        assert {kind: taken(kind) for kind in offered} == offered
        for place, payload in enumerate(wire.taken):
            bulk_before = [each for each in wire.taken[:place] if each[:1] == b"b"]
            assert payload[:1] == b"b" or all(said.index(each) < said.index(payload) for each in bulk_before)
        assert wire.sender.confirmed == sum(map(len, offered["letter"] + offered["bulk"]))


def test_a_letter_overtakes_all_bulk_of_which_nothing_was_sent() -> None:
    wire, long = Wire(1 << 30), bytes(3 << 20)
    for payload in (b"bulk 1" + long, b"bulk 2" + long):
        wire.sender.queue_payload(payload, bulk=True)
    assert wire.sender.next_frame() is not None
    wire.sender.mark_sent()  # the rest of a payload that has begun comes first: nothing may come between its frames
    wire.there.append((header(0, FIRST, len(long) + 6), memoryview(b"bulk 1" + bytes((1 << 20) - 6))))
    for payload in (b"letter 1", b"letter 2"):
        wire.sender.queue_payload(payload)
    wire.send()
    while wire.there:
        wire.deliver()
    assert [payload[:8].rstrip(bytes(1)) for payload in wire.taken] == [b"bulk 1", b"letter 1", b"letter 2", b"bulk 2"]


def test_bulk_gets_through_beside_letters_without_end() -> None:
    sender, ahead = Outgoing(1 << 30), 0
    for _ in range(4):
        sender.queue_payload(bytes(512 << 10), bulk=True)
    for _ in range(200):
        sender.queue_payload(bytes(64 << 10))
    while sender._bulk:
        frame = sender.next_frame()
        assert frame is not None
        sender.mark_sent()
        ahead = 0 if frame.size > 64 << 10 else ahead + frame.cost
        assert ahead < framing.MOST_OVERTAKING + frame.cost


def test_no_bulk_overtakes_a_letter_that_was_queued_before_it() -> None:
    """A sum's digest is said before its words, and words without one are let go."""
    sender, sizes = Outgoing(WINDOW), []
    for _ in range(4):
        sender.queue_payload(bytes(512 << 10))
    sender.queue_payload(b"digest")
    sender.queue_payload(b"its words", bulk=True)
    while (frame := sender.next_frame()) is not None:
        sizes.append(frame.size)
        sender.mark_sent()
    assert sizes == [*[512 << 10] * 4, len(b"digest"), len(b"its words")]


def test_letters_that_keep_the_window_full_let_bulk_in() -> None:
    sender, ahead = Outgoing(WINDOW), 0
    for _ in range(200):
        sender.queue_payload(bytes(64 << 10))
    while sender.next_frame() is not None:
        sender.mark_sent()
    sender.queue_payload(bytes(512 << 10), bulk=True)
    for number in range(1000):
        sender.queue_payload(bytes(64 << 10))
        sender.acknowledge(number + 1)
        while (frame := sender.next_frame()) is not None:
            sender.mark_sent()
            ahead += frame.size
        if not sender._bulk:
            break
    assert ahead < WINDOW + 2 * framing.MOST_OVERTAKING


def test_bulk_that_fills_its_part_of_the_window_leaves_room_for_letters() -> None:
    sender = Outgoing(WINDOW)
    for _ in range(32):
        sender.queue_payload(bytes(512 << 10), bulk=True)
    while sender.next_frame() is not None:
        sender.mark_sent()
    assert WINDOW - sender.in_flight >= framing.RESERVED_BYTES
    sender.queue_payload(b"a vote")
    frame = sender.next_frame()
    assert frame is not None
    assert bytes(frame.body) == b"a vote"


@examples(100)
@given(numbers=st.lists(st.integers(0, 12), max_size=40))
def test_frames_that_come_again_or_out_of_order_never_change_what_is_delivered(numbers: list[int]) -> None:
    taker, taken = Incoming(WINDOW), []
    for number in numbers:
        body = memoryview(bytes([number]))
        if number > taker.expected:
            with pytest.raises(MalformedFrame, match="belongs"):
                taker.receive(header(number, total=1), body)
            continue
        payload = taker.receive(header(number, total=1), body)
        if payload is not None:
            taken.append(payload)
    assert taken == [bytes([number]) for number in range(taker.expected)]


def test_a_large_payload_is_cut_and_put_together_again() -> None:
    wire = Wire(1 << 30)
    payload = bytes(range(256)) * (PAYLOAD_BYTES // 256)
    wire.sender.queue_payload(payload)
    wire.send()
    assert len(wire.there) == PAYLOAD_BYTES // framing.CUT_BYTES
    while wire.there:
        wire.deliver()
    assert wire.taken == [payload]


@pytest.mark.parametrize("frames", [2, 5, framing.GROWN_BYTES >> 20, (framing.GROWN_BYTES >> 20) + 1, 16])
def test_a_payload_is_never_held_twice_neither_while_it_arrives_nor_when_it_is_whole(frames: int) -> None:
    taker, whole = Incoming(1 << 30), frames << 20
    tracemalloc.start()
    try:
        for number in range(frames):
            flags, total = (FIRST, whole) if number == 0 else (LAST if number == frames - 1 else 0, 0)
            payload = taker.receive(header(number, flags, total), LARGE)
        assert payload is not None
        assert len(payload) == whole
        assert tracemalloc.get_traced_memory()[1] < 1.1 * whole
    finally:
        tracemalloc.stop()


def test_a_length_that_is_announced_takes_no_memory_before_its_frames_come() -> None:
    taker = Incoming(1 << 30)
    tracemalloc.start()
    try:
        assert taker.receive(header(0, FIRST, framing.GROWN_BYTES), LARGE) is None
        assert tracemalloc.get_traced_memory()[1] < 1.1 * len(LARGE)
    finally:
        tracemalloc.stop()


@given(sizes=st.lists(st.integers(0, 30), max_size=6), size=st.integers(1, 20))
def test_parts_are_cut_as_the_whole_would_be_and_nothing_is_copied(sizes: list[int], size: int) -> None:
    parts = [memoryview(bytes([index] * length)) for index, length in enumerate(sizes)]
    whole = b"".join(parts)
    found = [b"".join(pieces) for pieces in cut(parts, size)]
    assert found == [whole[start : start + size] for start in range(0, max(len(whole), 1), size)]
    held = {id(part.obj) for part in parts}
    assert all(id(piece.obj) in held for pieces in cut(parts, size) for piece in pieces)


def test_a_payload_given_in_parts_arrives_as_one_and_no_part_is_held_in_a_copy() -> None:
    wire, words = Wire(1 << 30), array("I", range(1 << 20))
    wire.sender.queue_payload([b"head", memoryview(words), b"tail"])
    tracemalloc.start()
    try:
        frames = 0
        while (frame := wire.sender.next_frame()) is not None:
            payload = wire.taker.receive(header(frame.number, frame.flags, frame.total), frame.body)
            wire.sender.mark_sent()
            frames += 1
        assert payload == b"head" + words.tobytes() + b"tail"
        del payload
        assert frames == 5
        assert tracemalloc.get_traced_memory()[0] < 1 << 17
    finally:
        tracemalloc.stop()


def test_a_large_payload_in_one_frame_is_a_view_to_which_nobody_may_write() -> None:
    taker, body = Incoming(WINDOW), bytearray(framing.LEAST_VIEWED_BYTES)
    payload = taker.receive(header(0, total=len(body)), memoryview(body))
    assert isinstance(payload, memoryview) and payload.obj is body and payload.readonly


def test_a_small_payload_is_no_view_of_its_frame() -> None:
    taker, body = Incoming(WINDOW), bytearray(framing.LEAST_VIEWED_BYTES - 1)
    assert taker.receive(header(0, total=len(body)), memoryview(body)) == bytes(body)
    body.append(0)  # nobody looks into it


def test_a_head_and_its_words_leave_apart_and_many_pieces_as_one() -> None:
    sender = Outgoing(WINDOW)
    for parts in ([b"head", b"words"], [b"a", b"b", b"c"], []):
        sender.queue_payload(parts)
    sent = []
    while (frame := sender.next_frame()) is not None:
        sent.append(list(map(bytes, frame.parts)))
        sender.mark_sent()
    assert sent == [[b"head", b"words"], [b"abc"], [b""]]


def test_a_payload_over_the_limit_is_not_queued() -> None:
    sender = Outgoing(WINDOW)
    with pytest.raises(ValueError, match="at most"):
        sender.queue_payload(bytes(PAYLOAD_BYTES + 1))
    assert sender.queued == 0


def test_an_acknowledgement_of_what_was_never_sent_is_malformed() -> None:
    sender = Outgoing(WINDOW)
    sender.queue_payload(b"one")
    with pytest.raises(MalformedFrame, match="never sent"):
        sender.acknowledge(1)
    assert sender.next_frame() is not None
    sender.mark_sent()
    sender.acknowledge(1)
    with pytest.raises(MalformedFrame, match="never sent"):
        sender.resume(2)


@pytest.mark.parametrize(
    ("frames", "evidence"),
    [
        ([(header(1), EMPTY)], "where 0 belongs"),
        ([(header(0, LAST), EMPTY)], "none has begun"),
        ([(header(0, FIRST, 2 << 20), LARGE), (header(1, FIRST, 2 << 20), LARGE)], "begins before another ends"),
        ([(header(0, FIRST, 2 << 20), EMPTY)], "in the middle"),
        ([(header(0, FIRST, 2 << 20), memoryview(bytes((1 << 20) + 1)))], "in the middle"),
        ([(header(0, total=5), memoryview(b"1234"))], "4 bytes of a payload of 5"),
        ([(header(0, total=5), memoryview(b"123456"))], "6 bytes of a payload of 5"),
        ([(header(0, FIRST, (1 << 20) + 1), LARGE), (header(1, LAST), memoryview(b"12"))], "of a payload of 1048577"),
        ([(header(n, FIRST if n == 0 else 0, PAYLOAD_BYTES if n == 0 else 0), LARGE) for n in range(12)], "window"),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused(frames: list[tuple[Header, memoryview]], evidence: str) -> None:
    taker = Incoming(WINDOW)
    with pytest.raises(MalformedFrame, match=evidence):
        for frame in frames:
            taker.receive(*frame)


def test_a_sender_that_waits_for_acknowledgements_may_send_on() -> None:
    taker = Incoming(WINDOW)
    for number in range(16):
        taker.receive(
            header(number, FIRST if number == 0 else 0, PAYLOAD_BYTES if number == 0 else 0)
            if number < 15
            else header(number, LAST),
            LARGE,
        )
        taker.mark_acknowledged()
    assert taker.expected == 16


GOOD = header(7, FIRST, 1 << 20, acknowledged=3)


def test_a_header_reads_back() -> None:
    assert Header.decode(GOOD.encode()) == GOOD
    assert len(GOOD.encode()) == 30


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        GOOD.encode()[:-1],
        GOOD.encode() + b"\0",
        replace(GOOD, kind=0).encode(),
        replace(GOOD, kind=6).encode(),
        replace(GOOD, flags=4).encode(),
        replace(GOOD, total=PAYLOAD_BYTES + 1).encode(),
        replace(GOOD, flags=LAST).encode(),
        replace(GOOD, kind=ACK).encode(),
        replace(GOOD, kind=PING, flags=0).encode(),
    ],
)
def test_a_malformed_header_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedFrame):
        Header.decode(raw)


@given(raw=st.binary(max_size=40))
def test_any_bytes_are_a_header_or_are_refused(raw: bytes) -> None:
    try:
        found = Header.decode(raw)
    except MalformedFrame:
        return
    assert found.encode() == raw


def test_no_bulk_overtakes_a_large_letter_that_waits_for_room_in_the_window() -> None:
    """Members, Handed or Root of more than half a mebibyte; behind it the digest that fixes the words."""
    sender, left = Outgoing(WINDOW), WINDOW - (600 << 10)
    while left > FRAME_COST:
        size = min(left, 1 << 20) - FRAME_COST
        sender.queue_payload(bytes(size), bulk=True)
        left -= size + FRAME_COST
    while sender.next_frame() is not None:
        sender.mark_sent()
    sender.queue_payload(b"set" + bytes(1 << 20))
    sender.queue_payload(b"digest")
    sender.queue_payload(b"words" + bytes(60 << 10), bulk=True)
    frame = sender.next_frame()
    assert frame is None, bytes(frame.body[:5])
