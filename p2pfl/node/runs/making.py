"""One pass of a training as a run makes it: begun and charged, repeated after a crash, made again where it was cut.

What it starts from, `start` (m + k,), is the model of the round and behind it this site's own layers, if it has any. A
repeated pass starts from the same numbers as it did at first, or it is another one with a charge of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from numpy.typing import NDArray

from p2pfl._version import __version__
from p2pfl.errors.task_process import StepOutOfMemory, TaskProcessEnded
from p2pfl.federation import Federation
from p2pfl.keys import Draw, digest
from p2pfl.node.progress import Observer, PassWasCut
from p2pfl.node.runs.models import Models
from p2pfl.node.runs.passes import BegunPass, Passes
from p2pfl.node.runs.personal import PersonalLayers
from p2pfl.node.runs.trains import Batches, Trains
from p2pfl.node.runs.updates import Updates
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.passes import PassCut
from p2pfl.training.update import FlatVector

MOST_CUTS: Final = 3  # times that a pass may be cut before this process ends


@dataclass(frozen=True, slots=True)
class PassMaker:
    """Makes the passes of one run.

    subspace    where a round from a model may move, by the digest of that model and the model (m,); None: everywhere
    """

    federation: Federation
    trainer: Trains
    task: str
    draw: Draw
    observer: Observer
    passes: Passes
    models: Models
    updates: Updates
    personal: PersonalLayers
    subspace: Callable[[bytes, FlatVector], Subspace | None]

    def update(self, number: int, base: int, rounds: int) -> tuple[NDArray[Any], Subspace | None]:
        """What may be sent of a pass from the model after `base`, or of the one that a process before was making; and
        where it moved. What stays here of it is on the disk.

        rounds   that train, in the model after `base`
        Raises TaskProcessEnded when it was cut MOST_CUTS times; StepOutOfMemory when a step of one record lacks memory;
        ModelDiverged.
        """
        begun, start = self._repeated(base, rounds) or self._begun(number, base, rounds)
        m, cuts = self.trainer.parameters, 0
        while True:
            subspace = self.subspace(begun.model, start[:m])
            given = (begun.seed, begun.rounds_before, subspace)
            try:
                found = self.trainer.train(start, self.passes.charge(begun), *given)
            except StepOutOfMemory as error:
                if begun.at_once <= 1:
                    raise
                how, out_of_memory = error.happened, True
            except PassCut as cut:
                how, out_of_memory = cut.how, cut.out_of_memory and begun.at_once > 1
                cuts += not out_of_memory
                if cuts == MOST_CUTS:
                    evidence = f"round {number}; the pass stays charged, and the next start repeats it"
                    raise TaskProcessEnded(count=cuts, how=how, evidence=evidence) from None
            else:
                sent = self.personal.take(begun.number, start[m:], found)
                return self.updates.ready(sent, begun.seed, begun.rounds_before), subspace
            if out_of_memory:
                begun = self._smaller(begun, start)
            elif not begun.inputs or self.inputs(start, begun.rounds_before) != begun.inputs:
                begun, start = self._begun(number, base, rounds)  # nobody can repeat it: it is lost with its charge
            self.observer(PassWasCut(number, how, begun.at_once))

    def _smaller(self, begun: BegunPass, start: FlatVector) -> BegunPass:
        """The same pass with half as many records' gradients at a time, on the disk before it is made: whoever repeats
        it adds up in the same order."""
        self._take_at_once(begun.at_once // 2)
        inputs = self.inputs(start, begun.rounds_before)
        return self.passes.rewrite(replace(begun, at_once=begun.at_once // 2, inputs=inputs))

    def _take_at_once(self, at_once: int) -> None:
        if isinstance(self.trainer, Batches) and at_once:
            self.trainer.at_once = at_once

    def _repeated(self, base: int, rounds: int) -> tuple[BegunPass, FlatVector] | None:
        """The pass that a process before this one began, and what it starts from; the round is no matter.

        Where each site adds a part of the noise, it must be of the model after `base` and of as many rounds: its grid
        and subspace are. A refused round leaves the model as it is, and counts.
        """
        begun = self.passes.take_up()
        if begun is None or begun.run != self.models.run:
            return None
        place = (begun.model, begun.rounds_before)
        if self.federation.privacy.is_distributed and place != (self.models.on(base).names[0], rounds):
            return None
        model = self.models.begun_from(begun.model)
        if model is None:
            return None
        self._take_at_once(begun.at_once)
        start = self.personal.behind(model, self.personal.start_of(begun.number))
        return (begun, start) if self.passes.may_repeat(self.inputs(start, begun.rounds_before)) else None

    def _begun(self, number: int, base: int, before: int) -> tuple[BegunPass, FlatVector]:
        """A pass of its own from the model after `base`.

        What an older one drew is gone: over other gradients it would cancel out.
        """
        state = self.models.on(base)
        start = self.personal.behind(state.model, self.personal.now)
        at_once = self.trainer.at_once if isinstance(self.trainer, Batches) else 0
        inputs = self.inputs(start, before)
        begun = self.passes.begin(number, before, state.names[0], inputs, self.draw, at_once)
        self.models.begin_from(state)
        return begun, start

    def inputs(self, start: FlatVector, rounds_before: int) -> bytes:
        """Names all that an update from `start` follows from; empty where no pass is repeated."""
        inputs = self.trainer.inputs(start, rounds_before)
        how = repr(self.federation.compression).encode()  # what a pass in a subspace returns follows from it
        return digest("inputs", __version__.encode(), self.task.encode(), inputs, how) if inputs else b""
