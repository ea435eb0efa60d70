"""The numbers at an axis are as short as they can be, and of one look."""

from __future__ import annotations

import pytest

from p2pfl.dashboard.charts import chart


@pytest.mark.parametrize(
    ("high", "low", "shown"),
    [
        (0.922, 0.82, ["0.922", "0.820"]),
        (54.5, 0.0, ["54.5", "0"]),
        (1234.5, 3.2, ["1.23e+03", "3.2"]),  # an exponent has no decimals that the other could need
        (0.5, 1.25e-5, ["0.5", "1.25e-05"]),
    ],
)
def test_both_numbers_of_an_axis_have_as_many_decimals_as_one_needs(high: float, low: float, shown: list[str]) -> None:
    made = chart([(1, low, None, None), (2, high, None, None)], "what")
    assert made is not None
    assert [text for _, text in made.ticks] == shown
