"""Averages by turns: every number is sent once in a cycle, and what is held back is neither lost nor sent twice."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.codec import Malformed, with_tail
from p2pfl.errors.adapters import ArraysUnfit
from p2pfl.home import Home
from p2pfl.node.runs.averages import Averaging, encode_average, flatten
from p2pfl.node.runs.turns import Feedback, HeldBack, Turn, step_of
from p2pfl.sharing.field import FIELDS
from p2pfl.training.update import TensorLayout
from tests.examples import examples
from tests.home.home_fixtures import make

NAMES = ("ada", "ben", "cyd")
PLAIN = Averaging(4.0, None, None)
FIRST = bytes(32)


def layout(m: int) -> TensorLayout:
    return flatten(np.ones(m)).layout


@examples(60)
@given(st.integers(1, 300), st.floats(0.001, 1.0), st.integers(0, 5))
def test_every_number_has_one_turn_in_a_cycle(m: int, density: float, cycle: int) -> None:
    turns = Turn.of(FIRST, "grad", layout(m), density, 0).turns
    sent = [Turn.of(FIRST, "grad", layout(m), density, cycle * turns + step).positions for step in range(turns)]
    assert sorted(np.concatenate(sent).tolist()) == list(range(m))
    assert all(len(one) and (np.diff(one) > 0).all() for one in sent)
    assert len(sent[0]) <= max(1, np.ceil(density * m))


def test_turns_are_public_and_another_name_structure_or_cycle_has_others() -> None:
    def first(federation: bytes = FIRST, name: str = "grad", m: int = 200, step: int = 0) -> list[int]:
        return Turn.of(federation, name, layout(m), 0.1, step).positions.tolist()

    assert first() == first()
    assert first() != first(name="other") != first(federation=bytes([1]) * 32)
    assert first() != first(step=10) and first() != first(step=1)


@pytest.mark.parametrize("step", [-1, 1 << 53, 1.5, "2"])
def test_a_step_that_nobody_counts_is_refused(step: object) -> None:
    with pytest.raises(ArraysUnfit, match="arrays") as refused:
        step_of(step)
    assert repr(step) in refused.value.evidence


def test_numpy_counts_steps_too() -> None:
    counted = [step_of(step) for step in np.arange(3)]
    assert counted == [0, 1, 2] and all(type(step) is int for step in counted)


def one_call(
    homes: dict[str, Home], vectors: dict[str, np.ndarray], step: int, how: Averaging = PLAIN, density: float = 0.25
) -> np.ndarray:
    """As `Peer.average` does it, with the sum in the field in place of the network."""
    words, found = [], None
    for name, home in homes.items():
        flat = flatten(vectors[name].astype(np.float32))
        turn, weight = Turn.of(FIRST, "grad", flat.layout, density, step), how.weight_of(name)
        feedback = Feedback.of(home, "grad", flat.layout, step, turn, how.noised(flat.vector, os.urandom))
        part = encode_average(
            feedback.values * weight, flat.layout, how, peers=3, bits=31, draw=os.urandom, turn=turn, step=step
        )
        feedback.settle(np.asarray(part.reading.read(part.words())) / weight)
        feedback.keep()
        words.append(part.vector.words)
        found = part, turn
    assert found is not None
    part, turn = found
    total = FIELDS[31].sum(words)
    assert part.within(total, 3) and words[0].size == len(turn.positions)
    mean = np.asarray(part.reading.read(total)) / how.divisor(NAMES)
    return turn.spread(mean, len(next(iter(vectors.values()))))


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Home]:
    return {name: make(tmp_path, name) for name in NAMES}


@pytest.mark.claim("DP-8")
@pytest.mark.parametrize("noise", [None, 0.5], ids=["plain", "noised"])
def test_what_is_held_back_is_sent_in_its_turn_and_nothing_is_lost(homes: dict[str, Home], noise: float | None) -> None:
    """Over two cycles the means add up to all that was put in, but for what the last steps still hold."""
    how = Averaging(4.0, noise, {"ada": 1.0, "ben": 2.0, "cyd": 1.0})
    draw, m = np.random.default_rng(2), 40
    put_in, came_out = np.zeros(m), np.zeros(m)
    for step in range(8):
        vectors = {name: draw.normal(size=m) * 0.1 for name in NAMES}
        mean = one_call(homes, vectors, step, how)
        assert np.count_nonzero(mean) <= 10, "a quarter of the numbers"
        put_in += sum(vectors[name].astype(np.float32) * how.weight_of(name) for name in NAMES) / how.divisor(NAMES)
        came_out += mean
    held = {name: HeldBack.from_bytes(home.read(_item(home)) or b"").kept for name, home in homes.items()}
    left = sum(held[name] * how.weight_of(name) for name in NAMES) / how.divisor(NAMES)
    # The noise of eight calls lies in what came out and in what is left, and in nothing that was put in.
    close = 1e-4 if noise is None else 6 * 4.0 * noise * np.sqrt(8)
    assert np.allclose(came_out + left, put_in, atol=close)
    if noise is None:
        assert not np.allclose(came_out, put_in, atol=1e-2)


def _item(home: Home) -> str:
    (found,) = home.items("state/averages")
    return found


@pytest.mark.claim("DP-8")
def test_noise_is_on_every_number_before_anything_is_chosen(homes: dict[str, Home]) -> None:
    """Also what is held back has it: the residual of zeros is noise of the full deviation on every number."""
    one_call(homes, dict.fromkeys(NAMES, np.zeros(4000)), 0, Averaging(0.5, 2.0, None))
    kept = HeldBack.from_bytes(homes["ada"].read(_item(homes["ada"])) or b"").kept
    waiting = np.delete(kept, Turn.of(FIRST, "grad", layout(4000), 0.25, 0).positions)
    assert abs(waiting.std() / 1.0 - 1) <= 5 / np.sqrt(2 * waiting.size) and np.count_nonzero(waiting) == waiting.size


@pytest.mark.claim("DP-8")
def test_a_call_that_is_repeated_sends_nothing_again_that_was_held_back(homes: dict[str, Home]) -> None:
    home = {name: homes[name] for name in NAMES}
    one_call(home, dict.fromkeys(NAMES, np.full(8, 0.125)), 0)
    first = HeldBack.from_bytes(homes["ada"].read(_item(homes["ada"])) or b"")
    turn = Turn.of(FIRST, "grad", layout(8), 0.25, 1)
    one_call(home, dict.fromkeys(NAMES, np.full(8, 0.125)), 1)
    second = HeldBack.from_bytes(homes["ada"].read(_item(homes["ada"])) or b"")
    again = second.before(layout(8), 1)
    assert again is not None and not again[turn.positions].any(), "it may have left already"
    others = np.setdiff1d(np.arange(8), turn.positions)
    assert np.array_equal(again[others], first.kept[others])
    assert np.array_equal(second.before(layout(8), 2), second.kept)
    assert second.before(layout(8), 0) is None and second.before(layout(9), 2) is None


@pytest.mark.parametrize("bits", [16, 31])
@pytest.mark.parametrize("noise", [None, 2.0])
def test_with_compression_none_every_word_is_as_it_was(bits: int, noise: float | None) -> None:
    """A turn of everything is no turn: the same grid, words and facts."""
    how, flat = Averaging(2.0, noise, None), flatten(np.linspace(-1, 1, 64).astype(np.float32))
    values = how.noised(flat.vector, lambda count: bytes(range(count))) * how.weight_of("ada")
    one, other = (
        encode_average(values, flat.layout, how, peers=3, bits=bits, draw=lambda count: bytes(count), turn=turn)
        for turn in (None, Turn(np.arange(64), 1))
    )
    assert np.array_equal(one.vector.words, other.vector.words)
    assert one.configuration == {key: other.configuration[key] for key in one.configuration}
    assert "turns" not in one.configuration and "step" not in one.configuration


@pytest.mark.parametrize(
    "data",
    [
        with_tail((bytes(31), 0), bytes(8)),
        with_tail((bytes(32), -1), bytes(8)),
        with_tail((bytes(32), True), bytes(8)),
        with_tail((bytes(32), 0), bytes(12)),
        with_tail((bytes(32), 0)),
        with_tail(7, bytes(8)),
        with_tail((bytes(32), 0), np.full(2, np.nan, "<f4").tobytes()),
    ],
)
def test_an_item_of_another_form_is_refused(data: object) -> None:
    with pytest.raises(Malformed):
        HeldBack.from_bytes(b"".join(data))  # type: ignore[call-overload]
