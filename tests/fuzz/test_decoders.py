"""Any bytes, and any spoilt valid ones, are decoded or refused by name, in memory that what came justifies."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from p2pfl.codec import Malformed
from tests.examples import examples
from tests.fuzz import target
from tests.fuzz.calls import decoding
from tests.fuzz.check import Broken, accepts, bounded
from tests.fuzz.decoders import DECODERS, OWN, Decoder
from tests.fuzz.mutations import BOMBS, mutated

QUICK = examples(60, suppress_health_check=list(HealthCheck))
each = pytest.mark.parametrize("decoder", DECODERS, ids=lambda one: one.name)


@each
def test_valid_bytes_are_read_and_written_as_they_were(decoder: Decoder) -> None:
    for sample in decoder.samples:
        accepts(decoder, sample)
    assert any(accepts(decoder, sample) for sample in decoder.samples), "a row without one valid sample tests nothing"


@pytest.mark.claim("CODEC-2")
@each
@QUICK
@given(data=st.data())
def test_spoilt_bytes_are_decoded_or_refused_by_name(decoder: Decoder, data: st.DataObject) -> None:
    accepts(decoder, mutated(decoder.samples, lambda count: data.draw(st.integers(0, count - 1))))


@pytest.mark.claim("CODEC-2")
@each
@QUICK
@given(data=st.binary(max_size=600))
def test_any_bytes_are_decoded_or_refused_by_name(decoder: Decoder, data: bytes) -> None:
    accepts(decoder, data)


@pytest.mark.claim("CODEC-2")
@each
def test_huge_lengths_and_deep_nesting_take_no_memory_that_did_not_come(decoder: Decoder) -> None:
    for sample in decoder.samples:
        bounded(decoder, sample)
    for bomb in BOMBS:
        bounded(decoder, bomb)
        if len(bomb) < 10_000:
            sample = decoder.samples[0]
            bounded(decoder, sample[: len(sample) // 2] + bomb)
            bounded(decoder, sample[:8] + bomb + sample[8:])


@pytest.mark.claim("CODEC-2")
def test_every_function_that_decodes_is_in_the_table() -> None:
    reached = {place for decoder in DECODERS for place in decoder.reaches}
    found = decoding()
    new = found - reached - OWN.keys()
    assert not new, f"give {sorted(new)} a row in tests/fuzz/decoders.py, or say in OWN whose bytes it reads"
    assert OWN.keys() <= found, f"no longer there: {sorted(OWN.keys() - found)}"
    for place in reached:
        module, _, name = place.partition(":")
        assert callable(reduce(getattr, name.split("."), importlib.import_module(f"p2pfl.{module}"))), place


def test_each_row_has_a_name_of_its_own() -> None:
    assert len({decoder.name for decoder in DECODERS}) == len(DECODERS)


def test_a_decoder_that_is_in_no_row_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("import json\nclass A:\n    def read(self, b):\n        return [json.loads(b)]\n")
    assert decoding(tmp_path) == {"new:A.read"}


# ── the check itself ──────────────────────────────────────────────────────────────────────────────────────────

HONEST = DECODERS[0]


def test_an_error_that_is_not_the_decoders_own_is_told_with_its_bytes() -> None:
    def decode(data: bytes) -> object:
        raise IndexError("behind the end") if data[:1] == b"\xff" else Malformed("no")

    broken = replace(HONEST, decode=decode)
    assert not accepts(broken, b"x")
    with pytest.raises(Broken, match=r"raises IndexError: behind the end \(2 bytes"):
        accepts(broken, b"\xffx")


def test_memory_for_what_was_only_announced_is_told() -> None:
    greedy = replace(HONEST, decode=lambda data: bytearray(len(data) and 1 << 24), again=None)
    with pytest.raises(Broken, match="took 16"):
        bounded(greedy, b"a length")


def test_two_encodings_of_one_value_are_told() -> None:
    with pytest.raises(Broken, match="two encodings"):
        accepts(replace(HONEST, decode=bytes.strip, again=bytes), b" x")


@pytest.mark.parametrize("name", ["letter", "opening"])
def test_the_longer_run_tries_as_often_as_it_is_told_and_repeats_itself(name: str) -> None:
    one, again = target.run([name], seed=7, tries=50), target.run([name], seed=7, tries=50)
    assert one == again
    assert one[name].tries == 50
    assert 0 < one[name].accepted < 50


def test_the_longer_run_ends_at_the_first_broken_promise_and_shows_its_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def decode(data: bytes) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(target, "DECODERS", (replace(HONEST, name="bad", decode=decode),))
    assert target.main(["bad", "--tries", "3"]) == 1
    assert "bad raises ZeroDivisionError" in capsys.readouterr().err
