"""The models of a training at one site: the one that the ledger names, those applied past it, those served to others.

The order on the disk is the promise: a new model lies beside the old before the ledger names it, and takes its place
afterwards. Rounds that are applied and not final have their models here alone; a restart applies their sums again. A
model that is not on the disk as the ledger names it (of rounds that were taken over, lost, damaged) is fetched from any
peer: its digest is in a record that a quorum signed.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final, Protocol

import numpy as np

from p2pfl import codec
from p2pfl.errors.home import ItemDamaged
from p2pfl.errors.round import BulkRejected
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.node.logs import Logs
from p2pfl.sharing.field import bytes_of
from p2pfl.training import checkpoint, update

MODEL, NEXT = "checkpoints/model", "checkpoints/next"
BEGUN: Final = "checkpoints/begun"  # the model from which the pass under way starts, once it is no longer MODEL
SERVED: Final = 2  # models before the last one


class Makes(Protocol):
    """What is asked of a trainer here."""

    layout: update.TensorLayout

    def initial(self, seed: bytes) -> update.FlatVector: ...


class Models:
    """`current` is the model after the last final round, (m,) float32."""

    def __init__(
        self, home: Home, logs: Logs, run: bytes, trainer: Makes, task: str, seed: bytes, unit: str = "record"
    ) -> None:
        """unit: of which privacy is kept, "none" where nothing is: a model's file says so wherever it goes."""
        self._home, self._logs, self._run, self._task, self._unit = home, logs, run, task, unit
        self._layout = trainer.layout
        self.applied: dict[int, update.FlatVector] = {}  # by round past the last final one: the model after it
        self.measured: dict[int, bytes] = {}  # by round applied here: digest of the model that it measured
        self._served: dict[bytes, update.FlatVector] = {}
        self._names: dict[int, tuple[update.FlatVector, bytes]] = {}  # digests of the models that others asked for
        self.lacking = b""  # digest of the model that the ledger names, where this site has yet to fetch it
        self.why_lacking = ""
        self._begun: update.FlatVector | None = None  # the model from which the pass under way starts
        self._replacing = threading.Lock()  # `current` changes in one thread while a pass begins in another
        self.current = self._read(trainer, seed)

    def _read(self, trainer: Makes, seed: bytes) -> update.FlatVector:
        """The model after the last final round, in its place even when a crash left it in the other."""
        wanted = self._logs.model_after(self._run)
        if wanted is None:
            return trainer.initial(seed)
        for item in (MODEL, NEXT):
            try:
                data = self._home.read(item)
            except ItemDamaged as error:
                self.why_lacking = f"{item} is damaged: {error.evidence}"
                continue
            if data is not None:
                model = checkpoint.from_bytes(data, self._layout)
                if self.digest_of(model) == wanted:
                    if item == NEXT:  # the next round writes there before the ledger names what it writes
                        self._home.replace(MODEL, data)
                        self._home.remove(NEXT)
                    return model
        self.lacking = wanted
        self.why_lacking = self.why_lacking or "no checkpoint here is the model that the ledger names"
        return trainer.initial(seed)  # in its place, until it is here: no round begins before

    @property
    def model_bytes(self) -> int:
        """Size of one model: four bytes of each parameter."""
        return 4 * self._layout.parameters

    def digest_of(self, model: update.FlatVector) -> bytes:
        """Names a model: what its coordinates mean, and their bits."""
        return digest("model", self._layout.digest, bytes_of(np.ascontiguousarray(model, "<f4").view("<u4")))

    def on(self, base: int) -> update.FlatVector:
        """The model after round `base`: the last final one, or one past it."""
        return self.applied.get(base, self.current)

    def tip(self, before: int) -> int:
        """The last applied round before round `before`; 0 when that is the last final one."""
        return max([0, *(one for one in self.applied if one < before)])

    def retract(self, to: int) -> None:
        """Drop the models after rounds past `to`: they are not of the branch that goes on."""
        self.applied = {number: model for number, model in self.applied.items() if number <= to}
        self.measured = {number: model for number, model in self.measured.items() if number <= to}

    def write_next(self, number: int) -> None:
        """Make the model after round `number` durable beside the current one, before the ledger names it."""
        if number in self.applied:
            self._home.replace(NEXT, self._as_file(self.applied[number], number))

    def make_current(self, number: int) -> None:
        """The ledger names the model after round `number`: it is the current one. The last SERVED before it are kept in
        memory, for sites that were away."""
        after = self.applied.get(number)
        self.applied = {one: model for one, model in self.applied.items() if one > number}
        if after is not None:
            held = [*self._served.items(), (self.digest_of(self.current), self.current)]
            self._replace(after, number)
            self._home.remove(NEXT)
            self._served = dict(held[-SERVED:])

    def _replace(self, model: update.FlatVector, number: int) -> None:
        """It is the current one, durably. The one before it is kept as long as a pass from it is under way."""
        with self._replacing:
            if self._begun is self.current:
                self._home.replace(BEGUN, self._as_file(self.current, number))
            self._home.replace(MODEL, self._as_file(model, number))
            self.current = model

    # ── the model that a pass starts from ─────────────────────────────────────────────────────────────────────

    def begin_from(self, model: update.FlatVector) -> None:
        """A pass starts from it: this home holds it, whatever comes, until `pass_is_over`."""
        with self._replacing:
            self._begun = model
            if model is not self.current:
                self._home.replace(BEGUN, self._as_file(model, 0))

    def begun_from(self, wanted: bytes) -> update.FlatVector | None:
        """The model of that digest, from which a process before this one began a pass; None when it is lost."""
        with self._replacing:
            if self.digest_of(self.current) == wanted:
                self._begun = self.current
            elif self._begun is None:
                with suppress(ItemDamaged):  # as if it were lost: then the pass is not repeated
                    data = self._home.read(BEGUN)
                    model = checkpoint.from_bytes(data, self._layout) if data is not None else None
                    self._begun = model if model is not None and self.digest_of(model) == wanted else None
            return self._begun

    def pass_is_over(self) -> None:
        """Nobody needs the model that it started from any more."""
        with self._replacing:
            self._begun = None
            if BEGUN in self._home.items("checkpoints"):
                self._home.remove(BEGUN)

    # ── a site that was away ──────────────────────────────────────────────────────────────────────────────────

    def skip_to(self, number: int, record: bytes) -> bytes:
        """Rounds up to `number` were taken over as records, `record` the last: return what is `lacking` now."""
        wanted = bytes.fromhex(codec.read_facts(record)["model_after"])
        if number in self.applied and self.digest_of(self.applied[number]) == wanted:
            self.make_current(number)  # its sum was applied here, and q others have confirmed it
        self.applied = {one: model for one, model in self.applied.items() if one > number}
        self.lacking = wanted if self.digest_of(self.current) != wanted else b""
        return self.lacking

    def accept_fetched(self, data: bytes, number: int, peer: str) -> None:
        """Make the model that was fetched the current one. Raises BulkRejected naming `peer` when it is another one."""
        model = np.frombuffer(data, "<f4") if len(data) == self.model_bytes else None
        if model is None or self.digest_of(model) != self.lacking:
            raise BulkRejected(peer=peer, evidence="the model that it sent is not the one that the ledger names")
        self._replace(model.copy(), number)
        self.lacking = b""

    def bytes_of(self, wanted: bytes) -> memoryview | None:
        """The model of that digest, as little-endian float32; None when this site has another.

        A view, and no digest is made twice: a peer may ask for one part after another, and in vain.
        """
        held = [self.current, *self.applied.values()]
        self._names = {id(model): (model, self._name_of(model)) for model in held}
        found = next((model for model, name in self._names.values() if name == wanted), self._served.get(wanted))
        return None if found is None or self.lacking else np.ascontiguousarray(found, "<f4").data.cast("B")

    def _name_of(self, model: update.FlatVector) -> bytes:
        named = self._names.get(id(model))
        return named[1] if named is not None and named[0] is model else self.digest_of(model)

    def _as_file(self, model: update.FlatVector, number: int) -> codec.Pieces:
        facts = {"task": self._task, "round": str(number), "model": self.digest_of(model).hex(), "privacy": self._unit}
        return checkpoint.to_pieces(model, self._layout, facts)
