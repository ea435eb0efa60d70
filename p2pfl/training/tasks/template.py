"""A task of your own: which records, which model, which loss, how it is judged.

The same file lies at every site, and peers.yaml holds its digest: a changed comment is another task. Everything in it
is public. So write constants of clinical practice here, and never a number that was computed from records.

    p2pfl task check FILE.py:CLASS --data records.csv     one private step, on your own records
    p2pfl peers create … --task FILE.py:CLASS             pins it for all sites
    p2pfl task review FILE.py                             what each site's people read, and then approve
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

import p2pfl
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.measure import Measure
from p2pfl.training.records.records import Arrays

COLUMNS = 4  # of the CSV, the label not counted


class Template(p2pfl.Task):
    """A CSV of numbers, whose last column is 0 or 1."""

    api = 1
    name = "template"
    learning_rate = 0.1
    expected_batch = 4.0  # near sample_rate × the records of a typical site; public, never computed from records

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """The records at `path`: any map-style dataset of (x, y), such as a torch Dataset that reads a file a record.
        `identity(row)` and `patient(row)` of it name a record, and whose it is.
        """
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, dtype=np.float32)  # (N, columns)
        x, y = (rows[:, :-1], rows[:, -1]) if labelled else (rows, np.zeros(len(rows)))
        return Arrays(x, y.astype(np.int64), [row.tobytes() for row in rows])

    def model(self) -> nn.Module:
        """Layers that mix the records of a batch (BatchNorm) are replaced; none may work in place."""
        return nn.Linear(COLUMNS, 1)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One number for each record.    (B, …), (B, …) ► (B,)"""
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """What `p2pfl predict` prints and the measures judge: here the chance of a 1.    (B,)"""
        return outputs[:, 0].sigmoid()

    @property
    def prediction_names(self) -> Sequence[str]:
        return ("probability",)

    def measures(self) -> Sequence[Measure]:
        """The first figure of the first one is the training's metric. There are Classes, Number, Segmentation, …, and
        your own: a subclass of Measure.
        """
        return (Binary(),)

    def optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """It sees noised gradients alone, so any is private."""
        return torch.optim.SGD(parameters, lr=self.learning_rate)

    def trainable(self, name: str) -> bool:
        """False for parameters that stay as they are: they do not travel, and get no noise."""
        return True
