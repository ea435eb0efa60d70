"""How many patients are in each count of a site's sums, where some have several records: what guards go by.

A group of five records may be one patient's. So each guard looks at counts over tables in which every patient has one
record: the first of each, the second of those who have more, and so on. None of these counts somebody twice; the
largest says how many patients there are at least. docs/adr/0100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from p2pfl.errors.questions import GroupTooSmall
from p2pfl.statistics.question import Ask, Integers, OpenedSum, SiteTable, Statistic

MOST_LAYERS: Final = 8  # what a patient has beyond as many records counts for nobody


def layers_of(whose: Sequence[bytes]) -> tuple[Integers, ...]:
    """The places of records, one of each patient in each layer; () where nobody has two."""
    seen: dict[bytes, int] = {}
    layers: list[list[int]] = []
    for row, patient in enumerate(whose):
        layer = seen[patient] = seen.get(patient, -1) + 1
        if layer < MOST_LAYERS:
            layers += [[]] if layer == len(layers) else []
            layers[layer].append(row)
    return tuple(np.array(one, np.int64) for one in layers) if len(layers) > 1 else ()


class PatientCounts:
    """The same question of each layer, in step with that of the whole table."""

    def __init__(self, statistic: Statistic, table: SiteTable) -> None:
        self._running = [statistic.steps(one) for one in table.by_layer()]
        self._asks = [next(one) for one in self._running]

    def of(self, ask: Ask) -> Integers:
        """(w,) of how many patients each count is at least."""
        if not self._asks:
            return ask.values
        most: Integers = np.max([one.values for one in self._asks], axis=0)
        return np.minimum(ask.values, most)

    def follow(self, opened: OpenedSum | GroupTooSmall) -> None:
        """Go on to what the whole table asks next: no step ends at one site that does not end at all."""
        self._asks = [
            one.throw(opened) if isinstance(opened, GroupTooSmall) else one.send(opened) for one in self._running
        ]
