"""Every error a person can meet has all five parts, and the command that it suggests is one that exists."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from p2pfl.errors import P2PFLError, all_leaves
from p2pfl.errors.home import HomeMissing
from p2pfl.errors.people import NotWritten
from tests.commands import parse

LEAVES = all_leaves()
NAMES = [leaf.__name__ for leaf in LEAVES]
BRANCHES = {
    "ConfigurationError",
    "LocalFault",
    "LocalProtocolError",
    "RemoteProtocolError",
    "RoundLeftBehind",
    "BudgetSpent",
    "IntegrityError",
}

EXAMPLES = {"verb": "", "group": "", "peer": "st-olav", "name": "st-olav", "port": "7443", "address": "10.0.0.1:7443"}


def example(leaf: type[P2PFLError]) -> P2PFLError:
    fields = {place: EXAMPLES.get(place, "x") for place in leaf.places()}
    return leaf(**{"evidence": "a measured fact", **fields})


def test_there_are_errors_of_every_branch_and_of_nothing_else() -> None:
    found = {branch.__name__ for leaf in LEAVES for branch in leaf.__mro__[1:-4]} | BRANCHES
    assert found == BRANCHES
    assert len(LEAVES) > 50


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_a_leaf_has_all_five_parts(leaf: type[P2PFLError]) -> None:
    assert re.fullmatch(r"P2P-[A-Z]+-[0-9]{3}", leaf.code)
    assert leaf.__doc__
    assert leaf.likely
    assert all(cause and not cause.endswith(".") for cause in leaf.likely)
    assert leaf.command
    assert leaf.exit_status in (1, 2, 3, 4, 5)
    error = example(leaf)
    assert (leaf.__doc__ or "").strip().endswith((".", "?", "}"))
    lines = error.render().splitlines()
    assert [line.split()[0] for line in lines] == ["error", "evidence", "likely", "try"]
    assert "{" not in error.render()


def test_codes_are_unique() -> None:
    codes = [leaf.code for leaf in LEAVES]
    assert len(set(codes)) == len(codes), sorted(code for code in codes if codes.count(code) > 1)


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_a_suggested_p2pfl_command_parses(leaf: type[P2PFLError]) -> None:
    words = shlex.split(example(leaf).suggestion)
    if "p2pfl" in words:  # also behind sudo
        parse(words[words.index("p2pfl") + 1 :])


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("P2P-ROUND-030", "p2pfl doctor"),  # peers diff has no file of a site, and doctor asks for it
        ("P2P-ROUND-035", "p2pfl doctor"),
        ("P2P-ROUND-036", "p2pfl peers show"),  # the whole file, not its keys
        ("P2P-FED-016", "sha256sum x"),  # every verb refuses a forged card
        ("P2P-FED-047", "p2pfl peers fingerprint --home x"),  # who joins has no peers.yaml
        ("P2P-KEY-009", "p2pfl status --help"),  # what opens a home, not what makes one
    ],
)
def test_what_is_suggested_does_not_end_in_an_error_itself(code: str, command: str) -> None:
    assert [example(leaf).suggestion for leaf in LEAVES if leaf.code == code] == [command]


def test_a_path_with_a_blank_is_one_word_of_the_command_to_try() -> None:
    error = HomeMissing(evidence="nothing is there", path="/srv/St Olav/o'home")
    assert shlex.split(error.suggestion) == ["p2pfl", "init", "--name", "NAME", "--home", "/srv/St Olav/o'home"]
    assert error.as_json()["try"] == error.suggestion


@pytest.mark.parametrize(("path", "folder"), [("made/it.html", "made"), ("it.html", "."), ("/it.html", "/")])
def test_of_a_file_that_is_not_there_the_command_to_try_looks_at_the_folder(path: str, folder: str) -> None:
    assert NotWritten(evidence="No such file or directory", path=path).suggestion == f"ls -ld {folder}"


@pytest.mark.parametrize("line", ["p2pfl nonsense", "p2pfl init --nonsense", "p2pfl peers nonsense"])
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises((click.ClickException, P2PFLError)):
        parse(shlex.split(line)[1:])
