"""One encoding of every value: what `facts` and `pack` write is all that is read back; the rest is Malformed."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.codec import (
    Malformed,
    Many,
    Raw,
    Row,
    Tail,
    Text,
    Whole,
    facts,
    pack,
    read_facts,
    read_row,
    split_tail,
    unpack,
    with_tail,
)

WHOLE = st.integers(-(1 << 80), 1 << 80)
TEXTS = st.text(max_size=12)
EXACT = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: _depth(value) < 7)
RECORDS = st.dictionaries(TEXTS, EXACT, max_size=4)

NUMBERS = st.integers(0, (1 << 64) - 1)
PACKED = st.recursive(
    NUMBERS | st.text(max_size=40) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20).map(tuple),
    max_leaves=20,
)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(RECORDS)
def test_facts_read_back_and_are_sorted_ascii_without_blanks(record: dict[str, Any]) -> None:
    data = facts(record)
    assert read_facts(data) == record
    assert facts(read_facts(data)) == data
    assert data.isascii()
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


@given(RECORDS)
def test_the_order_of_keys_changes_no_byte(record: dict[str, Any]) -> None:
    assert facts(dict(reversed(record.items()))) == facts(record)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff",
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-0}',
        '{"a":"é"}'.encode(),
        b'{"a":"\\u0041"}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 5000,
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":[[[[[[[[[1]]]]]]]]]}',
    ],
)
def test_another_spelling_of_facts_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_facts(data)


@pytest.mark.parametrize("value", [1.5, b"bytes", {1: 2}, {"\ud800": 1}, "\udfff", (1, {2}), object()])
def test_what_has_no_exact_form_is_refused_when_it_is_written(value: Any) -> None:
    with pytest.raises(Malformed):
        facts({"a": value})


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_facts_or_malformed(data: bytes) -> None:
    try:
        record = read_facts(data)
    except Malformed:
        return
    assert facts(record) == data


def test_a_record_over_its_limit_is_refused_unread() -> None:
    with pytest.raises(Malformed, match="at most 10"):
        read_facts(b'{"a":"0123456789"}', most=10)


# ── msgpack ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(PACKED)
def test_what_is_packed_is_unpacked_and_is_plain_msgpack(value: Any) -> None:
    data = pack(value)
    assert data == msgpack.packb(value, use_bin_type=True)
    assert unpack(data, most=1 << 20, items=20) == value


@given(st.binary(max_size=120))
def test_any_bytes_unpack_or_are_malformed(data: bytes) -> None:
    try:
        unpack(data, most=100, items=8)
    except Malformed:
        return
    assert len(data) <= 100


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 100_000,
        b"\x81\x01\x02",
        b"\xd4\x01\x00",
        b"\xc1",
        b"\x01\x01",
    ],
)
def test_what_a_length_or_a_depth_claims_is_refused_before_memory_is_taken(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            unpack(data, most=1 << 24, items=208)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 1 << 20


@given(PACKED, st.lists(st.binary(max_size=40), max_size=3))
def test_a_head_and_its_tail_are_split_as_they_were_joined(head: Any, tail: list[bytes]) -> None:
    pieces = with_tail(head, *tail)
    assert b"".join(pieces) == pack(head) + b"".join(tail)
    assert pieces.size == len(b"".join(pieces))
    assert split_tail(b"".join(pieces), most=1 << 20, items=20) == (head, b"".join(tail))


def test_a_tail_is_copied_neither_when_it_is_joined_nor_when_it_is_split() -> None:
    words = bytearray(1 << 20)
    (packed, tail) = with_tail(("head",), memoryview(words))
    data = bytearray(packed + bytes(tail))
    found = split_tail(memoryview(data), most=100, items=1)[1]
    words[0] = data[len(packed)] = 7
    assert tail[0] == found[0] == 7


@given(st.binary(max_size=120))
def test_any_bytes_split_into_the_one_encoding_of_a_head_and_a_tail_or_are_malformed(data: bytes) -> None:
    try:
        head, tail = split_tail(data, most=100, items=8)
    except Malformed:
        return
    assert pack(head) + tail == data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends too early"),
        (b"\xc4\x04abc", "ends too early"),
        (b"\xc4\x7e" + bytes(126), "ends too early"),
        (b"\xc6\xff\xff\xff\xff", "ends too early"),
        (b"\x99" + bytes(9), "exceeds"),
        (b"\x91" * 5000, "not within 127 bytes"),
        (b"\x81\x01\x01", "not msgpack"),
        (b"\xcc\x01tail", "shortest"),
        (b"\xc5\x00\x01atail", "shortest"),
    ],
)
def test_a_head_that_is_cut_or_large_or_spelt_otherwise_is_malformed(data: bytes, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match=says):
            split_tail(data, most=127, items=8)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 1 << 17


def test_more_bytes_or_more_items_than_allowed_are_malformed() -> None:
    with pytest.raises(Malformed, match="at most 4"):
        unpack(pack((1, 2, 3, 4)), most=4, items=8)
    with pytest.raises(Malformed):
        unpack(pack((1, 2, 3, 4)), most=100, items=3)


# ── schema ────────────────────────────────────────────────────────────────────────────────────────────────────

SPECS = (("number", Whole(300)), ("name", Text(4)), ("data", Raw(4, least=1)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\xcc\x01\xa1a\xc4\x01a",
        b"\x93\x01\xd9\x01a\xc4\x01a",
        b"\x93\x01\xa1a\xc5\x00\x01a",
        b"\xdc\x00\x03\x01\xa1a\xc4\x01a",
        b"\x93\xd0\x01\xa1a\xc4\x01a",
    ],
)
def test_a_longer_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match="shortest"):
        read_row(data, SPECS, most=100)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ((301, "a", b"a"), "number"),
        ((-1, "a", b"a"), "number"),
        ((True, "a", b"a"), "number"),
        ((1.0, "a", b"a"), "number"),
        (("1", "a", b"a"), "number"),
        ((None, "a", b"a"), "number"),
        ((1, "abcde", b"a"), "name"),
        ((1, b"a", b"a"), "name"),
        ((1, "a", b""), "data"),
        ((1, "a", b"12345"), "data"),
        ((1, "a", "a"), "data"),
        ((1, "a"), "3 fields"),
        ((1, "a", b"a", 1), "3 fields"),
        (7, "3 fields"),
        ((1, (), b"a"), "name"),
        ((1, "a", (b"a",)), "data"),
    ],
)
def test_a_value_outside_its_limit_is_malformed_and_the_field_is_named(value: Any, field: str) -> None:
    with pytest.raises(Malformed, match=field):
        read_row(msgpack.packb(value, use_bin_type=True), SPECS, most=100)


@pytest.mark.parametrize(
    ("spec", "value", "where"),
    [
        (Raw(64, exactly=(0, 64)), bytes(32), "x"),
        (Tail(64, least=8), 7, "x: 7 bytes, wanted 8 to 64"),
        (Tail(64), 65, "x: 65 bytes, wanted 0 to 64"),
        (Tail(64), True, "x: True bytes"),
        (Tail(64), b"words", "x: b'words' bytes"),
        (Row((Whole(1), Whole(1))), (0, 2), r"x\.1"),
        (Row((Whole(1),)), (0, 0), "1 fields"),
        (Many(Whole(1), 2), (0, 0, 0), "at most 2"),
        (Many(Whole(1), 2), (0, 2), r"x\[1\]"),
        (Many(Whole(1), 2), 0, "list"),
        (Row((Whole(1),)), b"\0", "1 fields"),
        (Many(Whole(9), 2), b"\0", "list"),
        (Text(4, "[0-9]+"), "12a", "x: text of another form"),
        (Text(4, "[0-9]+"), "1\n", "x: text of another form"),
    ],
)
def test_nested_limits_name_the_place(spec: codec.Spec, value: Any, where: str) -> None:
    with pytest.raises(Malformed, match=where):
        spec.check(value, "x")


def test_a_field_without_a_limit_cannot_be_declared() -> None:
    @dataclass(frozen=True)
    class Bare:
        field: int

    with pytest.raises(TypeError, match="no limit"):
        codec.specs_of(Bare)
