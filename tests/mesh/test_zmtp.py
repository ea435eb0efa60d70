"""The decoder reads what libzmq's ROUTER would say to us, in whatever pieces it comes, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.mesh.zmtp import (
    BODY_PART_BYTES,
    GREETING,
    LEAST_SPARED,
    MOST_HELD,
    READY,
    Decoder,
    MalformedZmtp,
    encode_parts,
)
from tests.examples import examples


def ready(*properties: tuple[bytes, bytes]) -> bytes:
    body = b"\x05READY" + b"".join(
        bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value for name, value in properties
    )
    return bytes([4, len(body)]) + body


def part(size: int, *, more: bool = False) -> bytes:
    if size < 256:
        return bytes([int(more), size]) + bytes(size)
    return bytes([2 | int(more)]) + size.to_bytes(8, "big") + bytes(size)


def feed(data: bytes, pieces: list[int] | None = None) -> Decoder:
    decoder, view = Decoder(), memoryview(data)
    for size in pieces or []:
        decoder.feed(view[:size])
        view = view[size:]
    decoder.feed(view)
    return decoder


SPOKEN = GREETING + READY + part(30) + part(30, more=True) + part(300) + part(30, more=True) + part(0) + part(30)


@examples(200)
@given(pieces=st.lists(st.integers(1, 40), max_size=40))
def test_what_we_speak_passes_in_whatever_pieces_it_comes(pieces: list[int]) -> None:
    decoder = feed(SPOKEN, pieces)
    assert decoder.ready
    bodies = [None, bytes(300), b"", None]
    assert list(decoder.messages) == [(bytes(30), body) for body in bodies]
    with pytest.raises(MalformedZmtp, match="after READY"):  # it stands between two messages, and reads on from there
        decoder.feed(memoryview(b"\x04\x07"))


def test_the_specification_has_the_bytes_that_are_said_first() -> None:
    spec = (Path(__file__).parents[2] / "docs/spec/wire.md").read_text(encoding="utf-8")
    for name, said in (("greeting", GREETING), ("READY", READY)):
        written = re.search(rf"^    {name} +(.+)$", spec, re.MULTILINE)
        assert written is not None
        spelled = re.sub(r"\((\d+) zeros\)", lambda zeros: "00" * int(zeros[1]), written[1])
        assert bytes.fromhex(spelled) == said


@pytest.mark.parametrize("size", [None, 0, 1, 255, 256, 65_536, BODY_PART_BYTES])
def test_what_is_written_is_read(size: int | None) -> None:
    header, body = b"h" * 30, b"b" * (size or 0)
    decoder = feed(GREETING + READY + encode_parts(header, size) + body)
    assert list(decoder.messages) == [(header, body if size is not None else None)]
    assert not decoder.lacking


def test_a_message_is_there_once_it_is_whole_and_not_before() -> None:
    decoder = feed(GREETING + READY + part(30, more=True) + part(300)[:-1])
    assert not decoder.messages and decoder.lacking == 1
    decoder.feed(memoryview(b"!"))
    assert list(decoder.messages) == [(bytes(30), bytes(299) + b"!")]


@examples(100)
@given(fed=st.lists(st.integers(1, 400), max_size=8), placed=st.lists(st.booleans(), max_size=8))
def test_a_body_is_the_same_whether_it_is_fed_or_placed(fed: list[int], placed: list[bool]) -> None:
    """Bytes may be decrypted to where they belong: what is placed there is fed no more."""
    body = bytes(range(256)) * 5
    decoder = feed(GREETING + READY + encode_parts(b"h", len(body)))
    view = memoryview(body)
    for size, direct in zip(fed, placed, strict=False):
        size = min(size, len(view))
        if direct and size:
            decoder.room[:size] = view[:size]
            decoder.placed(size)
        else:
            decoder.feed(view[:size])
        view = view[size:]
        assert decoder.lacking == len(decoder.room) == len(view)
    decoder.feed(view)
    assert list(decoder.messages) == [(b"h", body)]


def test_memory_of_a_large_body_serves_the_next_one_only_when_it_is_given_back() -> None:
    decoder = feed(GREETING + READY)

    def read(letter: bytes) -> memoryview:
        decoder.feed(memoryview(encode_parts(b"h", LEAST_SPARED) + letter * LEAST_SPARED))
        body = decoder.messages.popleft()[1]
        assert body is not None and bytes(body) == letter * LEAST_SPARED
        return body

    first = read(b"1")
    second = read(b"2")
    assert bytes(first) == b"1" * LEAST_SPARED
    decoder.spare(first)
    third = read(b"3")
    assert third.obj is first.obj and bytes(second) == b"2" * LEAST_SPARED
    decoder.spare(third)
    decoder.rest()
    assert read(b"4").obj is not third.obj


def test_a_body_of_a_mebibyte_passes_and_one_more_byte_does_not() -> None:
    decoder = feed(GREETING + READY + part(30, more=True) + part(BODY_PART_BYTES))
    decoder.feed(memoryview(part(30)))
    with pytest.raises(MalformedZmtp, match="a part of 1048577 bytes"):
        feed(GREETING + READY + part(30, more=True) + part(BODY_PART_BYTES + 1)[:9])


@pytest.mark.parametrize(
    ("data", "evidence"),
    [
        (b"GET / HTTP/1.1\r\n" + bytes(64), "signature"),
        (GREETING.replace(b"\x03\x01", b"\x02\x01"), "version 2"),
        (GREETING.replace(b"NULL", b"CURV"), "mechanism"),
        (GREETING.replace(b"NULL\0", b"PLAIN"), "mechanism"),
        (GREETING[:-1] + b"\x01", "filler"),
        (GREETING + part(3), "where READY belongs"),
        (GREETING + b"\x04\x06\x05ERROR" + bytes(2), "not READY"),
        (GREETING + ready((b"Socket-Type", b"DEALER")), "READY of b'DEALER'"),
        (GREETING + ready((b"Socket-Type", b"ROUTER"), (b"X-Other", b"1")), "2 properties"),
        (GREETING + ready((b"Socket-Type", b"ROUTER"), (b"Socket-Type", b"ROUTER")), "do not add up"),
        (GREETING + ready((b"Socket-Type", b"ROUTER"), (b"Identity", b"bob")), "2 properties"),
        (GREETING + b"\x04\x0a\x05READY\xff\xff\xff\xff", "do not add up"),
        (GREETING + ready(), "READY of None"),
        (GREETING + READY + READY, "after READY"),
        (GREETING + READY + b"\x04\x07\x04PING" + bytes(2), "after READY"),
        (GREETING + READY + b"\x08\x00", "after READY"),
        (GREETING + READY + part(65), "a part of 65 bytes"),
        (GREETING + READY + part(30, more=True) + part(30, more=True), "third part"),
        (GREETING + READY + b"\x02" + (30).to_bytes(8, "big"), "long form"),
        (GREETING + READY + b"\x03" + b"\xff" * 8, "a part of"),
    ],
)
def test_what_we_do_not_speak_is_refused(data: bytes, evidence: str) -> None:
    with pytest.raises(MalformedZmtp, match=evidence):
        feed(data)


def test_parts_without_end_are_refused_at_the_second_more() -> None:
    decoder = Decoder()
    decoder.feed(memoryview(GREETING + READY))
    fed = 0
    with pytest.raises(MalformedZmtp):
        while fed < 1 << 30:
            decoder.feed(memoryview(part(8, more=True)))
            fed += 10
    assert fed <= 20


def test_no_more_is_read_than_is_taken() -> None:
    """The smallest message has two bytes: of a piece of a stream no more are made than somebody waits for."""
    decoder = feed(GREETING + READY)
    crowd = memoryview(part(0) * 100_000)
    for _ in range(3):
        assert decoder.feed(crowd) == MOST_HELD * len(part(0)) and len(decoder.messages) == MOST_HELD
        assert decoder.feed(crowd) == 0
        decoder.messages.clear()
    assert decoder.feed(crowd[:20]) == 20 and len(decoder.messages) == 10


@examples(300)
@given(noise=st.binary(max_size=300), after=st.sampled_from([b"", GREETING, GREETING + READY]))
def test_noise_never_does_worse_than_a_refusal(noise: bytes, after: bytes) -> None:
    decoder = Decoder()
    decoder.feed(memoryview(after))
    try:
        decoder.feed(memoryview(noise))
    except MalformedZmtp:
        return
