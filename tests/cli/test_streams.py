"""What the command does when nobody reads it, when a stream is closed or full, and when a locale knows few letters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.home import Home, keyring
from p2pfl.home.keyslots import KeyFile, RecoveryKey
from tests.ledger import sample

DEADLINE_S = 600  # a hang, not a speed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's home with entries in its ledger."""
    folder = tmp_path_factory.mktemp("streams")
    with Home.create(folder / "home", "charite", [KeyFile(folder / "site.key")]) as made:
        sample.write(made, "site", sample.site_records())
    return folder / "home"


def shell(line: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`line` in bash, where `p2pfl` is this program and $H the home."""
    setup = f"p2pfl() {{ '{sys.executable}' -m p2pfl \"$@\"; }}; H='{home}'; "
    return subprocess.run(
        ["bash", "-c", setup + line],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def test_who_stops_reading_changes_no_exit_status(home: Path) -> None:
    reader = "(exec <&-; while ! [ -e $H.go ]; do sleep 0.1; done)"
    damaged = home.with_name("damaged")
    subprocess.run(["cp", "-r", home, damaged], check=True)
    segment = next((damaged / "ledger" / "site").glob("*.segment"))
    segment.write_bytes(segment.read_bytes()[:-1] + b"\0")
    for place, status in ((home, 0), (damaged, 5)):
        done = shell(f"{{ p2pfl ledger verify --home {place}; echo $? >&2; touch $H.go; }} | {reader}", home)
        home.with_name("home.go").unlink()
        assert done.stderr == f"{status}\n"


def test_progress_that_cannot_be_written_changes_no_exit_status(home: Path) -> None:
    done = shell("p2pfl status --home /nowhere --json 2> /dev/full", home)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "P2P-HOME-001")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize(
    "verb",
    [
        "status",
        "ledger verify",
        "--version",
        "--help",
        "frobnicate",
        "status --pass-phrase",
        "sum --value -",
    ],
)
def test_a_closed_stream_is_no_failure_of_the_program(home: Path, verb: str, closed: str) -> None:
    done = shell(f"P2PFL_HOME=$H p2pfl {verb} {closed}", home)
    assert "Traceback" not in done.stdout + done.stderr
    assert "P2P-USE-004" not in done.stdout + done.stderr
    assert done.returncode == shell(f"P2PFL_HOME=$H p2pfl {verb} > /dev/null 2>&1", home).returncode


def test_with_a_closed_stderr_stdout_still_holds_one_object_alone(home: Path) -> None:
    done = shell("p2pfl status --home /nowhere --json 2>&-", home)
    assert json.loads(done.stdout)["error"]["code"] == "P2P-HOME-001"


def test_a_full_device_is_said_and_ends_with_1(home: Path) -> None:
    """It led to `ls -ld .`, as if a folder were in the way."""
    done = shell("p2pfl status --home $H > /dev/full", home)
    assert (done.returncode, "P2P-USE-035" in done.stderr, "df -h" in done.stderr) == (1, True, True)


@pytest.mark.parametrize("out", ["> /dev/full", ">&-", "| true"])
@pytest.mark.parametrize(
    "verb", ["keys rotate SLOT", "keys add --new-recovery-words", "init --name charite --add --recovery-words"]
)
def test_recovery_words_that_nobody_could_read_open_nothing(home: Path, verb: str, out: str) -> None:
    """A rotation took the old words away, and the new ones were in no hand: the home was lost with the last key."""
    known = RecoveryKey.fresh(os.urandom)
    with Home.open(home, write=False) as opened:
        slot = keyring.id_of(keyring.add(opened, known, 1_700_000_000))
    before = (home / "keyslots").read_bytes()
    line = f"{verb.replace('SLOT', slot)} --home $H"
    done = shell(f"{{ p2pfl {line}; echo $? >&2; }} {out}", home)
    assert "P2P-KEY-016" in done.stderr
    assert done.stderr.splitlines()[-1] == "1"
    assert (home / "keyslots").read_bytes() == before
    with Home.open(home, unlock=[known], write=False) as opened:
        keyring.remove(opened, slot, 1_700_000_001, [KeyFile(home.with_name("site.key"))])


def test_a_new_home_has_no_slot_of_words_that_nobody_could_read(home: Path) -> None:
    new = home.with_name("new")
    line = f"init --name mayo --home {new} --key-file {home.with_name('mayo.key')} --recovery-words > /dev/full"
    done = shell(f"p2pfl {line}", home)
    assert (done.returncode, "P2P-KEY-016" in done.stderr) == (1, True)
    assert [slot.kind for slot in Home.slots_at(new)[1]] == ["key file"]


def test_a_locale_of_few_letters_still_gets_every_line(home: Path) -> None:
    done = shell("p2pfl status --home $H && p2pfl ledger show --log site --home $H", home, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    told = shell("p2pfl status --json --home $H", home, PYTHONIOENCODING="latin-1")
    assert json.loads(told.stdout)["privacy"]["epsilon"] == 0.5


def test_a_crash_writes_no_core_file_with_keys_in_it() -> None:
    code = (
        "import resource, sys; from p2pfl.cli import main as m; m.run = lambda a: "
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0]) or 0; m.main([])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert said.stdout == "0\n"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_asks_for_the_end_gets_130(sent: signal.Signals) -> None:
    # A shell in the background, or nohup, hands on signals that it ignores: here each is as at a terminal.
    code = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler); from p2pfl.cli import main as m\n"
        "def act(**_): os.kill(os.getpid(), int(sys.argv[1])); signal.pause()\n"
        "m.p2pfl.main = act; m.main([])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(int(sent))],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        start_new_session=True,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing final is lost\n")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_a_script_put_in_the_background_can_be_ended(sent: signal.Signals) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); from p2pfl.cli import main as m\n"
        "def act(**_): os.kill(os.getpid(), int(sys.argv[1])); signal.pause()\n"
        "m.p2pfl.main = act; m.main([])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(int(sent))], capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing final is lost\n")


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from p2pfl.cli import main as m\n"
        "def act(**_): os.kill(os.getpid(), signal.SIGHUP); print('went on')\n"
        "m.p2pfl.main = act; m.main([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout) == (0, "went on\n")
