"""A pass of one seed, made by several processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from tests.training.test_repeat import one_pass, trainer


def told() -> str:
    """What a process makes of the pass, and how it names it."""
    which = trainer()
    inputs = which.inputs(which.initial(bytes(32)))
    return f"{inputs.hex()} {hashlib.sha256(one_pass(which).tobytes()).hexdigest()}"


def in_another_process(threads: int) -> list[str]:
    command = [sys.executable, "-c", "from tests.training.test_repeat_processes import told; print(told())"]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
    )
    return found.stdout.split()


@pytest.mark.claim("DP-4")
def test_two_processes_make_the_same_update_of_one_seed_and_a_third_is_told_apart() -> None:
    """The third runs another number of threads, whose sums may come in another order."""
    one, other = in_another_process(1), in_another_process(1)
    assert one == other
    assert in_another_process(2)[0] != one[0]
