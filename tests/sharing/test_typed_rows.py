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
        case e.Send() | e.Persist() | e.WriteAhead() | e.SetTimer() | e.GoOn() | e.Quantise() | e.Ahead():
            return
        case e.Apply() | e.Finished() | e.LeftBehind() | e.Retract() | e.Accuse() | e.Stop():
            return
        case e.NoteBundle() | e.NoteBallot() | e.NoteAbandoned() | e.NoteMissed():
            return
        case _:
            assert_never(effect)
"""


WELL_TYPED = """\
on(Phase.GATHER, m.Root, gather.accept_root)
on(Phase, m.Ballot, ballot.answer)
when(Phase.SHARE, e.Accepted, mask.request, then=Phase.MASK)
"""
WRONG = {  # what is wrong: the lines, and what mypy says of them
    "another letter": ("on(Phase.GATHER, m.Root, gather.accept_nonce)\n", "[arg-type]"),
    "an event for a letter": ("on(Phase.GATHER, e.Accepted, gather.accept_root)\n", "[type-var]"),
    "another event": ("when(Phase.SHARE, e.Dealt, mask.request)\n", "[arg-type]"),
    "a letter for an event": ("when(Phase.GATHER, m.Root, gather.accept_root)\n", "[type-var]"),
    "an effect left out": (WHOLE.replace(" | e.NoteMissed()", ""), "assert_never"),
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy, as this project runs it, says of a module of each of these lines, in one run."""
    folder = tmp_path_factory.mktemp("rows")
    texts = {"well typed": WELL_TYPED + WHOLE} | {what: lines for what, (lines, _) in WRONG.items()}
    files = {folder / f"{what.replace(' ', '_')}.py": what for what in texts}
    for file, what in files.items():
        file.write_text(HEAD + texts[what])
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *map(str, files)]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.stderr == ""
    found: dict[str, list[str]] = {what: [] for what in texts}
    for line in ran.stdout.splitlines():
        place, is_error, said = line.partition(" error: ")
        if is_error:
            found[files[folder / Path(place.partition(":")[0]).name]].append(said)
    return found


def test_rows_with_their_own_actions_and_a_driver_of_every_effect_are_well_typed(errors: dict[str, list[str]]) -> None:
    assert errors["well typed"] == []


@pytest.mark.parametrize("what", WRONG)
def test_a_mis_wired_row_and_a_driver_that_forgets_an_effect_are_type_errors(
    errors: dict[str, list[str]], what: str
) -> None:
    assert errors[what]
    assert any(WRONG[what][1] in each for each in errors[what]), errors[what]
