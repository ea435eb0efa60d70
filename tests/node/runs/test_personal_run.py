"""Layers that stay at home, as a run keeps them: never sent, and the same to the bit whatever dies beside a pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.codec import Pieces
from p2pfl.errors.personal import PersonalNotKept
from p2pfl.federation import Federation
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.keys import Secret
from p2pfl.node.progress import PersonalLost, Progress
from p2pfl.node.runs.passes import ACCOUNT, PASS, PENDING, read_pending
from p2pfl.node.runs.personal import PersonalLayers
from p2pfl.node.withdrawals import withdraw
from p2pfl.peer.epoch import training_run
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.model.personal import PersonalState
from p2pfl.training.privacy.account import Charge
from p2pfl.training.records.withdrawn import Withdrawn
from p2pfl.training.update import FlatVector, TensorLayout
from tests.node.runs.homes import Four, Killed, Place, beside, charges, finished, masked, places, recorded, summed

SIX = 6  # four numbers that are shared, and two behind them


@dataclass
class FourAndTwo(Four):
    """A pass moves the shared numbers by its charge and by how the personal ones lie, and these by `own`."""

    personal: TensorLayout = field(default_factory=lambda: TensorLayout((("head", (2,)),)))
    own: float = 0.25
    started_from: list[FlatVector] = field(default_factory=list)

    def first_personal(self, seed: bytes) -> FlatVector:
        return np.array([1.0, -1.0], np.float32)

    def train(
        self, model: FlatVector, charge: Charge, seed: Secret, rounds_before: int, subspace: Subspace | None = None
    ) -> FlatVector:
        assert model.shape == (SIX,)
        self.started_from.append(model.copy())
        shared = super().train(model[:4], charge, seed, rounds_before, subspace)
        shared += np.float32(0.01) * (model[4] + model[5] + seed.reveal()[0])
        return np.concatenate([shared, np.full(2, self.own * charge.number, np.float32)])

    def evaluate(self, model: FlatVector) -> np.ndarray:
        assert model.shape == (SIX,)
        return super().evaluate(model)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = places(tmp_path, "local.personal=[head]")
    yield replace(made[0], trainer=FourAndTwo())
    for one in made:
        one.home.close()


def own(place: Place) -> FourAndTwo:
    assert isinstance(place.trainer, FourAndTwo)
    return place.trainer


def layers(place: Place, told: list[Progress] | None = None, federation: Federation | None = None) -> PersonalLayers:
    """As the next process finds them."""
    agreed, seen = federation or place.federation, told if told is not None else []
    return PersonalLayers(place.home, place.logs(), training_run(agreed), place.trainer, agreed, seen.append)


# ── nothing of them leaves ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-14")
@pytest.mark.parametrize("method", ["none", "nominate", "lowrank"])
def test_what_leaves_is_of_the_shared_part_alone_whatever_the_layers_are(tmp_path: Path, method: str) -> None:
    """Two sites whose gradients are equal, and whose own layers are not: not a bit of it shows."""
    out = []
    for folder, moved in (("one", 0.25), ("other", -777.0)):
        made = places(tmp_path / folder, "local.personal=[head]", f"compression.method={method}")
        place = replace(made[0], trainer=FourAndTwo(own=moved))
        run = place.started()
        offer = run.propose(1, 0)
        vectors = masked(run, 1, offer)
        assert len(vectors[0].words) <= 4, "the shared numbers, and no more"
        assert run.personal.now.tolist() == pytest.approx([1.0 + moved, -1.0 + moved])
        held = read_pending(place.home)
        assert held is not None
        out.append((offer.support, offer.configuration, bytes(held[1]), vectors))
        for one in made:
            one.home.close()
    (support, facts, pending, words), other = out[0], out[1]
    assert (support, facts, pending) == other[:3]
    assert all(np.array_equal(one.words, two.words) for one, two in zip(words[:1], other[3][:1], strict=True))


def test_were_the_layers_not_taken_off_they_would_be_sent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above finds: the compressor refuses a vector of another length than the shared part."""
    monkeypatch.setattr(PersonalLayers, "take", lambda self, number, start, found: found)
    with pytest.raises(Exception, match="compressed"):
        place.started().propose(1, 0)


# ── the next pass, and whatever dies ──────────────────────────────────────────────────────────────────────────


def test_each_pass_starts_from_what_the_last_one_left_and_the_metric_uses_them(place: Place) -> None:
    run = place.started()
    for number in (1, 2):
        after, outcome = summed(run, number)
        finished(place, run, number, after, outcome)
    starts = [one[4:].tolist() for one in own(place).started_from]
    assert starts == [[1.0, -1.0], [1.25, -0.75]]
    assert [one[4:].tolist() for one in own(place).measured] == starts, "a round measures the model that it starts from"
    assert layers(place).now.tolist() == [1.75, -0.25]
    assert layers(place).measured(trains=False).tolist() == [1.75, -0.25]


WRITES = [("replace", PASS), ("replace", ACCOUNT), ("replace", PERSONAL), ("replace", PENDING), ("remove", PASS)]


def dying_at(place: Place, patch: pytest.MonkeyPatch, number: int, verb: str, item: str, *, behind: bool) -> None:
    """A process dies before it writes, or removes, that item in that round; or right behind it."""
    done: Callable[..., None] = getattr(place.home, verb)

    def dies(wanted: str, *given: bytes | Pieces) -> None:
        if wanted == item and not behind:
            raise Killed
        done(wanted, *given)
        if wanted == item:
            raise Killed

    run = place.started()
    with patch.context() as patched, pytest.raises(Killed):
        patched.setattr(place.home, verb, dies)
        run.propose(number, number - 1)


def two_rounds(place: Place, dies: Callable[[Place], None] | None = None) -> tuple[object, ...]:
    """One round, and the pass of a second, with a death in it: what is on the disk then."""
    run = place.started()
    after, outcome = summed(run, 1)
    finished(place, run, 1, after, outcome)
    if dies is not None:
        dies(place)
    run = place.started()
    run.propose(2, 1)
    assert len(charges(run)) == 2, "a pass is charged once"
    assert place.home.read(PASS) is None
    own_layers, update = place.home.read(PERSONAL), read_pending(place.home)
    assert own_layers is not None and update is not None
    held, head = PersonalState.from_file(own_layers), update[0]
    return held.charge, held.before.tobytes(), held.after.tobytes(), head.charges, head.sent, bytes(update[1])


@pytest.mark.claim("DP-14")
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize(("verb", "item"), WRITES)
def test_whatever_write_a_process_dies_at_layers_and_update_are_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, item: str, behind: bool
) -> None:
    found = []
    for folder in ("undisturbed", "killed"):
        made = places(tmp_path / folder, "local.personal=[head]")
        place = replace(made[0], trainer=FourAndTwo())
        dies = None
        if folder == "killed":

            def dies(place: Place) -> None:
                dying_at(place, monkeypatch, 2, verb, item, behind=behind)

        found.append(two_rounds(place, dies))
        starts = [one.tolist() for one in own(place).started_from]
        assert all(one == starts[1] for one in starts[1:]), "a repeated pass starts from the same numbers"
        for one in made:
            one.home.close()
    assert found[0] == found[1]


@pytest.mark.claim("DP-14")
def test_were_a_repeated_pass_to_start_from_the_newest_layers_it_would_be_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inputs say so: it is charged anew, and the old seed is gone. That is what `before` is kept for."""
    monkeypatch.setattr(PersonalLayers, "start_of", lambda self, number: self.now)
    dying_at(place, monkeypatch, 1, "replace", PENDING, behind=False)
    run = place.started()
    run.propose(1, 0)
    assert len(charges(run)) == 2
    assert len({seed for _, seed in own(place).seeds}) <= 2
    assert [number for number, _ in own(place).seeds] == [1, 2]


# ── what is lost, and who cannot keep any ─────────────────────────────────────────────────────────────────────


def trained_once(place: Place) -> None:
    run = place.started()
    recorded(place, run, 1, *summed(run, 1))


def test_layers_that_a_restored_home_lacks_begin_anew_and_the_site_is_told(place: Place) -> None:
    trained_once(place)
    place.home.remove(PERSONAL)
    told: list[Progress] = []
    assert layers(place, told).now.tolist() == [1.0, -1.0]
    assert [type(one) for one in told] == [PersonalLost]
    assert isinstance(told[0], PersonalLost) and told[0].layers == "head" and PERSONAL in told[0].why


def test_a_damaged_item_is_told_and_one_of_another_run_is_none(place: Place) -> None:
    told: list[Progress] = []
    assert layers(place, told).now.tolist() == [1.0, -1.0] and not told, "before the first pass nothing is lost"
    trained_once(place)
    data = place.home.read(PERSONAL)
    assert data is not None
    place.home.replace(PERSONAL, data.replace(training_run(place.federation).hex().encode(), b"00" * 32))
    assert layers(place, told).now.tolist() == [1.0, -1.0] and len(told) == 1
    place.home.replace(PERSONAL, b"no safetensors")
    layers(place, told)
    assert isinstance(told[1], PersonalLost) and "cannot be read" in told[1].why
    own(place).personal = TensorLayout((("head", (3,)),))
    place.home.replace(PERSONAL, data)
    layers(place, told)
    assert isinstance(told[2], PersonalLost) and "other layers" in told[2].why


def test_a_lost_vector_makes_the_pass_that_had_begun_another_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_once(place)
    dying_at(place, monkeypatch, 2, "replace", PERSONAL, behind=False)
    place.home.remove(PERSONAL)
    run = place.started()
    run.propose(2, 1)
    assert len(charges(run)) == 3
    assert own(place).started_from[-1][4:].tolist() == [1.0, -1.0]


def test_a_trainer_that_keeps_no_layers_is_refused_where_the_sites_agreed_on_some(place: Place) -> None:
    with pytest.raises(PersonalNotKept, match="head"):
        place.started(Four())
    assert place.home.read(PASS) is None


def test_without_such_layers_nothing_is_written(tmp_path: Path) -> None:
    made = places(tmp_path)
    run = made[0].started()
    summed(run, 1)
    assert made[0].home.read(PERSONAL) is None and run.personal.now.size == 0
    for one in made:
        one.home.close()


# ── somebody withdraws ────────────────────────────────────────────────────────────────────────────────────────

RECORDS = tuple(bytes([row]) * 32 for row in range(6))


@dataclass
class LeavesOut(FourAndTwo):
    """It leaves out who withdrew, and names the records that each pass was over."""

    brings: tuple[bytes, ...] = RECORDS
    over: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)

    def names(self) -> tuple[bytes, ...]:
        return self.brings

    def leave_out(self, withdrawn: Withdrawn) -> None:
        out = withdrawn.among(self.brings).tolist()
        self.brings = tuple(name for name, is_out in zip(self.brings, out, strict=True) if not is_out)

    def inputs(self, model: FlatVector, rounds_before: int) -> bytes:
        self.records = b"".join(self.brings)
        return super().inputs(model, rounds_before)

    def train(
        self, model: FlatVector, charge: Charge, seed: Secret, rounds_before: int, subspace: Subspace | None = None
    ) -> FlatVector:
        self.over.append((charge.number, self.brings))
        return super().train(model, charge, seed, rounds_before, subspace)


@pytest.mark.claim("DP-14", "HOME-15")
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize(("verb", "item"), WRITES)
def test_whoever_withdraws_while_a_site_is_dead_is_in_no_later_pass_of_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, item: str, behind: bool
) -> None:
    """The pass that had begun is another one, with a charge and a seed of its own; the layers go on from the disk."""
    made = places(tmp_path, "local.personal=[head]", "privacy.max_epsilon=9.0")
    place = replace(made[0], trainer=LeavesOut(), draw=os.urandom)
    finished(place, run := place.started(), 1, *summed(run, 1))
    dying_at(place, monkeypatch, 2, verb, item, behind=behind)
    dead = place.trainer
    assert isinstance(dead, LeavesOut)
    finished_update = (item == PENDING and behind) or verb == "remove"
    kept = layers(place)
    withdraw(beside(place), RECORDS[:1], 1_700_000_000)
    place = replace(place, trainer=LeavesOut())
    run, again = place.started(), place.trainer
    run.propose(2, 1)
    assert isinstance(again, LeavesOut)
    if finished_update:  # it was made, and paid for, before anybody withdrew
        assert (again.over, len(charges(run))) == ([], 2)
    else:
        charged = 2 if dead.over[-1][0] == 2 or (item == ACCOUNT and behind) else 1
        assert again.over == [(charged + 1, RECORDS[1:])] and len(charges(run)) == charged + 1
        assert again.started_from[0][4:].tolist() == kept.now.tolist(), "from the layers that the disk has"
        assert not {seed for _, seed in again.seeds} & {seed for _, seed in dead.seeds}
        assert layers(place).start_of(charged + 1).tolist() == kept.now.tolist()
    for one in made:
        one.home.close()


@pytest.mark.claim("DP-14", "HOME-15")
def test_a_running_site_goes_on_from_its_layers_when_somebody_withdraws(tmp_path: Path) -> None:
    made = places(tmp_path, "local.personal=[head]", "privacy.max_epsilon=9.0")
    place = replace(made[0], trainer=LeavesOut(), draw=os.urandom)
    run, trainer = place.started(), place.trainer
    summed(run, 1)
    withdraw(beside(place), RECORDS[:1], 1_700_000_000)
    before = run.personal.now.tolist()
    summed(run, 2)
    assert isinstance(trainer, LeavesOut)
    assert trainer.over == [(1, RECORDS), (2, RECORDS[1:])]
    assert trainer.started_from[1][4:].tolist() == before
    for one in made:
        one.home.close()
