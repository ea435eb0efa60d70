"""A training as a run: each round one private pass at every site, the secure sum of their updates, one new model.

The order on the disk is the promise: the seed of a pass before the privacy account, the account before the pass; the
update (with the residual that it leaves) before the first masked word, and the seed is destroyed then; the new model
beside the old before the ledger names it. A restart finds what was paid for and goes on from there (passes.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import Draw
from p2pfl.node.logs import Logs
from p2pfl.node.progress import HeldOutChanged, Observer, PassTrained
from p2pfl.node.runs import fairness
from p2pfl.node.runs.accounts import brought
from p2pfl.node.runs.counting import Counting
from p2pfl.node.runs.held_out import HeldOut
from p2pfl.node.runs.looks import Looks
from p2pfl.node.runs.making import PassMaker
from p2pfl.node.runs.models import Models
from p2pfl.node.runs.passes import PENDING, Passes, PendingHead, read_pending
from p2pfl.node.runs.personal import PersonalLayers
from p2pfl.node.runs.sizes import check_leader
from p2pfl.node.runs.sums import SALT_WORDS, salt
from p2pfl.node.runs.trains import Stops, Trains
from p2pfl.node.runs.updates import updates_of
from p2pfl.node.source import Offer
from p2pfl.node.withdrawals import Withdrawals
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training import early_stop, server, update
from p2pfl.training.compression.nomination import Ground, Positions, leader_of
from p2pfl.training.compression.subspace import Expanded, Subspace
from p2pfl.training.model.state import ModelState
from p2pfl.training.privacy.account import Account, Mechanism

SUBSPACES: Final = 2  # kept: of the round under way and of the one before
COUNT_BITS: Final = 61  # scalars ride in a second vector over the largest field


@dataclass
class TrainingRun:
    """The source of a training. `rounds` of them train; one more measures the last model."""

    federation: Federation
    home: Home
    logs: Logs
    run: bytes
    trainer: Trains
    task: str
    draw: Draw
    observer: Observer
    _measuring: dict[int, bool] = field(default_factory=dict)  # by round: it only measures the model
    _length: tuple[tuple[int, int, int], int] = ((-1, 0, 0), 0)  # what `length` found last, and of what
    _subspaces: dict[bytes, Subspace] = field(default_factory=dict)  # of the last models, by digest

    def __post_init__(self) -> None:
        if isinstance(self.trainer, Stops):
            self.trainer.stopping = False
        self.withdrawals = Withdrawals(self.home, self.logs, self.trainer)
        self.withdrawals.take_up()
        self.updates = updates_of(self.federation, self.trainer)
        self.compressor = self.updates.compressor
        check_leader(self.federation, self.trainer.parameters)  # before a pass is charged
        marks = brought(self.home, self.trainer)
        self.passes = Passes(self.federation, self.home, self.logs, self.run, self.observer, marks)
        self.models = Models(self.home, self.logs, self.run, self.trainer, self.task, self.federation)
        looks = Looks.of(self.federation, self.logs, self.run, self.trainer)
        self.personal = PersonalLayers(self.home, self.logs, self.run, self.trainer, self.federation, self.observer)
        named = (self.federation, self.trainer, self.task, self.draw, self.observer, self.passes, self.models)
        self.maker = PassMaker(*named, self.updates, self.personal, self._subspace)
        told = (self.federation, self.logs, self.run, self.trainer, self.models, looks)
        self.counting = Counting(*told, HeldOut(self.home, self.run, self.trainer), self.draw)
        if self.counting.ends_the_metric:
            self.observer(HeldOutChanged())
        if self.passes.begun is not None and self.passes.begun.run == self.run:
            self.models.begun_from(self.passes.begun.model)  # held, before this site catches up with the others

    @property
    def account(self) -> Account:
        """What all passes over this home's records have cost: of those records of which the most was spent."""
        return self.passes.accounts.account

    @property
    def model(self) -> update.FlatVector:
        """The model after the last final round, as it is used: the running mean where there is one.    (m,)"""
        return self.models.current.shown

    def _subspace(self, name: bytes, model: update.FlatVector) -> Subspace | None:
        """Where a round from `model` may move, whose digest is `name`; None: everywhere."""
        if self.federation.compression.method != "lowrank":
            return None
        if name not in self._subspaces:
            made = self.compressor.subspace(self.models.first, model)
            if made is not None:
                self._subspaces = dict([*self._subspaces.items(), (name, made)][-SUBSPACES:])
        return self._subspaces[name]

    def _leader(self, base: int) -> str:
        """Who nominates for all in the round from the model after `base`, where one does: each site in its turn."""
        return leader_of(self.federation.roster.names, self._rounds(base))

    def _ground(self, base: int) -> Ground:
        """What all sites know of the round from the model after `base`."""
        state = self.models.on(base)
        leads = self._leader(base) == self.home.name
        return Ground(state.names[0], leads, lambda: np.subtract(state.model, self.models.first))

    def _subspace_on(self, base: int) -> Subspace | None:
        """Of the round that starts from the model after `base`."""
        state = self.models.on(base)
        return self._subspace(state.names[0], state.model)

    def digest_of(self, model: update.FlatVector) -> bytes:
        """Names a model."""
        return self.models.digest_of(model)

    def stop(self) -> None:
        """Nobody waits for the pass under way any more."""
        if isinstance(self.trainer, Stops):
            self.trainer.stopping = True

    @property
    def configuration(self) -> codec.Facts:
        """What all sites must share beside peers.yaml; it goes into every round's record."""
        sharing, compression = self.federation.sharing, self.federation.compression
        return {
            "purpose": "training",
            "mechanism": Mechanism.of_pass(self.federation.privacy).name,
            "task": self.task,
            "parameters": self.trainer.parameters,
            "tensors": self.trainer.layout.digest.hex(),
            "frozen": self.trainer.frozen.hex(),
            "counts": self.trainer.counts,
            "field": sharing.field,
            "clip": repr(sharing.clip),
            "scale": repr(sharing.scale),
            "compression": compression.method,
            "density": repr(compression.density),
            "server": server.facts(self.federation.server, self.federation.average),
            **({} if self.counting.looks is None else {"looks": self.counting.looks.facts}),
        }

    # ── a round ───────────────────────────────────────────────────────────────────────────────────────────────

    def _rounds(self, base: int) -> int:
        """How many rounds that train are in the model after `base`."""
        # Before the records: a round that becomes final meanwhile is in one of them.
        applied = list(self.models.applied)
        records = self.logs.rounds(self.run)
        final = records[-1]["round"] if records else 0
        past = [number for number in applied if final < number <= base and not self._measuring.get(number, False)]
        return len(records) + len(past)

    def _measures(self, base: int) -> bool:
        """All rounds that train are in the model after `base`: what comes next only measures it."""
        return self._rounds(base) >= self.federation.rounds or self._stopped(base)

    def _stopped(self, base: int) -> bool:
        """The rounds up to `base` end the training early, by the rule that the sites agreed on: all say the same."""
        if not self.federation.stop.patience:
            return False
        final, past = self.logs.final_round(self.run), dict(self.models.measured)
        trained = [one["outcome"] for one in self.logs.rounds(self.run) if _trains(one)]
        pending = [number for number in sorted(past) if final < number <= base and not self._measuring.get(number)]
        values = [*map(early_stop.value_of, trained), *(past[number].value for number in pending)]
        return early_stop.is_over(values, self.federation.stop)

    def length(self, asked: int) -> int:
        """How many final rounds end this run: those that were asked for, or one more than trained if that was the end.

        Called in the node's own thread, after each event: what it follows from changes with a round alone.
        """
        if not self.federation.stop.patience:
            return asked
        tip = max(self.models.applied, default=0)
        at = (self.logs.count(self.run), tip, len(self.models.measured))
        if self._length[0] != at:
            trained = sum(map(_trains, self.logs.rounds(self.run)))
            trained += sum(not self._measuring.get(number) for number in list(self.models.applied))
            self._length = at, trained + 1 if self._stopped(tip) else asked
        return min(asked, self._length[1])

    def propose(self, number: int, base: int) -> Offer:
        """Charge, train, nominate; or take up what a process before this one had finished of it.

        Raises LeftOutTooOften, until this site's operator has looked.
        """
        fairness.check(self.logs, self.run, self.home.name)
        if self.withdrawals.take_up():
            self.passes.bring(brought(self.home, self.trainer))
        spent = self.passes.spent()
        model = self.models.on(base).digest
        self._measuring[number] = self._measures(base)
        rounds = self._rounds(base)  # once: while a pass is made others may end this round, and begin more
        unmeasured = self.counting.decide(number, base, rounds, ends=self._measuring[number])
        # All of U propose the same configuration, so all of them count, or none: a sum of one site's counts is never
        # opened.
        configuration = {**self.configuration, "unmeasured": unmeasured}
        if self._measuring[number]:
            return Offer(model, {**configuration, "purpose": "evaluation"}, b"", spent, 8 * self.trainer.counts)
        subspace = self._subspace_on(base)
        if subspace is not None:
            configuration["subspace"] = subspace.digest.hex()
        ground = self._ground(base)
        if self.federation.compression.method == "leader":
            configuration["leader"] = self._leader(base)
        nomination = self._pending(number, ground)
        if nomination is not None and not self.updates.fits(subspace, rounds):
            nomination = None  # its noise is that of another round's grid or subspace: it is lost with its charge
        if nomination is None:
            nomination = self._train(number, base, rounds, ground)
            spent = self.passes.spent()
        configuration |= self.updates.facts(rounds)  # last: of an update made for another grid no words are given
        words = self.updates.length(self._most_sent())
        word_bytes = FIELDS[self.federation.sharing.field].word_bytes
        return Offer(model, configuration, nomination, spent, words * word_bytes)

    def shape(self, number: int) -> tuple[tuple[int, int], ...]:
        """(bits, most words) of the update, where this round sums one, and of the counts beside it."""
        counts = (COUNT_BITS, self.counting.length + 1 + SALT_WORDS)
        if self._measuring.get(number, self._measures(self.models.tip(number))):
            return (counts,)
        most = self.updates.length(self._most_sent())
        return ((self.federation.sharing.field, most), counts)

    def _most_sent(self) -> int:
        return self.compressor.length

    def _pending(self, number: int, ground: Ground) -> bytes | None:
        """The nomination of an update that is paid for and on the disk; else None, with the residual taken up.

        One of an earlier round counts too, if no word of it ever left: that round was summed without this site. What
        the ledger says of that weighs more than this disk, which may have been set back to before the words left.
        One of an earlier epoch counts as one of an earlier round: no certificate of this epoch frees what was sent.
        """
        found = read_pending(self.home)
        if found is None:
            return None
        held, state = found
        if held.run != self.run:
            return None  # of another run: a residual is of one model
        if not held.sent and self._summed(held.round):
            return None  # and the residual that lies beside it still holds all of it
        self.compressor.restore(bytes(state))
        other = (held.round, held.epoch) != (number, self.federation.roster.epoch)
        if other and held.sent:
            return None
        nomination = held.nomination
        if bool(nomination) != ground.leads and self.federation.compression.method == "leader":
            nomination = self.compressor.nomination(ground)
        if other or nomination != held.nomination:
            self._keep_pending(number, nomination, sent=held.sent)
        return nomination

    def _summed(self, number: int) -> bool:
        """The ledger names this site as a member of that round's sum."""
        records = self.logs.rounds(self.run)
        return any(facts["round"] == number and self.home.name in facts["survivors"] for facts in records)

    def _train(self, number: int, base: int, rounds: int, ground: Ground) -> bytes:
        """The nomination of a new update of the model after `base`, or of the one that a process before was making."""
        began = time.monotonic()
        nomination = self.compressor.nominate(*self.maker.update(number, base, rounds), ground)
        self._keep_pending(number, nomination, sent=False)
        # Nothing of the update has left so far. From here on nobody makes another one of the same seed.
        self.passes.over()
        self.models.pass_is_over()
        self.observer(PassTrained(number, time.monotonic() - began))
        return nomination

    def _keep_pending(self, number: int, nomination: bytes, *, sent: bool) -> None:
        epoch, charges = self.federation.roster.epoch, self.passes.accounts.passes
        head = PendingHead(self.run, number, sent, nomination, epoch, charges)
        self.home.replace(PENDING, head.to_pieces(self.compressor.to_pieces()))

    def words(self, effect: e.Quantise) -> tuple[e.Vector, ...]:
        """The update on the shared support as words, and the counts of the held-out records beside it.

        The counts are zeros, at every site alike, where the round measures nothing.
        """
        number = effect.round
        supports = dict(zip(effect.survivors, effect.supports, strict=True))
        trains, shown = not self._measuring[number], self.models.on(self.models.tip(number)).shown
        whole = self.personal.behind(shown, self.personal.measured(trains=trains))
        counted, clipped = self.counting.words(number, effect.survivors, whole), 0
        vectors: tuple[e.Vector, ...] = ()
        if trains:
            base = self.models.on(self.models.tip(number))
            support = self.compressor.support(supports, base.names[0])
            subspace = self._subspace_on(self.models.tip(number))
            words, cut = self.updates.words(support, subspace, effect.attempt_digest, self.draw)
            # What is in y is spent: the residual without it is durable before the first masked word leaves.
            self._keep_pending(number, supports[self.home.name], sent=True)
            vectors, clipped = (e.Vector(self.federation.sharing.field, words),), cut
        scalars = np.concatenate([counted, FIELDS[COUNT_BITS].encode(np.array([clipped], np.int64))])
        # The digest of few counts could be guessed; that of the same counts beside salt cannot.
        return (*vectors, e.Vector(COUNT_BITS, np.concatenate([scalars, salt(self.draw).vector.words])))

    def apply(self, effect: e.Apply) -> tuple[bytes, codec.Facts]:
        """The new model from the sum, the same bits at every site; and the metric of the model before it."""
        scalars = FIELDS[COUNT_BITS].centred(effect.vectors[-1].words)
        agreed = codec.read_facts(effect.configuration)
        before = after = self.models.on(effect.base)
        told = (scalars[: self.counting.length], agreed["unmeasured"], effect.survivors)
        outcome = self.counting.outcome(effect.round, before, *told)
        self._measuring[effect.round] = agreed.get("purpose") == "evaluation"
        if not self._measuring[effect.round]:
            moved, refused = None, "the sum lies beyond the clipping bound: the model stays"
            supports = dict(zip(effect.survivors, effect.supports, strict=True))
            support = self.compressor.support(supports, before.names[0])
            length = self.compressor.length if support is None else len(support)
            place = len(effect.survivors), effect.attempt_digest, length
            values = self.updates.opened(effect.vectors[0].words, *place, agreed)
            if values is not None:
                moved = self._next(values, support, len(effect.survivors), before)
                refused = "the model after it would not be finite: it stays"
            outcome |= {"refused": refused} if moved is None else {"clipped": int(scalars[self.counting.length])}
            after = moved or before
        self.models.applied[effect.round] = after
        return after.digest, outcome

    def _next(
        self, values: NDArray[np.float64], support: Positions | None, survivors: int, before: ModelState
    ) -> ModelState | None:
        """The state after the sum; None where it would not be finite."""
        subspace = self._subspace(before.names[0], before.model)
        change = values if subspace is None else Expanded(subspace, values)
        return server.after(before, self.federation.server, self.federation.average, change, survivors, support)

    def left(self, effect: e.LeftBehind) -> None:
        """The next round trains anew: an update that was sent is spent."""


def _trains(record: codec.Facts) -> bool:
    return bool(record["configuration"].get("purpose") == "training")
