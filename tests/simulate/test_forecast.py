"""A forecast says of a federation what its real rounds say: by letters and bytes, never by time."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

import p2pfl
from p2pfl.errors.distributed_noise import NoiseNotShared
from p2pfl.errors.planning import PlotLibraryMissing, WrongForecast
from p2pfl.roster import MOST_PEERS, Quorums
from p2pfl.sharing.chunks import CHUNK_BYTES
from p2pfl.simulate import counted, traffic
from p2pfl.simulate.forecast import MOST_SITES, Forecast, forecast, stands
from p2pfl.simulate.forecast_drawing import alt, drawing
from p2pfl.training.privacy.account import Account, Mechanism

WITHIN = 0.005  # of letters, of bytes, and of bytes beside the words


@pytest.fixture(scope="module")
def found() -> Forecast:
    """Of small real rounds, so that it takes a second: their largest is that of eleven sites."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic, "FITTED_AT", (4, 5, 6, 8, 9))
        patch.setattr(traffic, "CHECKED_AT", 11)
        return forecast(
            (3, 7, 200, 1000),
            parameters=20_000,
            density=(1.0, 0.1),
            rounds=(8, 40),
            noise=(2.0, 4.0),
            away=0.1,
            settings=("privacy.sample_rate=0.1",),
            real=7,
        )


@pytest.mark.parametrize(("sites", "words"), [(14, 3_000), (5, 400_000)], ids=["more sites", "more chunks"])
@pytest.mark.parametrize("bits", [16, 61])
def test_a_fit_says_what_a_real_round_sends_that_it_has_not_seen(sites: int, words: int, bits: int) -> None:
    rounds = [counted.measure(n, 500, bits) for n in (3, 4, 5, 6, 8)]
    rounds.append(counted.measure(4, 8 * CHUNK_BYTES // (bits // 8), bits))
    off = traffic.check(traffic.fit(rounds), counted.measure(sites, words, bits, seed=3))
    assert (off.sites, off.words) == (sites, words)
    assert max(map(abs, (off.letters, off.bytes, off.beyond))) < WITHIN


def test_a_fit_that_misses_a_kind_of_letter_is_found_out() -> None:
    """The check is one that can fail."""
    rounds = [counted.measure(n, 500, 31) for n in (3, 4, 5, 6)]
    fitted = traffic.fit(rounds)
    lame = replace(fitted, kinds={kind: one for kind, one in fitted.kinds.items() if kind != "Ack"})
    assert abs(traffic.check(lame, counted.measure(9, 500, 31)).beyond) > 10 * WITHIN


def test_up_to_the_limit_it_is_the_real_rounds_and_beyond_it_the_fit(found: Forecast) -> None:
    assert max(map(abs, (found.off.letters, found.off.bytes, found.off.beyond))) < WITHIN
    assert found.off.sites == 11
    how = {(one.sites, one.density): one.how for one in found.sizes}
    assert [how[sites, 1.0] for sites in (3, 7, 200)] == ["real", "real", "fitted"]
    assert how[1000, 0.1] == f"fitted, beyond p2pfl's {MOST_PEERS} sites"
    real = counted.measure(7, 2_000, 31)
    seven = next(one for one in found.sizes if (one.sites, one.density) == (7, 0.1))
    assert (seven.letters, seven.bytes) == (real.letters / 7, real.bytes / 7)
    said = found.size(7, 0.1)
    assert said.how == "fitted" and said.bytes == pytest.approx(seven.bytes, rel=WITHIN)
    thousand = found.size(1000, 1.0)
    assert thousand.letters > 1000 * 11 and thousand.bytes > 10 * found.size(200, 1.0).bytes


def test_letters_that_wait_for_one_another_are_as_many_at_any_size(found: Forecast) -> None:
    assert found.steps == counted.steps(4, 31) == counted.steps(9, 31)
    assert 8 <= found.steps <= 15


def test_a_letter_more_in_flight_takes_its_time(found: Forecast) -> None:
    one = found.size(7, 1.0)
    assert one.seconds == pytest.approx(found.steps * 0.02 + 8 * one.bytes / 100e6 + one.cpu_s)
    assert one.memory > one.beyond + 4 * one.words


def test_a_round_stands_with_a_quorum_of_independent_sites() -> None:
    for sites in range(3, MOST_PEERS + 1):
        assert traffic.quorum(sites) == Quorums(sites).q
    assert stands(3, 0.1) == pytest.approx(0.9**3)  # three of three
    assert stands(5, 0.1) == pytest.approx(0.9**5 + 5 * 0.1 * 0.9**4)
    for sites in (4, 20, 200, MOST_SITES):
        assert (stands(sites, 0.0), stands(sites, 1.0)) == (1.0, 0.0)
        chances = [stands(sites, away) for away in (0.01, 0.1, 0.3, 0.4, 0.9)]
        assert chances == sorted(chances, reverse=True) and all(0.0 <= one <= 1.0 for one in chances)
    assert stands(1000, 0.05) == 1.0 and stands(1000, 0.5) < 1e-20


def test_epsilon_is_the_accounts_and_colluders_are_those_of_the_design(found: Forecast) -> None:
    spent = {(one.noise_multiplier, one.rounds): one.epsilon for one in found.spent}
    assert spent[4.0, 8] < spent[2.0, 8] < spent[2.0, 40]
    steps = 8 * found.steps_per_round
    assert spent[2.0, 8] == Account([Mechanism(2.0, 0.1, steps)]).epsilon(found.delta)
    for one in found.sizes:
        assert one.colluders == one.quorum - 2 and one.quorum - one.colluders == 2
    for sites in (3, 7, 200):
        assert found.size(sites, 1.0).liars == Quorums(sites).c


def test_settings_are_those_of_the_smallest_federation_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "FITTED_AT", (3, 4, 5))
    monkeypatch.setattr(traffic, "CHECKED_AT", 6)
    parts = ("noise=distributed", "colluders=5", "steps_per_round=1")
    settings = (*(f"privacy.{one}" for one in parts), "local.optimiser=sgd", "local.learning_rate=0.1")
    assert forecast((20, 1000), settings=settings, real=0).size(20, 1.0).colluders == 12
    with pytest.raises(NoiseNotShared, match="at most 2"):
        forecast((5, 20), settings=settings, real=0)


def test_without_privacy_epsilon_is_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "FITTED_AT", (3, 4, 5))
    monkeypatch.setattr(traffic, "CHECKED_AT", 6)
    plain = p2pfl.forecast((5,), settings=("privacy=none", "sharing.field=16"), real=0)
    assert math.isinf(plain.spent[0].epsilon) and plain.bits == 16
    assert b"no noise" in drawing(plain)


def test_the_picture_is_the_same_each_time_and_says_in_words_what_it_shows(found: Forecast) -> None:
    svg = drawing(found)
    assert svg == drawing(found)
    page = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert page.get("role") == "img" and page.find(f"{space}title") is not None
    described = page.find(f"{space}desc")
    assert described is not None and described.text == alt(found)
    assert "1000 sites at density 0.1" in alt(found) and "noise 2, 40 rounds: ε" in alt(found)


def test_a_missing_matplotlib_is_told(found: Forecast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotLibraryMissing):
        drawing(found)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sites": (2, 5)}, "sites 2"),
        ({"sites": (5, 1001)}, "sites 1001"),
        ({"sites": ()}, "no number of sites"),
        ({"parameters": 0}, "parameters 0"),
        ({"density": (0.5, 0.0)}, "density 0"),
        ({"density": (1.5,)}, "density 1.5"),
        ({"rounds": (0,)}, "rounds 0"),
        ({"noise": (-1.0,)}, "noise -1"),
        ({"away": 1.1}, "away 1.1"),
        ({"away": math.nan}, "away nan"),
        ({"bandwidth": 0.0}, "bandwidth 0"),
        ({"latency_s": -0.1}, "latency -0.1"),
        ({"real": 101}, "real 101"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_be_forecast_is_named(given: dict[str, object], told: str) -> None:
    with pytest.raises(WrongForecast) as refused:
        forecast(**{"sites": (5,), **given})  # type: ignore[arg-type]
    assert told in refused.value.render()
