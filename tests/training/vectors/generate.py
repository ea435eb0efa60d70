"""Write the vectors of this folder: `python -m tests.training.vectors.generate`. A test compares them with a rerun."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from p2pfl.keys import Secret
from p2pfl.training.noise import BitStream
from p2pfl.training.update import first_model
from tests.training.settings import Images, Small

HERE = Path(__file__).parent
SEED = bytes(range(32))


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
        "first-model.json": {
            "seed": SEED.hex(),
            "small": small.hex(),
            "images_sha256": hashlib.sha256(images).hexdigest(),
        },
    }


if __name__ == "__main__":
    for name, vector in vectors().items():
        (HERE / name).write_text(json.dumps(vector, indent=1) + "\n")
