"""Accuracy × bytes × ε: ways to send an update, each at its own best learning rate, in the same trainings.

Every row of a model has the same records, sites, first models, steps and ε; the pass, the words and their sum in the
field are a site's own (`simulate_training`). A learning rate is the best of the study's, by the mean of the metric over
TUNED_ON; beyond an end as far as it gets better, twice at most. What is reported are other seeds. The methods of
peers.yaml stand beside `both`, `nominate` with `scores: both`, `turning`, random carriers, and with --variants the
variants of lowrank (benchmarks/_variants.py): momentum after the sum, two iterations, residual directions, rank that
grows.

    python benchmarks/compression_table.py --models heart,cnn --methods none,lowrank:1 --seeds 5 \\
        [--epsilon 3] [--rounds N] [--tuned 1] [--at RATE] [--xrays FILE.npz] [--volumes FILE.npz]
        [--cells FILE.jsonl] [--plot FILE.svg] [--quick] [--json]
    python benchmarks/compression_table.py --models cnn --xrays FILE.npz --variants --seeds 3
    python benchmarks/compression_table.py --held --plot docs/compression.svg

Each training that ends is a line of --cells. One that stands there is not run again, so that a run can be broken off,
gone on with, and extended by methods and seeds. `--held` runs nothing: it tells, and draws, all that stands there.
`--quick` is what ten minutes suffice for, without the real pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._compared import AUC, METRICS, Method, Study, study  # noqa: E402
from benchmarks._compared_drawing import drawing  # noqa: E402
from benchmarks._report import Finding, machine, mean_and_spread, show  # noqa: E402
from p2pfl import simulate_training  # noqa: E402

FIRST_TUNED: Final = 100  # seeds from here on choose learning rates
BEYOND: Final = (0.4, 2.5)  # times the rate at an end
FARTHER: Final = 2
METHODS: Final = "none,lowrank:1,lowrank:4,nominate:0.01,nominate:0.001,random:0.01,turning:1"
VARIANTS: Final = "lowrank:1,momentum:1,two:1,residual:1,growing:4"
CELLS: Final = ROOT / "benchmarks" / "compression_table.jsonl"


@dataclass(frozen=True)
class Cell:
    """One training. `bytes` and `dense` are what a site sends in all rounds, and what a plain fp32 all-reduce does."""

    model: str
    about: str
    settings: tuple[str, ...]
    method: str
    budget: float
    learning_rate: float
    seed: int
    metric: float
    epsilon: float
    noise_multiplier: float
    bytes: float
    dense: float
    seconds: float

    @property
    def key(self) -> tuple[object, ...]:
        """What a training follows from."""
        return (*self.group, self.learning_rate, self.seed)

    @property
    def group(self) -> tuple[object, ...]:
        """What it is compared in, and its method."""
        return self.model, self.about, tuple(self.settings), self.budget, self.method

    @property
    def rounds(self) -> int:
        """So many were agreed on."""
        return next(int(one.removeprefix("rounds=")) for one in self.settings if one.startswith("rounds="))


@dataclass(frozen=True)
class Row:
    """One method at its best learning rate: the metric by seed, and bytes beside those of whole fp32 updates."""

    model: str
    about: str
    metric: str
    rounds: int
    method: str
    budget: float
    learning_rate: float
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    share: float

    @classmethod
    def of(cls, found: Sequence[Cell]) -> Row:
        """Of the reported trainings of one method, one for each seed."""
        first, share = found[0], statistics.fmean(one.bytes / one.dense for one in found)
        compared = first.model, first.about, METRICS.get(first.model, AUC), first.rounds
        values = tuple(one.metric for one in found)
        return cls(
            *compared, first.method, first.budget, first.learning_rate, tuple(one.seed for one in found), values, share
        )

    @property
    def panel(self) -> tuple[object, ...]:
        """What it is compared in."""
        return self.model, self.about, self.rounds, self.budget

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


class Cells:
    """The trainings that have ended, in a file of one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path, self._held = path, dict[tuple[object, ...], Cell]()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                fields = json.loads(line)
                cell = Cell(**{**fields, "settings": tuple(fields["settings"])})
                self._held[cell.key] = cell

    def get(self, of: Study, method: str, budget: float, rate: float, seed: int) -> Cell:
        """The training, which is run if it is not there yet."""
        key = (of.name, of.about, of.agreed, budget, method, rate, seed)
        if key not in self._held:
            self._held[key] = found = trained(of, method, budget, rate, seed)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
        return self._held[key]

    def rows(self) -> list[Row]:
        """All that is reported here, in the order in which it came. Raises ValueError for two learning rates of one."""
        found = dict[tuple[object, ...], list[Cell]]()
        for cell in self._held.values():
            if cell.seed < FIRST_TUNED:
                found.setdefault(cell.group, []).append(cell)
        for group, cells in found.items():
            if len({one.learning_rate for one in cells}) > 1:
                raise ValueError(f"{self._path}: {group} is reported at several learning rates")
        panels = {cells[0].group[:-1]: None for cells in found.values()}  # in order
        kept = [cells for panel in panels for cells in found.values() if cells[0].group[:-1] == panel]
        return [Row.of(sorted(cells, key=lambda one: one.seed)) for cells in kept]


def trained(of: Study, method: str, budget: float, rate: float, seed: int) -> Cell:
    """One training of one method."""
    print(f"{of.name}, {method}, ε {budget:g}, learning rate {rate:g}, seed {seed} …", file=sys.stderr, flush=True)
    begun, way = time.perf_counter(), Method(method)
    agreed, how = (*of.agreed, *way.settings), way.maker(of.rounds)
    (found,) = simulate_training(
        of.made(rate), of.sites, settings=agreed, epsilon=budget, seeds=(seed,), compressor=how
    )
    seconds, noise = time.perf_counter() - begun, found.federation.privacy.noise_multiplier
    sent = found.sent_bytes, found.dense_bytes
    facts = of.name, of.about, of.agreed, method, budget, rate, seed
    return Cell(*facts, found.final, found.epsilon, noise, *sent, seconds)


def best_rate(cells: Cells, of: Study, method: str, budget: float, tuned: Sequence[int]) -> float:
    """The learning rate with the best mean over `tuned`, by the same rule for every method."""

    def merit(rate: float) -> float:
        return statistics.fmean(cells.get(of, method, budget, rate, seed).metric for seed in tuned)

    rates = {rate: merit(rate) for rate in of.rates}
    for _ in range(FARTHER):
        best = max(rates, key=lambda rate: rates[rate])
        if best not in (min(rates), max(rates)):
            break
        farther = float(f"{best * BEYOND[best == max(rates)]:.3g}")
        rates[farther] = merit(farther)
    return max(rates, key=lambda rate: rates[rate])


def rows(cells: Cells, of: Study, rates: Mapping[str, float], budget: float, seeds: Sequence[int]) -> Iterator[Row]:
    """The rows of one model, by method at its rate. Seed by seed: whoever breaks off has as many of each method."""
    for seed in seeds:
        for method in rates:
            cells.get(of, method, budget, rates[method], seed)
    for method in rates:
        yield Row.of([cells.get(of, method, budget, rates[method], seed) for seed in seeds])


def beside(one: Row, found: Sequence[Row]) -> tuple[float, ...]:
    """The metric less that of `none`, by each seed of both: they have the same sites, splits and first model."""
    plain = [row for row in found if row.panel == one.panel and row.method == "none"]
    by_seed = {seed: value for row in plain for seed, value in zip(row.seeds, row.values, strict=True)}
    return tuple(value - by_seed[seed] for seed, value in zip(one.seeds, one.values, strict=True) if seed in by_seed)


def text(found: Sequence[Row]) -> str:
    """The table, as Markdown."""
    sent, less = "bytes / whole fp32", "less `none`, by seed"
    heads = ("model", "ε", "method", sent, "learning rate", "metric", less, "rounds", "seeds")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for one in found:
        beyond = beside(one, found)
        cells = (
            f"{one.model}: {one.about}",
            f"{one.budget:g}",
            one.method,
            f"{one.share:.4f}",
            f"{one.learning_rate:g}",
            f"{one.metric} {mean_and_spread(one.values)}",
            mean_and_spread(beyond, "+") if beyond and one.method != "none" else "–",
            f"{one.rounds}",
            f"{len(one.values)}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="heart,cnn,resnet,unet")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--variants", dest="methods", action="store_const", const=VARIANTS, help="those of lowrank")
    parser.add_argument("--epsilon", default="3", help="budgets, with commas between")
    parser.add_argument("--seeds", type=int, default=5, help="reported, from 0 on")
    parser.add_argument("--tuned", type=int, default=1, help="seeds that choose a learning rate")
    parser.add_argument("--at", type=float, help="report at this learning rate and choose none")
    parser.add_argument("--rounds", type=int, help="another number of rounds than the model's own")
    parser.add_argument("--xrays", type=Path, help=".npz of *_images and *_labels, 28 × 28; default: made up")
    parser.add_argument("--volumes", type=Path, help=".npz of image and label; default: generated")
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--plot", type=Path, help="draw the rows, as SVG")
    parser.add_argument("--held", action="store_true", help="the rows of what stands in --cells, running nothing")
    parser.add_argument("--quick", action="store_true", help="heart alone, in part: some minutes")
    parser.add_argument("--json", action="store_true")
    found = parser.parse_args(arguments)
    if found.quick:
        found.models, found.methods, found.seeds = "heart", "none,lowrank:1,nominate:0.01", 2
        found.cells = Path(os.devnull)
    return found


def asked_for(cells: Cells, asked: argparse.Namespace) -> Iterator[Row]:
    """The rows of the models, methods, budgets and seeds that were asked for."""
    methods, tuned = asked.methods.split(","), range(FIRST_TUNED, FIRST_TUNED + asked.tuned)
    for name in asked.models.split(","):
        of = study(name, asked.xrays, asked.volumes, asked.rounds)
        for budget in map(float, asked.epsilon.split(",")):
            rates = {one: asked.at or best_rate(cells, of, one, budget, tuned) for one in methods}
            yield from rows(cells, of, rates, budget, range(asked.seeds))


def main(arguments: Sequence[str] | None = None) -> int:
    """The table of what was asked for."""
    asked = options(arguments)
    torch.set_num_threads(1)
    cells = Cells(asked.cells)
    found = cells.rows() if asked.held else list(asked_for(cells, asked))
    if asked.plot is not None:
        asked.plot.write_bytes(drawing(found))
    if not asked.json:
        print(text(found))
    findings = [Finding(f"{one.model}, ε {one.budget:g}, {one.method}: {one.metric}", one.values) for one in found]
    title = "ways to send an update, each at its best learning rate"
    return show(title, findings, machine("numpy", "torch", "opacus"), as_json=asked.json)


if __name__ == "__main__":
    sys.exit(main())
