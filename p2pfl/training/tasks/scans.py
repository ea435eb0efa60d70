"""What a task on images and one on volumes have in common: which layers train, adapters, pretrained weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from p2pfl.federation.scan_schema import ImageSchema, VolumeSchema
from p2pfl.training.task import Task
from p2pfl.training.tasks.pretrained import read_weights, without
from p2pfl.training.update import FlatVector, layout_of

if TYPE_CHECKING:
    from torch import nn


class ScanTask(Task):
    """A network of which all, the head, or adapters and the head train; what each attribute means says the subclass."""

    classes: Sequence[str]
    channels: int = 1
    train: str = "all"
    rank: int = 4
    weights: tuple[str, str] | None = None
    augmentation: Sequence[str] = ()
    patient: str = ""

    @property
    @abstractmethod
    def head(self) -> str:
        """The name of the last layer."""

    def take(self, schema: ImageSchema | VolumeSchema, weights: Path | None) -> None:
        """What any description says; the weights lie in the working folder, or where `weights` says."""
        how = schema.how
        self.classes, self.channels = schema.classes, schema.channels
        self.train, self.rank, self.augmentation = how.trainable, how.rank, how.augmentation
        self.learning_rate, self.expected_batch, self.patient = how.learning_rate, how.expected_batch, how.patient
        self.copies = how.copies
        if how.weights is not None:
            self.weights = (str(weights or how.weights.file), how.weights.sha256)

    def adapted(self, model: nn.Module) -> nn.Module:
        """The model, with adapters where they train."""
        from p2pfl.training import lora

        return lora.adapted(model, self.rank, without_layers=(self.head,)) if self.train == "lora" else model

    def first(self, model: nn.Module, seed: bytes) -> FlatVector:
        """As for any model; adapters add nothing at first."""
        from p2pfl.training import lora

        vector = super().first(model, seed)
        lora.silence(layout_of(model).split(vector))
        return vector

    def trainable(self, name: str) -> bool:
        """By `train`."""
        from p2pfl.training import lora

        adapter = self.train == "lora" and lora.is_adapter(name)
        return self.train == "all" or adapter or name.startswith(f"{self.head}.")

    def pretrained(self) -> Mapping[str, NDArray[Any]]:
        """Of `weights`, without the head."""
        from p2pfl.training import lora

        if self.weights is None:
            return {}
        held = without(read_weights(*self.weights), self.head)
        return lora.under_adapters(held, self.model()) if self.train == "lora" else held
