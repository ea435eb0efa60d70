"""Signals at every moment of the command, alone and in pairs: always 130, one line, and no traceback.

The moments are Python's audit events (imports, opened files, sockets), counted in the process itself, which sends
itself the signals: no clock is involved, and a failure names the event that repeats it.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from p2pfl.cli.first_signals import CLEANLY
from p2pfl.cli.interrupts import AT_ONCE
from tests.cli.sites import Sites, Start, ended, said
from tests.end_to_end.processes import PATIENCE_S, ROOT
from tests.examples import seeds

STRUCK = """
import os, signal, sys
moments = sorted(zip(map(int, sys.argv[1].split(",")), map(int, sys.argv[2].split(","))))
count = 0
def strike(event, facts):
    global count
    count += 1
    while moments and moments[0][0] <= count:
        os.kill(os.getpid(), moments.pop(0)[1])
from p2pfl.__main__ import main
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.argv = ["p2pfl", *sys.argv[3:]]
leave = os._exit
def told(status):
    if count and not moments: os.write(1, b"struck")
    else: os.write(1, str(count).encode())
    leave(status)
os._exit = told
sys.addaudithook(strike)
main()
"""
NEVER = 1 << 40

# What an installed script `p2pfl` does, in a Python that has loaded nothing but itself. `what` of the first argument is
# done when the first handler is asked for, and the signal of the third comes at the event of the second from then on.
FIRST_LINES = """
import _signal, os, sys
what, at, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.argv = ["p2pfl", "version"]
before, install, count, leave = {*sys.modules}, _signal.signal, None, os._exit
def told(status):
    os.write(1, str(count).encode())
    leave(status)
def first(*wanted):
    global count
    if what == "list":
        os.write(1, " ".join(sorted({*sys.modules} - before)).encode())
        leave(0)
    _signal.signal, count = install, 0
    return install(*wanted)
def strike(event, facts):
    global count
    if count is None:
        return
    count += 1
    if count == at:
        os.kill(os.getpid(), number)
    if event == "import" and facts[0] == "click":  # the verbs' tests go on from here
        told(0)
_signal.signal = first
sys.addaudithook(strike)
from {module} import {attribute}
sys.exit({attribute}())
"""


def first_lines(what: str, at: int = NEVER, number: int = 0) -> tuple[int, str, str]:
    """Status, stdout and stderr of the script's first lines: without site-packages, as fast as they come."""
    (script,) = entry_points(group="console_scripts", name="p2pfl")
    code = FIRST_LINES.replace("{module}", script.module).replace("{attribute}", script.attr)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, what, str(at), str(int(number))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.claim("LIVE-6")
def test_a_few_small_files_are_all_that_is_loaded_before_signals_are_held() -> None:
    """What comes before, Python answers by itself: there a signal has its traceback, or the system's default."""
    status, out, err = first_lines("list")
    assert status == 0, err
    loaded = {*out.split()} - {*sys.builtin_module_names}
    assert loaded == {"__future__", "p2pfl", "p2pfl.__main__", "p2pfl.cli", "p2pfl.cli.first_signals"}


@pytest.mark.claim("LIVE-6")
def test_a_signal_at_any_moment_of_the_first_lines_ends_with_130_and_one_line() -> None:
    """From the first handler on, while what it stands before is loaded."""
    struck = 0
    for at in itertools.chain(range(1, 6), itertools.count(6, 7)):
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[at % 3]
        status, out, err = first_lines("go on", at, number)
        if not status and int(out) < at:  # the verb's own modules begin
            break
        assert (status, out, err) == (130, "", CLEANLY + "\n"), f"{number!r} at event {at}"
        struck += 1
    assert struck > 15


@pytest.mark.claim("LIVE-6")
def test_a_signal_in_the_first_lines_ends_with_130_also_where_stderr_is_closed() -> None:
    code = "import os; from p2pfl.cli.first_signals import hold; hold(); os.close(2); os.kill(os.getpid(), 15)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], timeout=PATIENCE_S, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 130


def struck(folder: Path, moments: list[tuple[int, int]], *arguments: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command whose process sent itself (event, signal) at each of `moments`."""
    at, numbers = (",".join(str(int(one)) for one in column) for column in zip(*moments, strict=True))
    done = subprocess.run(
        [sys.executable, "-c", STRUCK, at, numbers, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def check(status: int, out: str, err: str, whole: int) -> None:
    """It ended with 130, or by itself with `whole` where it had nothing more to do, and told that in one line."""
    assert "Traceback" not in err, err
    assert status in (130, whole), (status, err)
    if "struck" in out:
        assert status == 130 or "error" not in err.splitlines()[-1], err
    if status == 130:
        assert err.splitlines()[-1] in (CLEANLY, AT_ONCE), err


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    return Sites(tmp_path_factory.mktemp("interrupts"))


VERBS = {
    "version": (["version"], 0),
    "an error": (["status", "--home", "nowhere", "--json"], 2),
    "a home": (["status", "--home", "{home}", "--key-file", "{key}", "--json"], 0),
    "a wait": (["sum", "--peers", "peers.yaml", "--home", "{home}", "--value", "1", "--wait", "0.1"], 1),
    "torch": (["join", "--peers", "peers.yaml", "--home", "{home}", "--data", "{data}", "--wait", "0.1"], 1),
}
SLOW = ("a wait", "torch")


@pytest.mark.claim("LIVE-6")
@pytest.mark.parametrize("verb", VERBS)
def test_a_signal_at_any_moment_ends_with_130_and_no_traceback(sites: Sites, verb: str) -> None:
    """So do two, of which the second may come at the next event or much later."""
    name = sites.names[0]
    folder = sites.folder / name
    words, whole = VERBS[verb]
    arguments = [
        one.format(home=folder / "home", key=folder / "site.key", data=folder / "records.csv") for one in words
    ]
    status, out, err = struck(sites.folder, [(NEVER, signal.SIGTERM)], *arguments)
    assert (status, out[-1:].isdigit()) == (whole, True), err
    events = int(out.splitlines()[-1].rpartition("}")[2])
    for seed in seeds(6 if verb in SLOW else 12):
        drawn = random.Random(f"{verb} {seed}")
        first = drawn.choice((drawn.randrange(1, events + 1), events - drawn.randrange(min(20, events))))
        moments = [(first, drawn.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))]
        if drawn.random() < 0.6:
            moments.append((first + drawn.choice((0, 1, 5, 50)), drawn.choice((signal.SIGINT, signal.SIGTERM))))
        try:
            check(*struck(sites.folder, moments, *arguments), whole)
        except AssertionError as error:
            raise AssertionError(f"{verb}, of {events} events at {moments}: {error}") from None


@pytest.mark.claim("LIVE-6")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_while_it_stops_ends_at_once(sites: Sites, start: Start, number: signal.Signals) -> None:
    running = start("sum", *sites.common(sites.names[0]), "--value", "1")
    said(running, "listening")
    running.send_signal(number)
    running.send_signal(signal.SIGTERM if number != signal.SIGTERM else signal.SIGINT)
    status, _, err = ended(running)
    assert status == 130
    assert err.splitlines()[-1] in (CLEANLY, AT_ONCE)


@pytest.mark.skipif(shutil.which("timeout") is None, reason="coreutils' timeout is not here")
def test_timeout_that_sends_its_signal_twice_stops_a_site_cleanly(sites: Sites) -> None:
    """It passes the signal on as it sends its own when the time is up: to the process, and to its whole group."""
    command = [sys.executable, "-m", "p2pfl", "sum", *sites.common(sites.names[0]), "--value", "1"]
    bounded = subprocess.Popen(
        ["timeout", "--preserve-status", "1000", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said(bounded, "listening")
    bounded.terminate()
    status, _, err = ended(bounded)
    assert (status, err.splitlines()[-1] in (CLEANLY, AT_ONCE)) == (130, True), err
