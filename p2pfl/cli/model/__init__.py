"""`p2pfl model`: the model out of the sealed home, and what a model's file says."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

model = Verbs(
    "model",
    "p2pfl.cli.model",
    {
        "export": "Write the newest model to a safetensors file, with a model card; ONNX, too, where it is wanted.",
        "show": "Print the card of a model's file, its tensors checked.",
        "weights": "Print a linear model's weights, by its columns' names and levels.",
    },
    text="Export a model as safetensors or ONNX, and look into a model's file.",
)
