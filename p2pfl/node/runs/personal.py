"""A site's own layers between its passes: one sealed item, from which a repeated pass starts as it did before.

The order on the disk is the promise: `checkpoints/personal` holds the layers before a pass and after it, and is written
before `state/residual`, which says that the update is finished. A process that finds the pass begun and its number in
the item repeats it from `before`; one that finds an older number, from `after`: the same vector either way. What the
layers are is among a pass's `inputs`, so a pass that would start from others is a new one, with a charge of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import P2PFLError
from p2pfl.errors.home import ItemDamaged
from p2pfl.errors.models import ModelFileBroken
from p2pfl.errors.personal import PersonalNotKept
from p2pfl.errors.training import ModelDiverged, ModelMisfit
from p2pfl.federation import Federation
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.home import Home
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Observer, PersonalLost
from p2pfl.node.runs.passes import read_pending
from p2pfl.node.runs.trains import Keeps, Trains
from p2pfl.training.model.personal import PersonalState
from p2pfl.training.update import FlatVector, TensorLayout, not_finite


class PersonalLayers:
    """What this site keeps of `local.personal`; nothing (k = 0) where the sites share every layer."""

    def __init__(
        self, home: Home, logs: Logs, run: bytes, trainer: Trains, federation: Federation, observer: Observer
    ) -> None:
        """Raises PersonalNotKept where the sites agreed on such layers, and the trainer knows of none."""
        self._home, self._prefixes = home, federation.local.personal
        self._state = PersonalState(TensorLayout(()), run, 0, *[np.zeros(0, np.float32)] * 2)
        if not self._prefixes:
            return
        if not isinstance(trainer, Keeps) or not trainer.personal.tensors:
            evidence = f"{type(trainer).__name__}, task {federation.task.label}"
            raise PersonalNotKept(evidence=evidence, prefixes=", ".join(self._prefixes))
        first = trainer.first_personal(federation.first)
        begun = PersonalState(trainer.personal, run, 0, first, first)
        found, why = self._read(begun)
        if found is None and (why or self._has_trained(logs, run)):
            observer(PersonalLost(", ".join(self._prefixes), why or f"there is no {PERSONAL} in this home"))
        self._state = found or begun

    def _read(self, begun: PersonalState) -> tuple[PersonalState | None, str]:
        """What the home holds, if it is of this training; why it cannot be used, if it is broken."""
        try:
            data = self._home.read(PERSONAL)
            found = None if data is None else PersonalState.from_file(data)
        except (ItemDamaged, ModelFileBroken, ModelMisfit) as error:
            return None, _reason(error)
        if found is None or found.run != begun.run:
            return None, ""
        if found.layout != begun.layout:
            return None, f"{PERSONAL} holds other layers than the task has now"
        return found, ""

    def _has_trained(self, logs: Logs, run: bytes) -> bool:
        """This site has finished a pass of the run, so it had layers of its own."""
        if any(self._home.name in one["survivors"] for one in logs.rounds(run)):
            return True
        held = read_pending(self._home)
        return held is not None and held[0].run == run

    @property
    def size(self) -> int:
        """k"""
        return self._state.layout.parameters

    @property
    def now(self) -> FlatVector:
        """After the last finished pass.    (k,)"""
        return self._state.after

    def start_of(self, number: int) -> FlatVector:
        """What the pass of that charge starts from, also where it was made once before.    (k,)"""
        return self._state.before if self._state.charge == number else self._state.after

    def measured(self, *, trains: bool) -> FlatVector:
        """What goes with the model that a round measures: one that trains has moved these layers already.    (k,)"""
        return self._state.before if trains else self._state.after

    def behind(self, model: FlatVector, values: FlatVector) -> FlatVector:
        """What a trainer is given: (m,) and (k,) ► (m + k,)."""
        return np.concatenate([model, values]) if self.size else model

    def take(self, number: int, start: FlatVector, found: NDArray[Any]) -> NDArray[Any]:
        """Keep what the pass of that charge did to these layers, durably; the rest of `found` is what may be sent.

        start    what it started from, (k,); in `found` its change lies behind all else
        Raises ModelDiverged.
        """
        if not self.size:
            return found
        after = (start + found[-self.size :]).astype(np.float32)
        if odd := not_finite(after):
            raise ModelDiverged(evidence=f"{odd} coordinates", what="the layers that stay here")
        self._state = replace(self._state, charge=number, before=start, after=after)
        self._home.replace(PERSONAL, self._state.to_file())
        return found[: -self.size].copy()


def _reason(error: P2PFLError) -> str:
    return f"{PERSONAL} cannot be read: {error.evidence}"
