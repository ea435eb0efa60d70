"""The records that a step sees: a fresh Poisson sample each time, empty ones included.

The accountant assumes that each record is in the batch independently with the same public probability. Shuffled
batches of fixed size break that. Skipping empty batches would reveal that they were empty, and waste steps that the
account has charged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.noise.bit_stream import BitStream


def poisson_batches(stream: BitStream, records: int, rate: float, steps: int) -> Iterator[NDArray[np.int64]]:
    """`steps` batches of record indices, each record in each batch with probability `rate`.    (B,), B ≥ 0"""
    for _ in range(steps):
        yield np.flatnonzero(stream.below(records, rate)).astype(np.int64, copy=False)


def shuffled_batches(stream: BitStream, records: int, size: int) -> Iterator[NDArray[np.int64]]:
    """One pass over all records in random order, for training without privacy.    (≤ size,)"""
    order = np.argsort(stream.words(records), kind="stable").astype(np.int64, copy=False)
    for start in range(0, records, size):
        yield order[start : start + size]
