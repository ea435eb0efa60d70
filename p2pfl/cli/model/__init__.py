"""`p2pfl model`: the model out of the sealed home."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

model = Verbs(
    "model",
    "p2pfl.cli.model",
    {"export": "Write the newest model to a safetensors file: named float32 tensors, no code."},
    text="Export the model as safetensors.",
)
