"""Models as safetensors bytes: named tensors, never pickle. Home seals those that stay; an export is plain."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import ModelMisfit
from p2pfl.training.update import Manifest, Vector


def to_bytes(vector: Vector, manifest: Manifest, facts: Mapping[str, str] | None = None) -> bytes:
    """The tensors of `vector` (m,) by name, with `facts` (task, round, digest: public strings) in the header.

    Written here and not by the library, whose header has a random order: the same model is the same file at all sites.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(facts or {})}}
    parts, start = [], 0
    for name, tensor in sorted(manifest.split(vector).items()):
        parts.append(tensor.astype("<f4", copy=False).tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, start + len(parts[-1])]}
        start += len(parts[-1])
    written = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    return b"".join([len(written).to_bytes(8, "little"), written, *parts])


def named_tensors(data: bytes, source: str = "the checkpoint") -> dict[str, NDArray[np.float32]]:
    """What `data` holds, by name. Raises ModelMisfit when it is not safetensors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelMisfit(evidence=f"{len(data)} bytes: {error}", source=source) from None


def from_bytes(data: bytes, manifest: Manifest, source: str = "the checkpoint") -> Vector:
    """The vector (m,) that `data` holds. Raises ModelMisfit unless names, shapes and type are those of `manifest`."""
    tensors = named_tensors(data, source)
    for name, shape in manifest.tensors:
        found = tensors.pop(name, None)
        if found is None or found.shape != shape or found.dtype != np.float32:
            shown = "missing" if found is None else f"{found.dtype}{found.shape}"
            raise ModelMisfit(evidence=f"{name} is {shown}, wanted float32{shape}", source=source)
    if tensors:
        raise ModelMisfit(evidence=f"unknown tensor {sorted(tensors)[0]}", source=source)
    held = named_tensors(data, source)
    return np.concatenate([held[name].ravel() for name, _ in manifest.tensors]).astype(np.float32, copy=False)
