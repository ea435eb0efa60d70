"""Every kind of message, from its own limits: what is sealed reads back; what is not its one encoding is Malformed."""

from __future__ import annotations

import hashlib
import string
import tracemalloc
from dataclasses import astuple, dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from p2pfl import codec, messages
from p2pfl.codec import Malformed, Many, Raw, Row, Tail, Text, Whole
from p2pfl.keys import Identity
from p2pfl.messages import KINDS, Envelope, Letter, Message, authentic, letters, open_letter, read_letter, seal
from p2pfl.messages.schema import wire
from p2pfl.roster import Member, Roster
from tests.examples import examples

IDENTITIES = {name: Identity(hashlib.sha256(name.encode()).digest()) for name in ("charite", "mayo", "st-olav")}
ROSTER = Roster(1, tuple(Member(name, identity.key) for name, identity in IDENTITIES.items()))
ALL = sorted(KINDS.values(), key=lambda kind: kind.kind)
PLACE = Envelope(bytes(32), 1, 12, 2, "mayo", bytes(16))
READY = seal(messages.Ready(bytes(32), bytes(32)), PLACE, IDENTITIES["mayo"])


def values(spec: Any) -> st.SearchStrategy[Any]:
    """What a field may hold, small."""
    if isinstance(spec, Raw):
        sizes = st.sampled_from(spec.exactly) if spec.exactly else st.integers(spec.least, min(spec.most, 40))
        return sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))
    if isinstance(spec, Tail):
        return st.binary(min_size=spec.least, max_size=40)
    if isinstance(spec, Text) and spec.pattern:
        return st.from_regex(
            spec.pattern, fullmatch=True, alphabet=string.ascii_lowercase + string.digits + "."
        ).filter(lambda one: len(one) < 20)
    if isinstance(spec, Text):
        return st.text(max_size=min(spec.most, 20))
    if isinstance(spec, Whole):
        return st.integers(0, spec.most)
    if isinstance(spec, Row):
        return st.tuples(*map(values, spec.of))
    assert isinstance(spec, Many)
    return st.lists(values(spec.of), max_size=min(spec.most, 3)).map(tuple)


def made(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.tuples(*(values(spec) for _, spec in kind.specs)).map(lambda fields: kind(*fields))


PLACES = st.tuples(*(values(spec) for _, spec in codec.specs_of(Envelope))).map(lambda fields: Envelope(*fields))
SENDERS = st.sampled_from(sorted(IDENTITIES))
LETTERS = st.tuples(st.sampled_from(ALL).flatmap(made), SENDERS).map(
    lambda pair: seal(pair[0], Envelope(bytes(32), 1, 12, 2, pair[1], bytes(16)), IDENTITIES[pair[1]])
)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@examples(25)
@given(data=st.data())
def test_what_is_sealed_reads_back(kind: type[Message], data: st.DataObject) -> None:
    message, place = data.draw(made(kind)), data.draw(PLACES)
    letter = seal(message, place, IDENTITIES["mayo"])
    assert parts(read_letter(letter.wire)) == parts(letter)
    assert letter.wire == b"".join(letter.pieces) == read_letter(letter.wire).wire
    words = getattr(message, kind.tail) if kind.tail else b""
    body = letter.signed[: len(letter.signed) - len(words)]
    parts_of_it = (kind.kind, body, letter.signature) if kind.signed else (kind.kind, body)
    assert letter.wire == msgpack.packb(parts_of_it, use_bin_type=True) + words
    assert letter.size == len(letter.signed)
    assert letter.signed == body + words


def parts(letter: Letter) -> tuple[Envelope, Message, bytes, bytes, bytes]:
    """All that a letter is, wherever its body lies."""
    return letter.envelope, letter.message, letter.signed, letter.signature, letter.digest


@pytest.mark.parametrize("kind", [kind for kind in ALL if not kind.signed], ids=lambda kind: kind.__name__)
def test_bulk_that_lies_elsewhere_is_the_same_letter_and_not_copied(
    kind: type[Message],
) -> None:
    """Neither to be sealed nor to be read."""
    words = bytearray(range(256)) * 1024
    fields = [memoryview(words) if name == kind.tail else data_of(spec) for name, spec in kind.specs]
    make: Any = kind
    letter = seal(make(*fields), PLACE, IDENTITIES["mayo"])
    copied = [bytes(words) if name == kind.tail else data_of(spec) for name, spec in kind.specs]
    whole = seal(make(*copied), PLACE, IDENTITIES["mayo"])
    wire = letter.wire
    assert wire == whole.wire
    assert parts(read_letter(wire)) == parts(whole)
    words[0] ^= 1
    assert letter.wire != wire, "it is where it was"
    data = bytearray(wire)
    found = getattr(read_letter(memoryview(data)).message, kind.tail)
    assert found == bytes([words[0] ^ 1]) + bytes(words[1:])
    data[-1] ^= 1
    assert found[-1] == words[-1] ^ 1, "it is a view of what was read"


def data_of(spec: Any) -> Any:
    """The least that a field may hold."""
    if isinstance(spec, Raw):
        return bytes(min(spec.exactly or (spec.least,)))
    return "" if isinstance(spec, Text) else 0


@examples(60)
@given(LETTERS)
def test_a_sealed_letter_is_its_senders_and_nobody_elses(letter: Letter) -> None:
    assert parts(open_letter(letter.wire, ROSTER, Message)) == parts(letter)
    others = Roster(1, tuple(member for member in ROSTER.members if member.name != letter.sender))
    assert not authentic(letter, others)


@examples(150, suppress_health_check=[HealthCheck.too_slow])
@given(letter=LETTERS, place=st.integers(0), flip=st.integers(1, 255))
def test_a_letter_with_any_byte_changed_is_malformed_or_bulk(letter: Letter, place: int, flip: int) -> None:
    changed = bytearray(letter.wire)
    changed[place % len(changed)] ^= flip
    try:
        found = open_letter(bytes(changed), ROSTER, Message)
    except Malformed:
        return
    assert not found.message.signed


@examples(100)
@given(letter=LETTERS, size=st.integers(0))
def test_a_letter_cut_anywhere_or_with_a_byte_too_many_is_malformed(letter: Letter, size: int) -> None:
    for data in (letter.wire[: size % len(letter.wire)], letter.wire + b"\0"):
        with pytest.raises(Malformed):
            read_letter(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_letter_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_letter(data)


@given(st.sampled_from(ALL), st.binary(max_size=200))
def test_any_body_of_a_kind_is_malformed_unless_it_is_the_kinds_own(kind: type[Message], body: bytes) -> None:
    with pytest.raises(Malformed):
        read_letter(unread(kind, body))


def unread(kind: type[Message], body: bytes) -> bytes:
    """A letter of that kind around any bytes."""
    return codec.pack((kind.kind, body, bytes(64)) if kind.signed else (kind.kind, body))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_body_over_its_kinds_limit_is_refused_before_it_is_unpacked(kind: type[Message]) -> None:
    body = b"\x91" * (kind.most + 1)
    data = unread(kind, body)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match=r"at most|body of|not within 1024 bytes"):
            read_letter(data)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 2 * len(data) + (1 << 20)  # the letter's parts, and nothing that its body claims


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_nothing_that_a_body_claims_takes_memory(kind: type[Message]) -> None:
    for claim in (b"\xdd\xff\xff\xff\xff", b"\x98\x01\xc6\xff\xff\xff\xff", b"\x91" * 10_000):
        tracemalloc.start()
        try:
            with pytest.raises(Malformed):
                read_letter(unread(kind, claim))
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert taken < 1 << 20


CHAINS = (b"\xdc\x03\x28" + (b"\x91" * 400 + b"\xc0") * 808) * 4  # arrays of one in arrays of one: 1.2 MiB


@pytest.mark.claim("CODEC-2")
@pytest.mark.parametrize(
    "kind", [kind for kind in ALL if kind.most > len(CHAINS) + 1000], ids=lambda kind: kind.__name__
)
def test_arrays_that_no_field_has_take_no_memory(kind: type[Message]) -> None:
    """Each costs fifty times its byte, and time, where anything but the schema decides how many there are."""
    head = codec.pack((1, *astuple(PLACE)))[1:]  # of an envelope that is whole
    first = kind.specs[0][1]
    listed = b"\xdc\x00\xc8" if isinstance(first, Many) else b""
    for body in (b"\xdc\x00\x04" + CHAINS, bytes([0x90 + 7 + len(kind.specs)]) + head + listed + CHAINS):
        _refused_in_little_memory(unread(kind, body))


def test_arrays_in_place_of_a_letters_parts_take_no_memory() -> None:
    tree = b"\xc0"
    for _ in range(12):
        tree = b"\x93" + 3 * tree
    _refused_in_little_memory(tree)
    _refused_in_little_memory(b"\x93\x0d" + 2 * tree)


def _refused_in_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            read_letter(data)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 2 * len(data) + (1 << 20)


@examples(150)
@given(letter=LETTERS, place=st.integers(0), flip=st.integers(0, 255))
def test_a_letter_is_cut_into_its_parts_as_it_would_be_read(letter: Letter, place: int, flip: int) -> None:
    """Where the short way says nothing, the long way says what is wrong."""
    changed = bytearray(letter.wire)
    changed[place % len(changed)] ^= flip
    found = letters._cut(bytes(changed))
    assert found is None or found == codec.read_row(bytes(changed), letters.PARTS, most=messages.WIRE_BYTES)
    assert flip or found is not None or not letter.message.signed


def test_a_message_too_large_for_its_kind_is_not_sealed() -> None:
    large = messages.Share(bytes(16 << 10), b"", bytes(32), bytes(32), ())
    with pytest.raises(Malformed, match="at most 16384"):
        seal(large, PLACE, IDENTITIES["mayo"])


def test_a_letter_over_the_meshs_payload_is_refused_unread() -> None:
    with pytest.raises(Malformed, match="at most"):
        read_letter(bytes(messages.WIRE_BYTES + 1))


def test_the_largest_letters_fit_into_what_the_mesh_carries() -> None:
    assert all(kind.most + 1024 <= messages.WIRE_BYTES for kind in ALL)


def test_an_acknowledgement_of_as_many_dealers_as_a_roster_may_have_fits() -> None:
    held = tuple((f"{place:03}".rjust(31, "a"), bytes(32)) for place in range(200))
    place = Envelope(bytes(32), (1 << 53) - 1, (1 << 53) - 1, (1 << 53) - 1, "a" * 31, bytes(16))
    letter = seal(messages.Ack(held, ()), place, IDENTITIES["mayo"])
    assert read_letter(letter.wire) == letter


def test_the_digest_names_kind_and_body_and_not_the_signature() -> None:
    other = Letter(READY.envelope, READY.message, READY.body, bytes(64))
    nonce = seal(messages.Nonce(bytes(32), bytes(32)), PLACE, IDENTITIES["mayo"])
    assert other.digest == READY.digest
    assert nonce.body == READY.body
    assert nonce.digest != READY.digest


def test_a_verified_letter_with_another_signature_is_verified_anew() -> None:
    assert authentic(READY, ROSTER)
    assert not authentic(Letter(READY.envelope, READY.message, READY.body, bytes(64)), ROSTER)


def test_a_number_that_is_taken_and_a_field_without_a_limit_cannot_be_registered() -> None:
    @dataclass(frozen=True, slots=True)
    class Bare(Message):
        field: int

    with pytest.raises(TypeError, match="no limit"):
        wire(99)(Bare)

    @dataclass(frozen=True, slots=True)
    class Taken(Message):
        field: int = codec.limited(Whole(1))

    with pytest.raises(TypeError, match="taken by Ready"):
        wire(13)(Taken)

    @dataclass(frozen=True, slots=True)
    class Double(Message):
        one: bytes = codec.limited(Tail(1))
        two: bytes = codec.limited(Tail(1))

    with pytest.raises(TypeError, match="2 fields of bulk"):
        wire(99)(Double)
    assert 99 not in KINDS


def test_messages_that_carry_a_seed_do_not_print_it() -> None:
    seed = b"a marker that nobody should read"
    share = messages.Share(b"\0", seed, seed, bytes(32), ())
    backup = messages.BackupShare((("mayo", seed, bytes(32), bytes(32), ()),))
    reveal = messages.Reveal((("mayo", seed),))
    for text in (repr(share), f"{share}", repr(backup), f"{backup}", repr(reveal), str(reveal)):
        assert "marker" not in text
        assert seed.hex() not in text
