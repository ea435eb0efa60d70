"""A pass that comes out the same each time: what torch draws follows from its seed, nothing from threads' order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.keys import Secret
from p2pfl.training.lean import set_deterministic
from p2pfl.training.noise.bit_stream import BitStream


def torch_seeds(seed: Secret, count: int) -> NDArray[np.uint64]:
    """What torch's generator starts from in each process of a pass.    (count,)"""
    return BitStream(seed, "training/torch").words(count)


class _Deterministic:
    """torch's deterministic algorithms, a setting of the process: on while any of its threads makes a pass, then as
    it was before the first of them."""

    def __init__(self) -> None:
        self._lock, self._passes, self._were = threading.Lock(), 0, (False, False)

    def __enter__(self) -> None:
        with self._lock:
            if self._passes == 0:
                warns = torch.is_deterministic_algorithms_warn_only_enabled()
                self._were = torch.are_deterministic_algorithms_enabled(), warns
                set_deterministic(True, warn_only=True)
            self._passes += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                set_deterministic(self._were[0], warn_only=self._were[1])


_DETERMINISTIC: Final = _Deterministic()


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """What a model draws of torch follows from `seed`, and no operation's result from the order of threads.

    torch's generator decides nothing of noise or samples. It and the setting are the process's: they are put back.
    """
    with torch.random.fork_rng(devices=()), _DETERMINISTIC:
        torch.manual_seed(seed)
        yield
