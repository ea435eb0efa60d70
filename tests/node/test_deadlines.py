"""What a site asks the others to allow for a phase: from what its links carry, as far as that is known."""

from __future__ import annotations

import pytest

from p2pfl.mesh.throughput import FILL_BYTES, MOST_SHOWN
from p2pfl.node.source import LARGE_BYTES, MEASURE_S, SLOWER, SLOWEST, Offer

FLOATS = 4 * 1_500_000  # bytes of a sum of 1.5e6 floats in 31 bits


def offer(size: int) -> Offer:
    return Offer(b"", {}, b"", "", size)


def test_a_silent_site_costs_a_large_sum_minutes_where_links_show_their_speed() -> None:
    """Of a site that does not answer nothing is known: that lengthens nothing."""
    shown = offer(FLOATS).deadline_ms([MOST_SHOWN, MOST_SHOWN, None])
    assert 60_000 < shown < 120_000
    assert offer(FLOATS).deadline_ms([None, None]) > 15 * 60_000, "of links of which nothing is known"


def test_a_link_that_shows_itself_slow_gets_the_time_that_it_needs() -> None:
    needed_s = 2 * FLOATS / (SLOWEST / 2)
    assert offer(FLOATS).deadline_ms([MOST_SHOWN, SLOWEST / 2]) > 1000 * needed_s


def test_a_link_that_has_not_answered_yet_gets_no_less_time_than_unknown_ones() -> None:
    late = FILL_BYTES / MEASURE_S
    assert offer(FLOATS).deadline_ms([MOST_SHOWN, late]) >= offer(FLOATS).deadline_ms([None, None])


def test_a_deadline_tells_how_long_a_pass_took_by_a_power_of_two_alone() -> None:
    """It is signed and kept by all; to the millisecond it told one record more in a batch."""
    told = {offer(0).deadline_ms([], took / 100) for took in range(25_600)}
    assert told == {
        offer(0).deadline_ms([]) + int(SLOWER * 1000 * most) for most in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
    }
    for took in (1.0, 1.001, 100.0, 255.9):
        assert offer(0).deadline_ms([], took) >= offer(0).deadline_ms([]) + 1000 * SLOWER * took, "no site gets less"


@pytest.mark.parametrize(("size", "asks"), [(LARGE_BYTES - 1, False), (LARGE_BYTES, True)])
def test_links_are_asked_before_large_sums_alone(size: int, asks: bool) -> None:
    assert bool(offer(size).measure_s) is asks
