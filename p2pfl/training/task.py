"""Task: what is learned, from which records, by which model. Built in, or a class in a file pinned by SHA-256.

Code never travels: peers.yaml holds the digest of a task's file, and each site runs its own copy if it has that
digest. A task's constants are public; a statistic of private records (a mean, a class weight) in one is a leak.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from numpy.typing import NDArray

from p2pfl.errors.from_python import FrameUnsupported
from p2pfl.training.measures.measure import Measure
from p2pfl.training.records.records import Dataset
from p2pfl.training.update import FlatVector, first_model

if TYPE_CHECKING:
    import torch
    from torch import nn

API: Final = 1


class Task(ABC):
    """One thing to learn. Subclass it, or use a built-in.

    api               version of this interface that the class was written for
    name              how the ledger calls it
    learning_rate     of the default optimiser
    expected_batch    public divisor of each step's noised gradient sum: near sample_rate × the records of a typical
                      site. It is never computed from a site's own number of records, since it would reveal that.
    copies            of each record in a step, each augmented by itself; their gradients are averaged before the clip,
                      so it costs time and no privacy (De et al. 2022)
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "task"
    learning_rate: float = 0.01
    expected_batch: float = 2.0
    copies: int = 1

    # ── what every task says ──────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Dataset:
        """The records of a site at `path`, a file or a folder: any map-style dataset of (x, y); see `Dataset`.

        columns     the site's local column map, where it has one
        labelled    False: labels are not needed (predict), and may be anything
        """

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model. Its initial values do not matter: `first` sets every parameter that trains."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One loss for each record, shape (B,): each from that record alone.    (B, …), (B, …) ► (B,)"""

    @abstractmethod
    def measures(self) -> Sequence[Measure]:
        """How a model is judged: the first figure of the first measure is the training's metric."""

    # ── what has a default ────────────────────────────────────────────────────────────────────────────────────

    def from_frame(self, frame: Any, columns: bytes | None = None, *, labelled: bool = True) -> Dataset:
        """The records of a pandas DataFrame, for `peer.train(task, data=frame)`; by default refused.

        columns, labelled    as for `dataset`
        """
        raise FrameUnsupported(evidence=f"{len(frame)} rows were given", task=self.name)

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the model says in people's terms, for the measures and for `p2pfl predict`; its outputs by default.

        A probability (B,), probabilities (B, K), a number (B,), a class for each voxel (B, …).
        """
        return outputs

    @property
    def prediction_names(self) -> Sequence[str]:
        """A name for each number of a prediction, for `p2pfl predict`."""
        return ()

    def table(self, predictions: NDArray[Any]) -> NDArray[Any]:
        """Numbers of each prediction for a table that people read, by default all of them.    (N, …) ► (N, k)"""
        return predictions.reshape(len(predictions), -1)

    def optimiser(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The site's optimiser, new in each round. It sees noised gradients alone, so any is private."""
        import torch

        return torch.optim.SGD(parameters, lr=self.learning_rate)

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs of a training step, changed at random, each record by itself; as they are by default.

        Draw from torch's own generator: it follows from the pass's seed, so that a pass that a crash cut is repeated.
        Never mix records, as mixup does: one that is in two examples is in two gradients, of which the clip bounds
        each. It is tried before the first pass, with records that change beside one. (B, …) ► (B, …)
        """
        return x

    def augment_pair(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of a training step, where a label moves with its input, as a mask does; else `augment`.

        (B, …), (B, …) ► the same shapes
        """
        return self.augment(x), y

    def trainable(self, name: str) -> bool:
        """Whether the parameter called `name` trains. What does not train does not travel and gets no noise."""
        return True

    def pretrained(self) -> Mapping[str, NDArray[Any]]:
        """Values of parameters that start from pretrained weights, by name: public, the same at every site."""
        return {}

    def first(self, model: nn.Module, seed: bytes) -> FlatVector:
        """The parameters (m,) that all sites start from, the same bits everywhere; pretrained ones are set over it."""
        return first_model(model, seed)
