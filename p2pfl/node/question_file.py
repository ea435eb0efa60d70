"""A question as people pass it on: its text with the columns by name, who proposed it, under which peers.yaml.

The text says each column by its name alone, `{"column": "age"}`: its bounds or levels are those that peers.yaml
describes. It is what is approved, and what stands in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.questions import NoTableDescribed, QuestionUnfit
from p2pfl.federation import Federation, strict_yaml
from p2pfl.federation.federation import VERSION
from p2pfl.federation.members import read_name
from p2pfl.federation.readers import List, Table, Word, YamlNode, table, text, whole
from p2pfl.federation.settings import HEX32
from p2pfl.keys import Identity, verify
from p2pfl.node.runs.site_tables import columns_of, variable_of
from p2pfl.statistics.facts import facts_of, question_of
from p2pfl.statistics.question import Factor, Quantity, Statistic

KIND: Final = "question"  # of the signature
KEYS: Final = ("version", "federation", "peers", "by", "question", "signature")
COLUMN: Final = "column"
MOST_NAMED: Final = 4  # columns in a question's name, which stands in every record of it
# Of a column in a statistic's facts.
SHAPES: Final = (frozenset({"name", "low", "high"}), frozenset({"name", "levels"}))
_read_signature: Final = text(r"[0-9a-f]{128}", "128 hexadecimal digits, lower case")


# ── the text ──────────────────────────────────────────────────────────────────────────────────────────────────


def text_of(statistic: Statistic, federation: Federation) -> dict[str, Any]:
    """The question's facts, each column by its name. Raises NoTableDescribed, QuestionUnfit."""
    told: dict[str, Any] = _named(facts_of(statistic))
    if statistic_of(told, federation, "the question") != statistic:
        what = "its columns are not as peers.yaml describes them"
        raise QuestionUnfit(evidence=f"{federation.source}, task", source="the question", what=what)
    return told


def statistic_of(told: Mapping[str, Any], federation: Federation, source: str) -> Statistic:
    """The inverse of `text_of`. Raises NoTableDescribed, QuestionUnfit, WrongQuestion."""
    schema = federation.task.table
    if schema is None:
        raise NoTableDescribed(evidence=f"task: {federation.task.label}", source=federation.source)
    known = {name: variable_of(one) for name, one in columns_of(schema).items()}
    return question_of(_resolved(told, known, source))


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        if frozenset(value) in SHAPES:
            return {COLUMN: value["name"]}
        return {key: _named(inner) for key, inner in value.items()}
    return [_named(one) for one in value] if isinstance(value, list) else value


def _resolved(value: Any, known: Mapping[str, Quantity | Factor], source: str) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {COLUMN}:
            name = value[COLUMN]
            if not isinstance(name, str) or name not in known:
                evidence = f"the columns are {', '.join(known)}"
                raise QuestionUnfit(evidence=evidence, source=source, what=f"there is no column {name!r:.70}")
            one = known[name]
            if isinstance(one, Factor):
                return {"name": one.name, "levels": list(one.levels)}
            return {"name": one.name, "low": repr(one.low), "high": repr(one.high)}
        return {key: _resolved(inner, known, source) for key, inner in value.items()}
    return [_resolved(one, known, source) for one in value] if isinstance(value, list) else value


def called(told: Mapping[str, Any]) -> str:
    """The question for people, on one line: its kind, and the columns that it asks of; the first of many."""
    names = columns_in(told)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{told['kind']} of {', '.join(names[:MOST_NAMED])}{more}" if names else str(told["kind"])


def columns_in(told: Mapping[str, Any]) -> list[str]:
    """Every column that the question asks of, once."""
    return list(dict.fromkeys(_columns(told)))


def _columns(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if set(value) == {COLUMN}:
            return [str(value[COLUMN])]
        return [name for inner in value.values() for name in _columns(inner)]
    return [name for one in value for name in _columns(one)] if isinstance(value, list) else []


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ProposedQuestion:
    """A question that a site proposed. by: its name; the file carries its signature."""

    told: Mapping[str, Any]
    statistic: Statistic
    by: str


def to_bytes(told: Mapping[str, Any], federation: Federation, by: str, identity: Identity) -> bytes:
    """The file."""
    signature = identity.sign(KIND, _signed(told, federation, by))
    lines = [
        f"# p2pfl: a question to the sites of {federation.name}. By this file alone nothing is asked: read it. A site",
        "# that agrees runs, on it,",
        "#   p2pfl stats approve THIS-FILE",
        "# and all sites that have approved it ask it together:",
        "#   p2pfl stats ask THIS-FILE --data THEIR.csv",
        f"version: {VERSION}",
        f"federation: {federation.name}",
        f'peers: "{federation.digest.hex()}"   # SHA-256 of the peers.yaml, which says what each column is',
        f"by: {by}",
        "question:",
        *(f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()),
        f'signature: "{signature.hex()}"',
    ]
    return ("\n".join(lines) + "\n").encode()


def load(path: Path, federation: Federation) -> ProposedQuestion:
    """Read the question at `path`. Raises a leaf of errors.federation with line and column, QuestionUnfit."""
    return parse(strict_yaml.load(path), str(path), federation)


def parse(raw: bytes, source: str, federation: Federation) -> ProposedQuestion:
    """The question that `raw` holds, its signature verified. Raises as `load`."""
    top = strict_yaml.read_yaml(raw, source)
    top.only(KEYS)
    top.value("version", whole(VERSION, VERSION))
    if top.value("federation", read_name) != federation.name or top.value("peers", HEX32) != federation.digest.hex():
        evidence = f"it was proposed under {top.value('peers', HEX32)[:16]}…; here is {federation.digest.hex()[:16]}…"
        raise QuestionUnfit(evidence=evidence, source=source, what="it is of another peers.yaml")
    by, told = top.value("by", read_name), _facts(top.value("question", table), "question")
    signature = bytes.fromhex(top.value("signature", _read_signature))
    signer = next((one.key for one in federation.roster.members if one.name == by), b"")
    try:
        signed = _signed(told, federation, by)
    except codec.Malformed as error:
        raise QuestionUnfit(evidence=str(error), source=source, what="its text is not of a question") from None
    if not verify(signer, KIND, signed, signature):
        raise QuestionUnfit(evidence=f"the signature of {by}", source=source, what="nobody of the sites signed it so")
    return ProposedQuestion(told, statistic_of(told, federation, source), by)


def _signed(told: Mapping[str, Any], federation: Federation, by: str) -> bytes:
    return codec.facts({"kind": KIND, "peers": federation.digest.hex(), "by": by, "question": dict(told)})


def _facts(node: YamlNode, key: str) -> Any:
    """What JSON wrote there. Raises WrongValue."""
    if isinstance(node, Table):
        return {name: _facts(inner, f"{key}.{name}") for name, (_, inner) in node.rows.items()}
    if isinstance(node, List):
        return [_facts(one, f"{key}[{at}]") for at, one in enumerate(node.values)]
    return _scalar(node, key)


def _scalar(node: Word, key: str) -> Any:
    if node.quoted:
        return node.text
    if node.text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[node.text]
    return whole(-(10**17), 10**17)(node, key)
