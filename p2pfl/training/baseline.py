"""What a site reaches alone: plain training on its own records, without privacy.

The result never leaves the site; the demo shows it beside the federation's.
"""

from __future__ import annotations

from typing import Final

import torch

from p2pfl.keys import KEY_BYTES, Draw, Secret
from p2pfl.training.models import as_inputs, build, device_of, loss_of
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.records.records import Records
from p2pfl.training.records.sampling import shuffled_batches
from p2pfl.training.task import Task
from p2pfl.training.update import FlatVector, read_vector, write_vector

PASSES: Final = 60
BATCH: Final = 32
LEARNING_RATE: Final = 0.02
WEIGHT_DECAY: Final = 2.0  # a hundred records and thirty inputs: without it a site alone fits its own noise
SEED: Final = bytes(32)  # public: where the model starts


def site_alone(task: Task, records: Records, draw: Draw, device: str = "cpu", passes: int = PASSES) -> FlatVector:
    """A model of `task` trained on `records` by plain AdamW, the order of records from `draw`.    (m,)"""
    place, built = device_of(device), build(task)
    write_vector(built.model, built.first(task, SEED))
    model = built.model.to(place).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    order = BitStream(Secret(draw(KEY_BYTES), "order of records"), "training/sampling")
    for _ in range(passes):
        for rows in shuffled_batches(order, len(records), BATCH):
            optimizer.zero_grad(set_to_none=True)
            x, y = (as_inputs(part, place) for part in records.batch(rows))
            loss = loss_of(task, model(x), y)
            torch.autograd.backward(loss.mean())
            optimizer.step()
    return read_vector(model)
