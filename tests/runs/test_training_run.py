"""A training as a run, on a real home with real books and a trainer of four numbers: what lies where, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pfl import codec, draft
from p2pfl.books import Books, genesis_of, pledge_of
from p2pfl.cli.watch import metric_of
from p2pfl.errors.training import AccountUnreadable
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import Identity, digest
from p2pfl.peer import training_run
from p2pfl.progress import unseen
from p2pfl.roster import Address, Member
from p2pfl.runs.training import ACCOUNT, MODEL, NEXT, TrainingRun
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training.privacy import Account, Charge, Mechanism
from p2pfl.training.update import Manifest, Vector
from tests.federation.sample import TASK
from tests.home.places import make

NAMES = ("charite", "st-olav", "uppsala")
OTHERS = tuple(Identity(bytes([number]) * 32) for number in (2, 3))


@dataclass
class Four:
    """Every pass moves each of four numbers by a tenth; nobody is held out unless `counts` says so."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 128), np.int64))
    manifest: Manifest = field(default_factory=lambda: Manifest((("w", (4,)),)))
    passes: int = 0

    @property
    def parameters(self) -> int:
        return 4

    def initial(self, seed: bytes) -> Vector:
        return np.zeros(4, np.float32)

    def train(self, model: Vector, charge: Charge) -> Vector:
        self.passes += 1
        return np.full(4, 0.1, np.float32)

    def evaluate(self, model: Vector) -> NDArray[np.int64]:
        return self.counts


@dataclass
class Place:
    """A home with its federation, as one process after another finds it."""

    home: Home
    federation: Federation
    trainer: Four = field(default_factory=Four)

    def started(self) -> TrainingRun:
        """As after a start: everything is read from the disk."""
        books = Books(self.home, self.home.identity(), pledge_of(self.federation), lambda: 1_700_000_000.0)
        record = genesis_of(self.federation)
        identities = (self.home.identity(), *OTHERS)
        books.begin({name: one.sign("record", record) for name, one in zip(NAMES, identities, strict=True)}, {})
        return TrainingRun(self.federation, self.home, books, training_run(self.federation), self.trainer, "four",
                           draw=lambda count: bytes(range(count)), observer=unseen)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with make(tmp_path) as home:
        keys = (home.identity().key, *(one.key for one in OTHERS))
        members = [Member(name, key, (Address("10.0.0.1", 7000 + at),))
                   for at, (name, key) in enumerate(zip(NAMES, keys, strict=True))]  # fmt: skip
        yield Place(home, Federation.parse(draft.write("trial", members, TASK, ["rounds=3"])))


def summed(run: TrainingRun, number: int) -> tuple[bytes, codec.Facts]:
    """Propose, mask, and apply the sum of three sites that all did the same: model after, outcome."""
    attempt = digest("attempt", bytes([number]))
    offer = run.propose(number)
    mine = run.words(attempt, dict.fromkeys(NAMES, offer.support))
    total = []
    for vector in mine:
        words = vector.words
        for _ in NAMES[1:]:
            words = FIELDS[vector.bits].add(words, vector.words)
        total.append(e.Vector(vector.bits, words))
    effect = e.Apply(attempt, tuple([offer.support] * 3), NAMES, tuple(total), b"")
    return run.apply(effect, number)


def recorded(run: TrainingRun, number: int, after: bytes, outcome: codec.Facts) -> None:
    """The round's entry in the federation log: what it names stands."""
    before = run.books.model_after(run.run) or run.digest_of(run.trainer.initial(b""))
    run.books.finish(codec.facts({
        "kind": "round", "run": run.run.hex(), "epoch": 1, "round": number, "attempt": 0, "survivors": list(NAMES),
        "left_out": [], "attempt_digest": "d" * 64, "view": "e" * 64, "total": "f" * 64, "salt": "0" * 64,
        "model_before": before.hex(), "model_after": after.hex(), "configuration": run.configuration,
        "outcome": outcome, "epsilon": dict.fromkeys(NAMES, "1.0"), "site_heads": dict.fromkeys(NAMES, "a" * 64),
        "time_ms": 1_700_000_000_000 + number,
    }), {})  # fmt: skip


def charges(run: TrainingRun) -> list[codec.Facts]:
    held = (codec.read_facts(one.record) for one in run.books.site.records())
    return [facts for facts in held if facts["kind"] == "charge"]


def test_a_crash_behind_each_of_two_ledger_entries_loses_no_model(place: Place) -> None:
    run = place.started()
    after, outcome = summed(run, 1)
    run.keep(1)
    recorded(run, 1, after, outcome)  # and the process dies before it adopts the model
    run = place.started()
    assert run.digest_of(run.model) == after
    summed(run, 2)
    run.keep(2)  # and dies again, before the ledger names the second model
    run = place.started()
    assert run.digest_of(run.model) == after
    assert place.home.read(MODEL) is not None


def test_the_model_that_the_ledger_names_is_the_model_after_a_start(place: Place) -> None:
    run = place.started()
    after, outcome = summed(run, 1)
    run.keep(1)
    recorded(run, 1, after, outcome)
    place.started()
    assert place.home.read(NEXT) is None  # so `model export` shows the newest, too


def test_an_update_that_is_paid_for_is_taken_up_after_a_crash_and_not_paid_for_again(place: Place) -> None:
    run = place.started()
    offer = run.propose(1)
    run = place.started()
    assert run.propose(1).epsilon == offer.epsilon
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (1, 1, 1)


def test_a_charge_whose_ledger_entry_a_crash_prevented_is_entered_at_the_next_start(place: Place) -> None:
    run = place.started()
    spent = run.account.epsilon(1e-5)
    run.account.charge(place.federation.privacy)
    place.home.replace(ACCOUNT, run.account.to_bytes())  # and the process dies before the site log has it
    run = place.started()
    (entry,) = charges(run)
    assert Mechanism.from_facts(entry["mechanism"]) == Mechanism.of_pass(place.federation.privacy)
    assert float(entry["before"]) == spent == 0.0
    assert float(entry["after"]) >= run.account.epsilon(1e-5) > 0.0
    run = place.started()
    assert len(charges(run)) == 1


def test_an_account_that_was_rolled_back_or_taken_away_is_refused(place: Place) -> None:
    place.started().propose(1)
    charged = place.home.read(ACCOUNT)
    for older in (Account().to_bytes(), None):
        if older is None:
            place.home.remove(ACCOUNT)
        else:
            place.home.replace(ACCOUNT, older)
        with pytest.raises(AccountUnreadable):
            place.started()
    place.home.replace(ACCOUNT, charged or b"")
    place.started()


def test_charges_that_the_site_log_lost_are_refused(place: Place) -> None:
    run = place.started()
    for _ in range(2):
        run.account.charge(place.federation.privacy)
    place.home.replace(ACCOUNT, run.account.to_bytes())  # one entry may be lost to a crash, two are not
    with pytest.raises(AccountUnreadable):
        place.started()


def test_a_metric_that_nobody_can_know_is_left_out_and_no_number(place: Place) -> None:
    place.trainer.counts[0, 3] = 7  # seven held out, none with the disease: there is no AUC
    run = place.started()
    _, outcome = summed(run, 1)
    assert (outcome["held_out"], outcome["auc"], outcome["accuracy"]) == (21, "", "1.000000")
    assert metric_of(outcome) is None
    recorded(run, 1, run.digest_of(run.model), outcome)
    assert run.all_metrics(run.books.rounds(run.run)) == {}
