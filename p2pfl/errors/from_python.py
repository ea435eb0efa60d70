"""Training from Python: what a caller's task, data or processes got wrong."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault


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


class RanksApart(ConfigurationError):
    """The processes of one site's training are on several machines."""

    code = "P2P-TRAIN-094"
    likely = ("`torchrun --nnodes` is above 1: what goes between the processes is not noised yet, and not encrypted",)
    command = "torchrun --help"


class RanksDiffer(ConfigurationError):
    """The processes of this site's training do not have the same task, settings, records or versions."""

    code = "P2P-TRAIN-095"
    likely = (
        "their data lie in different places, or a file changed between their starts",
        "one of them was started by hand, with another environment",
    )
    command = "torchrun --help"


class RankLost(LocalFault):
    """A process of this site's training is gone, as rank {rank} found; the pass ends with it and stays charged."""

    code = "P2P-TRAIN-096"
    likely = (
        "it raised an error, which its own output shows",
        "it was ended for want of memory: give it a GPU of its own, or fewer processes the machine",
    )
    command = "p2pfl status"


class RankDoesNotSpeak(ConfigurationError):
    """Rank {rank} of this site's processes cannot train as a peer: rank 0 speaks for the site."""

    code = "P2P-TRAIN-097"
    likely = ("the program calls `peer.train` at every rank: the others call `follow`",)
    command = "torchrun --help"
