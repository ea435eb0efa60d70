"""`p2pfl stats show`: what may be asked of this site's records, and what was."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl import codec
from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, reading, unlock_options
from p2pfl.federation import Federation


@click.command()
@peers_option
@home_option
@unlock_options
@json_option
def show(*, peers_file: Path, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Show the agreed rules, what this site's people approved, and how many questions were asked of its records."""
    from p2pfl.node import question_file, questions
    from p2pfl.node.runs.question_counts import read_counts

    federation = Federation.load(peers_file)
    rules = federation.statistics
    with reading(home, unlock, peers_file) as opened:
        held, counts = questions.approvals(opened), read_counts(opened)
    most = int(counts.counts.max()) if counts.counts.size else 0
    standing = list(dict.fromkeys((*rules.standing, *held.standing)))
    rows = [
        ["minimum", f"{federation.minimum.sites} sites, {rules.minimum_cell} people in a group that is counted"],
        ["columns", f"{'all' if rules.only is None else ', '.join(rules.only)}; never {_or_none(rules.never)}"],
        ["numbers", f"{rules.most_numbers} at most in one question"],
        ["questions", f"{most} asked of the records that were asked about most, {rules.questions} allowed"],
        ["standing", _or_none(standing)],
    ]
    approved = {name.hex(): codec.read_facts(facts) for name, facts in held.questions.items()}
    rows += [["approved", f"{name[:16]}  {question_file.called(told)}"] for name, told in approved.items()]
    facts: dict[str, object] = {
        "minimum_sites": federation.minimum.sites,
        "minimum_cell": rules.minimum_cell,
        "most_numbers": rules.most_numbers,
        "only": None if rules.only is None else list(rules.only),
        "never": list(rules.never),
        "asked": most,
        "questions": rules.questions,
        "standing": standing,
        "approved": [{"question": name, "told": told} for name, told in approved.items()],
    }
    output.result(output.aligned(rows), facts, as_json)


def _or_none(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(words) or "none"
