"""Numbers and their nouns: nobody reads of 1 rounds, or of 2 entrys."""

from __future__ import annotations

import re

import pytest

from p2pfl.errors.counts import counted
from tests.test_house import FILES

# A number and its noun in one literal; where there is never one of them, the number says so.
LOOSE = re.compile(r"\{[^{}]*\} (?:rounds|passes|entries|keys|questions|proofs|findings) ")


@pytest.mark.parametrize(
    ("count", "one", "text"),
    [
        (1, "round", "1 round"),
        (2, "round", "2 rounds"),
        (0, "pass", "0 passes"),
        (3, "entry", "3 entries"),
        (2, "key", "2 keys"),
        (1, "more signature", "1 more signature"),
    ],
)
def test_a_number_has_its_noun(count: int, one: str, text: str) -> None:
    assert counted(count, one) == text


def test_what_people_read_says_one_round_and_not_one_rounds() -> None:
    """A literal that ends its number's noun with an s says so for one, too: counts.py knows better."""
    found = [
        f"{file.name}:{at}: {line.strip()}"
        for file in FILES
        if {"cli", "ledger"} & set(file.parts) and file.name != "auditor.py"
        for at, line in enumerate(file.read_text().splitlines(), start=1)
        if LOOSE.search(line) and '"' in line
    ]
    assert found == []
