"""`privacy.unit: patient`: all of a patient's records are sampled, averaged and clipped as one, whatever the memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.federation import TableUnfit
from p2pfl.errors.privacy_units import PatientMissing, PatientsUnknown, UnitsMixed
from p2pfl.errors.training import MissingColumn
from p2pfl.federation.description import parse_description
from p2pfl.federation.federation import NO_PRIVACY, Federation, Privacy
from p2pfl.federation.table_facts import facts_of, schema_of
from p2pfl.federation.table_schema import TableSchema
from p2pfl.keys import Secret
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.gradients.clipping import ClippingOptimizer, KeystreamOptimizer, SummingOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account, delta_notices
from p2pfl.training.privacy.accounts import Accounts, marks_of
from p2pfl.training.records.records import PatientArrays, Records, SiteRecords, hold_out
from p2pfl.training.records.units import UnitGradients, UnitPiece, Units
from p2pfl.training.registry import described_task
from p2pfl.training.task import Task
from p2pfl.training.tasks.images import Images
from p2pfl.training.update import write_vector
from tests.examples import examples
from tests.federation.sample import peers_yaml
from tests.training.settings import Small, arrays, privacy

SEED = Secret(bytes(range(32)), "seed of a test's pass")
PATIENTS = privacy(unit="patient", max_grad_norm=0.05, max_epsilon=1e6)
MANY = 1000


def of_patients(sizes: Sequence[int], shape: tuple[int, ...] = (4,), equal: bool = False) -> SiteRecords:
    """Patients with so many records each; those of one are equal, or all differ and lie in any order."""
    count = sum(sizes)
    held = arrays(count, shape)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    order = np.arange(count) if equal else np.random.default_rng(7).permutation(count)
    rows = np.searchsorted(owner, owner) if equal else np.arange(count)
    x, y = held.x[rows][order], held.y[rows][order]
    names = tuple(b"patient %d" % one for one in owner[order])
    train = Records(PatientArrays(x, y, tuple(f"{place}".encode() for place in range(count)), names))
    return SiteRecords(train, train.at(np.arange(2)))


def trainer(site: SiteRecords, task: Task | None = None, private: Privacy = PATIENTS) -> Trainer:
    return Trainer(task=task or Small(), site=site, privacy=private)


def clipped_sum(
    which: Trainer,
    units: Sequence[int],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
    subspace: Subspace | None = None,
) -> np.ndarray:
    """What one step on `units` sums before the noise."""
    seen: list[np.ndarray] = []

    def see(self: KeystreamOptimizer) -> None:
        seen.append(np.concatenate([p.summed_grad.numpy().ravel() for p in self.params]))
        for p in self.params:
            p.grad = torch.zeros_like(p)

    monkeypatch.setattr(KeystreamOptimizer, "add_noise", see)
    which.at_once = at_once
    with which._from(which.initial(bytes(range(32))), subspace):
        sgd = torch.optim.SGD(which._moving.parameters, lr=0.0)
        stream = BitStream(SEED, "training/noise")
        which._step(KeystreamOptimizer(sgd, which._privacy, 1.0, stream), np.array(units, np.int64))
    return seen[0]


def slow(which: Trainer, task: Task, units: Sequence[int]) -> np.ndarray:
    """One record at a time: the mean of a patient's gradients, clipped, summed over patients."""
    total, clip = np.zeros(which.parameters), which._privacy.max_grad_norm
    model = task.model()
    write_vector(model, which.initial(bytes(range(32))))
    for unit in units:
        found = []
        for row in which._units.order[which._units.starts[unit] : which._units.starts[unit + 1]]:
            model.zero_grad()
            x, y = (torch.from_numpy(part) for part in which._site.train.batch(np.array([row])))
            task.loss(model(x), y).sum().backward()
            found.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None]))
        mean = np.mean(found, axis=0)
        total += mean * min(1.0, clip / (np.linalg.norm(mean) + 1e-6))
    return total


# ── the clip is on the unit ───────────────────────────────────────────────────────────────────────────────────


def gain_of_a_patient(monkeypatch: pytest.MonkeyPatch, density: float | None) -> float:
    """How far the sum moves, in clips, by one patient with a thousand equal records."""
    which = trainer(of_patients([3, MANY, 1, 2], equal=True))
    first = which.initial(bytes(range(32)))
    subspace = Subspace.of(which.layout, density, first, first) if density is not None else None
    with_it = clipped_sum(which, [0, 1, 2, 3], 64, monkeypatch, subspace)
    without = clipped_sum(which, [0, 2, 3], 64, monkeypatch, subspace)
    return float(np.linalg.norm(with_it - without)) / PATIENTS.max_grad_norm


@pytest.mark.claim("DP-10")
@pytest.mark.parametrize("density", [None, 0.5], ids=["whole model", "in a subspace"])
def test_a_patient_with_a_thousand_equal_records_moves_the_sum_by_at_most_the_clip(
    monkeypatch: pytest.MonkeyPatch, density: float | None
) -> None:
    assert 0.9 < gain_of_a_patient(monkeypatch, density) <= 1.0 + 1e-4


@pytest.mark.claim("DP-1")
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [KeystreamOptimizer, SummingOptimizer])
def test_a_unit_whose_gradient_is_not_finite_moves_no_sum(odd: float, kind: type[ClippingOptimizer]) -> None:
    """Else no sum that it is in is finite, and the pass ends: everybody sees that it was drawn."""

    def summed(rows: list[int]) -> list[np.ndarray]:
        samples = torch.linspace(-1, 1, 12).reshape(3, 4)
        samples[1, 2] = odd
        weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(4))]
        more = (BitStream(SEED, "training/noise"),) if kind is KeystreamOptimizer else ()
        optimizer = kind(torch.optim.SGD(weights, lr=0.1), PATIENTS, 1.0, *more)
        optimizer.params[0].grad_sample, optimizer.params[1].grad_sample = torch.ones(3, 2)[rows], samples[rows]
        optimizer.clip()
        return [p.summed_grad.numpy() for p in optimizer.params]

    for found, without in zip(summed([0, 1, 2]), summed([0, 2]), strict=True):
        assert np.abs(without).max() > 0
        assert np.allclose(found, without, rtol=1e-6), "of no parameter, its finite parts neither"


def test_without_privacy_a_gradient_that_is_not_finite_stays_so() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    optimizer = KeystreamOptimizer(torch.optim.SGD(weights, lr=0.1), NO_PRIVACY, 1.0, BitStream(SEED, "training/noise"))
    optimizer.params[0].grad_sample = torch.tensor([[1.0, math.nan]])
    optimizer.clip()
    assert optimizer.params[0].summed_grad.isnan().any(), "a model that diverges is told"


@pytest.mark.claim("DP-10")
def test_with_a_clip_on_each_record_such_a_patient_moves_it_a_thousandfold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above finds if a patient's gradients are not gathered before the clip."""
    monkeypatch.setattr(UnitGradients, "gather", lambda *given: None)
    assert gain_of_a_patient(monkeypatch, None) > 0.9 * MANY


@pytest.mark.claim("DP-10")
@pytest.mark.parametrize("at_once", [1, 3, 7, 1000])
def test_a_patients_gradient_is_the_mean_of_the_records_however_few_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    which = trainer(of_patients([1, 9, 2, 4, 1, 5]))
    for units in ([0, 1, 2, 3, 4, 5], [1], [4, 0], [5, 3]):
        found = clipped_sum(which, units, at_once, monkeypatch)
        assert np.allclose(found, slow(which, Small(), units), atol=1e-6)


@pytest.mark.claim("DP-10")
@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_so_it_is_where_each_site_adds_its_part_of_the_noise(at_once: int) -> None:
    """Of a piece in which no patient is complete nothing is summed yet."""
    which, units = trainer(of_patients([1, 9, 2, 4, 1, 5])), [0, 1, 3, 5]
    private, which.at_once = dataclasses.replace(PATIENTS, noise="distributed", parts=2), at_once
    with which._from(which.initial(bytes(range(32))), None):
        summing = SummingOptimizer(torch.optim.SGD(which._moving.parameters, lr=1.0), private, 1.0)
        which._step(summing, np.array(units, np.int64))
    assert np.allclose(summing.update, -slow(which, Small(), units), atol=1e-6)


@pytest.mark.parametrize("train", ["all", "head", "norm+head", "lora"])
def test_whatever_of_a_model_trains_a_patients_records_are_clipped_as_one(
    monkeypatch: pytest.MonkeyPatch, train: str
) -> None:
    task = Images()
    task.size, task.architecture, task.train, task.rank, task.augmentation = 32, "resnet18", train, 2, ()
    which = trainer(of_patients([2, 5, 1], (1, 32, 32), equal=True), task)
    alone = clipped_sum(which, [1], 2, monkeypatch)
    assert 0.5 < np.linalg.norm(alone) / PATIENTS.max_grad_norm <= 1.0 + 1e-4


@pytest.mark.claim("DP-10")
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20), st.integers(0, 2**32))
@examples(60)
def test_pieces_hold_each_record_of_the_chosen_units_once(sizes: list[int], at_once: int, seed: int) -> None:
    """And gathering whatever each record has gives each unit's mean, the whole units alone."""
    draw = np.random.default_rng(seed)
    units = Units(draw.permutation(sum(sizes)).astype(np.int64), np.cumsum([0, *sizes], dtype=np.int64))
    chosen = np.flatnonzero(draw.random(len(sizes)) < 0.7).astype(np.int64)
    pieces: list[UnitPiece] = list(units.pieces(chosen, at_once))
    held = [row for piece in pieces for row in piece.rows]
    assert held == [row for unit in chosen for row in units.order[units.starts[unit] : units.starts[unit + 1]]]
    assert all(len(piece.rows) <= at_once for piece in pieces)
    values, parameter, gathered = draw.normal(size=sum(sizes)), torch.nn.Parameter(torch.zeros(1)), list[float]()
    gather = UnitGradients()
    for piece in pieces:
        parameter.grad_sample = torch.from_numpy(values[piece.rows][:, None])  # type: ignore[attr-defined]
        gather.gather(piece, [parameter])
        gathered += parameter.grad_sample.ravel().tolist()  # type: ignore[attr-defined]
    wanted = [values[units.order[units.starts[unit] : units.starts[unit + 1]]].mean() for unit in chosen]
    assert np.allclose(gathered, wanted)


# ── copies of a record, augmented ─────────────────────────────────────────────────────────────────────────────────


class Augmented(Small):
    """Each copy of a record is another one."""

    copies = 8

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1.0 + torch.rand(len(x), 1))


@pytest.mark.claim("DP-10")
@pytest.mark.parametrize("at_once", [3, 64])
def test_copies_of_a_record_are_averaged_before_the_clip(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """De et al. 2022: eight copies move the sum no further than one; were each clipped, they would, eightfold."""
    private = privacy(max_grad_norm=0.05, max_epsilon=1e6)
    site = of_patients([1] * 5)
    which = trainer(site, Augmented(), private)
    found = clipped_sum(which, [2], at_once, monkeypatch)
    assert 0.9 < np.linalg.norm(found) / 0.05 <= 1.0 + 1e-4
    whole = clipped_sum(which, [0, 1, 2, 3, 4], at_once, monkeypatch)
    once = clipped_sum(trainer(site, Small(), private), [0, 1, 2, 3, 4], at_once, monkeypatch)
    assert np.linalg.norm(whole - once) < 0.2 * np.linalg.norm(once), "of the same records, each a little larger"
    monkeypatch.setattr(UnitGradients, "gather", lambda *given: None)
    assert np.linalg.norm(clipped_sum(which, [2], at_once, monkeypatch)) / 0.05 > 7.0


def test_copies_that_change_nothing_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same(Small):
        copies = 4

    site, private = of_patients([1, 3, 2]), PATIENTS
    once, four = (clipped_sum(trainer(site, task, private), [0, 2], 5, monkeypatch) for task in (Small(), Same()))
    assert np.allclose(once, four, atol=1e-6)


# ── sampled together, counted once ────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-10")
def test_all_records_of_a_patient_are_in_a_step_or_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    site, seen = of_patients([3] * 20 + [30]), list[list[bytes]]()
    settings = privacy(unit="patient", sample_rate=0.3, steps_per_round=12, max_epsilon=1e6)
    which = trainer(site, private=settings)
    gradients = which._gradients

    def see(rows: np.ndarray) -> None:
        seen.append([site.train.patient(row) for row in rows])
        gradients(rows)

    monkeypatch.setattr(which, "_gradients", see)
    which.at_once = MANY
    which.train(which.initial(bytes(32)), Account().charge(settings), SEED)
    assert len(seen) == settings.steps_per_round
    whole = {site.train.patient(row): 0 for row in range(len(site.train))}
    for row in range(len(site.train)):
        whole[site.train.patient(row)] += 1
    for step in seen:
        assert {one: step.count(one) for one in step} == {one: whole[one] for one in step}
    share = np.mean([len(set(step)) / len(whole) for step in seen])
    assert 0.15 < share < 0.45, "patients are drawn at the sample rate, and not as often as they have records"


def test_a_pass_on_patients_is_repeated_to_the_bit_and_tells_from_one_on_records() -> None:
    site = of_patients([3] * 8)
    settings = privacy(unit="patient", sample_rate=0.3, steps_per_round=3, max_epsilon=1e6)
    which = trainer(site, private=settings)
    first = which.initial(bytes(32))
    one, two = (which.train(first, Account().charge(settings), SEED) for _ in range(2))
    assert np.array_equal(one, two)
    other = trainer(site, private=dataclasses.replace(settings, unit="record"))
    assert which.inputs(first) != other.inputs(first)


KEY = Secret(bytes(32), "key of the marks of a test's records")


@pytest.mark.claim("DP-10")
def test_records_that_were_spent_one_by_one_are_not_spent_as_patients() -> None:
    """Nor the other way round; a new record of a patient who was spent counts as that patient."""
    sites = [of_patients([3, 2]), of_patients([4, 5])]  # the same patients, with more records
    marks = [marks_of(KEY, one.train.names()) for one in sites]
    for before, unit in (("record", "patient"), ("patient", "record")):
        accounts = Accounts()
        accounts.admit(marks[0])
        accounts.charge(marks[0], privacy(unit=before), b"a" * 32, "heart", {"round": 1, "time": 1_790_000_000})
        accounts = Accounts.from_bytes(b"".join(accounts.to_bytes()))
        accounts.admit(marks[1])
        with pytest.raises(UnitsMixed, match=f"the unit {before}.*the unit {unit}") as caught:
            accounts.check_next_pass(marks[1], privacy(unit=unit))
        assert "heart" in caught.value.evidence
        spent = accounts.check_next_pass(marks[1], privacy(unit=before))
        assert spent > Account().check_next_pass(privacy(unit=before))


def test_what_was_forgotten_of_patients_leaves_other_records_of_their_own_unit() -> None:
    accounts, facts = Accounts(), {"round": 1, "time": 1_790_000_000}
    one, other = (marks_of(KEY, [name]) for name in (b"a record", b"a patient"))
    accounts.admit(one)
    accounts.charge(one, privacy(), b"a" * 32, "heart", facts)
    accounts.admit(other)
    accounts.learn(other, privacy(unit="patient"), b"b" * 32, "lungs", 2.0, facts)
    assert accounts.check_next_pass(one, privacy(max_epsilon=99.0)) > 2.0
    assert accounts.check_next_pass(other, privacy(unit="patient", max_epsilon=99.0)) > 2.0
    with pytest.raises(UnitsMixed):
        accounts.check_next_pass(other, privacy(max_epsilon=99.0))


# ── whose a record is ─────────────────────────────────────────────────────────────────────────────────────────

TABLE = b"""columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
label:
  ill: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.1
expected_batch: 4
patient: person
"""
HEADER = "person,age,ill\n"


def table(rows: Sequence[str], columns: bytes | None = None, labelled: bool = True) -> Records:
    task = described_task(parse_description(TABLE, "task.yaml"))
    raw = (HEADER + "\n".join(rows) + "\n").encode()
    return Records(task.read(raw, "own.csv", columns, labelled=labelled), "own.csv")  # type: ignore[attr-defined]


ROWS = [f"p{place % 9},{40 + place},{'yes' if place % 2 else 'no'}" for place in range(40)]


@pytest.mark.claim("DP-10")
def test_a_table_names_its_patients_who_are_held_out_whole() -> None:
    records = table(ROWS)
    split = hold_out(records, Secret(bytes(range(32))))
    trained, held = ({part.patient(row) for row in range(len(part))} for part in (split.train, split.held_out))
    assert trained and held and not trained & held
    assert len(Units.of(split.train, "patient")) == len(trained)


def test_their_name_for_the_column_is_ours_by_the_map_and_predict_needs_none() -> None:
    task = described_task(parse_description(TABLE, "task.yaml"))
    raw = b"Fall,age,ill\n7,40,yes\n7,50,no\n"
    held = Records(task.read(raw, "own.csv", b"columns: {Fall: person}"))  # type: ignore[attr-defined]
    assert [held.told_patient(row) for row in range(2)] == [b"7", b"7"]
    assert len(Records(task.read(b"age\n40\n", "own.csv", labelled=False))) == 1  # type: ignore[attr-defined]
    with pytest.raises(MissingColumn, match="column person"):
        task.read(b"age,ill\n40,yes\n", "own.csv")  # type: ignore[attr-defined]


def test_a_cell_without_a_patient_is_refused_where_patients_are_protected() -> None:
    records = table([*ROWS, " ,50,yes", "NA,51,no"])
    with pytest.raises(PatientMissing) as caught:
        Units.of(records, "patient")
    assert "own.csv" in caught.value.happened
    assert "2 of them, first 41, 42" in caught.value.evidence
    assert len(Units.of(records, "record")) == 42


def test_a_description_says_the_patient_through_a_models_file_and_names_no_input() -> None:
    schema = TableSchema.parse(TABLE, "task.yaml")
    assert schema_of(facts_of(schema), "a model's file") == schema
    assert schema.names == ("person", "age", "ill")
    for wrong in (b"patient: age", b"patient: ill", b"patient: [person]"):
        with pytest.raises(TableUnfit, match="column"):
            TableSchema.parse(TABLE.replace(b"patient: person", wrong), "task.yaml")


IMAGES = """images:
  classes: [normal, ill]
  model: {cnn: [4]}
  size: 8
  channels: 1
  centre: [0.5]
  scale: [0.5]
  trainable: all
  augmentation: []
  learning_rate: 0.1
  expected_batch: 4
  patient: folder
"""


def test_a_folder_below_the_class_is_a_patient_in_every_class(tmp_path: Path) -> None:
    for place in ("normal/ann", "normal/bob", "ill/ann/left", "ill"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "one.png").write_bytes(place.encode())
    task = described_task(parse_description(IMAGES.encode(), "task.yaml"))
    records = Records(task.dataset(str(tmp_path)), "scans")
    assert sorted(records.told_patient(row) for row in range(4)) == [b"", b"ann", b"ann", b"bob"]
    with pytest.raises(PatientMissing):
        Units.of(records, "patient")
    (tmp_path / "ill" / "one.png").unlink()
    assert len(Units.of(Records(task.dataset(str(tmp_path))), "patient")) == 2
    without = described_task(parse_description(IMAGES.replace("folder", "column").encode(), "task.yaml"))
    with pytest.raises(PatientsUnknown, match="scans"):
        Units.of(Records(without.dataset(str(tmp_path)), "scans"), "patient")
    csv = tmp_path / "scans.csv"
    csv.write_text("path,label\nnormal/ann/one.png,normal\n")
    with pytest.raises(MissingColumn, match="patient"):
        without.dataset(str(csv))


def test_patients_without_anybody_who_names_them_are_refused() -> None:
    """Where the file is made, of a description; where the records are read, of a task in Python."""
    with pytest.raises(PatientsUnknown) as caught:
        Federation.parse(peers_yaml("privacy.unit=patient"))
    assert "it has no key `patient`" in caught.value.evidence
    with pytest.raises(PatientsUnknown):
        trainer(SiteRecords(Records(arrays(20, (4,))), Records(arrays(4, (4,)))))


# ── δ ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_delta_that_is_no_promise_to_so_many_is_told_at_the_site_alone() -> None:
    assert delta_notices(privacy(delta=1e-5), 99_999) == ()
    (told,) = delta_notices(privacy(delta=1e-5), 100_000)
    assert "below 1 / 100000, the number of records" in told
    site = of_patients([5] * 10)
    assert not trainer(site, private=privacy(unit="patient", delta=0.09)).notices
    (told,) = trainer(site, private=privacy(unit="patient", delta=0.1)).notices
    assert "1 / 10, the number of patients that train here" in told
    assert "stays at this site" in told
