"""A model as bytes: checkpoints, the state behind it, its card and file, ONNX; layers that stay at home."""
