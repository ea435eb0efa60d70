"""The card of a model: what it is of, who trained it, how private it is, how good, where that can be checked.

Facts (`codec.facts`), so the same training gives the same bytes at every site. They lie in the header of the model's
safetensors file, under `card`: the file alone suffices to use the model. Whoever reads one trusts nothing in it: every
field has a form, and the tensors must be those that it names. docs/spec/model-file.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors import ConfigurationError
from p2pfl.errors.models import CardUnfit
from p2pfl.federation.members import read_name
from p2pfl.federation.personal_layers import MOST_LAYERS, is_layer
from p2pfl.federation.readers import (
    Word,
    YamlNode,
    choice,
    decimal,
    items,
    nothing_or,
    table,
    text,
    whole,
    wrong,
)
from p2pfl.federation.settings import HEX32, LICENCE
from p2pfl.federation.table_facts import facts_of, node_of, schema_of
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.keys import digest
from p2pfl.training.model.state import AVERAGE, MODEL, MOMENTUM, SECOND, ModelState

KEY: Final = "card"
VERSION: Final = 1
MOST_BYTES: Final = 1 << 20
MOST_PEERS: Final = 1 << 10
MOST_FIGURES: Final = 256
MOST_COUNT: Final = 1 << 53

Form = Callable[[YamlNode, str], Any]

_line: Final = text(r"[^\x00-\x1f\x7f-\x9f]{0,200}", "at most 200 characters on one line")
_count: Final = whole(0, MOST_COUNT)
_real: Final = text(r"-?[0-9]{1,20}(\.[0-9]{1,25})?(e[+-]?[0-9]{1,3})?|inf", "a decimal number, or inf")
_maybe: Final = nothing_or(_real)


def _rows(form: Form, most: int, names: Form) -> Form:
    """A map of at most `most` names to values of one form."""

    def read(node: YamlNode, key: str) -> None:
        rows = table(node, key)
        if len(rows.rows) > most:
            wrong(node, key, f"a table of at most {most}")
        for name in rows.rows:
            names(Word(name, False, node.place), f"{key}'s name")
            rows.value(name, form)

    return read


def _map(forms: Mapping[str, Form]) -> Form:
    """A map with these keys, all of them and no others."""

    def read(node: YamlNode, key: str) -> None:
        rows = table(node, key)
        rows.only(forms)
        for name, form in forms.items():
            rows.value(name, form)

    return read


_figure: Final = text(r"[a-z][a-z0-9_]{0,40}", "a figure's name")
_figures: Final = _rows(_map({"value": _real, "low": _maybe, "high": _maybe}), MOST_FIGURES, _figure)
_task_file: Final = _map(
    {
        "file": text(r"[A-Za-z0-9_.-]{1,100}\.py", "a file's name ending in .py"),
        "class": text(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "a class"),
        "sha256": HEX32,
    }
)
_own: Final = _map({"own": text(r"[A-Za-z0-9_.:/+ -]{1,200}", "the name of code that each site brings")})


def _layer(node: YamlNode, key: str) -> str:
    if not isinstance(node, Word) or not is_layer(node.text):
        wrong(node, key, "a layer's name")
    return node.text


def _task(node: YamlNode, key: str) -> None:
    """A table's description is read by its own reader, in `ModelCard.read`."""
    rows = table(node, key)
    if list(rows.rows) == ["own"]:
        _own(node, key)
    elif list(rows.rows) != ["table"]:
        _task_file(node, key)


FORMS: Final[Mapping[str, Form]] = {
    "card": whole(VERSION, VERSION),
    "software": _line,
    "federation": _map(
        {
            "name": read_name,
            "epoch": whole(1, 1 << 31),
            "sites": items(read_name, MOST_PEERS),
            "first": HEX32,
        }
    ),
    "task": _task,
    "task_digest": HEX32,
    "model": _map(
        {
            "digest": HEX32,
            "layout": HEX32,
            "parameters": _count,
            "row": choice(MODEL, AVERAGE),
            "kinds": items(choice(MODEL, MOMENTUM, SECOND, AVERAGE), 4),
            "rows": items(HEX32, 4),
            "steps": _count,
            "state": HEX32,
        }
    ),
    "training": _map(
        {
            "run": HEX32,
            "rounds": _count,
            "began": _count,
            "ended": _count,
            "in_rounds": _rows(_count, MOST_PEERS, read_name),
            "field": _count,
            "clip": _real,
            "scale": _real,
            "compression": _line,
            "density": _real,
            "weights": _line,
            "server": _line,
            "average": _real,
            "personal": items(_layer, MOST_LAYERS),
        }
    ),
    "metric": nothing_or(
        _map({"name": _figure, "model": choice("last"), "figures": _figures, "private": choice("false", "true")})
    ),
    "privacy": nothing_or(
        _map(
            {
                "unit": choice("record", "patient"),
                "epsilon": _real,
                "delta": _real,
                "max_epsilon": _real,
                "noise_multiplier": _real,
                "max_grad_norm": _real,
                "sample_rate": _real,
                "steps_per_round": _count,
                "parts": _count,
                "epsilon_alone": nothing_or(_real),
            }
        )
    ),
    "ledger": _map({"entries": _count, "root": HEX32, "genesis": HEX32}),
    "threshold": nothing_or(decimal(0, 1)),
    "licence": nothing_or(LICENCE),
}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A card whose every field has its form; `task` is what peers.yaml says, without a path."""

    facts: Mapping[str, Any]
    task: TaskChoice

    @classmethod
    def read(cls, raw: bytes, source: str) -> ModelCard:
        """The card that `to_bytes` wrote. Raises CardUnfit."""
        try:
            facts = codec.read_facts(raw, MOST_BYTES)
            top = node_of(facts, source)
            _map(FORMS)(top, "")
            return cls(facts, _choice(facts["task"], source))
        except (codec.Malformed, ConfigurationError) as error:
            evidence = f"{error}: {error.evidence}" if isinstance(error, ConfigurationError) else str(error)
            raise CardUnfit(evidence=evidence, source=source) from None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ModelCard:
        """A card of facts that were gathered here. Raises CardUnfit."""
        return cls.read(codec.facts(facts), "the card")

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return codec.facts(self.facts)

    @property
    def personal(self) -> tuple[str, ...]:
        """The layers that stay at each site, so that the model of all lacks them."""
        return tuple(self.facts["training"]["personal"])

    @property
    def threshold(self) -> float | None:
        """The agreed probability from which a prediction is a yes."""
        held = self.facts["threshold"]
        return None if held is None else float(held)


def task_facts(choice: TaskChoice) -> dict[str, Any]:
    """The task as a card says it."""
    if choice.table is not None:
        return {"table": facts_of(choice.table)}
    if choice.file is None:
        return {"own": choice.label}
    return {"file": choice.file, "class": choice.cls, "sha256": (choice.sha256 or b"").hex()}


def model_facts(state: ModelState) -> dict[str, Any]:
    """The digest of what is shown, and those of all rows, from which the one follows that the ledger names."""
    row = AVERAGE if AVERAGE in state.layout.kinds else MODEL
    return {
        "digest": state.names[state.layout.kinds.index(row)].hex(),
        "layout": state.layout.tensors.digest.hex(),
        "parameters": state.layout.tensors.parameters,
        "row": row,
        "kinds": list(state.layout.kinds),
        "rows": [one.hex() for one in state.names],
        "steps": state.steps,
        "state": state.digest.hex(),
    }


def task_digest(choice: TaskChoice) -> bytes:
    """32 bytes that name what was learned: two models of the same description have the same."""
    return digest("task", codec.facts(task_facts(choice)))


def _choice(facts: Mapping[str, Any], source: str) -> TaskChoice:
    if "table" in facts:
        held = facts["table"]
        if not isinstance(held, Mapping):
            raise codec.Malformed("the table is no map")
        return TaskChoice(table=schema_of(held, source))
    if "own" in facts:
        return TaskChoice(python=facts["own"].removeprefix("python:"))
    return TaskChoice(file=facts["file"], cls=facts["class"], sha256=bytes.fromhex(facts["sha256"]))
