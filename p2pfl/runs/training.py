"""A training as a run: each round one private pass at every site, the secure sum of their updates, one new model.

The order on the disk is the promise: the privacy account before the pass; the update (with the residual that it
leaves) before the first masked word; the new model beside the old before the ledger names it. A restart finds what was
paid for and goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.books import Books
from p2pfl.errors.round import ModelLost
from p2pfl.errors.training import AccountUnreadable, PassWouldOverspend
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import digest
from p2pfl.ledger import entry as entries
from p2pfl.progress import Observer, Progress
from p2pfl.sharing import events as e
from p2pfl.sharing import statistics
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.source import Offer
from p2pfl.training import checkpoint, update
from p2pfl.training.compression import Compressor, Positions
from p2pfl.training.privacy import Account, Charge, Mechanism, decimal_epsilon

MODEL, NEXT, ACCOUNT, PENDING = "checkpoints/model", "checkpoints/next", "state/account", "state/residual"
COUNT_BITS: Final = 61  # scalars ride in a second vector over the largest field
CLASSES, BINS = 2, 128


class Trains(Protocol):
    """What training/local.py's Trainer does for a run; vectors are (m,) float32."""

    manifest: update.Manifest

    @property
    def parameters(self) -> int: ...
    def initial(self, seed: bytes) -> update.Vector: ...
    def train(self, model: update.Vector, charge: Charge) -> update.Vector: ...
    def evaluate(self, model: update.Vector) -> NDArray[np.int64]: ...


@runtime_checkable
class Stops(Protocol):
    """A trainer whose pass ends soon after this is set: an interrupted process need not wait for a pass of hours."""

    stopping: bool


@dataclass(frozen=True, slots=True)
class Metric:
    """How a model does on the held-out records of all sites together. Counts are exact, so it is not private."""

    auc: float
    accuracy: float
    held_out: int


@dataclass
class TrainingRun:
    """The source of a training. `rounds` of them train; one more measures the last model."""

    federation: Federation
    home: Home
    books: Books
    run: bytes
    trainer: Trains
    task: str
    draw: Callable[[int], bytes]
    observer: Observer
    _after: update.Vector | None = None

    def __post_init__(self) -> None:
        if isinstance(self.trainer, Stops):
            self.trainer.stopping = False
        settings, peers = self.federation.sharing, len(self.federation.roster.members)
        self.quantiser = Quantiser(
            FIELDS[settings.field], peers, settings.clip, settings.scale, rotate=settings.field == 16
        )
        compression = self.federation.compression
        self.compressor = Compressor(compression.method, compression.density, self.trainer.parameters, peers)
        self.account = self._read_account()
        self.model = self._read_model()

    def stop(self) -> None:
        """Nobody waits for the pass under way any more."""
        if isinstance(self.trainer, Stops):
            self.trainer.stopping = True

    # ── what lies on the disk ─────────────────────────────────────────────────────────────────────────────────

    def _read_account(self) -> Account:
        """The account of this home, and the site log with an entry for each of its passes.

        A crash between the two leaves one pass more in the account, and its entry is made up for. Any other difference
        is no crash, and refused: an account is never begun anew.
        """
        data = self.home.read(ACCOUNT)
        account = Account.from_bytes(data) if data is not None else Account()
        records = (codec.read_facts(one.record) for one in self.books.site.records())
        charges = [facts for facts in records if facts.get("kind") == "charge"]
        if account.passes - len(charges) not in (0, 1):
            raise AccountUnreadable(evidence=f"it holds {account.passes} passes, the site log {len(charges)} charges")
        if account.passes > len(charges):
            privacy = self.federation.privacy
            before = charges[-1]["after"] if charges else decimal_epsilon(0.0)
            after = decimal_epsilon(account.epsilon(privacy.delta))
            self._note_charge(self.books.final_round(self.run) + 1, Mechanism.of_pass(privacy), before, after)
        return account

    def _note_charge(self, number: int, mechanism: Mechanism, before: str, after: str) -> None:
        privacy = self.federation.privacy
        spent = entries.Spent(before, after, repr(privacy.delta), repr(privacy.max_epsilon))
        charged = entries.charge(
            time=self.books.time, run=self.run, round=number, mechanism=mechanism.facts(), spent=spent
        )
        self.books.note(charged)

    def _read_model(self) -> update.Vector:
        """The model after the last final round, in its place even when a crash left it in the other."""
        wanted = self.books.model_after(self.run)
        if wanted is None:
            return self.trainer.initial(self.federation.digest)
        for item in (MODEL, NEXT):
            data = self.home.read(item)
            if data is not None:
                model = checkpoint.from_bytes(data, self.trainer.manifest)
                if self.digest_of(model) == wanted:
                    if item == NEXT:  # the next round writes there before the ledger names what it writes
                        self.home.replace(MODEL, data)
                        self.home.remove(NEXT)
                    return model
        raise ModelLost(evidence=f"the ledger names {wanted.hex()[:16]}, and no checkpoint here has that digest")

    def digest_of(self, model: update.Vector) -> bytes:
        """Names a model: what its coordinates mean, and their bits."""
        return digest("model", self.trainer.manifest.digest, np.ascontiguousarray(model, "<f4").tobytes())

    @property
    def configuration(self) -> codec.Facts:
        """What all sites must share beside peers.yaml; it goes into every round's record."""
        sharing, compression = self.federation.sharing, self.federation.compression
        return {
            "purpose": "training",
            "task": self.task,
            "parameters": self.trainer.parameters,
            "tensors": self.trainer.manifest.digest.hex(),
            "field": sharing.field,
            "clip": repr(sharing.clip),
            "scale": repr(sharing.scale),
            "compression": compression.method,
            "density": repr(compression.density),
        }

    # ── a round ───────────────────────────────────────────────────────────────────────────────────────────────

    def measures(self, number: int) -> bool:
        """Round `number` only measures the model."""
        return number > self.federation.rounds

    def propose(self, number: int) -> Offer:
        """Charge, train, nominate; or take up what a process before this one had finished of it."""
        spent = decimal_epsilon(self.account.epsilon(self.federation.privacy.delta))
        model = self.digest_of(self.model)
        if self.measures(number):
            return Offer(model, {**self.configuration, "purpose": "evaluation"}, b"", spent, 8 * CLASSES * BINS)
        nomination = self._pending(number)
        if nomination is None:
            nomination = self._train(number)
            spent = decimal_epsilon(self.account.epsilon(self.federation.privacy.delta))
        words = self.quantiser.length(min(self.trainer.parameters, self._most_sent()))
        word_bytes = FIELDS[self.federation.sharing.field].word_bytes
        return Offer(model, self.configuration, nomination, spent, words * word_bytes)

    def _most_sent(self) -> int:
        peers = len(self.federation.roster.members)
        return self.compressor.nominated * peers or self.trainer.parameters

    def _pending(self, number: int) -> bytes | None:
        """The nomination of an update that is paid for and on the disk; else None, with the residual taken up."""
        data = self.home.read(PENDING)
        if data is None:
            return None
        run, of, nomination, state = codec.unpack(data, most=1 << 40, items=8)
        if run != self.run:
            return None  # of another run: a residual is of one model
        self.compressor.restore(state)
        held: bytes = nomination
        return held if of == number else None

    def _train(self, number: int) -> bytes:
        charge = self._charge(number)
        began = time.monotonic()
        found = self.trainer.train(self.model, charge)
        nomination = self.compressor.nominate(found)
        self._keep_pending(number, nomination)
        self.observer(Progress("trained", {"round": number, "seconds": time.monotonic() - began}))
        return nomination

    def _keep_pending(self, number: int, nomination: bytes) -> None:
        self.home.replace(PENDING, codec.pack((self.run, number, nomination, self.compressor.to_bytes())))

    def _charge(self, number: int) -> Charge:
        """Charge a whole pass, durably, before its first step. Raises PassWouldOverspend, which is noted."""
        privacy = self.federation.privacy
        before, limit = decimal_epsilon(self.account.epsilon(privacy.delta)), repr(privacy.max_epsilon)
        after = decimal_epsilon(self.account.after(Mechanism.of_pass(privacy), privacy.delta))
        try:
            charge = self.account.charge(privacy)
        except PassWouldOverspend:
            now = self.books.time
            self.books.note(
                entries.budget(time=now, run=self.run, round=number, spent=before, would_be=after, limit=limit)
            )
            raise
        self.home.replace(ACCOUNT, self.account.to_bytes())
        self._note_charge(number, charge.mechanism, before, after)
        self.observer(Progress("charged", {"round": number, "epsilon": after, "limit": limit}))
        return charge

    def words(self, attempt_digest: bytes, supports: dict[str, bytes]) -> tuple[e.Vector, ...]:
        """The update on the shared support as words, and the counts of the held-out records beside it."""
        number = self.books.final_round(self.run) + 1
        counts = self.trainer.evaluate(self.model).reshape(-1)  # (CLASSES · BINS,)
        field, clipped = FIELDS[COUNT_BITS], 0
        vectors: tuple[e.Vector, ...] = ()
        if not self.measures(number):
            support = self.compressor.support(supports)
            values = self.compressor.values(support)
            seed = _rotation_seed(attempt_digest)
            words, cut = self.quantiser.quantise(values, seed, self.draw(32))
            self.compressor.settle(support, self.quantiser.dequantise(words, seed, values.size))
            # What is in y is spent: the residual without it is durable before the first masked word leaves.
            self._keep_pending(number, supports[self.home.name])
            vectors, clipped = (e.Vector(self.federation.sharing.field, words),), cut.count
        scalars = np.concatenate([counts, np.array([clipped], np.int64)])
        return (*vectors, e.Vector(COUNT_BITS, field.encode(scalars)))

    def apply(self, effect: e.Apply, number: int) -> tuple[bytes, codec.Facts]:
        """The new model from the sum, the same bits at every site; and the metric of the model before it."""
        scalars = FIELDS[COUNT_BITS].centred(effect.vectors[-1].words)
        outcome = self._outcome(scalars)
        self._after = self.model
        if not self.measures(number):
            total = effect.vectors[0].words
            if self.quantiser.within_bound(total, len(effect.survivors)):
                outcome["clipped"] = int(scalars[-1])
                self._after = self._applied(effect, total)
            else:
                outcome["refused"] = "the sum lies beyond the clipping bound: the model stays"
        return self.digest_of(self._after), outcome

    def _applied(self, effect: e.Apply, total: e.Words) -> update.Vector:
        supports = dict(zip(self.federation.roster.names, effect.supports, strict=True))
        support = self.compressor.support(supports)
        length = self.trainer.parameters if support is None else len(support)
        survivors, seed = len(effect.survivors), _rotation_seed(effect.attempt_digest)
        values = self.quantiser.dequantise_sum(total, survivors, seed, length)
        return update.apply(self.model, _scattered(values, support, self.trainer.parameters), survivors)

    def all_metrics(self, records: list[codec.Facts]) -> dict[int, Metric]:
        """By round, the metric that its record holds, where it has one: also of rounds before this process."""
        found = {}
        for record in records:
            outcome = record["outcome"]
            if outcome["auc"]:
                found[record["round"]] = Metric(float(outcome["auc"]), float(outcome["accuracy"]), outcome["held_out"])
        return found

    def _outcome(self, scalars: NDArray[np.int64]) -> dict[str, Any]:
        negative, positive = scalars[: CLASSES * BINS].reshape(CLASSES, BINS)
        held_out = int(negative.sum() + positive.sum())
        return {
            "model": "before",
            "auc": _decimal(statistics.auc(positive, negative)),
            "accuracy": _decimal(statistics.accuracy(positive, negative)),
            "held_out": held_out,
            "private": False,  # exact counts of held-out records: not covered by epsilon
        }

    def keep(self, number: int) -> None:
        """The new model lies beside the old."""
        if self._after is not None:
            self.home.replace(NEXT, self._as_bytes(self._after, number))

    def adopt(self, number: int) -> None:
        """The new model is the model."""
        if self._after is not None:
            self.home.replace(MODEL, self._as_bytes(self._after, number))
            self.home.remove(NEXT)
            self.model, self._after = self._after, None

    def _as_bytes(self, model: update.Vector, number: int) -> bytes:
        facts = {"task": self.task, "round": str(number), "model": self.digest_of(model).hex()}
        return checkpoint.to_bytes(model, self.trainer.manifest, facts)


def _decimal(measured: float) -> str:
    """Six decimals; empty where nothing can be measured, as with no held-out record of one of the classes."""
    return f"{measured:.6f}" if math.isfinite(measured) else ""


def _rotation_seed(attempt_digest: bytes) -> bytes:
    return digest("rotation", attempt_digest)


def _scattered(values: NDArray[np.float64], support: Positions | None, parameters: int) -> NDArray[np.float64]:
    """Values on the support as a whole vector, zero elsewhere.    (m,)"""
    if support is None:
        return values
    whole = np.zeros(parameters)
    whole[support] = values
    return whole
