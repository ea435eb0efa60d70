"""Model files as `p2pfl model export` writes them, without a training: what the card says of one is made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from p2pfl.federation.table_schema import TableSchema
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.training.model.card import VERSION, ModelCard, model_facts, task_digest, task_facts
from p2pfl.training.model.file import model_file
from p2pfl.training.model.state import ModelState, StateLayout
from p2pfl.training.tasks import heart
from p2pfl.training.tasks.heads import head_of
from p2pfl.training.tasks.table import inputs_of
from p2pfl.training.update import FlatVector, TensorLayout

HEX = "ab" * 32


def layout_of(schema: TableSchema) -> TensorLayout:
    """That of a linear model; a test compares it with the module's."""
    inputs, outputs = sum(map(inputs_of, schema.columns)), head_of(schema.label).outputs
    return TensorLayout((("weight", (outputs, inputs)), ("bias", (outputs,))))


def card_facts(choice: TaskChoice, layout: TensorLayout, vector: FlatVector, **other: Any) -> dict[str, Any]:
    """What a card says of the model (m,)."""
    figure = {"value": "0.871000", "low": "0.820000", "high": None}
    return {
        "card": VERSION,
        "software": "p2pfl 0.1.0",
        "federation": {"name": "trial", "epoch": 1, "sites": ["charite", "st-olav", "uppsala"], "first": HEX},
        "task": task_facts(choice),
        "task_digest": task_digest(choice).hex(),
        "model": model_facts(ModelState(StateLayout(layout), vector)),
        "training": {
            "run": HEX,
            "rounds": 3,
            "began": 1_790_000_000_000,
            "ended": 1_790_000_100_000,
            "in_rounds": {"charite": 3, "st-olav": 2, "uppsala": 3},
            "field": 31,
            "clip": "10",
            "scale": "1",
            "compression": "none",
            "density": "0.01",
            "weights": "equal",
            "server": "mean",
            "average": "0",
            "personal": [],
        },
        "metric": {"name": "auc", "model": "last", "figures": {"auc": figure}, "private": False},
        "privacy": {
            "unit": "record",
            "epsilon": "1.637385",
            "delta": "1e-05",
            "max_epsilon": "3",
            "noise_multiplier": "1.1",
            "max_grad_norm": "1",
            "sample_rate": "0.02",
            "steps_per_round": 80,
            "parts": 1,
            "epsilon_alone": None,
        },
        "ledger": {"entries": 5, "root": HEX, "genesis": HEX},
        "threshold": None,
        "licence": None,
        **other,
    }


def made(schema: TableSchema | None = None, seed: int = 0, **other: Any) -> bytes:
    """A file of a linear model on a table, heart's by default; `other`: what its card says instead."""
    schema = schema or heart.heart()
    layout = layout_of(schema)
    vector = ((37 * np.arange(layout.parameters) + seed) % 101 / 32 - 1.5).astype(np.float32)  # exact everywhere
    return model_file(layout, vector, ModelCard.of(card_facts(TaskChoice(table=schema), layout, vector, **other)))


def header_of(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(data[8 : 8 + size])
    return found


def with_header(data: bytes, header: Mapping[str, Any] | bytes) -> bytes:
    """The file with another header."""
    size = int.from_bytes(data[:8], "little")
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data[8 + size :]
