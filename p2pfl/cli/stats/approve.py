"""`p2pfl stats approve`: from now on this question, or any of some kinds, may be asked of this site's records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, unlock_options
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.federation.statistics_rules import KINDS
from p2pfl.home import Home


@click.command()
@click.argument("file", required=False, metavar="[QUESTION.yaml]", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--standing",
    metavar="KIND,…",
    help="Questions of these kinds, and of no others, need no approval at this site, whatever peers.yaml says; none: "
    "every one does; agreed: as peers.yaml says.",
)
@peers_option
@home_option
@unlock_options
@json_option
def approve(
    *, file: Path | None, standing: str | None, peers_file: Path, home: Path, unlock: Unlock, as_json: bool
) -> None:
    """Show a question, and say that it may be asked of this site's records; the site log says so when it is.

    It is approved under this peers.yaml: after a change of membership it is another question.
    """
    if (file is None) == (standing is None):
        raise WrongUse(evidence="one of QUESTION.yaml and --standing", verb=" stats approve")
    if file is None:
        _stand(str(standing), peers_file, home, unlock, as_json)
        return
    from p2pfl.node import question_file, questions
    from p2pfl.node.studies import begin

    federation = Federation.load(peers_file)
    proposal = question_file.load(file, federation)
    for key, value in proposal.told.items():
        output.progress(f"  {key}: {json.dumps(value, ensure_ascii=False)}")
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        digest, name = questions.approve(begin(opened, federation), federation, proposal.told).hex(), opened.name
    text = f"{name}: {question_file.called(proposal.told)}, proposed by {proposal.by}, may be asked here"
    facts = {"path": str(file), "question": digest, "told": dict(proposal.told), "by": proposal.by}
    output.result(f"{text}; question {digest[:16]}", facts, as_json)


def _stand(standing: str, peers_file: Path, home: Path, unlock: Unlock, as_json: bool) -> None:
    from p2pfl.node import questions
    from p2pfl.node.studies import begin

    own = {"none": [], "agreed": None}.get(standing, [one.strip() for one in standing.split(",")])
    if unknown := [one for one in own or () if one not in KINDS]:
        evidence = f"--standing {', '.join(unknown)}; kinds are {', '.join(KINDS)}"
        raise WrongUse(evidence=evidence, verb=" stats approve")
    federation = Federation.load(peers_file)
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        questions.stand(begin(opened, federation), own)
        name = opened.name
    kinds = list(federation.statistics.standing if own is None else own)
    text = f"no approval is needed here for {', '.join(kinds)}" if kinds else "every question needs an approval here"
    facts: dict[str, Any] = {"standing": kinds}
    output.result(f"{name}: {text}", facts, as_json)
