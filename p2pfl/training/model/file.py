"""A model's file as somebody handed it on: safetensors, read within bounds, every tensor finite, its card checked.

Nothing in it runs, and nothing in it is believed: the header is measured before it is read, offsets must cover the
bytes exactly, and the tensors must have the digest that the card names, which is the one that the ledger names.
Tensors lie in the model's own order, so a digest needs no model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np

from p2pfl import codec
from p2pfl.errors.models import CardUnfit, ModelFileBroken, NoCard
from p2pfl.errors.training import ModelMisfit
from p2pfl.keys import digest
from p2pfl.training.model.card import KEY, ModelCard
from p2pfl.training.model.checkpoint import facts_of, to_bytes
from p2pfl.training.model.personal import PersonalState, divided, fits, joined, reordered
from p2pfl.training.model.state import MODEL, ModelState, StateLayout, name_of, state_name
from p2pfl.training.update import FlatVector, TensorLayout

MOST_HEADER: Final = 1 << 23  # bytes
MOST_TENSORS: Final = 1 << 16
MOST_AXES: Final = 8
MOST_BYTES: Final = 1 << 48
MOST_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model: tensors by name in the model's own order, as one vector (m,), and its card, where it has one."""

    layout: TensorLayout
    vector: FlatVector
    card: ModelCard | None
    source: str

    @classmethod
    def read(cls, data: bytes, source: str) -> ModelFile:
        """The model in `data`. Raises ModelFileBroken, CardUnfit."""
        header, start = _header(data, source)
        metadata = header.pop("__metadata__", {})
        layout, vector = _tensors(header, memoryview(data)[start:], source)
        raw = metadata.get(KEY) if isinstance(metadata, dict) else None
        card = ModelCard.read(raw.encode("utf-8", "replace"), source) if isinstance(raw, str) else None
        found = cls(layout, vector, card, source)
        if card is not None:
            found._check(card)
        return found

    @property
    def digest(self) -> bytes:
        """Names the model: what its coordinates mean, and their bits."""
        return name_of(self.vector, self.layout)

    @property
    def lacks(self) -> tuple[str, ...]:
        """The layers that its sites have kept for themselves, where its card says so and they are not in it."""
        names = [name for name, _ in self.layout.tensors]
        agreed = self.card.personal if self.card is not None else ()
        return tuple(one for one in agreed if not any(fits(name, one) for name in names))

    def with_layers(self, own: PersonalState) -> ModelFile:
        """The same model with a site's own layers behind it. Raises ModelMisfit where it has them already."""
        twice = dict(self.layout.tensors).keys() & dict(own.layout.tensors).keys()
        if twice:
            raise ModelMisfit(evidence=f"{min(twice)} is in the shared model too", source=self.source)
        whole = joined(self.layout, own.layout)
        return ModelFile(whole, np.concatenate([self.vector, own.after]), self.card, self.source)

    def fitting(self, layout: TensorLayout) -> FlatVector:
        """The vector (m,) in the order of `layout`. Raises ModelMisfit unless names and shapes are its."""
        held, wanted = dict(self.layout.tensors), dict(layout.tensors)
        if held != wanted:
            odd = next(name for name in (*wanted, *held) if held.get(name) != wanted.get(name))
            evidence = f"{odd} is {held.get(odd, 'missing')}, wanted {wanted.get(odd, 'none')}"
            if any(fits(odd, one) for one in self.lacks):
                evidence += "; it stays at each site, whose own whole model `p2pfl model export --personal` writes"
            raise ModelMisfit(evidence=evidence, source=self.source)
        tensors = self.layout.split(self.vector)
        return np.concatenate([tensors[name].ravel() for name, _ in layout.tensors])

    def expect_card(self) -> ModelCard:
        """Its card. Raises NoCard."""
        if self.card is None:
            names = ", ".join(name for name, _ in self.layout.tensors[:4])
            raise NoCard(evidence=f"{len(self.layout.tensors)} tensors: {names}", source=self.source)
        return self.card

    def _check(self, card: ModelCard) -> None:
        """Raises CardUnfit unless the shared tensors and the task are those that the card names.

        A site's own layers may lie beside them: no card names their values.
        """
        said, (shared, _) = card.facts["model"], divided(self.layout, card.personal)
        digest_of = name_of(reordered(self.vector, self.layout, shared), shared)
        own = {"digest": digest_of.hex(), "layout": shared.digest.hex(), "parameters": shared.parameters}
        rows = [bytes.fromhex(one) for one in said["rows"]]
        kinds, named = said["kinds"], dict(zip(said["kinds"], said["rows"], strict=False))
        if len(named) != len(rows) or len(kinds) != len(rows) or named.get(said["row"]) != said["digest"]:
            raise CardUnfit(evidence=f"{len(rows)} rows of {len(kinds)} kinds", source=self.source)
        own["state"] = state_name(kinds, rows, said["steps"]).hex()
        odd = next((key for key, value in own.items() if said[key] != value), None)
        if odd is not None:
            raise CardUnfit(evidence=f"{odd}: the card says {said[odd]}, the tensors {own[odd]}", source=self.source)
        if card.facts["task_digest"] != digest("task", codec.facts(card.facts["task"])).hex():
            raise CardUnfit(evidence="task_digest: it is not that of the task", source=self.source)


def held_state(data: bytes, source: str) -> ModelState:
    """What a home holds, the model that people use among it. Raises ModelFileBroken, ModelMisfit."""
    whole = ModelFile.read(data, source)
    kinds = tuple(facts_of(data).get("kinds", "").split()) or (MODEL,)
    if len(kinds) == 1:
        return ModelState(StateLayout(whole.layout), whole.vector)
    first = f"{kinds[0]}/"
    tensors = [(name.removeprefix(first), shape) for name, shape in whole.layout.tensors if name.startswith(first)]
    return StateLayout(TensorLayout(tuple(tensors)), kinds).from_file(data)


def shown_model(state: ModelState, source: str, card: ModelCard | None = None) -> ModelFile:
    """The model that is measured, exported and used: the running mean where there is one."""
    return ModelFile(state.layout.tensors, np.ascontiguousarray(state.shown, np.float32), card, source)


def model_file(layout: TensorLayout, vector: FlatVector, card: ModelCard) -> bytes:
    """The file of a model (m,) with its card."""
    private = card.facts["privacy"]
    header = {KEY: card.to_bytes().decode("ascii"), "privacy": private["unit"] if private else "none"}
    return to_bytes(vector, layout, header)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────


def _header(data: bytes, source: str) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin. Raises ModelFileBroken before anything of a claimed size is made."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 10 or size > min(MOST_HEADER, len(data) - 8):
        _refuse(f"{len(data)} bytes, with a header of {size}; at most {MOST_HEADER} are read", source)
    try:
        header = json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        _refuse(f"its header is no JSON: {type(error).__name__}", source)
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        _refuse(f"its header is no table of at most {MOST_TENSORS} tensors", source)
    return header, 8 + size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _tensors(header: Mapping[str, Any], data: memoryview, source: str) -> tuple[TensorLayout, FlatVector]:
    """Float32 tensors that follow one another without a gap, up to the last byte, all of their numbers finite."""
    rows = sorted((_row(name, row, source) for name, row in header.items()), key=lambda one: (one[2], one[3]))
    end = 0
    for name, shape, start, stop in rows:
        if start != end or stop - start != 4 * math.prod(shape):
            _refuse(f"the tensor {name!r} of shape {shape} claims bytes {start} to {stop}", source)
        end = stop
    if end != len(data) or not rows:
        _refuse(f"its {len(rows)} tensors take {end} bytes of {len(data)}", source)
    vector = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        _refuse(f"{np.count_nonzero(~np.isfinite(vector))} of its weights are not finite", source)
    return TensorLayout(tuple((name, shape) for name, shape, _, _ in rows)), vector


def _row(name: str, row: Any, source: str) -> tuple[str, tuple[int, ...], int, int]:
    shape, place = _wholes(row, "shape", MOST_AXES), _wholes(row, "data_offsets", 2)
    shown = repr(name[:MOST_NAME])
    if shape is None or not isinstance(row, dict) or row.get("dtype") != "F32":
        _refuse(f"the tensor {shown} is no float32 of a shape", source)
    if place is None or len(place) != 2 or not name.isprintable() or len(name) > MOST_NAME:
        _refuse(f"the tensor {shown} has no place, or no name", source)
    return name, shape, place[0], place[1]


def _wholes(row: Any, key: str, most: int) -> tuple[int, ...] | None:
    """The list of at most so many whole numbers from 0 to 2⁴⁸ under `key`; None where it is none."""
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, list) or len(value) > most:
        return None
    return tuple(value) if all(type(one) is int and 0 <= one < MOST_BYTES for one in value) else None


def _refuse(evidence: str, source: str) -> NoReturn:
    raise ModelFileBroken(evidence=evidence, source=source)
