"""Pretrained weights: a safetensors or torch file pinned by its SHA-256, read without running anything in it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.scans import WeightsUnusable
from p2pfl.files import LARGE_BYTES, read_file

# What BatchNorm remembers of the records that it saw; GroupNorm has no place for it.
STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")


def read_weights(path: str | Path, sha256: str) -> dict[str, NDArray[Any]]:
    """The tensors of the file by name, float32, without running statistics.

    sha256    hex, as the task's file has it: all sites start from the same weights
    Raises WeightsUnusable for a file that cannot be read, of another digest, or that holds anything but tensors (a
    pickle of objects is code, and is not loaded).
    """
    try:
        raw = read_file(Path(path), LARGE_BYTES)
    except OSError as error:
        raise WeightsUnusable(evidence=error.strerror or type(error).__name__, path=path) from None
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise WeightsUnusable(evidence=f"SHA-256 here {found[:16]}…, agreed {sha256[:16]}…", path=path)
    # The very bytes whose digest was checked: the file may be another one by now.
    tensors = (_safetensors if Path(path).suffix == ".safetensors" else _torch)(raw, path)
    return {name: values for name, values in tensors.items() if name.rpartition(".")[2] not in STATISTICS}


def without(weights: dict[str, NDArray[Any]], *layers: str) -> dict[str, NDArray[Any]]:
    """The weights but for those of `layers`, such as a head that was trained for other classes."""
    inside = tuple(f"{layer}." for layer in layers)
    return {name: values for name, values in weights.items() if not f"{name}.".startswith(inside)}


def _safetensors(raw: bytes, path: str | Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return {name: np.asarray(values, np.float32) for name, values in load(raw).items()}
    except (SafetensorError, ValueError, TypeError) as error:
        raise WeightsUnusable(evidence=f"{type(error).__name__}: {error}"[:200], path=path) from None


def _torch(raw: bytes, path: str | Path) -> dict[str, NDArray[Any]]:
    """torch's restricted reader: tensors and containers of them, and nothing that would run."""
    import torch

    try:
        held = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # the library names no base of what a damaged or a coded file raises
        raise WeightsUnusable(
            evidence=f"{type(error).__name__}: it is damaged, or more than tensors", path=path
        ) from None
    if not isinstance(held, dict) or not all(isinstance(one, torch.Tensor) for one in held.values()):
        raise WeightsUnusable(evidence="it is no table of tensors", path=path)
    return {str(name): values.float().numpy() for name, values in held.items()}
