"""Every test that docs/attacks.md points to exists, and every row points to one or says that there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
DOCUMENTS = [*sorted(HERE.glob("[A-Z]*.md")), *sorted((HERE / "docs").rglob("*.md"))]
CODE = ("p2pfl", "tests", "benchmarks", "tools")
ATTACKS = (HERE / "docs" / "attacks.md").read_text(encoding="utf-8")


def test_every_test_that_the_attacks_name_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ATTACKS)
    assert len(named) > 25
    for file, name in named:
        assert f"def {name}(" in (HERE / file).read_text(encoding="utf-8"), f"{file}::{name}"


def test_every_attack_names_a_test_or_says_that_there_is_none() -> None:
    rows = [line for line in ATTACKS.splitlines() if line.startswith("| ") and not line.startswith("| attack |")]
    assert len(rows) > 25
    assert all("::test_" in row or row.endswith("| none yet |") for row in rows)


# Of each of these the table at the top says what it wins, and names a test with its defence on and one with it off.
MOUNTED = (
    "Delayed dropout",
    "Two certificates",
    "A made-up abandonment",
    "Two sets",
    "A victim left out",
    "A victim left out at once",
    "A link denied",
    "A victim squeezed out",
    "A victim named out",
    "A victim not acknowledged",
    "Two faces, one for the coordinator",
    "A bundle dealt anew",
    "Bundles without end",
    "A twin dealer",
    "A late share",
    "A share behind the set, in one turn",
    "A chunk added wrongly",
    "A sum chosen after the forms",
    "False tags",
    "A wedge",
    "Liars in turn",
    "Votes that hold others up",
    "Votes for another set",
    "Two Roots",
    "Withheld nonces",
    "Questions without end",
    "Wrong Shamir shares",
    "A re-used update",
    "A restored snapshot",
    "A cloned machine",
    "An old certificate",
    "A rewritten site log",
    "A statistic asked again",
    "A sum of two sites",
    "A sum of few records",
    "A sum beyond its bound",
    "A number guessed from its digest",
    "A patient with many records",
    "Columns that meet at one site",
    "Steps as equations",
    "One left out of a table",
    "One patient counted",
    "Two questions that differ by one patient",
    "A question over one site less",
    "Counts over one site less",
    "A held-out record taken out",
    "A question asked again without one",
    "Held rounds without end",
    "A log that ends early",
    "A charge forgotten",
    "An account begun anew",
    "Low bits of the noise",
    "A thousand records of one",
    "A backup of several studies",
    "A word of another study",
    "A pass repeated after its sum",
    "A budget burnt alone",
    "A key of everybody",
    "A task that reaches out",
    "A task that reads otherwise than it runs",
)


@pytest.mark.claim("LIAR-11")
def test_each_mounted_attack_names_tests_with_its_defence_on_and_off() -> None:
    """It says what it wins."""
    head, *rows = [line for line in ATTACKS.splitlines() if line.count(" | ") == 4]
    assert head == "| attack | what it wins | what stops it | with it | without it |"
    cells = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows if not row.startswith("|---")]
    assert tuple(row[0] for row in cells) == MOUNTED
    for name, wins, stops, on, off in cells:
        assert wins and stops, name
        with_it, without_it = (set(re.findall(r"`tests/[\w/]+\.py::\w+`", cell)) for cell in (on, off))
        assert with_it and without_it and not with_it & without_it, name


HANDED_OUT = {"verify_ledger.py"}  # the auditor's program, as `ledger export` writes it


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(one.relative_to(HERE)) for one in DOCUMENTS])
def test_every_file_of_code_that_a_document_names_exists(document: Path) -> None:
    files = [f"/{one.relative_to(HERE).as_posix()}" for folder in CODE for one in (HERE / folder).rglob("*.py")]
    named = set(re.findall(r"`([a-z_/0-9]+\.py)\b", document.read_text(encoding="utf-8"))) - HANDED_OUT
    assert {name for name in named if not any(file.endswith(f"/{name}") for file in files)} <= {"cli.py"}


def test_the_glossary_is_sorted_and_has_each_word_once() -> None:
    text = (HERE / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [row.split(" | ")[0].removeprefix("| ") for row in text.splitlines() if row.startswith("| ")][1:]
    assert words == sorted(words, key=str.casefold)
    each = [word for row in words for word in row.split(", ")]
    assert len(set(each)) == len(each)
