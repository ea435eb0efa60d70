"""Tests of one file run on one worker, so that what a module's fixtures start is started once. One worker computes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import COMPUTES, pytest_xdist_make_scheduler


@pytest.mark.parametrize("one", range(6))
def test_the_tests_of_a_file_run_on_one_worker(
    one: int, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str, worker_id: str
) -> None:
    here = tmp_path_factory.getbasetemp()
    shared = here if worker_id == "master" else here.parent
    claimed = shared / f"workers-{testrun_uid}"
    try:
        with claimed.open("x") as new:
            new.write(worker_id)
    except FileExistsError:
        pass
    assert claimed.read_text() == worker_id, f"test {one}"


class Worker:
    """What the scheduler knows of a worker, and the tests that it was handed."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.handed: list[int] = []

    def send_runtest_some(self, tests: list[int]) -> None:
        self.handed += tests

    def shutdown(self) -> None:
        self.shutting_down = True


def test_one_worker_begins_with_the_last_files_and_the_others_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduling = pytest.importorskip("xdist.scheduler.loadscope", reason="pytest-xdist is not installed")
    monkeypatch.setattr(scheduling, "parse_tx_spec_config", lambda config: [0, 1])
    config: Any = SimpleNamespace(option=SimpleNamespace(loadscopereorder=False))
    scheduler: Any = pytest_xdist_make_scheduler(config, SimpleNamespace(loadscopesched=lambda *words: None))
    tests = [f"tests/{file}.py::test_{number}" for file in "abcdef" for number in range(3)]
    first, computes = Worker("gw1"), Worker(COMPUTES)
    for worker in (first, computes):
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    assert (first.handed, computes.handed) == ([0, 1, 2], [15, 16, 17])
    for worker, test in ((first, 0), (computes, 15)):
        scheduler.mark_test_complete(worker, test)
    assert (first.handed, computes.handed) == ([0, 1, 2, 3, 4, 5], [15, 16, 17, 12, 13, 14])
