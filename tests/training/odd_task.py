"""A task of one's own that misbehaves in its third step of a process, as a file in its data folder says."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

import p2pfl
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.measure import Measure
from p2pfl.training.records.records import Arrays


def reach(how: str, where: str) -> None:
    """Reach for what a task is not given."""
    if how == "read":
        Path(where).read_bytes()
    elif how == "list":
        os.listdir(where)
    elif how == "write":
        Path(where).write_text("a patient's name")
    elif how == "connect":
        socket.create_connection(("127.0.0.1", int(where))).close()
    elif how == "send":
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"a patient's name", ("127.0.0.1", int(where)))
    elif how == "shell":
        subprocess.run(["/bin/sh", "-c", where], check=True)
    elif how == "fork" and not os.fork():
        os._exit(0)
    elif how == "signal":
        os.kill(int(where), 0)


def rubbish() -> None:
    """Write it into every socket; memory that is shared would be spoilt before anybody has read it.

    The socket has the number that it had in the process which made it, and that may have many files open.
    """
    for descriptor in range(3, 1 << 16):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\xff" * 64)


def spoil() -> None:
    """Make the weights of every model no numbers: the one that trains is a copy of what `model` returned."""
    for one in gc.get_objects():
        if type(one) is nn.Linear:
            one.weight.data.fill_(float("nan"))


class Odd(p2pfl.Task):
    """Four numbers and a label; `do` in the folder is what happens in the third step."""

    name = "odd"
    learning_rate = 0.1
    expected_batch = 4.0

    def __init__(self) -> None:
        self.step = 0

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        self.folder = Path(path)
        rows = np.loadtxt(self.folder / "records.csv", delimiter=",", ndmin=2, dtype=np.float32)  # (N, 5)
        return Arrays(rows[:, :-1], rows[:, -1].astype(np.int64), [row.tobytes() for row in rows])

    def model(self) -> nn.Module:
        return nn.Linear(4, 1)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 0].sigmoid()

    def measures(self) -> Sequence[Measure]:
        return (Binary(),)

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        self.step += 1
        what = (self.folder / "do").read_text()
        if what == "memory" and len(x) > 8:
            raise torch.OutOfMemoryError("made up")
        if self.step < 3:
            return x
        if what == "crash":
            ctypes.string_at(0)
        elif what == "exit":
            os._exit(7)
        elif what == "print":
            print("a patient's name\n" * 500_000, flush=True)
        elif what == "hang":
            threading.Event().wait()
        elif what == "rubbish":
            rubbish()
        elif what.startswith("reach "):
            reach(*what.split()[1:])
        elif what == "nan":
            spoil()
        elif what == "raise":
            raise KeyError("a patient's name")
        return x
