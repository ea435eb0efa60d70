"""Layers that stay at home (`local.personal`): which they are, and what a site keeps of them between two passes.

A pass trains them with all others: one clip over all coordinates of a record's gradient, noise on all coordinates. Then
the shared part of the update is sent, and theirs is not. So what leaves is a part of what a fully shared training would
let out, at the same ε; and what stays is noised like everything else, so the next pass may start from it. They lie
behind the shared numbers in every vector that a trainer is given: (m,), and (k,) behind it. docs/adr/0060.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Pieces
from p2pfl.errors.counts import counted
from p2pfl.errors.models import CardUnfit
from p2pfl.errors.personal import NothingIsShared, PersonalFitsNothing, PersonalIsFrozen
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.training.model.checkpoint import facts_of, pieces_of
from p2pfl.training.update import FlatVector, TensorLayout

BEFORE, AFTER = "before/", "after/"  # of a tensor's name in the file
MOST_CHARGE: Final = 1 << 53


def divided(layout: TensorLayout, prefixes: Sequence[str]) -> tuple[TensorLayout, TensorLayout]:
    """What all sites share of the tensors, and what stays at each, both in the model's order."""
    mine = [any(fits(name, prefix) for prefix in prefixes) for name, _ in layout.tensors]
    pairs = list(zip(layout.tensors, mine, strict=True))
    shared, personal = (tuple(one for one, stays in pairs if stays is kind) for kind in (False, True))
    return TensorLayout(shared), TensorLayout(personal)


def fits(name: str, prefix: str) -> bool:
    """`head` fits head.weight and head.0.bias, and not header.weight."""
    return name == prefix or name.startswith(prefix + ".")


def check_prefixes(layout: TensorLayout, prefixes: Sequence[str], names: Iterable[str], task: str) -> None:
    """Each of `prefixes` fits something that trains, and something trains that none fits.

    layout    what trains
    names     of all parameters
    Raises PersonalFitsNothing, PersonalIsFrozen, NothingIsShared.
    """
    known, trained = list(names), [name for name, _ in layout.tensors]
    for prefix in prefixes:
        if not any(fits(name, prefix) for name in known):
            raise PersonalFitsNothing(evidence=_shown(known), prefix=prefix, task=task)
        if not any(fits(name, prefix) for name in trained):
            raise PersonalIsFrozen(evidence=f"what trains: {_shown(trained)}", prefix=prefix, task=task)
    if not divided(layout, prefixes)[0].tensors:
        raise NothingIsShared(evidence=f"local.personal: [{', '.join(prefixes)}]; {_shown(trained)}", task=task)


def _shown(names: Sequence[str]) -> str:
    return f"{counted(len(names), 'parameter')}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"


def joined(shared: TensorLayout, personal: TensorLayout) -> TensorLayout:
    """The order in which a trainer's vectors have both."""
    return TensorLayout((*shared.tensors, *personal.tensors))


def reordered(vector: FlatVector, layout: TensorLayout, wanted: TensorLayout) -> FlatVector:
    """The tensors of `vector`, which lie as `layout` says, as `wanted` says; `vector` itself where that is the same."""
    if layout == wanted:
        return vector
    named = layout.split(vector)
    parts = [named[name].ravel() for name, _ in wanted.tensors]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class PersonalState:
    """A site's own layers before and after its last pass whose update was finished, (k,) float32 each.

    run      the training that they are of
    charge   number of that pass's charge among those of the run; 0 before the first
    """

    layout: TensorLayout
    run: bytes
    charge: int
    before: FlatVector
    after: FlatVector

    def to_file(self) -> Pieces:
        """A safetensors file, for the home, which seals it. Views: the vectors must not change."""
        tensors: dict[str, NDArray[Any]] = {}
        for prefix, vector in ((BEFORE, self.before), (AFTER, self.after)):
            tensors |= {prefix + name: part for name, part in self.layout.split(vector).items()}
        return pieces_of(tensors, {"format": "pt", "run": self.run.hex(), "charge": str(self.charge)})

    @classmethod
    def from_file(cls, data: bytes, source: str = PERSONAL) -> PersonalState:
        """What `to_file` wrote. Raises ModelFileBroken, ModelMisfit."""
        from p2pfl.training.model.file import ModelFile  # it reads descriptions of tasks, which a pass does not need

        try:
            held, facts = ModelFile.read(data, source), facts_of(data)
        except CardUnfit as error:
            raise ModelMisfit(evidence=f"it has a card: {error.evidence}", source=source) from None
        half = len(held.layout.tensors) // 2
        names = [name.removeprefix(BEFORE) for name, _ in held.layout.tensors[:half]]
        layout = TensorLayout(tuple(zip(names, (shape for _, shape in held.layout.tensors[:half]), strict=True)))
        both = [(prefix + name, shape) for prefix in (BEFORE, AFTER) for name, shape in layout.tensors]
        if list(held.layout.tensors) != both:
            raise ModelMisfit(evidence="its tensors are not those before a pass and those after it", source=source)
        run, charge = facts.get("run", ""), facts.get("charge", "")
        if not (_is_hex(run) and _is_count(charge)) or facts.keys() != {"format", "run", "charge"}:
            raise ModelMisfit(evidence="it does not say of which training and after which charge", source=source)
        before, after = held.vector[: layout.parameters], held.vector[layout.parameters :]
        found = cls(layout, bytes.fromhex(run), int(charge), before, after)
        if b"".join(found.to_file()) != data:
            raise ModelMisfit(evidence="it is written in another way than this program writes it", source=source)
        return found


def _is_hex(text: str) -> bool:
    return len(text) == 64 and all(one in "0123456789abcdef" for one in text)


def _is_count(text: str) -> bool:
    plain = text.isascii() and text.isdecimal() and len(text) <= 16
    return plain and str(int(text)) == text and int(text) < MOST_CHARGE
