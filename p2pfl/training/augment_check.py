"""Whether `augment` keeps records apart, tried before any pass: what it makes of a record may not change with others.

The clip bounds one record's gradient. An augmentation that mixes, as mixup and CutMix do, puts a record into the
examples of others too, each of which is clipped by itself: the record then counts several times, and ε with it. So
one record is augmented among others from one seed, and again among others than those; both must be alike.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from p2pfl.errors.training import AugmentMixes
from p2pfl.training.models import as_inputs
from p2pfl.training.records.records import Records
from p2pfl.training.repeatable import repeatable
from p2pfl.training.task import Task

TRIALS: Final = 12  # at each place: what mixes half of the batches by a random order is missed once in 10^4
REPEATS: Final = 12  # of two outcomes that differ: a generator of the task's own does not repeat both each time
BATCH: Final = 3  # records
LOOKED_AT: Final = 8  # records, for one of another label
TOLERANCE: Final = 1e-4  # of the largest value: rounding differs with what is computed beside a record

Pair = tuple[torch.Tensor, torch.Tensor]
Batches = tuple[Pair, Pair]  # that differ in all records but the one at `place`


def check_augment(task: Task, sample: Records, device: torch.device) -> None:
    """Try `augment_pair` on `sample` (two records or more). Raises AugmentMixes; what the task's own code raises.

    Each time a copy of the task is tried: one that counts its steps begins with the first, and so does the first pass.
    Randomness of torch, numpy and Python is seeded, and put back. Where a task draws from a generator that its copies
    share, or draws as many numbers as a record's values say, two outcomes cannot be compared, and nothing is said.
    """
    if (type(task).augment, type(task).augment_pair) == (Task.augment, Task.augment_pair):
        return
    mixed: Sequence[Callable[[], AugmentedRecord]] = ()
    for place in (0, BATCH - 1):
        batches = _batches(sample, place, device)
        for seed in range(TRIALS):
            both = [partial(_augmented, task, batch, place, seed) for batch in batches]
            one, other = (each() for each in both)
            if one.drawn != other.drawn:
                return  # in any trial a record's draws may begin elsewhere, though as many are made in the end
            if not mixed and not _alike(one.made, other.made):
                mixed = both
    if mixed and _repeats(*mixed):
        evidence = "what it makes of one record changes with the other records of its batch"
        raise AugmentMixes(evidence=evidence, task=task.name)


def _batches(sample: Records, place: int, device: torch.device) -> Batches:
    """The first record at `place`, among copies of the second one, and of one of another label."""

    def batch(other: int) -> Pair:
        rows = [other] * BATCH
        rows[place] = 0
        x, y = sample.batch(np.array(rows))
        return as_inputs(x, device), as_inputs(y, device)

    return batch(1), batch(_unlike(sample, 1))


def _unlike(sample: Records, row: int) -> int:
    """A record of another label than the one at `row`, among the last few; else the last."""
    rows = [other for other in reversed(range(len(sample))) if other != row][:LOOKED_AT]
    label = sample.batch(np.array([row]))[1]
    return next((other for other in rows if not np.array_equal(sample.batch(np.array([other]))[1], label)), rows[0])


@dataclass(frozen=True, slots=True)
class AugmentedRecord:
    """A record after augmentation, and where the generators stood then."""

    made: Pair
    drawn: tuple[Any, ...]


def _repeats(first: Callable[[], AugmentedRecord], second: Callable[[], AugmentedRecord]) -> bool:
    """Whether the two differ again and again, and each comes out as before, whichever is made first."""
    one, other = first().made, second().made
    if _alike(one, other):
        return False
    for _ in range(REPEATS // 2):
        again = (second(), first(), first(), second())
        if not all(_alike(was, now.made) for was, now in zip((other, one, one, other), again, strict=True)):
            return False
    return True


def _augmented(task: Task, batch: Pair, place: int, seed: int) -> AugmentedRecord:
    with _seeded(seed):
        x, y = copy.copy(task).augment_pair(batch[0].clone(), batch[1].clone())
        if len(x) != BATCH or len(y) != BATCH:
            evidence = f"it makes {len(x)} inputs and {len(y)} labels of {BATCH} records"
            raise AugmentMixes(evidence=evidence, task=task.name)
        return AugmentedRecord((x[place].detach(), y[place].detach()), _stand(batch[0].device))


def _stand(device: torch.device) -> tuple[Any, ...]:
    """Of each generator that is seeded, so that it is seen whether as many numbers were drawn."""
    arrays: Any = np.random
    _, words, *rest = arrays.get_state()
    of_torch = [torch.random.get_rng_state()]
    if device.type == "cuda":
        of_torch.append(torch.cuda.get_rng_state(device))
    return (*(one.numpy().tobytes() for one in of_torch), words.tobytes(), *rest, random.getstate())


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
    return all(a.shape == b.shape and (_same(a, b) or _close(a, b)) for a, b in zip(one, other, strict=True))


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """To the bit, as they mostly are: of a large volume the rest takes four times its memory, and most of the time."""
    return a.dtype == b.dtype and torch.equal(a, b)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=0.0, atol=TOLERANCE * _largest(a), equal_nan=True)


def _largest(values: torch.Tensor) -> float:
    found = values.double().abs().nan_to_num(0.0)
    return float(found.max()) if found.numel() else 0.0
