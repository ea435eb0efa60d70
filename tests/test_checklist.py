"""docs/hipaa.md names tests, kinds of ledger entry and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from p2pfl.ledger.entry import KINDS
from tests.commands import parse

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_the_checklist_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs/hipaa.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert re.search(rf"^\s*def {test}\(", (ROOT / file).read_text(), re.M), f"{file}::{test}"


def column(file: str, heading: str) -> list[str]:
    """The cells under `heading`, of all tables of `file` that have it."""
    found, at = list[str](), -1
    for line in (ROOT / file).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            at = -1
        elif heading in cells:
            at = cells.index(heading)
        elif at >= 0 and set(cells[0]) != {"-"}:
            found.append(cells[at])
    return found


def test_the_checklist_names_only_kinds_of_entry_in_the_ledger() -> None:
    """Or says that there are none."""
    cells = column("docs/hipaa.md", "in the ledger")
    assert len(cells) > 40
    named = set[str]()
    for cell in cells:
        kinds = re.findall(r"`(\w+)`", cell)
        assert cell == (", ".join(f"`{kind}`" for kind in kinds) or "nothing"), cell
        named.update(kinds)
    assert named == set(KINDS)  # each kind backs something


def test_the_checklist_names_tests_or_says_that_there_are_none() -> None:
    for cell in column("docs/hipaa.md", "tests"):
        assert cell == "none" or all(re.fullmatch(r"`tests/.*`", one) for one in cell.split(", ")), cell


def test_every_command_of_the_checklist_is_one_that_the_program_takes() -> None:
    text = (ROOT / "docs/hipaa.md").read_text()
    commands = re.findall(r"`p2pfl ([^`]+)`", text) + re.findall(r"^    p2pfl (.+)$", text, re.M)
    assert len(commands) > 40
    for one in commands:
        parse(shlex.split(one))
