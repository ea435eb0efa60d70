"""benchmarks/compression_table.py: what it compares, and that a training which has ended is not run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from benchmarks import at_scale, compression_table
from benchmarks._compared import HIDDEN, Compared, Method, SmallResNet, Study, cnn
from benchmarks._compared_drawing import LOOKS
from benchmarks._variants import density_of
from p2pfl.simulate.training import SimulatedTraining
from p2pfl.training.compression.nomination import METHODS
from p2pfl.training.compression.subspace import Subspace, ranks
from p2pfl.training.update import TensorLayout
from tests.training.settings import arrays

VARIED = tuple(one.partition(":")[0] for one in compression_table.VARIANTS.split(",")[1:])
LAYOUT = TensorLayout((("small", (40,)), ("large", (64, 100))))


def tiny(learning_rate: float = 0.1, hidden: int = 0) -> Study:
    """A logistic regression on three sites' random pictures, for one step; or with a layer of so many units before."""
    sites = {f"site-{place}": arrays(24, (1, 28, 28), f"site {place}") for place in range(3)}

    def made(rate: float) -> Compared:
        layers = [nn.Linear(28 * 28, hidden), nn.Tanh()] if hidden else []
        return Compared(lambda: nn.Sequential(nn.Flatten(), *layers, nn.Linear(hidden or 28 * 28, 1)), 2.0, rate)

    return Study("tiny", "random pictures", "AUC", 1, 1, 2.0, (learning_rate,), (), made, sites, 18.0)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_rank_is_had_at_the_density_that_is_given_to_the_real_method(rank: int) -> None:
    assert max(ranks(LAYOUT, density_of(LAYOUT, rank))) == rank
    made = Method(f"lowrank:{rank}").maker(1)(LAYOUT, 5)
    assert made.length == 40 + rank * 164


@pytest.mark.parametrize("method", [*METHODS, "lowrank", "both", "turning", *VARIED])
def test_each_way_to_send_has_a_colour_and_a_mark_of_its_own_in_the_drawing(method: str) -> None:
    assert method in LOOKS
    assert list(LOOKS.values()).count(LOOKS[method]) == 1


def test_turning_carriers_learn_nothing_from_what_was_released() -> None:
    made, first = Method("turning:1").maker(1)(LAYOUT, 3), np.zeros(LAYOUT.parameters, np.float32)
    moved = np.ones_like(first)
    found, learned = made.subspace(first, moved), Subspace.of(LAYOUT, 1e-9, first, moved)
    assert found is not None and found.length == learned.length and found.digest != learned.digest


def test_two_iterations_find_other_carriers_of_the_same_number() -> None:
    made, first = Method("two:1").maker(1)(LAYOUT, 3), np.zeros(LAYOUT.parameters, np.float32)
    moved = np.random.default_rng(0).normal(size=LAYOUT.parameters).astype(np.float32)
    two, three = made.subspace(first, moved), Subspace.of(LAYOUT, 1e-9, first, moved)
    assert two is not None and two.length == three.length and two.digest != three.digest
    assert abs(two.pieces[1].left[:, 0] @ three.pieces[1].left[:, 0]) > 0.5, "near to where three lead"


@pytest.mark.parametrize("moves", [False, True])
def test_residual_directions_are_the_learned_ones_and_as_many_beside_them(moves: bool) -> None:
    made, first = Method("residual:1").maker(1)(LAYOUT, 3), np.zeros(LAYOUT.parameters, np.float32)
    moved = np.random.default_rng(0).normal(size=LAYOUT.parameters).astype(np.float32) * moves
    found, learned = made.subspace(first, moved), Subspace.of(LAYOUT, 1e-9, first, moved)
    assert found is not None
    mine, theirs = found.pieces[1], learned.pieces[1]
    assert (mine.rank, theirs.rank) == (2, 1)
    for one, other in ((mine.left, theirs.left), (mine.right, theirs.right)):
        np.testing.assert_allclose(one[:, 0], other[:, 0], atol=1e-12)
        np.testing.assert_allclose(one.T @ one, np.eye(2), atol=1e-12)


def test_a_rank_that_grows_doubles_over_as_many_rounds_each_and_is_sent_as_it_is() -> None:
    made, first = Method("growing:4").maker(6)(LAYOUT, 3), np.zeros(LAYOUT.parameters, np.float32)
    lengths = []
    for _ in range(6):
        space = made.subspace(first, first)
        assert space is not None
        made.nominate(np.ones(space.length, np.float32), space)
        lengths.append(made.values(None, space).size)
        assert made.length == lengths[-1]
    assert lengths == [40 + rank * 164 for rank in (1, 1, 2, 2, 4, 4)]


@pytest.mark.parametrize("network", [cnn, SmallResNet, lambda: nn.Sequential(nn.Linear(20, HIDDEN), last())])
def test_the_last_layer_of_each_compared_model_trains_whole_as_it_is(network: Callable[[], nn.Module]) -> None:
    """So a variant with a dense last layer would be none."""
    named = tuple((name, tuple(p.shape)) for name, p in network().named_parameters())
    place = max(place for place, (_, shape) in enumerate(named) if len(shape) > 1)
    assert ranks(TensorLayout(named), 1e-9)[place] == 0


def last() -> nn.Module:
    """Of the heart's MLP."""
    return nn.Linear(HIDDEN, 1)


@pytest.mark.parametrize("method", ["momentum:1", "two:1", "residual:1", "growing:2"])
def test_each_variant_trains_with_its_settings(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played, simulated = list[SimulatedTraining](), compression_table.simulate_training

    def playing(*given: Any, **named: Any) -> list[SimulatedTraining]:
        played.extend(simulated(*given, **named))
        return played

    monkeypatch.setattr(compression_table, "simulate_training", playing)
    found = compression_table.trained(replace(tiny(hidden=20), rounds=2), method, 8.0, 0.1, 0)
    assert found.method == method and 0.0 < found.bytes < 0.6 * found.dense
    assert played[0].federation.server.method == ("momentum" if method == "momentum:1" else "mean")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="largest"):
        Method("largest").maker(1)


def test_a_training_that_has_ended_is_a_line_and_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compression_table, "study", lambda *_: tiny())
    monkeypatch.setattr(compression_table, "FARTHER", 0)
    cells, plot = tmp_path / "cells.jsonl", tmp_path / "plot.svg"
    asked = [
        "--models",
        "tiny",
        "--methods",
        "none,random:0.1",
        "--epsilon",
        "8",
        "--seeds",
        "1",
        "--cells",
        str(cells),
    ]
    assert compression_table.main([*asked, "--plot", str(plot)]) == 0
    told = capsys.readouterr().out
    assert "| tiny: random pictures | 8 | none | 1.0000 | 0.1 | AUC " in told and "| random:0.1 | 0.1006 |" in told
    assert len(cells.read_text().splitlines()) == 4, "one chooses a learning rate and one is reported, of each method"
    assert plot.read_bytes().lstrip().startswith(b"<?xml")

    def never(*_: object) -> None:
        raise AssertionError("it stands there already")

    monkeypatch.setattr(compression_table, "trained", never)
    assert compression_table.main(asked) == 0
    assert capsys.readouterr().out.splitlines()[:4] == told.splitlines()[:4]
    monkeypatch.setattr(compression_table, "best_rate", never)
    assert compression_table.main([*asked, "--at", "0.1"]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == told.splitlines()[:4]
    assert compression_table.main(["--held", "--cells", str(cells)]) == 0  # without the model and its records
    assert capsys.readouterr().out.splitlines()[:4] == told.splitlines()[:4]


def cell(method: str, seed: int, metric: float, **more: Any) -> compression_table.Cell:
    settings = ("rounds=2", "privacy.steps_per_round=1")
    said = {"budget": 3.0, "learning_rate": 0.1, "epsilon": 2.9, "noise_multiplier": 1.0, "seconds": 1.0} | more
    return compression_table.Cell(
        "unet", "volumes", settings, method, seed=seed, metric=metric, bytes=1, dense=2, **said
    )


def held(path: Path, *cells: compression_table.Cell) -> list[compression_table.Row]:
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in cells))
    return compression_table.Cells(path).rows()


def test_what_is_held_is_told_by_panel_without_the_seeds_that_chose_a_learning_rate(tmp_path: Path) -> None:
    none = cell("none", 1, 0.5), cell("none", 0, 0.6), cell("none", 100, 0.9, learning_rate=0.3)
    other, more = cell("lowrank:1", 2, 0.7, budget=4.0), cell("lowrank:1", 1, 0.75)
    first, second, third = held(tmp_path / "cells", *none, other, more)
    assert (first.method, first.seeds, first.values, first.metric, first.rounds) == (
        "none",
        (0, 1),
        (0.6, 0.5),
        "Dice",
        2,
    )
    assert (second.method, second.budget) == ("lowrank:1", 3.0), "a panel's rows stand together"
    assert compression_table.beside(second, [first, second, third]) == (0.25,), "by the seed that both have"
    assert third.budget == 4.0 and compression_table.beside(third, [first, second, third]) == ()


def test_a_method_that_is_reported_at_two_learning_rates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="several learning rates"):
        held(tmp_path / "cells", cell("none", 0, 0.6), cell("none", 1, 0.6, learning_rate=0.3))


def test_learning_rates_beyond_an_end_are_tried_as_far_as_it_gets_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = list[float]()

    def trained(of: Study, method: str, budget: float, rate: float, seed: int) -> compression_table.Cell:
        tried.append(rate)
        merit = -abs(np.log(rate / 0.02))
        return compression_table.Cell(
            of.name, of.about, of.agreed, method, budget, rate, seed, merit, 1.0, 1.0, 1.0, 1.0, 0.0
        )

    monkeypatch.setattr(compression_table, "trained", trained)
    of = replace(tiny(), rates=(0.1, 0.3, 1.0))
    best = compression_table.best_rate(compression_table.Cells(tmp_path / "cells"), of, "none", 3.0, (100,))
    assert (tried, best) == ([0.1, 0.3, 1.0, 0.04, 0.016], 0.016)


def test_what_sites_saved_is_counted_against_the_whole_all_reduce() -> None:
    asked = at_scale.options(["--peers", "4", "--rounds", "2", "--no-gloo"])
    one = dict.fromkeys(("ours_s", "ours_cpu_s", "sent", "idle_bytes"), 1.0)
    one |= {"parameters": 2e7, "rounds": 2.0, "ours_bytes": 2.4e6, "ours_peak": 3.2e8}
    found = {finding.name.partition(": ")[2]: finding for finding in at_scale.of_sites(asked, [one] * 4)}
    assert found["part of those that is saved"].median == pytest.approx(1 - 2.4e6 / (2 * 1.5 * 4 * 2e7))
    assert found["part of those that is saved"].holds
    assert found["beyond what it held before / model"].holds, "just below four models"
