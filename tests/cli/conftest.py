"""What tests of processes share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.sites import Start
from tests.end_to_end.processes import ROOT


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `p2pfl` with arguments; whatever still runs at the end is killed.

    With `at` it gets a signal at that step on its home's disk (tests/end_to_end/dying.py).
    """
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("P2PFL_HOME", None)

    def begin(
        *arguments: str, stdin: str = "", at: Sequence[object] = (), struck: signal.Signals = signal.SIGKILL
    ) -> subprocess.Popen[str]:
        plan = json.dumps({"die": {"at": at}, "signal": struck.name})
        program = ["-m", "tests.end_to_end.dying", plan] if at else ["-m", "p2pfl"]
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)} if at else environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        if process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
