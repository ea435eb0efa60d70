"""One style for all commands: the same name for the same thing, one order, whole sentences, examples that parse."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from pathlib import Path

import click
import pytest

from p2pfl.cli import roff
from p2pfl.cli.examples import EXAMPLES, examples_of
from p2pfl.cli.join import next_steps
from p2pfl.cli.main import CHAPTERS, VERBS, p2pfl, run
from p2pfl.cli.options import DEFAULT_HOME
from p2pfl.cli.verb import SHARED, Verb
from p2pfl.errors import all_leaves
from tests.commands import parse

EVERY = list(roff.every(p2pfl, "p2pfl"))
LEAVES = [one for one in EVERY if not isinstance(one.command, click.Group)]
# What scripts may count on: only ever added to. `README.md` and `.ci/run` are written in it.
STABLE = """
demo --peers 5 --rounds 2 --home demo --json
init --name ada --listen 0.0.0.0:7700 --home home
peers create a.card b.card -o peers.yaml
peers show peers.yaml
peers diff peers.yaml
peers fingerprint a.card
join --peers peers.yaml --home home --data records.csv --columns theirs.yaml --task task.py:Scans --wait 60 --json
join --peers peers.yaml --data records.csv --check
doctor --peers peers.yaml
status --json
report -o report.html
ledger verify --json
ledger show --json
ledger export -o ledger.json --json
ledger compare a b --json
sum --peers peers.yaml --value 1 --name pay --limit 200000 --decimals 2 --json
sum --peers peers.yaml --csv records.csv --column age --stat mean
model export -o model.safetensors
predict --data new.csv
task draft records.csv -o task.yaml
task new scans
task check task.py --data records.csv
task review task.py
task approve task.py
privacy plan --epsilon 3 --records 110
dashboard
keys list
keys add
keys rotate 1
""".strip().splitlines()
# What one name says in several commands, where that is more than one thing, and why it is no two names.
MEANINGS = {
    "--agreement": 2,  # named at first; then held against what was named
    "--check": 2,  # before a join; a file of evidence
    "--column": 2,  # of questions; of `sum --csv`
    "--columns": 4,  # of questions; a column map, whose draft takes its names
    "--csv": 3,  # what is written, of weights and of records; what `sum` reads
    "--data": 5,  # a CSV, a folder, once or many times; of whom
    "--epsilon": 3,  # a budget; what is found for it; what was spent
    "--event": 2,  # of a question; of a task's label
    "--first": 2,  # named, then held
    "--go-on": 2,
    "--home": 2,  # of all sites of a demo
    "--key-command": 2,  # `init` makes what others open with
    "--key-file": 2,
    "--listen": 2,
    "--log": 2,  # where lines go; which of the two ledgers
    "--method": 2,
    "--name": 3,  # of a site, a federation, a question
    "--new-key-command": 2,
    "--noise": 2,
    "--output": 6,  # what is written there
    "--parameters": 2,
    "--pass-phrase": 2,
    "--peers": 7,  # where it is needed, or only tells studies apart; how many in a demo
    "--plot": 2,
    "--positive": 2,  # of a code; of an event
    "--rounds": 3,
    "--seeds": 2,
    "--set": 2,  # of `privacy plan`, with --simulate alone
    "--sites": 2,
    "--task": 6,  # named, then held
    "--bins": 2,
    "--wait": 2,
}


def suggested(text: str) -> list[str]:
    """The commands in what a verb printed: lines that begin with the program's name."""
    return [line.strip().partition("   ")[0] for line in text.splitlines() if line.strip().startswith("p2pfl ")]


def options(context: click.Context) -> list[click.Option]:
    return [one for one in context.command.get_params(context) if isinstance(one, click.Option) and not one.hidden]


@pytest.mark.parametrize("context", LEAVES, ids=lambda one: one.command_path)
def test_every_command_has_examples_and_each_is_one_of_it(context: click.Context) -> None:
    lines = examples_of(context.command_path)
    assert lines
    for line in lines:
        called = parse(shlex.split(line)[1:])
        assert called == context.command_path
        assert len(line) <= 140


@pytest.mark.parametrize("line", STABLE)
def test_what_scripts_may_count_on_is_still_a_command(line: str) -> None:
    parse(line.split())


def test_what_init_and_join_say_comes_next_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A home whose path has a space, too; of the default home none is named."""
    home = tmp_path / "a home"
    assert run(["init", "--name", "ada", "--home", str(home), "--key-file", str(tmp_path / "key")]) == 0
    begun = suggested(capsys.readouterr().out)
    assert [parse(shlex.split(line.replace("…", "b.card"))[1:]) for line in begun] == [
        "p2pfl keys add",
        "p2pfl peers create",
    ]
    peers = tmp_path / "the hearts.yaml"
    ended = suggested("\n".join(next_steps(home, peers, "hearts")))
    assert [parse(shlex.split(line)[1:]) for line in ended] == ["p2pfl report", "p2pfl model export"]
    assert all({str(home), str(peers)} < {*shlex.split(line)} for line in ended)
    assert not any("--home" in line for line in next_steps(DEFAULT_HOME.expanduser(), peers, "hearts"))


def test_the_first_help_has_every_verb_under_a_heading() -> None:
    said = p2pfl.get_help(click.Context(p2pfl, info_name="p2pfl"))
    assert "Commands:" not in said
    headings = [line for line in said.splitlines() if re.fullmatch(r"[A-Z].*:", line)]
    assert headings[1:] == [f"{heading}:" for heading in CHAPTERS]
    assert [line.split()[0] for line in said.splitlines() if re.match(r"  [a-z]+  +\S", line)] == list(VERBS)


def test_no_example_is_of_a_command_that_is_not_there() -> None:
    assert {f"p2pfl {path}" for path in EXAMPLES} == {one.command_path for one in LEAVES}


@pytest.mark.parametrize("context", LEAVES, ids=lambda one: one.command_path)
def test_own_options_come_first_and_shared_ones_in_one_order(context: click.Context) -> None:
    """With -o as the last of a command's own, and --json and --help as the last of all."""
    names = [one.opts[-1] for one in options(context)]
    shared = [option for held, need in SHARED.values() for option in held if need in {*names, "--help"}]
    behind = [one for one in names if one in shared]
    assert names[len(names) - len(behind) :] == behind == sorted(behind, key=shared.index)
    own = names[: len(names) - len(behind)]
    assert "--output" not in own[:-1]


@pytest.mark.parametrize("context", LEAVES, ids=lambda one: one.command_path)
def test_each_option_is_a_sentence_and_says_what_it_takes(context: click.Context) -> None:
    assert isinstance(context.command, Verb)
    for one in options(context):
        record = one.get_help_record(context)
        assert record is not None and re.match(r"[A-Z0-9]", record[1]), one.name
        assert re.search(r"[.:)](  \[.*\])?$", record[1]), (one.name, record[1])
        assert not re.search(r"\b(TEXT|INTEGER|FLOAT|RANGE)\b", record[0]), record[0]


@pytest.mark.parametrize("context", EVERY, ids=lambda one: one.command_path)
def test_a_commands_first_sentence_ends(context: click.Context) -> None:
    first = (context.command.help or "").split("\n\n")[0]
    assert first and first[0].isupper() and first.rstrip().endswith(".")


def test_one_name_has_one_meaning_but_where_it_is_known() -> None:
    """Defaults and what is required apart. A new meaning of an old name is a decision, made here."""
    said: dict[str, set[str]] = defaultdict(set)
    for context in LEAVES:
        for one in options(context):
            said[one.opts[-1]].add(re.sub(r"\s*\[[^]]*\]", "", (one.help or "")))
    assert {name: len(texts) for name, texts in said.items() if len(texts) > 1} == MEANINGS


@pytest.mark.parametrize("code", ["P2P-MESH-003", "mesh-003"])
def test_help_says_what_the_code_of_an_error_means_with_causes_and_what_to_try(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log, a dashboard and a colleague's message hold codes alone."""
    assert run(["help", code]) == 0
    said = capsys.readouterr().out
    assert said.startswith("P2P-MESH-003: PEER does not answer at ADDRESS.")
    assert re.search(r"likely +a firewall.*\n +try +nc .*\n +exit +1", said)


def test_help_knows_every_code_that_a_person_can_meet_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    for leaf in all_leaves():
        assert run(["help", leaf.code]) == 0, leaf.code
    assert run(["help", "P2P-MESH-999"]) == 2
    assert "P2P-USE-034" in capsys.readouterr().err
