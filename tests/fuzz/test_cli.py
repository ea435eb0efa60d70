"""The command, given what nobody should give it: an exit status of the contract, one error with a code, no traceback.

What is played is in hostile.py, which draws each case from its number: a failure's line repeats it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.processes import ROOT
from tests.examples import scaled
from tests.fuzz.hostile import CASE_S

STATUSES = {0, 1, 2, 3, 4, 5}
FINDS = (0, 1, 5)  # of a verb that reports what it found: no error
MOST_SAID = 60_000  # characters
MOST_GROWN = 512 << 20  # bytes: PyTorch is loaded once
OPEN = ["--home", "{HOME}", "--key-file", "{WORLD}/ada.key"]
PEERS = ["--peers", "{WORLD}/peers.yaml"]
CARDS = [f"{{WORLD}}/{name}/{name}.card" for name in ("ada", "ben", "cyd")]
SUM = ["sum", *PEERS, *OPEN, "--value", "1", "--wait", "0.1"]
CREATE = ["peers", "create", *CARDS, "-o", "{WORLD}/new", "--set"]

# What was found, each by a person: what is spoilt of the home, the command, the exit status and the code.
FOUND: dict[str, tuple[tuple[str, str] | None, list[str], int, str]] = {
    "a home in another user's folder": (None, ["status", "--home", "{WORLD}/shut/home"], 1, "P2P-HOME-007"),
    "a home's name of 5000 letters": (None, ["status", "--home", "{WORLD}/{LONG}"], 2, "P2P-HOME-001"),
    "a lock that cannot be read": (("lock", "shut"), ["status", *OPEN], 0, ""),
    "a lock that is a pipe": (("lock", "a pipe"), ["status", *OPEN], 0, ""),
    "a state that may not be entered": (("state", "shut"), SUM, 1, "P2P-HOME-007"),
    "a state that may not be entered, to look": (("state", "shut"), ["status", *OPEN], 0, ""),
    "a new key in a home that is read-only": ((".", "read-only"), ["peers", "new-key", *OPEN], 1, "P2P-HOME-007"),
    "keyslots that are a pipe": (("keyslots", "a pipe"), ["status", *OPEN], 5, "P2P-KEY-001"),
    "an identity that never ends": (("identity", "a device"), ["status", *OPEN], 1, "P2P-HOME-007"),
    "an identity of a terabyte": (("identity", "vast"), ["status", *OPEN], 1, "P2P-HOME-007"),
    "a limit beyond every number": (None, [*SUM, "--limit", "1e999999"], 2, "P2P-USE-001"),
    "a limit that is no number": (None, [*SUM, "--limit", "nan"], 2, "P2P-USE-001"),
    "a round beyond every number": (
        None,
        ["peers", "propose", "remove", "cyd", "--from-round", "9007199254740992", "-o", "{WORLD}/c", *PEERS, *OPEN],
        2,
        "P2P-USE-001",
    ),
    "noise that is none": (None, [*CREATE, "privacy.noise_multiplier=1e-300"], 2, "P2P-FED-007"),
    "noise that is none, in a file": (None, ["peers", "show", "{WORLD}/no-noise.yaml"], 2, "P2P-FED-007"),
    "noise that is none, at a join": (
        None,
        ["join", "--check", "--peers", "{WORLD}/no-noise.yaml", *OPEN, "--data", "{WORLD}/data.csv"],
        2,
        "P2P-FED-007",
    ),
    "a clip that is none": (None, [*CREATE, "privacy.max_grad_norm=1e-300"], 2, "P2P-FED-007"),
    "a delta that is none": (None, [*CREATE, "privacy.delta=1e-300"], 2, "P2P-FED-007"),
    "an export to no file": (None, ["ledger", "export", "-o", "", *OPEN], 2, "P2P-USE-001"),
    "a verifier's place that is a folder": (
        None,
        ["ledger", "export", "-o", "{WORLD}/with-folder/log.json", "--with-verifier", *OPEN],
        2,
        "P2P-FED-018",
    ),
    "a peers.yaml that is a pipe": (None, ["peers", "show", "{WORLD}/a-pipe"], 2, "P2P-FED-002"),
    "a peers.yaml that never ends": (None, ["peers", "show", "/dev/zero"], 2, "P2P-FED-001"),
    "a peers.yaml with a line of 200 kB": (None, ["peers", "show", "{WORLD}/long-line"], 2, "P2P-FED-007"),
    "an export that never ends": (None, ["ledger", "compare", "/dev/zero", "/dev/zero"], 2, "P2P-USE-015"),
    "an agreement that never ends": (
        None,
        ["peers", "create", *CARDS, "-o", "{WORLD}/new", "--agreement", "/dev/zero"],
        2,
        "P2P-USE-015",
    ),
    "numbers that never end": (
        None,
        ["sum", *PEERS, *OPEN, "--csv", "/dev/zero", "--column", "age"],
        2,
        "P2P-USE-015",
    ),
    "numbers from a pipe that nobody writes": (
        None,
        ["sum", *PEERS, *OPEN, "--csv", "{WORLD}/a-pipe", "--column", "age"],
        2,
        "P2P-TRAIN-002",
    ),
    "records that are a device": (None, ["join", *PEERS, *OPEN, "--data", "/dev/zero"], 2, "P2P-TRAIN-001"),
    "records that are no path": (None, ["join", *PEERS, *OPEN, "--data", ""], 2, "P2P-TRAIN-064"),
    "a log that is a pipe that nobody reads": (None, [*SUM, "--log", "{WORLD}/a-pipe"], 2, "P2P-USE-030"),
    "a fingerprint of 200 kB": (None, ["peers", "fingerprint", "x" * 100_000, *PEERS], 2, "P2P-USE-001"),
    "a key file that is a device": (None, ["status", *OPEN[:3], "/dev/zero"], 1, "P2P-KEY-003"),
}


def played(folder: Path, *asked: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.hostile", str(folder), *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    first, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    if not first["unprivileged"]:
        pytest.skip("this user may read a file of mode 000, and that right cannot be given up here")
    assert lines, done.stderr
    assert done.returncode == 0, (lines[-1], done.stderr[-2000:])
    return lines


def check(case: dict[str, Any]) -> None:
    said = case["said"]
    assert case["status"] in STATUSES, case
    assert case["code"] != "P2P-USE-004", f"{case['arguments']}\n{said}"
    assert "Traceback" not in said or "P2P-USE-0" in case["code"], f"{case['arguments']}\n{said}"
    assert case["code"] or case["status"] in FINDS, case
    assert case["characters"] <= MOST_SAID, case
    assert case["seconds"] < CASE_S, case
    assert case["grown"] <= MOST_GROWN, case


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    asked = [[name, spoilt, words] for name, (spoilt, words, _, _) in FOUND.items()]
    return {case["name"]: case for case in played(tmp_path_factory.mktemp("found"), json.dumps(asked))}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_an_error_of_its_own(found: dict[str, dict[str, Any]], name: str) -> None:
    _, _, status, code = FOUND[name]
    case = found[name]
    check(case)
    assert (case["status"], case["code"]) == (status, code), case


@pytest.mark.parametrize("chunk", range(4))
def test_whatever_is_given_to_a_verb_it_ends_within_the_contract(tmp_path: Path, chunk: int) -> None:
    count = scaled(150)
    for case in played(tmp_path, str(chunk * 1_000_000), str(count)):
        check(case)
