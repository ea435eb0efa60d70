"""Tests of one file run on one worker, so that what a module's fixtures start is started once."""

from __future__ import annotations

import pytest


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
