"""The step after the sum: mean, momentum, Adam, and the running mean of the models, the same bits at every site.

Everything is numpy float64 with + − × ÷ √, one operation at a time in the order written here, and each row is rounded
to float32 once. These operations are correctly rounded wherever IEEE 754 holds; no `dot`, sum or power is used, whose
order or last bit differs between machines, and no two operations share a loop that a compiler could fuse.

It works on an opened sum of noised updates: post-processing, which costs no privacy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.federation.optimisers import ModelAverage, ServerOptimiser
from p2pfl.training.model.state import AVERAGE, HEAD, MODEL, MOMENTUM, SECOND, ModelState, steps_head
from p2pfl.training.update import BLOCK, Total, apply_mean, blocks_of, fits

Block = NDArray[np.float64]


def after(
    state: ModelState,
    server: ServerOptimiser,
    average: ModelAverage,
    total: Total,
    survivors: int,
    support: NDArray[np.int64] | None = None,
) -> ModelState | None:
    """The state after a round; None where a number of it would not be finite: then the model stays.

    total       float64, the opened sum of the survivors' updates: (m,), or one for each position of `support`
    survivors   the number of updates in it
    Δ = total / survivors; x is the model, η the learning rate, β the momentum.
        mean        x += η·Δ
        momentum    m = β·m + Δ, x += η·m                                                (Hsu et al. 2019)
        adam        m = β·m + (1−β)·Δ, v = β₂·v + (1−β₂)·Δ², x += η·m/(√v + τ)           (Reddi et al. 2021)
        average     a = (1−w)·a + w·x with w = 1/(1 + d + … + d^(t−1)), t the steps so far, d its decay
    Time O(m); memory: the result and a few blocks. Raises ValueError on another shape.
    """
    if state.layout.plain and server.learning_rate == 1.0:
        return ModelState(state.layout, apply_mean(state.model, total, survivors, support))
    found = np.empty(state.layout.length, "<f4")
    done = ModelState(state.layout, found)
    if not state.layout.plain:
        found[:HEAD] = steps_head(state.steps + 1)
    weight = average.weight(state.steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for block, delta in _means(state.model.size, total, survivors, support):
            rows = {kind: state.row(kind)[block].astype(np.float64) for kind in state.layout.kinds}
            step = _step(rows, server, delta)
            moved = np.add(rows[MODEL], np.multiply(step, server.learning_rate)).astype(np.float32)
            rows[MODEL] = moved.astype(np.float64)
            if AVERAGE in rows:
                rows[AVERAGE] = np.add(np.multiply(rows[AVERAGE], 1.0 - weight), np.multiply(rows[MODEL], weight))
            for kind, row in rows.items():
                done.row(kind)[block] = row
            if not all(np.isfinite(done.row(kind)[block]).all() for kind in rows):
                return None
    return done


def _step(rows: dict[str, Block], server: ServerOptimiser, delta: Block) -> Block:
    """What the learning rate is multiplied with; the moments in `rows` become those after the round."""
    if server.method == "mean":
        return delta
    if server.method == "momentum":
        rows[MOMENTUM] = np.add(np.multiply(rows[MOMENTUM], server.momentum), delta)
        return rows[MOMENTUM]
    first, second = 1.0 - server.momentum, 1.0 - server.beta2
    rows[MOMENTUM] = np.add(np.multiply(rows[MOMENTUM], server.momentum), np.multiply(delta, first))
    squares = np.multiply(np.multiply(delta, delta), second)
    rows[SECOND] = np.add(np.multiply(rows[SECOND], server.beta2), squares)
    return np.divide(rows[MOMENTUM], np.add(np.sqrt(rows[SECOND]), server.tau))


def _means(m: int, total: Total, survivors: int, support: NDArray[np.int64] | None) -> Iterator[tuple[slice, Block]]:
    """Δ block by block, zero outside of `support`."""
    if not fits(total, m if support is None else support.size) or survivors < 1:
        raise ValueError(f"{m} parameters + what is no float64 sum of them / {survivors}")
    for block, values in blocks_of(total) if support is None else _spread(m, total, support):
        yield block, np.divide(values, float(survivors))


def _spread(m: int, total: Total, support: NDArray[np.int64]) -> Iterator[tuple[slice, Block]]:
    """The positions of a support in their places, zeros between them."""
    held = np.concatenate([np.zeros(0), *(values for _, values in blocks_of(total))])
    for first in range(0, m, BLOCK):
        last = min(first + BLOCK, m)
        values = np.zeros(last - first)
        low, high = np.searchsorted(support, (first, last))
        values[support[low:high] - first] = held[low:high]
        yield slice(first, last), values


def facts(server: ServerOptimiser, average: ModelAverage) -> codec.Facts:
    """The step after the sum, as every round's record says it: of settings that the method does not read, nothing."""
    read = {"mean": (), "momentum": ("momentum",), "adam": ("momentum", "beta2", "tau")}[server.method]
    said = {name: repr(getattr(server, name)) for name in ("learning_rate", *read)}
    return {"method": server.method, **said, "average": repr(average.decay)}
