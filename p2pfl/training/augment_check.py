"""Whether `augment` keeps records apart, tried before any pass: what it makes of a record may not change with others.

The clip bounds one record's gradient. An augmentation that mixes, as mixup and CutMix do, puts a record into the
examples of others too, each of which is clipped by itself: the record then counts several times, and ε with it. So
one record is augmented among others from one seed, and again among others than those; both must be alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch

from p2pfl.errors.training import AugmentMixes
from p2pfl.training.models import as_inputs
from p2pfl.training.records.records import Records
from p2pfl.training.repeatable import repeatable
from p2pfl.training.task import Task

TRIALS: Final = 12  # at each place: what mixes half of the batches by a random order is missed once in 10^4
BATCH: Final = 3  # records
LOOKED_AT: Final = 8  # records, for one of another label
TOLERANCE: Final = 1e-4  # of the largest value: rounding differs with what is computed beside a record

Pair = tuple[torch.Tensor, torch.Tensor]


def check_augment(task: Task, sample: Records, device: torch.device) -> None:
    """Try `augment_pair` on `sample` (two records or more). Raises AugmentMixes; what the task's own code raises.

    Randomness of torch, numpy and Python is seeded for it, and put back. Where a task draws from a generator of its
    own, or draws as many numbers as a record's values say, two outcomes cannot be compared, and nothing is said.
    """
    if (type(task).augment, type(task).augment_pair) == (Task.augment, Task.augment_pair):
        return
    others = 1, _unlike(sample, 1)
    for place in (0, BATCH - 1):
        rows = [[other] * BATCH for other in others]
        for one in rows:
            one[place] = 0
        batches = [tuple(as_inputs(part, device) for part in sample.batch(np.array(one))) for one in rows]
        for seed in range(TRIALS):
            _compare(task, batches, place, seed)


def _unlike(sample: Records, row: int) -> int:
    """A record of another label than the one at `row`, among the last few; else the last."""
    rows = [other for other in reversed(range(len(sample))) if other != row][:LOOKED_AT]
    label = sample.batch(np.array([row]))[1]
    return next((other for other in rows if not np.array_equal(sample.batch(np.array([other]))[1], label)), rows[0])


def _compare(task: Task, batches: list[tuple[torch.Tensor, ...]], place: int, seed: int) -> None:
    (first, drawn), (again, _), (beside, drawn_beside) = (
        _augmented(task, batch, place, seed) for batch in (batches[0], batches[0], batches[1])
    )
    if not _alike(first, again) or drawn != drawn_beside:
        return
    if not _alike(first, beside):
        evidence = "what it makes of one record changes with the other records of its batch"
        raise AugmentMixes(evidence=evidence, task=task.name)


def _augmented(task: Task, batch: tuple[torch.Tensor, ...], place: int, seed: int) -> tuple[Pair, bytes]:
    """The record at `place` after augmentation, and where torch's generator stood then."""
    with _seeded(seed):
        x, y = task.augment_pair(batch[0].clone(), batch[1].clone())
        if len(x) != BATCH or len(y) != BATCH:
            evidence = f"it makes {len(x)} inputs and {len(y)} labels of {BATCH} records"
            raise AugmentMixes(evidence=evidence, task=task.name)
        return (x[place].detach(), y[place].detach()), torch.random.get_rng_state().numpy().tobytes()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every generator that an augmentation draws from begins at `seed`, and is as before in the end."""
    arrays: Any = np.random
    of_arrays, of_python = arrays.get_state(), random.getstate()
    try:
        arrays.seed(seed)
        random.seed(seed)
        with repeatable(seed):
            yield
    finally:
        arrays.set_state(of_arrays)
        random.setstate(of_python)


def _alike(one: Pair, other: Pair) -> bool:
    """Equal but for rounding."""
    return all(
        a.shape == b.shape
        and torch.allclose(a.double(), b.double(), rtol=0.0, atol=TOLERANCE * _largest(a), equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


def _largest(values: torch.Tensor) -> float:
    found = values.double().abs().nan_to_num(0.0)
    return float(found.max()) if found.numel() else 0.0
