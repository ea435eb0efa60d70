"""One schedule under each weather, for `make quick`; test_storms.py has the hundreds."""

from __future__ import annotations

import pytest

from tests.simulate.storms import WEATHERS, sweep

SEED = 2026  # of none of the sweeps


@pytest.mark.parametrize("weather", WEATHERS)
def test_one_schedule_under_each_weather_keeps_every_promise(weather: str) -> None:
    (held,) = sweep(4, [SEED], weather)
    assert held.log, "nothing was said"
