"""Models as safetensors bytes: named tensors, never pickle. The home seals its own; an export is plain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Pieces
from p2pfl.errors.training import ModelMisfit
from p2pfl.training.update import FlatVector, TensorLayout

TYPES: Final = {("f", 4): "F32", ("f", 8): "F64", ("i", 8): "I64"}


def pieces_of(tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> Pieces:
    """A safetensors file of `tensors`, with `facts` in its header. Its pieces are views: the tensors must not change.

    The bytes have the order of `tensors`: a model's layout can be told from its file. Not written by the library, whose
    header has a random order, and which copies every tensor three times.
    Raises KeyError for a type that is not float32, float64 or int64.
    """
    header: dict[str, object] = {"__metadata__": dict(facts)}
    parts: list[memoryview] = []
    start = 0
    for name, tensor in tensors.items():
        flat = np.ascontiguousarray(tensor).reshape(-1)
        parts.append(flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8).data)
        shape, end = list(tensor.shape), start + parts[-1].nbytes
        header[name] = {"dtype": TYPES[flat.dtype.kind, flat.itemsize], "shape": shape, "data_offsets": [start, end]}
        start = end
    written = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    return Pieces((len(written).to_bytes(8, "little"), written, *parts))


def to_pieces(vector: FlatVector, layout: TensorLayout, facts: Mapping[str, str] | None = None) -> Pieces:
    """The tensors of `vector` (m,) by name, with `facts` (task, round, digest: public strings) in the header.

    The same model is the same file at all sites. Its pieces are views of `vector`.
    """
    return pieces_of(layout.split(vector), {"format": "pt", **(facts or {})})


def to_bytes(vector: FlatVector, layout: TensorLayout, facts: Mapping[str, str] | None = None) -> bytes:
    """The same as one byte string."""
    return b"".join(to_pieces(vector, layout, facts))


def facts_of(data: bytes) -> dict[str, str]:
    """What a safetensors file says of itself in its header, which alone is read. Raises ModelMisfit."""
    size = int.from_bytes(data[:8], "little")
    try:
        held = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
        return {str(key): str(value) for key, value in held.items()}
    except (ValueError, AttributeError, RecursionError):
        raise ModelMisfit(evidence=f"{len(data)} bytes without a header of safetensors", source="the model") from None


def named_tensors(data: bytes, source: str = "the checkpoint") -> dict[str, NDArray[np.float32]]:
    """The tensors in `data`, by name. Raises ModelMisfit when it is not safetensors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelMisfit(evidence=f"{len(data)} bytes: {error}", source=source) from None


def from_bytes(data: bytes, layout: TensorLayout, source: str = "the checkpoint") -> FlatVector:
    """The vector (m,) that `data` holds. Raises ModelMisfit unless names, shapes and type are those of `layout`."""
    tensors = named_tensors(data, source)
    for name, shape in layout.tensors:
        found = tensors.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            shown = "missing" if found is None else f"{found.dtype}{found.shape}"
            raise ModelMisfit(evidence=f"{name} is {shown}, wanted float32{shape}", source=source)
    unknown = sorted(tensors.keys() - {name for name, _ in layout.tensors})
    if unknown:
        raise ModelMisfit(evidence=f"unknown tensor {unknown[0]}", source=source)
    return np.concatenate([tensors[name].ravel() for name, _ in layout.tensors]).astype(np.float32, copy=False)
