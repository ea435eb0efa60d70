"""What this site's people said to questions: which they approved, of which kinds any may be asked.

A question is approved as the very facts that all sites agree on, under one peers.yaml: another column, another number
or another set of members is another question. docs/adr/0056.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.questions import QuestionNotApproved
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.node.logs import Logs
from p2pfl.node.site_index import ASK, COUNTED

ITEM: Final = "membership/questions"
MOST_KEPT: Final = 256  # the oldest are forgotten, and would have to be approved again
MOST_KINDS: Final = 64


@dataclass(frozen=True, slots=True)
class Approvals:
    """What was approved: the questions by their digest, and the kinds that stand; None: those that all agreed on."""

    questions: Mapping[bytes, bytes]
    standing: tuple[str, ...] | None = None

    def standing_in(self, federation: Federation) -> tuple[str, ...]:
        """The kinds that need no approval here: this site's own word goes before that of peers.yaml."""
        return federation.statistics.standing if self.standing is None else self.standing


def digest_of(federation: Federation, question: Mapping[str, Any]) -> bytes:
    """32 bytes that name a question among these members, under this peers.yaml."""
    return digest("question", federation.digest, codec.facts(question))


def approvals(home: Home) -> Approvals:
    """What this site's people said so far."""
    data = home.read(ITEM)
    if data is None:
        return Approvals({})
    rows, kinds = codec.unpack(data, most=len(data), items=MOST_KEPT)
    return Approvals(dict(rows), kinds)


def approve(home: Home, federation: Federation, question: Mapping[str, Any]) -> bytes:
    """Keep that the question was read and approved; returns its digest. The log says so once a process asks it."""
    name = digest_of(federation, question)
    with home.beside():
        held = approvals(home)
        rows = {one: facts for one, facts in held.questions.items() if one != name} | {name: codec.facts(question)}
        _keep(home, Approvals(dict(list(rows.items())[-MOST_KEPT:]), held.standing))
    return name


def stand(home: Home, kinds: Sequence[str] | None) -> None:
    """Questions of these kinds, and of no others, need no approval of their own here; None: as peers.yaml says."""
    chosen = None if kinds is None else tuple(dict.fromkeys(kinds))[:MOST_KINDS]
    with home.beside():
        _keep(home, Approvals(approvals(home).questions, chosen))


def _keep(home: Home, held: Approvals) -> None:
    rows = [[name, facts] for name, facts in held.questions.items()]
    home.replace(ITEM, codec.pack([rows, None if held.standing is None else list(held.standing)]))


def check(home: Home, federation: Federation, question: Mapping[str, Any], called: str) -> str:
    """How the question is allowed here: approved, or standing. Raises QuestionNotApproved."""
    held, kind = approvals(home), question["kind"]
    name = digest_of(federation, question)
    if name in held.questions:
        return "approved"
    if kind in held.standing_in(federation):
        return "standing"
    kinds = ", ".join(held.standing_in(federation)) or "none"
    evidence = f"question {name.hex()[:16]}; approved here are {len(held.questions)}, and of the kinds: {kinds}"
    raise QuestionNotApproved(evidence=evidence, query=called, source=federation.source, home=home.path)


def note(logs: Logs, name: bytes, question: Mapping[str, Any], how: str) -> None:
    """In the site log, before anything is asked: what this site takes part in, and by whose leave."""
    options = {"question": name.hex(), "kind": str(question["kind"]), "allowed": how}
    logs.note(OperatorEntry(time=logs.time, command=ASK, options=options))


def note_counted(logs: Logs, name: bytes, number: int) -> None:
    """Behind a question that is counted at this site, or was before: how many are. It stands there for each."""
    logs.note(OperatorEntry(time=logs.time, command=ASK, options={"question": name.hex(), COUNTED: number}))
