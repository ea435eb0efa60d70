"""Whose fault an exception is: this program's, the site's own task, the system's; and none is told at any length."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.cli.faults import told_of
from p2pfl.cli.main import run
from p2pfl.cli.options import is_default
from p2pfl.errors import MOST_EVIDENCE, P2PFLError, clipped
from p2pfl.errors.people import NothingLeft, OurMistake, SystemRefused, WrongUse
from p2pfl.errors.training import TaskFailed
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.training.registry import load_task
from tests.cli.sites import Sites
from tests.end_to_end.processes import PATIENCE_S, ROOT

TASK = """
from p2pfl import Task

class Own(Task):
    def model(self):
        return patients["a name that nobody may read"]

    dataset = loss = measures = model
"""


def told(work: object) -> P2PFLError:
    try:
        work()  # type: ignore[operator]
    except Exception as error:
        return told_of(error)
    raise AssertionError("it raised nothing")


def test_an_exception_in_a_sites_own_task_names_its_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(TASK)
    digest = hashlib.sha256(file.read_bytes()).digest()
    task = load_task(TaskChoice(file=str(file), cls="Own", sha256=digest), file)
    error = told(task.model)
    assert isinstance(error, TaskFailed)
    assert error.happened == f"This site's own file of the task failed: NameError at {file}:6."
    assert "nobody" not in error.render()
    assert isinstance(told(lambda: {}["x"]), OurMistake)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "open files"),
        (OSError(errno.ENFILE, "Too many open files"), "open files"),
        (RuntimeError("can't start new thread"), "threads"),
        (BlockingIOError(errno.EAGAIN, "fork"), "threads"),
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "room on the disk"),
    ],
)
def test_what_the_system_has_no_more_of_is_no_bug(error: Exception, what: str) -> None:
    found = told_of(error)
    assert isinstance(found, NothingLeft)
    assert what in found.happened


def test_a_refusal_of_the_system_names_the_path() -> None:
    found = told(lambda: os.stat("n" * 5000))
    assert isinstance(found, SystemRefused)
    assert found.evidence == os.strerror(errno.ENAMETOOLONG)
    assert isinstance(told(lambda: os.kill(os.getpid(), 10**6)), OurMistake)


def test_a_library_for_which_there_is_no_memory_is_no_bug() -> None:
    """Under `ulimit -v` the system's loader says so in its own words."""
    mapped = ImportError("libtorch.so: failed to map segment from shared object")
    for error in (mapped, OSError("Cannot allocate memory")):
        found = told_of(error)
        assert isinstance(found, NothingLeft) and "memory" in found.happened


def test_who_has_no_home_folder_and_whose_folder_is_gone_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(*_: object) -> str:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("P2PFL_HOME", raising=False)
    with monkeypatch.context() as patched:
        patched.setattr("pwd.getpwuid", nobody)
        assert run(["status"]) == 2
        assert "P2P-USE-036" in capsys.readouterr().err
        assert run(["init", "--name", "ada", "--home", str(tmp_path / "home")]) == 2
        assert "P2P-USE-036" in capsys.readouterr().err
        assert not is_default(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(["init", "--name", "ada", "--home", "home", "--key-file", str(tmp_path / "key")]) == 1
    assert "is gone" in capsys.readouterr().err


def test_no_error_is_longer_than_a_person_reads() -> None:
    error = WrongUse(evidence="x" * 200_000, verb="y" * 200_000)
    assert len(error.render()) < 2 * MOST_EVIDENCE
    assert "(200000 characters)" in error.evidence
    assert clipped("short", 5) == "short"


@pytest.mark.parametrize("limit", [12, 20, 60])
def test_a_process_with_few_descriptors_says_so(tmp_path: Path, limit: int) -> None:
    """In libzmq's hands the system's refusal would end the process in the middle of whatever it does."""
    sites = Sites(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "p2pfl", "sum", *sites.common(sites.names[0]), "--value", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    assert (done.returncode, "P2P-MESH-065" in done.stderr) == (1, True), done.stderr
