"""The first model: the file that all sites hold and peers.yaml pins, or zeros in the shapes that a client has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.adapters.algorithm import KINDS, Algorithm, Arrays, asked
from p2pfl.codec import Malformed, facts, read_facts
from p2pfl.errors.adapters import ClientArraysUnfit, FirstModelUnfit
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation.clients import ClientChoice
from p2pfl.files import LARGE_BYTES, read_file
from p2pfl.training.model import checkpoint


def zeros(algorithm: Algorithm) -> Arrays:
    """Zeros in the shapes that the client has. Raises ClientFailed, ClientArraysUnfit."""
    return {name: np.zeros_like(array) for name, array in begun(algorithm).items()}


def begun(algorithm: Algorithm) -> Arrays:
    """The arrays with which the client would begin. Raises ClientFailed, ClientArraysUnfit."""
    with asked(algorithm, "say which arrays it trains"):
        found = algorithm.first()
    odd = [name for name, array in found.items() if array.dtype.kind not in KINDS]
    if odd or not found:
        evidence = f"{odd[0]} holds {found[odd[0]].dtype}" if odd else "it has none"
        raise ClientArraysUnfit(kind=algorithm.kind, reference=algorithm.reference, evidence=evidence)
    return found


def written(arrays: Arrays) -> bytes:
    """The file of a first model: safetensors, integers as they are and all else as float32."""
    tensors = {
        name: array.astype(np.int64 if array.dtype.kind in "iub" else np.float32) for name, array in arrays.items()
    }
    order = facts({"order": list(tensors), "types": [str(array.dtype) for array in arrays.values()]}).decode()
    return b"".join(checkpoint.pieces_of(tensors, {"format": "pt", "first": order}))


def write_first(path: str | Path, arrays: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a first model for `p2pfl peers create --first`: a state dict, or a list as Flower's clients have it.

    arrays   numpy arrays or torch tensors, by name or in order. Raises KeyError for what is not numbers, OSError.
    """
    named = arrays if isinstance(arrays, Mapping) else {str(place): one for place, one in enumerate(arrays)}
    found = {
        str(name): one.detach().cpu().numpy() if hasattr(one, "detach") else np.asarray(one)
        for name, one in named.items()
    }
    Path(path).write_bytes(written(found))


def in_order(tensors: Mapping[str, Any]) -> list[str]:
    """Names in the order of a file; places of a list by their number, whose order safetensors does not keep."""
    return sorted(tensors, key=int) if all(name.isdecimal() for name in tensors) else list(tensors)


def read_first(choice: ClientChoice, path: Path | None) -> Arrays:
    """The arrays of the file that peers.yaml pins, in the client's order. Raises FirstModelUnfit."""
    shown = path or "no file"
    if path is None:
        raise FirstModelUnfit(path=shown, evidence="peers.yaml pins one: name it with --first")
    try:
        data = read_file(path, LARGE_BYTES)
    except OSError as error:
        raise FirstModelUnfit(path=path, evidence=str(error.strerror)) from None
    if (found := hashlib.sha256(data)).digest() != choice.first:
        raise FirstModelUnfit(path=path, evidence=f"its SHA-256 is {found.hexdigest()}")
    return read_arrays(data, path)


def read_arrays(data: bytes, path: Path) -> Arrays:
    """What `written` wrote, or any safetensors file. Raises FirstModelUnfit."""
    try:
        tensors, said = checkpoint.named_tensors(data), checkpoint.facts_of(data).get("first")
        held = read_facts(said.encode()) if said else {"order": in_order(tensors), "types": []}
        types: Sequence[str] = held["types"] or [str(tensors[name].dtype) for name in held["order"]]
        found = {name: tensors[name].astype(np.dtype(kind)) for name, kind in zip(held["order"], types, strict=True)}
    except (ModelMisfit, Malformed, KeyError, ValueError, TypeError) as error:
        raise FirstModelUnfit(path=path, evidence=f"{len(data)} bytes: {type(error).__name__}") from None
    if any(array.dtype.kind not in KINDS for array in found.values()) or len(found) != len(tensors):
        raise FirstModelUnfit(path=path, evidence="it holds what is not numbers")
    return found
