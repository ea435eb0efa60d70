"""How many examples Hypothesis tries, and how many seeds are played. A test states its count; one variable scales all.

P2PFL_THOROUGH  unset  two fifths of what the test states, and no fewer than 20 examples and 4 seeds where it states
                       as many: `make test` and CI
                0      at most 10 examples, and one seed: `make quick`
                1      as many as the test states: `make thorough`
                N      N times as many: a night's search

Below 1 the examples are the same in each run, so that a change is judged and not a draw; from 1 on they are new ones.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

QUICK = 10
FEW, FEW_SEEDS = 20, 4  # what is so few is not made fewer for `make test`
UNSTATED = 100  # examples of a test that states no count; Hypothesis' own number
THOROUGH = float(os.environ.get("P2PFL_THOROUGH", "0.4"))


def scaled(count: int, thorough: float = THOROUGH) -> int:
    return max(min(count, FEW if thorough else QUICK), round(count * thorough))


def seeds(count: int, thorough: float = THOROUGH) -> range:
    """The seeds of schedules that a test plays, from 0 on."""
    return range(max(min(count, FEW_SEEDS if thorough else 1), round(count * thorough)))


def examples(count: int, **others: Any) -> settings:
    """Decorator of a test that tries `count` examples, scaled; `others` are further settings of Hypothesis."""
    # No deadline: a slow machine fails no test.
    return settings(max_examples=scaled(count), deadline=None, **({"derandomize": THOROUGH < 1} | others))


def load_profile() -> None:
    """The same for tests that state no count."""
    settings.register_profile("p2pfl", examples(UNSTATED))
    settings.load_profile("p2pfl")
