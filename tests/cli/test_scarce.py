"""A system that has no more threads or descriptors: every verb ends by itself, with an error that says so.

The limits are the kernel's own. That of threads counts a user's, and root has none: so the process is of a user whom
nobody else is, and may read the checkout all the same.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.sites import Sites, Start, ended, said
from tests.end_to_end.processes import PATIENCE_S, ROOT

NOBODY_ELSE = 61_234
MAY = "-all,+dac_override,+dac_read_search"
AS_NOBODY_ELSE = [
    "setpriv",
    *(f"--{one}={NOBODY_ELSE}" for one in ("reuid", "regid")),
    "--clear-groups",
    *(f"--{one}={MAY}" for one in ("inh-caps", "ambient-caps", "bounding-set")),
]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    return Sites(tmp_path_factory.mktemp("scarce"))


def words(sites: Sites, verb: str) -> list[str]:
    name = sites.names[0]
    return {
        "sum": ["sum", *sites.common(name), "--value", "1", "--wait", "0.1"],
        "join": sites.join(name, "--wait", "0.1"),
        "check": sites.join(name, "--check", "--wait", "0.1"),
        "doctor": ["doctor", *sites.common(name)],
        "status": ["status", *sites.common(name)[2:]],
    }[verb]


def limited(limit: str, verb: list[str], *before: str) -> tuple[int, str]:
    """Status and stderr of the verb under a limit, hard and soft, of this process alone."""
    done = subprocess.run(
        [*before, "prlimit", limit, sys.executable, "-m", "p2pfl", *verb],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux' prlimit is not here")
@pytest.mark.parametrize(
    ("verb", "descriptors", "code"),
    [
        ("status", 5, None),  # it gets by with so few
        ("doctor", 5, "P2P-USE-024"),  # none for an event loop
        ("doctor", 20, "P2P-MESH-065"),
        ("check", 10, "P2P-USE-024"),  # none for the process of the task
        ("check", 60, "P2P-MESH-065"),
    ],
)
def test_a_verb_without_descriptors_says_so(sites: Sites, verb: str, descriptors: int, code: str | None) -> None:
    status, err = limited(f"--nofile={descriptors}", words(sites, verb))
    told = re.findall(r"error (P2P-[A-Z]+-[0-9]+)", err)
    assert (status, told) == ((0, []) if code is None else (1, [code])), err


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no limit of another process can be set here")
@pytest.mark.parametrize("more", [0, 2])
def test_a_site_at_work_that_can_open_no_more_says_so(tmp_path: Path, start: Start, more: int) -> None:
    """Without one for a link it waits on, and says why none came; without one for its home it ends with an error."""
    sites = Sites(tmp_path)
    first, *others = (["sum", *sites.common(name), "--value", "1"] for name in sites.names)
    patient = start(*first)
    said(patient, "listening")
    limit = 1 + more + max(int(place.name) for place in Path(f"/proc/{patient.pid}/fd").iterdir())
    resource.prlimit(patient.pid, resource.RLIMIT_NOFILE, (limit, limit))
    for one in others:
        start(*one)
    said(patient, "Too many open files")
    patient.terminate()
    status, _, _ = ended(patient)
    assert status in (1, 130)


@pytest.fixture(scope="module")
def of_another_user() -> Iterator[Sites]:
    """Sites whose files are of a user whom nobody else is, below a folder that all may enter."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("a limit of threads counts those of a user, and to become one that nobody else is takes root")
    with tempfile.TemporaryDirectory() as folder:
        sites = Sites(Path(folder))
        for place in (sites.folder, *sites.folder.rglob("*")):
            os.chown(place, NOBODY_ELSE, NOBODY_ELSE)
        yield sites


@pytest.mark.parametrize(("verb", "threads"), [("sum", 1), ("sum", 2), ("check", 1), ("check", 2), ("check", 3)])
def test_a_verb_without_threads_says_so(of_another_user: Sites, verb: str, threads: int) -> None:
    """The first that lacks is Python's, libzmq's, or, around the process of the task, its keeper or its reader."""
    status, err = limited(f"--nproc={threads}", words(of_another_user, verb), *AS_NOBODY_ELSE)
    assert (status, "P2P-USE-024" in err and "threads" in err) == (1, True), err


@pytest.mark.parametrize(("verb", "threads"), [("sum", 3), ("sum", 4), ("check", 4), ("join", 5), ("join", 7)])
def test_a_verb_with_hardly_enough_threads_ends_by_itself(of_another_user: Sites, verb: str, threads: int) -> None:
    """Which of them lacks, if one does, is chance; and so is whether it comes as far as it would with more."""
    status, err = limited(f"--nproc={threads}", words(of_another_user, verb), *AS_NOBODY_ELSE)
    assert status == 1, err
    assert verb == "check" or "error P2P-" in err, err
