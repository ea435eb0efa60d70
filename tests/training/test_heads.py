"""The four kinds of label: targets, losses of one number a record, predictions in people's terms, measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from p2pfl.errors import P2PFLError
from p2pfl.errors.training import MissingLabel, MissingLabelColumn, OutOfRange, UnknownCode
from p2pfl.keys import Secret
from p2pfl.training.baseline import site_alone
from p2pfl.training.local import Trainer
from p2pfl.training.measures.joint import Joint
from p2pfl.training.models import build, predict
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account
from p2pfl.training.private_check import check_private
from p2pfl.training.records.records import Arrays, Records, hold_out
from p2pfl.training.tasks.table import TableTask
from p2pfl.training.update import apply_mean
from tests.training.settings import draw_of, privacy
from tests.training.tables import described

COLUMN = "a: {number: s, low: -10, high: 10, centre: 0, scale: 1}"
GRADE = "grade: {class: [low, middle, high]}"
SUGAR = "HbA1c: {number: mmol/mol, low: 10, high: 200, centre: 40, scale: 10}"
MONTHS = "months: {time: months, high: 240, grid: [12, 24, 60]}"
TIMED = MONTHS + "\n  died: {event: [alive, dead], positive: [dead]}"
LABELS = {"binary": 'ill: {binary: ["no", "yes"], positive: ["yes"]}', "class": GRADE, "number": SUGAR, "time": TIMED}


def task(kind: str, model: str = "linear", rate: str = "0.01", batch: str = "2.0") -> TableTask:
    return TableTask(described(COLUMN, label=LABELS[kind], model=model, learning_rate=rate, expected_batch=batch))


def targets(kind: str, *cells: str) -> NDArray[np.generic]:
    header = ",".join(["a", *(one.name for one in task(kind).schema.label.columns)])
    raw = "\n".join([header, *(f"0,{cell}" for cell in cells)])
    return task(kind).read(raw.encode(), "site.csv").y


def test_a_class_is_its_place_among_the_levels() -> None:
    assert targets("class", "high", "low", "middle").tolist() == [2, 0, 1]


def test_a_number_is_kept_in_its_unit() -> None:
    assert targets("number", "40", "75.5").tolist() == [40.0, 75.5]


def test_a_time_and_its_event_are_a_pair() -> None:
    assert targets("time", "13,dead", "240,alive", "0,dead").tolist() == [[13, 1], [240, 0], [0, 1]]


@pytest.mark.claim("CLI-2")
@pytest.mark.parametrize(
    ("kind", "cell", "leaf", "shown"),
    [
        ("class", "worst", UnknownCode, "known are low, middle, high"),
        ("class", "", MissingLabel, "line 2"),
        ("number", "2000", OutOfRange, "plausible is 10 to 200 (mmol/mol)"),
        ("number", "", MissingLabel, "line 2"),
        ("time", "-1,dead", OutOfRange, "plausible is 0 to 240 (months)"),
        ("time", "12,gone", UnknownCode, "known are alive, dead"),
        ("time", "12,", MissingLabel, "column died"),
    ],
)
def test_a_label_outside_of_the_schema_is_refused(kind: str, cell: str, leaf: type[P2PFLError], shown: str) -> None:
    with pytest.raises(leaf) as caught:
        targets(kind, cell)
    assert shown in caught.value.render()
    assert not any(len(part) > 3 and part in caught.value.render() for part in cell.split(","))


def test_a_time_without_its_event_is_missed() -> None:
    with pytest.raises(MissingLabelColumn) as caught:
        task("time").read(b"a,months\n0,1\n", "site.csv")
    assert "died" in caught.value.happened


@pytest.mark.parametrize("kind", LABELS)
def test_for_predict_no_label_is_needed_and_what_is_said_has_a_name(kind: str) -> None:
    own = task(kind)
    found = own.read(b"a\n1\n-1\n", "new.csv", labelled=False)
    said = predict(own, np.zeros(build(own).layout.parameters, np.float32), Records(found))
    assert said.reshape(2, -1).shape == (2, len(own.prediction_names))
    names = {"binary": ("ill: yes",), "class": ("low", "middle", "high"), "number": ("HbA1c",)}
    times = tuple(f"without died at {time} months" for time in (12, 24, 60))
    assert tuple(own.prediction_names) == names.get(kind, times)


@pytest.mark.parametrize("model", ["linear", "{mlp: 4}"])
@pytest.mark.parametrize("kind", LABELS)
def test_every_kind_takes_private_steps(kind: str, model: str) -> None:
    own, some = task(kind, model), made(kind, 3)
    check_private(own, build(own).model, Records(some), torch.device("cpu"))
    x, y = torch.from_numpy(some.x), torch.from_numpy(some.y)
    network = own.model()
    alone = torch.cat([own.loss(network(x[row : row + 1]), y[row : row + 1]) for row in range(3)])
    assert own.loss(network(x), y).shape == (3,)
    assert torch.allclose(own.loss(network(x), y), alone)


def test_the_loss_of_a_number_is_its_squared_error_in_scales() -> None:
    found = task("number").loss(torch.tensor([[0.5], [0.0]]), torch.tensor([45.0, 60.0]))
    assert found.tolist() == pytest.approx([0.0, 4.0])
    assert task("number").predictions(torch.tensor([[0.5]])).tolist() == [45.0]


@pytest.mark.parametrize("time", [0.0, 5.0, 12.0, 12.5, 24.0, 59.0, 60.0, 61.0, 240.0])
@pytest.mark.parametrize("event", [0, 1])
def test_the_loss_of_a_time_is_the_likelihood_of_its_intervals(time: float, event: int) -> None:
    """Against the product that the papers write, interval by interval."""
    logits = [0.3, -1.2, 2.0]
    hazards, ends = [1 / (1 + math.exp(-one)) for one in logits], [12, 24, 60]
    likelihood = 1.0
    for hazard, start, end in zip(hazards, [-1, 12, 24], ends, strict=True):
        if time > end:
            likelihood *= 1 - hazard
        elif time > start and event:
            likelihood *= hazard
    found = task("time").loss(torch.tensor([logits]), torch.tensor([[time, event]]))
    assert found.item() == pytest.approx(-math.log(likelihood), abs=1e-6)
    curve = task("time").predictions(torch.tensor([logits]))[0].tolist()
    assert curve == pytest.approx(list(np.cumprod([1 - one for one in hazards])), abs=1e-6)


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────


def made(kind: str, count: int, seed: str = "made") -> Arrays:
    """Made-up records whose label follows from `a`, as a site's file."""
    stream = BitStream(Secret(seed.encode().ljust(32)), "training/sampling")
    a = stream.normals(count) * 1.5
    chance = stream.uniforms(count)
    if kind == "binary":
        cells = ["yes" if one else "no" for one in chance < 1 / (1 + np.exp(-3 * a))]
    elif kind == "class":
        cells = [("low", "middle", "high")[int(one > -0.7) + int(one > 0.7)] for one in a + chance - 0.5]
    elif kind == "number":
        cells = [f"{one:.3f}" for one in np.clip(50 + 10 * a + 5 * (chance - 0.5), 10, 200)]
    else:
        times = np.clip(-np.log(chance) * 30 * np.exp(-a), 0, 240)
        cells = [f"{min(time, 100):.3f},{'dead' if time < 100 else 'alive'}" for time in times]
    header = ",".join(["a", *(one.name for one in task(kind).schema.label.columns)])
    lines = [f"{np.clip(one, -10, 10):.4f},{cell}" for one, cell in zip(a, cells, strict=True)]
    return task(kind).read("\n".join([header, *lines]).encode(), "site.csv")


# A site alone decays its weights, so it says less of a number than there is to say.
REACHED = {"binary": ("auc", 0.9), "class": ("auc", 0.9), "number": ("r2", 0.4), "time": ("concordance", 0.7)}


@pytest.mark.parametrize("kind", LABELS)
def test_every_kind_is_learned_and_judged_by_its_own_measure(kind: str) -> None:
    own, figure, least = task(kind), *REACHED[kind]
    model = site_alone(own, Records(made(kind, 400)), draw_of("alone"), passes=120)
    assert (
        _figure(own, predict(own, model, Records(made(kind, 400, "other"))), made(kind, 400, "other"), figure) > least
    )


@pytest.mark.parametrize("kind", LABELS)
def test_every_kind_is_learned_privately(kind: str) -> None:
    own, (figure, least) = task(kind, rate="0.05", batch="20"), REACHED[kind]
    site = hold_out(Records(made(kind, 800)), Secret(bytes(32)))
    settings = privacy(sample_rate=0.05, steps_per_round=60, max_epsilon=10.0)
    trainer, draw = Trainer(task=own, site=site, privacy=settings), draw_of("private")
    model, account = trainer.initial(bytes(32)), Account()
    for _ in range(3):
        update = trainer.train(model, account.charge(settings), Secret(draw(32)))
        model = apply_mean(model, update.astype(np.float64), 1)
    figures = Joint(own.measures(), own.name).figures(trainer.evaluate(model))
    assert figures[figure].value > least


def _figure(own: TableTask, said: NDArray[np.generic], records: Arrays, figure: str) -> float:
    joint = Joint(own.measures(), own.name)
    total = joint.count(said, records.y, whole=joint.whole)
    return joint.figures(total)[figure].value
