"""The models of a training at one site: the one that the ledger names, those applied past it, those served to others.

Each is a state: with a model go the moments and the running mean from which the next one follows (docs/adr/0043).

The order on the disk is the promise: a new model lies beside the old before the ledger names it, and takes its place
afterwards. Rounds that are applied and not final have their models here alone; a restart applies their sums again. A
model that is not on the disk as the ledger names it (of rounds that were taken over, lost, damaged) is fetched from any
peer: its digest is in a record that a quorum signed.
"""

from __future__ import annotations

import functools
import threading
import weakref
from contextlib import suppress
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.errors.home import ItemDamaged
from p2pfl.errors.round import BulkRejected
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.node.logs import Logs
from p2pfl.node.runs.passes import read_begun
from p2pfl.training import update
from p2pfl.training.early_stop import Measured
from p2pfl.training.model.state import ModelState, StateLayout, name_of

MODEL, NEXT = "checkpoints/model", "checkpoints/next"
BEGUN: Final = "checkpoints/begun"  # the model from which the pass under way starts, once it is no longer MODEL
SERVED: Final = 2  # models before the last one
KEPT_BYTES: Final = 1 << 26  # of a model, up to which it stays in memory in case it is asked for


class Makes(Protocol):
    """What is asked of a trainer here."""

    @property
    def layout(self) -> update.TensorLayout: ...
    def initial(self, seed: bytes) -> update.FlatVector: ...


class Models:
    """`current` is the model after the last final round, (m,) float32."""

    def __init__(self, home: Home, logs: Logs, run: bytes, trainer: Makes, task: str, federation: Federation) -> None:
        self._home, self._logs, self.run = home, logs, run
        self._facts = {"task": task, "privacy": federation.privacy.unit}  # a model's file says so wherever it goes
        self._layout = StateLayout.of(trainer.layout, federation.server, federation.average)
        self.applied: dict[int, ModelState] = {}  # by round past the last final one: the state after it
        self.measured: dict[int, Measured] = {}  # by round applied here: the state that it measured, and the metric
        self.stopped: set[int] = set()  # rounds applied here that said that held-out records have changed
        self._served: dict[bytes, ModelState] = {}
        self._before: list[bytes] = []  # digests of the last SERVED models before the current one
        self._asked: set[bytes] = set()  # digests of models of which a site has fetched a part
        self.lacking = b""  # digest of the model that the ledger names, where this site has yet to fetch it
        self.why_lacking = ""
        self._begun: ModelState | None = None  # with the model from which the pass under way starts
        self._replacing = threading.Lock()  # `current` changes in one thread while a pass begins in another
        self._make_first = functools.partial(trainer.initial, federation.first)
        first = self._make_first()
        self._first, self._kept = weakref.ref(first), first if first.nbytes <= KEPT_BYTES else None
        self.current = self._read(self._layout.first(first, federation.server))

    def _read(self, first: ModelState) -> ModelState:
        """The state after the last final round, in its place even when a crash left it in the other."""
        wanted = self._logs.model_after(self.run)
        if wanted is None:
            return first
        older = first
        for item in (MODEL, NEXT):
            try:
                data = self._home.read(item)
            except ItemDamaged as error:
                self.why_lacking = f"{item} is damaged: {error.evidence}"
                continue
            if data is not None:
                state = self._layout.from_file(data)
                if state.digest == wanted:
                    if item == NEXT:  # the next round writes there before the ledger names what it writes
                        if self._is_begun_from(older):
                            self._keep_begun(older)
                        self._home.replace(MODEL, data)
                        self._home.remove(NEXT)
                    return state
                older = state if item == MODEL else older
        if self._is_begun_from(older):
            self._keep_begun(older)
        self.lacking = wanted
        self.why_lacking = self.why_lacking or "no checkpoint here is the model that the ledger names"
        return first  # in its place, until it is here: no round begins before

    @property
    def first(self) -> update.FlatVector:
        """The model that this training started from.    (m,)

        Only a round in a subspace asks for it, once: a large one is made anew each time, unless it is still in use.
        """
        found = self._first()
        if found is None:
            self._first = weakref.ref(found := self._make_first())
        return found

    @property
    def model_bytes(self) -> int:
        """Size of one state: four bytes of each parameter in each row, and its steps."""
        return 4 * self._layout.length

    def digest_of(self, model: update.FlatVector) -> bytes:
        """Names a model: what its coordinates mean, and their bits."""
        return name_of(model, self._layout.tensors)

    def on(self, base: int) -> ModelState:
        """The state after round `base`: the last final one, or one past it."""
        return self.applied.get(base, self.current)

    def tip(self, before: int) -> int:
        """The last applied round before round `before`; 0 when that is the last final one."""
        return max([0, *(one for one in self.applied if one < before)])

    def retract(self, to: int) -> None:
        """Drop the models after rounds past `to`: they are not of the branch that goes on."""
        self.applied = {number: model for number, model in self.applied.items() if number <= to}
        self.measured = {number: found for number, found in self.measured.items() if number <= to}
        self.stopped = {number for number in self.stopped if number <= to}

    def write_next(self, number: int) -> None:
        """Make the model after round `number` durable beside the current one, before the ledger names it."""
        if number in self.applied:
            self._home.replace(NEXT, self._as_file(self.applied[number], number))

    def make_current(self, number: int) -> None:
        """The ledger names the model after round `number`: it is the current one. The last SERVED before it are kept in
        memory, for sites that were away; of large ones those alone that a site is fetching."""
        after = self.applied.get(number)
        self.applied = {one: model for one, model in self.applied.items() if one > number}
        if after is not None:
            before = self.current
            self._before = [*self._before, before.digest][-SERVED:]
            self._replace(after, number)
            self._home.remove(NEXT)
            serving = self._before if self.model_bytes <= KEPT_BYTES else self._asked.intersection(self._before)
            held = {**self._served, before.digest: before}
            self._served = {name: held[name] for name in serving if name in held}
            self._asked.intersection_update([*self._served, self.current.digest])

    def _replace(self, state: ModelState, number: int) -> None:
        """It is the current one, durably. The model before it is kept as long as a pass from it is under way."""
        with self._replacing:
            if self._begun is self.current:
                self._keep_begun(self.current)
            self._home.replace(MODEL, self._as_file(state, number))
            self.current = state

    # ── the model that a pass starts from ─────────────────────────────────────────────────────────────────────

    def _is_begun_from(self, state: ModelState) -> bool:
        """A process before this one began a pass from its model, and has not ended it."""
        begun = read_begun(self._home)
        return begun is not None and (begun.run, begun.model) == (self.run, state.names[0])

    def _keep_begun(self, state: ModelState) -> None:
        self._home.replace(BEGUN, self._as_file(self._plain(state.model), 0))

    def _plain(self, model: update.FlatVector) -> ModelState:
        """A pass needs the model alone."""
        return ModelState(StateLayout(self._layout.tensors), model)

    def begin_from(self, state: ModelState) -> None:
        """A pass starts from its model: this home holds it, whatever comes, until `pass_is_over`."""
        with self._replacing:
            self._begun = state
            if state is not self.current:
                self._keep_begun(state)

    def begun_from(self, wanted: bytes) -> update.FlatVector | None:
        """The model of that digest, from which a process before this one began a pass; None when it is lost."""
        with self._replacing:
            if self.current.names[0] == wanted:
                self._begun = self.current
            elif self._begun is None:
                with suppress(ItemDamaged):  # as if it were lost: then the pass is not repeated
                    data = self._home.read(BEGUN)
                    state = StateLayout(self._layout.tensors).from_file(data) if data is not None else None
                    self._begun = state if state is not None and state.digest == wanted else None
            return self._begun.model if self._begun is not None else None

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
        if number in self.applied and self.applied[number].digest == wanted:
            self.make_current(number)  # its sum was applied here, and q others have confirmed it
        self.applied = {one: model for one, model in self.applied.items() if one > number}
        self.lacking = wanted if self.current.digest != wanted else b""
        return self.lacking

    def accept_fetched(self, data: bytes, number: int, peer: str) -> None:
        """Make the model that was fetched the current one. Raises BulkRejected naming `peer` when it is another one."""
        state = self._layout.from_bytes(data)
        if state is None or state.digest != self.lacking:
            raise BulkRejected(peer=peer, evidence="the model that it sent is not the one that the ledger names")
        self._replace(state, number)
        self.lacking = b""

    def bytes_of(self, wanted: bytes) -> memoryview | None:
        """The state of that digest, as it travels; None when this site has another.

        A view, and no digest is made twice: a peer may ask for one part after another, and in vain.
        """
        held = [self.current, *self.applied.values()]
        found = next((state for state in held if state.digest == wanted), self._served.get(wanted))
        if found is None or self.lacking:
            return None
        self._asked.add(wanted)
        return found.wire

    def _as_file(self, state: ModelState, number: int) -> codec.Pieces:
        return state.to_file({**self._facts, "round": str(number)})
