"""What tests of processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.sites import Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `p2pfl` with arguments; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("P2PFL_HOME", None)

    def begin(*arguments: str, stdin: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "p2pfl", *arguments],
            cwd=tmp_path,
            env=environment,
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
