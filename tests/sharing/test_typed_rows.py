"""A row whose action takes another letter or event than the row names is a type error; so is a lost effect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HEAD = """\
from typing import assert_never

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import ballot, gather, mask
from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import on, when

"""
WHOLE = """\
def carry_out(effect: e.Effect) -> None:
    match effect:
        case e.Send() | e.Persist() | e.SetTimer() | e.Quantise() | e.Ahead() | e.Apply():
            return
        case e.Finished() | e.LeftBehind() | e.Retract() | e.Accuse() | e.Stop():
            return
        case e.NoteBundle() | e.NoteBallot() | e.NoteAbandoned() | e.NoteMissed():
            return
        case _:
            assert_never(effect)
"""


def errors_in(lines: str, folder: Path) -> list[str]:
    """What mypy, as this project runs it, says of a module of these lines."""
    snippet = folder / "snippet.py"
    snippet.write_text(HEAD + lines)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(snippet)]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.stderr == ""
    return [line.partition("error: ")[2] for line in ran.stdout.splitlines() if " error: " in line]


def test_rows_with_their_own_actions_and_a_driver_of_every_effect_are_well_typed(tmp_path: Path) -> None:
    rows = """\
on(Phase.GATHER, m.Root, gather.accept_root)
on(Phase, m.Ballot, ballot.answer)
when(Phase.SHARE, e.Accepted, mask.request, then=Phase.MASK)
"""
    assert errors_in(rows + WHOLE, tmp_path) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("on(Phase.GATHER, m.Root, gather.accept_nonce)\n", "[arg-type]"),
        ("on(Phase.GATHER, e.Accepted, gather.accept_root)\n", "[type-var]"),
        ("when(Phase.SHARE, e.Dealt, mask.request)\n", "[arg-type]"),
        ("when(Phase.GATHER, m.Root, gather.accept_root)\n", "[type-var]"),
        (WHOLE.replace(" | e.NoteMissed()", ""), "assert_never"),
    ],
    ids=["another letter", "an event for a letter", "another event", "a letter for an event", "an effect left out"],
)
def test_a_mis_wired_row_and_a_driver_that_forgets_an_effect_are_type_errors(
    lines: str, said: str, tmp_path: Path
) -> None:
    found = errors_in(lines, tmp_path)
    assert found
    assert any(said in each for each in found), found
