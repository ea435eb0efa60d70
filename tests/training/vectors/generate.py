"""Write the vectors of this folder: `python -m tests.training.vectors.generate`. A test compares them with a rerun."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from p2pfl.errors import P2PFLError
from p2pfl.federation.table_schema import TableSchema
from p2pfl.keys import Secret
from p2pfl.training.compression.drawn import drawn_positions
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.model.card import KEY
from p2pfl.training.model.file import ModelFile
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.steps import noise_steps
from p2pfl.training.update import TensorLayout, first_model
from tests.federation.sample import TABLE
from tests.training.cards import header_of, made, with_header
from tests.training.settings import Images, Small

HERE = Path(__file__).parent
SEED = bytes(range(32))
MOVED = TensorLayout((("conv.weight", (8, 9, 3, 3)), ("conv.bias", (8,)), ("fc.weight", (26, 25))))
DENSITY = 0.3


def vectors() -> dict[str, dict[str, object]]:
    words = BitStream(Secret(SEED), "training/noise", b"p2pfl").words(6)
    small, images = (first_model(task.model(), SEED).astype("<f4").tobytes() for task in (Small(), Images()))
    return {
        "keystream.json": {
            "secret": SEED.hex(),
            "label": "training/noise",
            "context": b"p2pfl".hex(),
            "words": [f"{word:016x}" for word in words],
        },
        "noise-steps.json": noise(),
        "first-model.json": {
            "seed": SEED.hex(),
            "small": small.hex(),
            "images_sha256": hashlib.sha256(images).hexdigest(),
        },
        "positions.json": positions(),
        "subspace.json": subspace(),
        "model-file.json": model_files(),
    }


def noise() -> dict[str, object]:
    """The first draws of a discrete Gaussian, and the digest of more than a block of them as little-endian int64."""
    count, sigma = 70_000, 1_000_003
    stream = BitStream(Secret(SEED), "training/discrete-noise", b"p2pfl")
    found = noise_steps(stream, count, sigma)
    return {
        "secret": SEED.hex(),
        "label": "training/discrete-noise",
        "context": b"p2pfl".hex(),
        "sigma": sigma,
        "count": count,
        "first": found[:8].tolist(),
        "sha256": hashlib.sha256(found.astype("<i8").tobytes()).hexdigest(),
    }


def positions() -> dict[str, object]:
    """Positions that follow from a model: fewer than strata of one size hold, and as many as there are."""
    cases = [(5, 23), (7, 7), (1, 1_000_000_007)]
    drawn = [(count, most, drawn_positions(SEED, count, most).tolist()) for count, most in cases]
    return {
        "base": SEED.hex(),
        "cases": [{"count": count, "parameters": most, "positions": found} for count, most, found in drawn],
    }


def model_files() -> dict[str, object]:
    """A model's file with its digests; and spoilt ones, each with the code of its refusal."""
    good = made(TableSchema.parse(TABLE, "task.yaml"))
    read, header = ModelFile.read(good, "vector"), header_of(good)
    card = json.loads(header["__metadata__"][KEY])
    other = json.dumps({**card, "task_digest": "00" * 32}, sort_keys=True, separators=(",", ":"))
    spoilt = {
        "a byte too much": good + b"\0",
        "a header that is longer than the file": (1 << 40).to_bytes(8, "little") + good[8:],
        "a weight that is not finite": good[:-4] + np.array([np.nan], "<f4").tobytes(),
        "a tensor of another type": with_header(good, {**header, "bias": {**header["bias"], "dtype": "F64"}}),
        "another weight": good[:-4] + np.array([7], "<f4").tobytes(),
        "a card of another task": with_header(good, {**header, "__metadata__": {KEY: other}}),
    }
    return {
        "file": good.hex(),
        "layout": read.layout.digest.hex(),
        "model": read.digest.hex(),
        "task_digest": card["task_digest"],
        "refused": [{"what": what, "file": data.hex(), "code": refusal(data)} for what, data in spoilt.items()],
    }


def refusal(data: bytes) -> str:
    """The code of the error that reading ends with."""
    try:
        ModelFile.read(data, "vector")
    except P2PFLError as error:
        return error.code
    raise AssertionError("it is read")


def subspace() -> dict[str, object]:
    """Where a model of two matrices and a bias may move, having moved a little; and one change of it."""
    stream = BitStream(Secret(SEED), "training/initial", b"subspace")
    first, moved = (stream.uniforms(MOVED.parameters).astype("<f4") for _ in range(2))
    found = Subspace.of(MOVED, DENSITY, first, moved)
    theta = stream.uniforms(found.length).astype("<f8")
    return {
        "layout": [[name, list(shape)] for name, shape in MOVED.tensors],
        "density": DENSITY,
        "first": first.tobytes().hex(),
        "model": moved.tobytes().hex(),
        "theta": theta.tobytes().hex(),
        "digest": found.digest.hex(),
        "change": found.expand(theta).astype("<f8").tobytes().hex(),
    }


if __name__ == "__main__":
    for name, vector in vectors().items():
        (HERE / name).write_text(json.dumps(vector, indent=1) + "\n")
