"""The odd task in a process of its own, its records, and what it is told to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2pfl.federation import Federation
from p2pfl.keys import Secret
from p2pfl.training.process.facts import Reach, TaskSource
from p2pfl.training.process.remote import RemoteTrainer
from p2pfl.training.records.records import LEAST_RECORDS
from tests.training import odd_task

KEY = Secret(bytes(32), "who is held out in tests")
COUNT = 4 * LEAST_RECORDS


def folder_of(place: Path) -> Path:
    """A data folder."""
    place.mkdir()
    rows = np.random.default_rng(5).normal(size=(COUNT, 5))
    rows[:, 4] = rows[:, 0] > 0
    np.savetxt(place / "records.csv", rows, "%.4f", ",")
    (place / "do").write_text("")
    return place


def source_of(federation: Federation, data: Path) -> TaskSource:
    """The odd task, on the records in `data`."""
    file = Path(odd_task.__file__)
    return TaskSource(federation, data, None, "Odd", "odd_task.py", file.read_bytes())


class OddTrainer(RemoteTrainer):
    """Kills its own process after its second step, as often as it is told to: the task hangs there, until the last."""

    kills = 0

    def __init__(self, data: Path, closed: Sequence[Path] = ()) -> None:
        super().__init__(Reach.of(data, (), closed, "cpu", described=False), self._stepped)

    def _stepped(self, step: int, steps: int) -> None:
        if self.kills and step == 2 and self._source is not None:
            self.kills -= 1
            (self._source.data / "do").write_text("hang" if self.kills else "")
            self._process._kill()
