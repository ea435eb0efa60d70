"""The folder of a process's sockets is gone with it; that of one that was killed goes when the next process begins."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.mesh.socket_folder import PREFIX, SocketFolder, sweep
from tests.end_to_end.processes import ROOT

LIVING = (
    "import sys; from p2pfl.mesh.socket_folder import SocketFolder; folder = SocketFolder()\n"
    "print(folder.path, flush=True); sys.stdin.read()"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    short = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path is short
    monkeypatch.setenv("TMPDIR", str(short))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield short
    for folder in short.iterdir():
        folder.rmdir()
    short.rmdir()


def process() -> tuple[subprocess.Popen[str], Path]:
    started = subprocess.Popen(
        [sys.executable, "-c", LIVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert started.stdout is not None
    return started, Path(started.stdout.readline().strip())


def test_the_folder_of_a_killed_process_goes_and_those_of_the_living_stay(place: Path) -> None:
    living, kept = process()
    killed, left = process()
    (left / "0").touch()
    killed.kill()
    killed.wait()
    assert left.is_dir()
    own = SocketFolder()
    assert sorted(place.iterdir()) == sorted([kept, own.path])
    sweep(place)
    assert sorted(place.iterdir()) == sorted([kept, own.path])
    own.close()
    living.communicate()
    assert list(place.iterdir()) == [kept]  # it ended without closing
    SocketFolder().close()
    assert list(place.iterdir()) == []


def test_nothing_else_is_swept_up(place: Path, tmp_path: Path) -> None:
    """Not what has another name, what is no folder, what a link leads to, or what is another user's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    others = [place / "p2pfl-demo-1", place / f"{PREFIX}file", place / f"{PREFIX}link", place / f"{PREFIX}theirs"]
    others[0].mkdir()
    others[1].touch()
    others[2].symlink_to(tmp_path / "elsewhere")
    others[3].mkdir()
    if os.geteuid() == 0:
        os.chown(others[3], 12345, 12345)
    else:
        others.pop().rmdir()
    SocketFolder().close()
    assert sorted(place.iterdir()) == sorted(others)
    assert (tmp_path / "elsewhere" / "file").exists()
    for one in others:
        one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()
