"""`p2pfl privacy plan`: noise, batch and rounds for a budget, before anybody has agreed on anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl.cli import output
from p2pfl.cli.options import Between, NamedFile, json_option, write_over
from p2pfl.cli.records import check_readable
from p2pfl.cli.wording import meaning
from p2pfl.errors.people import WrongUse
from p2pfl.errors.planning import NothingToMakeUp

if TYPE_CHECKING:
    from p2pfl.simulate.planning import Plan, Tried
    from p2pfl.training.records.records import Records
    from p2pfl.training.task import Task

MADE_UP: Final = "made-up"


@click.command()
@click.option("--epsilon", type=Between(0, 100, min_open=True), required=True, help="The budget, for all.")
@click.option(
    "--records",
    type=click.IntRange(20, 1_000_000_000),
    required=True,
    help="Records that a common site trains on: a round public number, three quarters of what it has.",
)
@click.option("--delta", type=Between(1e-20, 0.5), default=1e-5, show_default=True, help="As in peers.yaml.")
@click.option(
    "--rounds", type=click.IntRange(1, 100_000), help="Rounds of the training.  [default: 8; distributed 100]"
)
@click.option("--steps", type=click.IntRange(1, 1_000_000), help="Steps of one round.  [default: 80; distributed 1]")
@click.option("--sites", type=click.IntRange(3, 1000), default=5, show_default=True, help="Sites that take part.")
@click.option(
    "--parameters",
    type=click.IntRange(1, 10_000_000_000),
    default=1000,
    show_default=True,
    help="Numbers that train: the model's, or with lowrank those that a round sends.",
)
@click.option(
    "--noise",
    type=click.Choice(("local", "distributed")),
    default="local",
    show_default=True,
    help="Of each site's own, or in parts: then one step a round.",
)
@click.option(
    "--colluders", type=click.IntRange(1), help="Of noise in parts, privacy.colluders.  [default: quorum − 2]"
)
@click.option(
    "--simulate",
    "given",
    metavar=f"FILE|{MADE_UP}",
    help=f"Choose batch and learning rate by trainings on public records, or on {MADE_UP} ones.",
)
@click.option(
    "--task", metavar="FILE.yaml|FILE:CLASS", help="With --simulate, what is learned.  [default: heart disease]"
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="With --simulate, others of peers.yaml.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings of the best few.")
@click.option("--plot", type=NamedFile(), metavar="FILE.svg", help="Draw ε over rounds, noise by batch.")
@json_option
def plan(
    *,
    epsilon: float,
    records: int,
    delta: float,
    rounds: int | None,
    steps: int | None,
    sites: int,
    parameters: int,
    noise: str,
    colluders: int | None,
    given: str | None,
    task: str | None,
    settings: Sequence[str],
    seeds: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Say what a privacy budget buys: for each size of batch the least noise, which is worth it, what each site sees.

    Nothing is read but these numbers; each ε is that of the account that a training is charged to. With --simulate
    trainings in this process choose batch and learning rate: on a public file, dealt to --sites sites, or on records
    that are made up from the task's description. Never on patients' records: no account counts what the tries tell.
    """
    if delta >= 1 / records:
        evidence = f"--delta {delta:g} is not below 1 / {records} records: one record of each site could be published"
        raise WrongUse(evidence=evidence, verb=" privacy plan")
    if given is None and (task or settings):
        raise WrongUse(evidence="--task and --set are for --simulate", verb=" privacy plan")
    output.progress("composing: some seconds for each size of batch")
    from p2pfl import plan as planned  # late: it loads numpy, and torch where it simulates

    made, tables = _simulated(given, task, sites, records) if given is not None else (None, None)
    found = planned(
        epsilon=epsilon,
        delta=delta,
        records=records,
        rounds=rounds,
        steps=steps,
        sites=sites,
        numbers=parameters,
        noise=noise,
        colluders=colluders,
        task=made,
        tables=tables,
        settings=settings,
        seeds=seeds,
        batch_progress=lambda batch: output.progress(f"batch {batch}"),
        progress=lambda tried: output.progress(
            f"batch {tried.batch.batch}  learning rate {tried.learning_rate:g}  {tried.mean:.3f}"
        ),
    )
    if plot is not None:
        from p2pfl.simulate.plan_drawing import drawing

        write_over(plot, drawing(found))
    output.result(_text(found), _facts(found, made), as_json)


def _simulated(given: str, task: str | None, sites: int, records: int) -> tuple[Task, dict[str, Records]]:
    """The task, and its public or made-up records by site."""
    output.loading_torch()
    from p2pfl.cli.task.check import task_of
    from p2pfl.simulate.deal import deal
    from p2pfl.simulate.made_up import made_up
    from p2pfl.training.given import records_of
    from p2pfl.training.tasks.heart import heart
    from p2pfl.training.tasks.table import TableTask

    made = task_of(task) if task is not None else TableTask(heart())
    if given != MADE_UP:
        check_readable(Path(given))
        return made, deal(records_of(made, given), sites)
    if not isinstance(made, TableTask):
        raise NothingToMakeUp(evidence=f"--task {task}", task=made.name)
    return made, made_up(made.schema, sites, records)


def _facts(found: Plan, made: Task | None) -> dict[str, Any]:
    budget = found.budget
    return {
        "batches": [asdict(one) for one in budget.batches],
        "best": asdict(found.batch),
        "rounds_by_noise": {f"{noise:g}": count for noise, count in budget.rounds.items()},
        "looks": [asdict(one) for one in budget.looks],
        "each_site": asdict(found.each_site),
        "metric": found.metric or None,
        "tried": [_row(one) for one in found.tried],
        "settings": list(found.settings),
        "expected_batch": found.batch.batch if made is None else made.expected_batch,
    }


def _row(one: Tried) -> dict[str, Any]:
    return {
        "batch": one.batch.batch,
        "noise_multiplier": one.batch.noise_multiplier,
        "learning_rate": one.learning_rate,
        "mean": one.mean if math.isfinite(one.mean) else None,
        "sd": one.sd if math.isfinite(one.sd) else None,
        "seeds": len(one.values),
    }


def _text(found: Plan) -> str:
    budget, best = found.budget, found.batch
    parts = best.parts > 1
    heads = ["", "batch", "rate", "noise", "ε", *(["ε against all others"] if parts else [])]
    rows = [[*heads, "noise / longest signal", "a record is used"]]
    rows += [
        [
            "►" if one is best else "",
            f"{one.batch}",
            f"{one.sample_rate:.3g}",
            f"{one.noise_multiplier:.3g}",
            f"{one.epsilon:.2f}",
            *([f"{one.alone:.2f}"] if parts else []),
            f"{one.relative_noise:.3g}",
            f"{one.uses:.3g} times",
        ]
        for one in budget.batches
    ]
    bought = [["noise", *(f"{noise:g}" for noise in budget.rounds)], ["rounds", *map(str, budget.rounds.values())]]
    looks = [
        ["measures.looks", *(str(one.looks) for one in budget.looks)],
        ["measures.noise_multiplier", *(f"{one.noise_multiplier:g}" for one in budget.looks)],
        ["noise in a count, records", *(f"± {one.records:.1f}" for one in budget.looks)],
        ["ε against all other sites", *(f"{one.alone:.2f}" for one in budget.looks)],
    ]
    within = f"within ε {budget.looks[0].epsilon:.2g} of their own"
    rounds, steps = output.counted(found.rounds, "round"), output.counted(found.steps, "step")
    return "\n".join(
        [
            f"{rounds} of {steps} within ε {found.epsilon:g} at δ {found.delta:g}: "
            f"{meaning(found.epsilon, found.delta)}",
            "",
            output.aligned(rows, right=range(1, len(rows[0]))),
            "► the smallest batch that is nearly as good as any; noise / longest signal: smaller is better",
            *_drowned(best.relative_noise),
            *_in_parts(found),
            "",
            f"With batches of {budget.best.batch} the budget buys, of {steps} each:",
            output.aligned(bought, right=range(1, 1 + len(budget.rounds))),
            "",
            f"Looks at held-out records with noise, all of them {within}:",
            output.aligned(looks, right=range(1, 1 + len(budget.looks))),
            "",
            *_each_site(found),
            "",
            *_chosen(found),
        ]
    )


def _drowned(relative_noise: float) -> list[str]:
    """Where the noise is longer than the signal can be: a warning, and what helps."""
    if relative_noise < 1.0:
        return []
    return [
        f"The noise is {relative_noise:.3g} times as long as all that these records can say: such a model learns "
        "nothing. More records or sites, fewer parameters, or a larger ε help.",
    ]


def _in_parts(found: Plan) -> list[str]:
    """Of noise in parts, whom each of the two ε is against."""
    best = found.batch
    if best.parts == 1:
        return []
    return [
        "",
        f"Noise in parts: ε {best.epsilon:.2f} against outsiders and {_colluders(found)}, whom the noise of "
        f"{best.parts} sites holds; {best.alone:.2f} against all other sites together.",
    ]


def _colluders(found: Plan) -> str:
    """Who may pool what they see, of noise in parts."""
    return "q − 2 colluding sites" if found.colluders is None else output.counted(found.colluders, "colluding site")


def _each_site(found: Plan) -> list[str]:
    """What a site that takes part gives, and what it sees."""
    one = found.each_site
    if one.look_epsilon is None:
        looks = f"{one.looks}, by exact counts over all sites or none: no ε bounds what they tell"
    else:
        looks = f"{one.looks} with noise: ε {one.look_epsilon:.2f} of a held-out record, {one.look_alone:.2f} against"
        looks += " all other sites together"
    sent = f"{output.amount(one.round_bytes)} a round and {output.amount(one.bytes)} in all, in words of {one.field}"
    against = "outsiders" if found.batch.parts == 1 else f"outsiders and {_colluders(found)}"
    rows = [
        ("sends", f"{sent} bits; plain fp32 {output.amount(one.dense_bytes)} a round"),
        ("trains", f"{output.counted(one.steps, 'step')}, {found.steps} a round"),
        ("draws", f"{one.batch} records a step and {one.drawn:g} in all: each {one.uses:.3g} times, on average"),
        ("ε of a record", f"{one.epsilon:.2f} against {against}, {one.alone:.2f} against all other sites together"),
        ("looks", looks),
        ("sees of others", f"sums over {one.quorum} sites or more, and the models; no other site's numbers"),
    ]
    return [
        f"Each of {one.sites} sites:",
        output.aligned(rows),
        "Letters around the words, which outweigh a small model:",
        f"  p2pfl simulate --sites {one.sites} --parameters {one.numbers}",
    ]


def _chosen(found: Plan) -> list[str]:
    """What to agree on."""
    create = "  p2pfl peers create …" + "".join(f" --set {line}" for line in found.settings)
    if not found.tried:
        return [
            "What to agree on, and expected_batch in the task:",
            create,
            f"  expected_batch: {found.batch.batch}",
            f"Or keep the task's expected_batch E, at its learning rate × E / {found.batch.batch}: steps are as long.",
            *(
                ["  --set local.learning_rate=…: with noise in parts it must stand in the file"]
                if found.batch.parts > 1
                else []
            ),
            "The learning rate goes with the batch. It is found on records that are public, or on made-up ones, with",
            "  p2pfl privacy plan … --simulate made-up --task task.yaml",
        ]
    rows = [["", "batch", "noise", "learning rate", found.metric, "± sd", "seeds"]]
    for one in found.tried:
        spread = f"{one.sd:.3f}" if len(one.values) > 1 else ""
        mark = "►" if one is found.tried[0] else ""
        noise, rate = f"{one.batch.noise_multiplier:.3g}", f"{one.learning_rate:g}"
        rows.append([mark, f"{one.batch.batch}", noise, rate, f"{one.mean:.3f}", spread, f"{len(one.values)}"])
    table = output.aligned(rows, right=range(1, 7))
    return [
        "Trained here, the last model on the held-out records of all sites:",
        table,
        "",
        "What to agree on:",
        create,
    ]
