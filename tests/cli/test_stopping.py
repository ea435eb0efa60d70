"""How a site is stopped: well at the first signal, at once at the second, and never later than the bound."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.processes import PATIENCE_S, ROOT, Process

CODE = """
import asyncio, sys
from p2pfl.cli import stopping
from p2pfl.cli.interrupts import INTERRUPTS
stopping.STOP_S = float(sys.argv[1])

class Site:
    async def wind_down(self):
        print("winding down", file=sys.stderr, flush=True)
        await asyncio.sleep(float(sys.argv[2]))
        print("wound down", file=sys.stderr, flush=True)

class Peer:
    node = Site()

async def main():
    async with stopping.stoppable(Peer()):
        print("ready", file=sys.stderr, flush=True)
        await asyncio.Event().wait()

INTERRUPTS.take()
with stopping.hanging_up(lambda: print("hung up", file=sys.stderr, flush=True)):
    stopping.run(main())
"""
FOR_EVER = "1e9"


def started(bound: str, takes: str) -> Process:
    process = Process("site", [sys.executable, "-c", CODE, bound, takes], None, lambda one: None)
    process.line("ready")
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_what_is_under_way_end(number: signal.Signals) -> None:
    process = started(FOR_EVER, "0")
    process.signal(number)
    ended = process.end()
    assert "wound down" in ended.said
    assert "Abort" in ended.said[-1]  # what `p2pfl` turns into 130


@pytest.mark.claim("LIVE-6")
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(second: signal.Signals) -> None:
    process = started(FOR_EVER, FOR_EVER)
    process.signal(signal.SIGTERM)
    process.line("winding down")
    process.signal(second)
    ended = process.end()
    assert ended.status == 130
    assert ended.said[-1] == "ended at once: what is on the disk is whole"


@pytest.mark.claim("LIVE-6")
def test_what_does_not_end_is_left_after_the_bound() -> None:
    process = started("0.1", FOR_EVER)
    process.signal(signal.SIGTERM)
    ended = process.end(PATIENCE_S)
    assert "wound down" not in ended.said
    assert "Abort" in ended.said[-1]


def test_a_hang_up_ends_nothing() -> None:
    process = started(FOR_EVER, "0")
    process.signal(signal.SIGHUP)
    process.line("hung up")
    assert process.running
    process.kill()


def test_with_a_log_a_hang_up_before_taking_part_ends_nothing(tmp_path: Path) -> None:
    """The log goes on."""
    code = (
        "import os, signal, sys; from p2pfl.cli.monitor import Monitor; from p2pfl.federation import Federation\n"
        "from tests.federation.sample import peers_yaml\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "with Monitor(sys.argv[1], 'info', 0, 5, None).running(Federation.parse(peers_yaml(), 'x'), 'sum'):\n"
        "    os.rename(sys.argv[1], sys.argv[1] + '.1')\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert '"ended"' in log.read_text()
