"""A plan on records that anybody may see: what it chooses does better than what a newcomer would have begun with."""

from __future__ import annotations

import sys

import pytest

import p2pfl
from p2pfl import simulate_training
from p2pfl.errors.planning import PlotLibraryMissing
from p2pfl.federation.description import parse_description
from p2pfl.federation.table_schema import TableSchema
from p2pfl.simulate.made_up import made_up
from p2pfl.simulate.plan_drawing import curve, drawing
from p2pfl.simulate.planning import KEPT, NEAR, WIDE
from p2pfl.simulate.training import federation_of
from p2pfl.training.privacy.account import Account, Mechanism
from p2pfl.training.tasks.table import TableTask
from tests.federation.sample import LABELLED, TABLE

SITES, RECORDS = 16, 45
BUDGET = {"epsilon": 3.0, "records": RECORDS, "delta": 1e-3, "rounds": 2, "steps": 5}
UNSEEN = 77  # seed of a table that no plan has seen

# As `task draft` writes it, with the learning rate that stands there.
SCHEMA = TableSchema.parse(
    b"""columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
  pressure: {number: mmHg, low: 60, high: 250, centre: 130, scale: 20}
  sex: {code: [female, male]}
label:
  relapse: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
""",
    "task.yaml",
)


def test_sixteen_sites_learn_at_the_first_try_what_the_drafts_settings_do_not() -> None:
    """On made-up tables that the plan has not seen: the settings that it prints, as they stand."""
    task = TableTask(SCHEMA)
    found = p2pfl.plan(**BUDGET, task=task, tables=made_up(SCHEMA, SITES, RECORDS), numbers=5, seeds=1)
    assert len(found.tried) >= len(WIDE) + len(NEAR) + 1 > KEPT
    assert found.tried[0].mean > 0.98 * max(one.mean for one in found.tried)
    unseen = made_up(SCHEMA, SITES, RECORDS, UNSEEN)
    (planned,) = simulate_training(task, unseen, settings=found.settings)
    (drafted,) = simulate_training(task, unseen, settings=found.settings[:-2])
    assert planned.epsilon <= 3.0 and planned.federation.privacy.max_epsilon == 3.0
    assert planned.final > 0.8 and planned.figures[-1]["log_loss"].value < drafted.figures[-1]["log_loss"].value - 0.01


def test_without_records_it_is_the_plan_of_the_budget_alone() -> None:
    found = p2pfl.plan(**BUDGET)
    assert found.tried == () and found.batch is found.budget.best
    private = federation_of(("a", "b", "c"), found.settings).privacy
    spent = Account([Mechanism(private.noise_multiplier, private.sample_rate, 10)]).epsilon(1e-3)
    assert 2.8 < spent <= 3.0
    rounds, epsilon = curve(found)
    assert rounds == [1, 2, 3]
    assert epsilon[0] < epsilon[1] <= 3.0 < epsilon[2]


def test_what_each_site_gives_follows_from_the_settings_that_are_agreed_on() -> None:
    """Words of 16 bits are half as wide and come in whole blocks of the rotation; looks with noise have both ε."""
    looks = ("measures.noise_multiplier=4", "measures.looks=1", "measures.epsilon=9")
    wide, narrow = (p2pfl.plan(**BUDGET, numbers=8192, settings=more) for more in ((), ("sharing.field=16", *looks)))
    assert narrow.each_site.round_bytes * 2 == wide.each_site.round_bytes == 2 * 4 / 5 * 8192 * 4
    assert (wide.each_site.looks, wide.each_site.look_epsilon) == (3, None)
    one = narrow.each_site
    spent, alone = (Account([Mechanism(noise, 1.0, 1)]).epsilon(1e-3) for noise in (4.0, 4.0 / 2**0.5))
    assert (one.looks, one.look_epsilon, one.look_alone) == (1, spent, alone)
    (played,) = simulate_training(TableTask(SCHEMA), made_up(SCHEMA, 5, RECORDS), settings=wide.settings)
    assert p2pfl.plan(**BUDGET, numbers=played.model.size).each_site.bytes == played.sent_bytes, "as a training counts"


@pytest.mark.parametrize("raw", [TABLE, *LABELLED], ids=["binary", "class", "number", "time"])
def test_records_can_be_made_up_for_every_kind_of_label(raw: bytes) -> None:
    schema = parse_description(raw, "task.yaml")
    assert isinstance(schema, TableSchema)
    sites = made_up(schema, 3, 60)
    assert [len(one) for one in sites.values()] == [80, 80, 80]
    assert len({sites["site-1"].identity(row) for row in range(80)}) > 40
    assert sites["site-1"].digest() == made_up(schema, 3, 60)["site-1"].digest()
    assert sites["site-1"].digest() != made_up(schema, 3, 60, 1)["site-1"].digest()


def test_a_plan_is_drawn_the_same_each_time() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [plots]")
    found = p2pfl.plan(**BUDGET)
    once = drawing(found)
    assert once == drawing(found)
    assert b"budget \xce\xb5 3" in once and b"noise / longest signal" in once and b"dc:date" not in once
    one = found.each_site
    assert f"trains {one.steps} steps and draws {one.drawn:g} records".encode() in once
    assert f"{one.alone:.2f} against all other sites together; {one.looks} looks by exact counts".encode() in once


def test_who_lacks_matplotlib_is_told_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotLibraryMissing, match="package"):
        drawing(p2pfl.plan(**BUDGET))
