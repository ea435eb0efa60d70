"""`p2pfl simulate`: train in this process as sites with these records would, or forecast what many sites would cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from p2pfl.cli import output
from p2pfl.cli.options import Between, json_option, peers_option, set_option
from p2pfl.cli.records import check_readable
from p2pfl.cli.sizes import Listed, refuse_mixed, sizes_options, tell_sizes
from p2pfl.cli.tasks import device_option
from p2pfl.cli.wording import NO_PRIVACY
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation

if TYPE_CHECKING:
    from p2pfl.simulate.training import SimulatedTraining
    from p2pfl.training.measures.measure import Figure
    from p2pfl.training.records.records import Records
    from p2pfl.training.task import Task


@click.command()
@click.option(
    "--data",
    "given",
    multiple=True,
    metavar="[NAME=]PATH",
    help="A site's records, once for each site; the column map beside them is taken.",
)
@click.option("--split", type=click.IntRange(3, 1000), metavar="K", help="Deal the one --data to so many sites.")
@click.option(
    "--task",
    metavar="FILE.yaml|FILE:CLASS",
    help="What is learned.  [default: the task of --peers, else heart disease]",
)
@peers_option
@set_option
@click.option(
    "--rounds",
    type=Listed(int),
    default=(),
    metavar="R[,R…]",
    help="So many rounds; several to forecast.  [default: those of the settings]",
)
@click.option("--epsilon", type=Between(0.0, min_open=True), help="Find the least noise that keeps this ε.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="So many trainings.")
@device_option
@sizes_options
@json_option
@click.pass_context
def simulate(
    context: click.Context,
    /,
    *,
    given: Sequence[str],
    split: int | None,
    task: str | None,
    peers_file: Path,
    overrides: Sequence[str],
    rounds: Sequence[int],
    epsilon: float | None,
    seeds: int,
    device: str,
    as_json: bool,
    **asked: Any,
) -> None:
    """Try settings on public or generated records, or forecast what 3 to 1000 sites would cost and promise.

    With --data it trains: a learning rate, a density, a budget, the number of sites. The sites' own code runs: private
    passes, compression, sums in the field. Settings are those of --peers where it is given, else the defaults of `p2pfl
    peers create` and --set. Each seed holds out other records and draws other noise.

    No account is charged: on patients' records the tries themselves would tell, and nobody counts that.

    With --sites it reads no records: real rounds run up to --real sites, and letters, bytes, time and memory of larger
    federations are fitted to real rounds of this call; how far the fit is off is printed. Beside them stand ε, the
    chance that a round has its quorum, and what colluding sites learn.
    """
    refuse_mixed(context, records=bool(given))
    named = context.get_parameter_source("peers_file") is not ParameterSource.DEFAULT
    if named and overrides:
        raise WrongUse(evidence="--peers holds every setting: --set would change one of them", verb=" simulate")
    if not given:
        _forecast(asked, rounds, overrides, named=named, others=(split, task, epsilon), as_json=as_json)
        return
    if len(rounds) > 1 or not all(1 <= one <= 10_000 for one in rounds):
        raise WrongUse(evidence="--rounds of a training is one number, 1 to 10000", verb=" simulate")
    federation = Federation.load(peers_file) if named else None
    paths = _sites(given, split)
    output.loading_torch()
    from p2pfl.training.lean import without_compiler

    without_compiler()
    begun = time.perf_counter()
    made = _task(task, federation)
    records = _records(made, paths, split)
    from p2pfl.simulate.training import simulate_training

    trainings = simulate_training(
        made,
        records,
        settings=overrides,
        federation=federation,
        rounds=rounds[0] if rounds else None,
        epsilon=epsilon,
        seeds=range(seeds),
        device=device,
        progress=_told(seeds),
    )
    facts = _facts(made, records, trainings) | {"wall_s": round(time.perf_counter() - begun, 2)}
    output.result(_text(facts), facts, as_json)


def _forecast(
    asked: Mapping[str, Any],
    rounds: Sequence[int],
    settings: Sequence[str],
    *,
    named: bool,
    others: Sequence[object],
    as_json: bool,
) -> None:
    if named or any(one is not None for one in others):
        evidence = (
            "--peers, --split, --task and --epsilon are of a training: --data; a forecast takes --set and --noise"
        )
        raise WrongUse(evidence=evidence, verb=" simulate")
    tell_sizes(asked["sites"], rounds, settings, asked, as_json=as_json)


def _sites(given: Sequence[str], split: int | None) -> dict[str, Path]:
    """Path of the records by site: `NAME=PATH`, or a path whose file's name is the site's."""
    found: dict[str, Path] = {}
    for one in given:
        name, equals, path = one.partition("=")
        place = Path(path if equals else one)
        name = name if equals else place.stem
        check_readable(place)
        if name in found:
            raise WrongUse(evidence=f"two sites are called {name}: --data NAME=PATH names them", verb=" simulate")
        found[name] = place
    if split is not None and len(found) != 1:
        raise WrongUse(evidence=f"--split deals one file, and {len(found)} are given", verb=" simulate")
    return found


def _task(task: str | None, federation: Federation | None) -> Task:
    from p2pfl.cli.task.check import task_of
    from p2pfl.training.registry import load_task
    from p2pfl.training.tasks.heart import heart
    from p2pfl.training.tasks.table import TableTask

    if task is not None:
        return task_of(task)
    if federation is not None and federation.task.file is not None:  # peers.yaml may be anybody's: no file runs by it
        raise WrongUse(evidence=f"name your copy: --task {federation.task.label}", verb=" simulate")
    return load_task(federation.task) if federation is not None else TableTask(heart())


def _records(task: Task, paths: Mapping[str, Path], split: int | None) -> dict[str, Records]:
    from p2pfl.simulate.deal import deal
    from p2pfl.training.given import records_of

    read = {name: records_of(task, path) for name, path in paths.items()}
    return deal(next(iter(read.values())), split) if split is not None else read


def _told(seeds: int) -> Callable[[int, int, Mapping[str, Figure]], None]:
    """Tells a round at a time, with the figure that the training is judged by."""

    def told(seed: int, number: int, figures: Mapping[str, Figure]) -> None:
        metric, figure = next(iter(figures.items()))
        of = f"seed {seed + 1} of {seeds}  " if seeds > 1 else ""
        output.progress(f"{of}round {number}  {metric} {figure.value:.3f}")

    return told


def _facts(task: Task, records: Mapping[str, Records], trainings: Sequence[SimulatedTraining]) -> dict[str, Any]:
    from p2pfl.simulate.training import summary

    agreed, private = trainings[0].federation, trainings[0].federation.privacy
    return {
        "task": task.name,
        "records_per_site": {name: len(one) for name, one in records.items()},
        "seeds": len(trainings),
        "rounds": agreed.rounds,
        "parameters": len(trainings[0].model),
        "delta": private.delta,
        "sample_rate": private.sample_rate,
        "steps_per_round": private.steps_per_round,
        "max_grad_norm": _finite(private.max_grad_norm),
        "clip": agreed.sharing.clip,
        **{key: _finite(value) for key, value in summary(trainings).items()},
    }


def _finite(value: Any) -> Any:
    """None for what could not be measured, as with no held-out record of one of the classes."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(facts: dict[str, Any]) -> str:
    sites = ", ".join(f"{name} {count}" for name, count in facts["records_per_site"].items())
    rows = [["round", f"{facts['metric']}, mean ± sd of {facts['seeds']}"]]
    rows += [
        [str(number), "not measured" if mean is None else f"{mean:.3f} ± {sd or 0:.3f}"]
        for number, (mean, sd) in enumerate(zip(facts["by_round"], facts["sd_by_round"], strict=True))
    ]
    sent, dense = facts["sent_bytes"], facts["dense_bytes"]
    private = NO_PRIVACY
    if facts["epsilon"] is not None:
        private = f"ε {facts['epsilon']:.2f} at δ = {facts['delta']:g}; noise multiplier {facts['noise_multiplier']:g}"
    told = [
        ["records", sites],
        ["privacy", private],
        ["sent", f"{output.amount(sent)} by each site; {output.amount(dense)} by a dense all-reduce"],
        ["update", f"norm {facts['largest_norm']:.3g} at most; `sharing.clip` is {facts['clip']:g}"],
        ["a pass", f"{facts['pass_s']:.2f} s at each site"],
    ]
    return "\n".join([output.aligned(rows, right=(0,)), "", output.aligned(told)])
