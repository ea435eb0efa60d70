"""What shakes the tests finds the same again, reaches the processes that a test starts, and is not there by default."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.shaken.shaken import Shaker

ASKS = "import sys, threading; print(sys.gettrace() is not None, threading.gettrace() is not None)"


def slow_lines(seed: str, test: str) -> list[list[int]]:
    """Of each call of one function, the lines that are slow."""
    shaker = Shaker(seed, test)
    return [sorted(shaker._places(steps.__code__)) for _ in range(30)]


def steps() -> list[int]:
    found = []
    found.append(1)
    found.append(2)
    found.append(3)
    return found


def test_one_seed_finds_the_same_slow_lines_again_and_each_test_its_own() -> None:
    found = slow_lines("1", "a test")
    assert found == slow_lines("1", "a test")
    assert found != slow_lines("2", "a test")
    assert found != slow_lines("1", "another")
    assert any(found) and not all(found)


def test_a_thread_of_a_shaken_test_pauses_before_its_slow_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shaker, slept = Shaker("1", "a test"), list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    before = sys.gettrace()

    def work() -> None:
        sys.settrace(shaker.called)
        for _ in range(30):
            assert steps() == [1, 2, 3]

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert slept and all(0.005 <= one <= 1.5 for one in slept)
    assert sys.gettrace() is before


@pytest.mark.parametrize(("seed", "shaken"), [("1", "True True\n"), ("", "False False\n")])
def test_a_process_is_shaken_where_its_environment_says_so(seed: str, shaken: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "P2PFL_SHAKEN": seed}
    asked = subprocess.run([sys.executable, "-c", ASKS], env=environment, capture_output=True, text=True, check=True)
    assert asked.stdout == shaken
