"""Training from Python: what a caller's task, data or processes got wrong."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError


class TaskNotGiven(ConfigurationError):
    """peers.yaml agrees on the task {task}, which each site makes in Python, and none was given."""

    code = "P2P-TRAIN-090"
    likely = (
        "`p2pfl join` was run: a task of Python trains by a program that calls `peer.train(task, data=…)`",
        "`peer.train` was called without its first argument",
    )
    command = "p2pfl peers show"


class TaskNotAgreed(ConfigurationError):
    """The task {task} is not the one that the sites agreed on."""

    code = "P2P-TRAIN-091"
    likely = (
        "the task's file was edited after peers.yaml was made",
        "the class was written in the notebook itself, while peers.yaml pins a file: import it from there",
        "peers.yaml is of another study",
    )
    command = "p2pfl peers show"


class FrameUnsupported(ConfigurationError):
    """The task {task} does not say how it reads a DataFrame."""

    code = "P2P-TRAIN-092"
    likely = ("give a path or a dataset, or write the task's method `from_frame`",)
    command = "python -c 'import p2pfl; help(p2pfl.Task.from_frame)'"


class DataNotRecords(ConfigurationError):
    """A {kind} was given as data: it is no path, no DataFrame and no dataset of (x, y)."""

    code = "P2P-TRAIN-093"
    likely = ("an iterator was given, which has no length", "arrays were given: `TensorDataset(x, y)` makes a dataset")
    command = "python -c 'import torch; help(torch.utils.data.TensorDataset)'"
