"""`p2pfl stats propose KIND`: a question as a file, signed by this site, for the others to read and approve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import click

from p2pfl.cli import output
from p2pfl.cli.options import (
    Unlock,
    home_option,
    json_option,
    new_file_option,
    peers_option,
    reading_or_new,
    unlock_options,
    write_new,
)
from p2pfl.cli.stats import KINDS
from p2pfl.cli.verbs import Verbs
from p2pfl.federation import Federation


class ProposedKinds(Verbs):
    """A kind of question is a command that is made from what the question needs."""

    def _made(self, verb: str) -> click.Command:
        return _command(verb)


propose = ProposedKinds(
    "propose",
    "p2pfl.cli.stats",
    KINDS,
    text="Write a question to a file, for the other sites to approve. Nothing is asked.",
)


def _command(kind: str) -> click.Command:
    from p2pfl.cli.stats.kinds import question_options

    @question_options(kind)
    @new_file_option
    @peers_option
    @home_option
    @unlock_options
    @json_option
    def proposed(**how: Any) -> None:
        _propose(**how)

    return click.command(name=kind, help=f"Propose: {KINDS[kind]}")(proposed)


def _propose(
    *, told: Mapping[str, Any], target: Path, peers_file: Path, home: Path, unlock: Unlock, as_json: bool
) -> None:
    from p2pfl.node import question_file, questions

    federation = Federation.load(peers_file)
    text = question_file.text_of(question_file.statistic_of(told, federation, "the command line"), federation)
    with reading_or_new(home, unlock, federation) as opened:
        identity, name = opened.identity(), opened.name
    federation.own(name, identity.key)
    write_new(target, question_file.to_bytes(text, federation, name, identity))
    digest = questions.digest_of(federation, text).hex()
    more = "" if peers_file.name == "peers.yaml" else f" --peers {quote(peers_file.name)}"
    lines = [
        f"{target}: {question_file.called(text)}, proposed by {name}; question {digest[:16]}",
        "each site that agrees, this one too, runs on it:",
        f"  p2pfl stats approve {quote(str(target))}{more}",
        "and all of them together, each on its own records:",
        f"  p2pfl stats ask {quote(str(target))}{more} --data THEIR.csv",
    ]
    facts: dict[str, object] = {"path": str(target), "question": digest, "told": text, "by": name}
    output.result("\n".join(lines), facts, as_json)
