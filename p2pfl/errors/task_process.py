"""The process that runs the task: how it ended, what it said, what its code reached for."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault


class TaskProcessEnded(LocalFault):
    """The process that runs the task ended {count} times in the same piece of work: {how}."""

    code = "P2P-TRAIN-060"
    likely = (
        "the system ended it for want of memory",
        "a library that the task uses crashes on one of the records",
        "the task's code ends its own process",
    )
    command = "p2pfl join --peers peers.yaml --data DATA --check"


class TaskAnswerUnusable(LocalFault):
    """The process that runs the task gave an answer that cannot be used: {what}."""

    code = "P2P-TRAIN-061"
    likely = (
        "the task's code meddles with the program that runs it: read it again before you go on",
        "the records or the task's file changed while the site was training",
    )
    command = "p2pfl task review --help"


class TaskOverreached(ConfigurationError):
    """The task's own code reached for what it is not given: {what}, at {where}."""

    code = "P2P-TRAIN-062"
    likely = (
        "it reads files outside of its data, or writes, or opens a connection, or starts a program: it may not",
        "a file that it may read, such as pretrained weights, has to be named with --task-reads",
    )
    command = "p2pfl task review --help"


class StepOutOfMemory(LocalFault):
    """One private step needs more memory than there is, with {at_once} of its records at a time."""

    code = "P2P-TRAIN-063"
    likely = ("the model is too large for this machine", "other programs hold the memory")
    command = "p2pfl task check --help"


class DataHoldsKeys(ConfigurationError):
    """The data folder {path} holds {what}, which the task may not read."""

    code = "P2P-TRAIN-064"
    likely = ("the folder is that of the whole site: keep records in a folder of their own",)
    command = "ls -la {path}"


class TaskFileMissing(ConfigurationError):
    """The task's file {path}, which the sites agreed on, cannot be read here."""

    code = "P2P-TRAIN-175"
    likely = (
        "it has not come to this site yet: it is handed on beside peers.yaml, and read before it is approved",
        "it lies in another folder: name it with --task",
        "the file belongs to another user",
    )
    command = "ls -l {folder}"


class TaskNotPython(ConfigurationError):
    """{path} is no Python that can be run."""

    code = "P2P-TRAIN-173"
    likely = (
        "there is a typing error at or above that line",
        "it was written for a later version of Python",
        "it is in another encoding than UTF-8, in which a person would read another text than the one that runs",
    )
    command = "python -m py_compile {path}"


class TrialDiverged(ConfigurationError):
    """The private steps that were tried gave numbers that are not finite. Nothing was charged."""

    code = "P2P-TRAIN-174"
    likely = (
        "the learning rate is too large",
        "a feature's public scaling is far off",
        "a task's own forward or loss divides by zero, or takes a logarithm or a root of it",
    )
    command = "p2pfl task check TASK.py:CLASS --data DATA"
