"""The PRG: pinned by a twin, seekable, uniform, and refusals replaced from the next stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.keys import Secret
from p2pfl.sharing.field import BLOCK_BYTES, FIELDS, Field
from p2pfl.sharing.prg import EDGE, SELF, Keystream, Stream, context, expand, stream_key
from tests.examples import examples
from tests.sharing import reference

REFUSED_31 = (reference.key("p2pfl: a key whose 31-bit stream refuses a word"), 641_741_466)  # found by search
SMALL = Field("test", 5, 2)  # three of eight words are refused
ALL = [*FIELDS.values(), SMALL]
each_field = pytest.mark.parametrize("field", ALL, ids=lambda field: str(field.p))


@each_field
def test_words_are_those_of_the_slow_twin(field: Field) -> None:
    for name, start, count in (("a", 0, 300), ("b", 1, 40), ("c", 10**12 + 3, 40)):
        assert expand(reference.key(name), field, start, count).tolist() == reference.prg(
            reference.key(name), field, start, count
        )


@given(st.data(), st.sampled_from(ALL))
@examples(60)
def test_a_slice_of_the_whole_is_the_slice_expanded_alone(data: st.DataObject, field: Field) -> None:
    whole = expand(reference.key("whole"), field, 0, 3 * BLOCK_BYTES // field.word_bytes + 5)
    start = data.draw(st.integers(0, whole.size))
    count = data.draw(st.integers(0, whole.size - start))
    assert np.array_equal(expand(reference.key("whole"), field, start, count), whole[start : start + count])


@each_field
def test_filling_in_pieces_gives_the_same_words(field: Field) -> None:
    stream = Stream(reference.key("pieces"), field, 5)
    pieces = [np.empty(count, field.dtype) for count in (1, 7, 64, 1000)]
    for piece in pieces:
        stream.fill(piece)
    assert np.array_equal(np.concatenate(pieces), expand(reference.key("pieces"), field, 5, 1072))


def test_refusals_in_the_16_bit_field_come_from_stream_2_at_their_position() -> None:
    field, key, count = FIELDS[16], reference.key("sixteen"), 200_000
    raw = np.frombuffer(reference.stream_bytes(key, 1, 0, 2 * count), field.dtype)
    refused = np.flatnonzero(raw >= field.p)
    assert refused.size > 20
    words = expand(key, field, 0, count)
    kept = np.delete(np.arange(count), refused)
    assert np.array_equal(words[kept], raw[kept])
    assert [int(words[place]) for place in refused] == [
        reference.prg_word(key, field, int(place))[0] for place in refused
    ]
    assert all(reference.prg_word(key, field, int(place))[1] == 2 for place in refused)


def test_a_place_that_streams_2_and_3_refuse_as_well_takes_a_later_one() -> None:
    key, count = reference.key("small"), 2000
    expected = [reference.prg_word(key, SMALL, place) for place in range(count)]
    assert max(stream for _, stream in expected) >= 6
    assert expand(key, SMALL, 0, count).tolist() == [word for word, _ in expected]


def test_the_31_bit_field_replaces_a_refused_word() -> None:
    key, place = REFUSED_31
    field = FIELDS[31]
    raw = int.from_bytes(reference.stream_bytes(key, 1, 4 * place, 4), "little") & field.p
    assert raw == field.p
    word, stream = reference.prg_word(key, field, place)
    assert stream == 2
    assert expand(key, field, place - 3, 7).tolist() == reference.prg(key, field, place - 3, 7)
    assert expand(key, field, place, 1).tolist() == [word]


class Ones(Keystream):
    """Stream 1 with all bits set at two places: what 2⁻⁶¹ would take the age of the world to show."""

    def fill(self, out: npt.NDArray[np.uint64]) -> None:
        super().fill(out)
        out[[3, 10]] = np.uint64(2**64 - 1)


def test_the_61_bit_field_replaces_refused_words_at_their_position() -> None:
    field, key, start = FIELDS[61], reference.key("sixty-one"), 100
    stream = Stream(key, field, start)
    stream._keystream = Ones(key, 1, start * 8)
    words = np.empty(20, field.dtype)
    stream.fill(words)
    expected = reference.prg(key, field, start, 20)
    for place in (3, 10):
        raw = reference.stream_bytes(key, 2, 8 * (start + place), 8)
        expected[place] = int.from_bytes(raw, "little") % 2**61
    assert words.tolist() == expected


@pytest.mark.claim("SUM-3")
@pytest.mark.parametrize("field", [FIELDS[16], SMALL, Field("test", 251, 2)], ids=lambda field: str(field.p))
def test_words_are_uniform(field: Field) -> None:
    count = 400_000
    words = expand(reference.key("uniform"), field, 0, count)
    cells = min(field.p, 251)
    seen = np.bincount((words.astype(np.int64) * cells) // field.p, minlength=cells)
    sizes = np.bincount((np.arange(field.p) * cells) // field.p, minlength=cells)
    expected = sizes * (count / field.p)
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    assert abs(chi_square - (cells - 1)) < 5 * np.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("bits", [31, 61])
def test_the_top_and_the_low_byte_of_large_words_are_uniform(bits: int) -> None:
    words, count = expand(reference.key("uniform"), FIELDS[bits], 0, 400_000), 400_000
    for part in (words >> (bits - 8), words & 0xFF):
        seen = np.bincount(part.astype(np.int64), minlength=256)
        chi_square = float(((seen - count / 256) ** 2 / (count / 256)).sum())
        assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_a_long_keystream_is_filled_to_its_end() -> None:
    key, count = reference.key("long"), 3 * BLOCK_BYTES + 24
    out = np.zeros(count, np.uint8)
    Keystream(key, 7).fill(out)
    assert out.tobytes() == reference.stream_bytes(key, 7, 0, count)


@pytest.mark.claim("SUM-3")
def test_stream_keys_differ_in_label_and_in_every_part_of_the_context() -> None:
    seed = Secret(reference.key("seed"))
    run = reference.key("run")
    contexts = [
        context(run, 1, 2, 3, (0, 1), 0),
        context(reference.key("another run"), 1, 2, 3, (0, 1), 0),
        context(run, 2, 2, 3, (0, 1), 0),
        context(run, 1, 3, 3, (0, 1), 0),
        context(run, 1, 2, 4, (0, 1), 0),
        context(run, 1, 2, 3, (1, 0), 0),
        context(run, 1, 2, 3, (0, 2), 0),
        context(run, 1, 2, 3, (0, 1), 1),
    ]
    keys = [stream_key(seed, label, each).reveal() for label in (EDGE, SELF) for each in contexts]
    assert len(set(keys)) == len(keys)
    assert keys[0] == reference.stream_key(seed.reveal(), EDGE, contexts[0])
    assert contexts[0] == run + bytes(7) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"\3" + b"\0\0\0\1\0\0"


def test_a_stream_key_does_not_show_itself() -> None:
    secret = stream_key(reference.key("seed"), EDGE, b"")
    assert secret.reveal().hex() not in repr(secret)
    assert repr(secret) == "Secret(prg/edge, 32 bytes)"


def test_keys_starts_labels_and_contexts_that_do_not_fit_are_refused() -> None:
    field = FIELDS[31]
    for refused in (
        lambda: Stream(b"short", field),
        lambda: Stream(reference.key("a"), field, -1),
        lambda: stream_key(reference.key("a"), "home/state", b""),
        lambda: context(b"short", 0, 0, 0, (0, 1), 0),
        lambda: context(reference.key("run"), -1, 0, 0, (0, 1), 0),
        lambda: context(reference.key("run"), 0, 0, 0, (0, 70_000), 0),
        lambda: expand(reference.key("a"), field, 0, 3, np.empty(4, field.dtype)),
        lambda: expand(reference.key("a"), field, 0, 3, np.empty(3, np.uint64)),
        lambda: expand(reference.key("a"), field, 0, 3, np.empty(6, field.dtype)[::2]),
    ):
        with pytest.raises(ValueError):
            refused()
