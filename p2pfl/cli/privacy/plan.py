"""`p2pfl privacy plan`: noise, batch and rounds for a budget, before anybody has agreed on anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option
from p2pfl.cli.reports import meaning
from p2pfl.errors.people import WrongUse

if TYPE_CHECKING:
    from p2pfl.training.plan import BatchPlan, PrivacyPlan


@click.command()
@click.option("--epsilon", type=click.FloatRange(0, 100, min_open=True), required=True, help="The budget, for all.")
@click.option(
    "--records",
    type=click.IntRange(20, 1_000_000_000),
    required=True,
    help="Records that a common site trains on: a round public number, three quarters of what it has.",
)
@click.option("--delta", type=click.FloatRange(1e-20, 0.5), default=1e-5, show_default=True, help="As in peers.yaml.")
@click.option("--rounds", type=click.IntRange(1, 100_000), default=8, show_default=True, help="Rounds of the training.")
@click.option("--steps", type=click.IntRange(1, 1_000_000), default=80, show_default=True, help="Steps of one round.")
@click.option("--sites", type=click.IntRange(3, 1000), default=5, show_default=True, help="Sites that take part.")
@click.option(
    "--parameters",
    type=click.IntRange(1, 10_000_000_000),
    default=1000,
    show_default=True,
    help="Numbers that train: the model's, or with lowrank those that a round sends.",
)
@json_option
def plan(
    *,
    epsilon: float,
    records: int,
    delta: float,
    rounds: int,
    steps: int,
    sites: int,
    parameters: int,
    as_json: bool,
) -> None:
    """Say what a privacy budget buys: for each size of batch the least noise, and which of them is worth it.

    Nothing is read but these numbers. Each ε is that of the account that a training is charged to.
    """
    if delta >= 1 / records:
        evidence = f"--delta {delta:g} is not below 1 / {records} records: one record of each site could be published"
        raise WrongUse(evidence=evidence, verb=" privacy plan")
    output.progress("composing: some seconds for each size of batch")
    from p2pfl.training.plan import privacy_plan  # late: the accountant loads torch

    found = privacy_plan(
        epsilon=epsilon,
        delta=delta,
        records=records,
        rounds=rounds,
        steps=steps,
        sites=sites,
        numbers=parameters,
        progress=lambda batch: output.progress(f"batch {batch}"),
    )
    settings = _settings(found.best, epsilon, delta, rounds, steps)
    facts: dict[str, Any] = {
        "batches": [asdict(one) for one in found.batches],
        "best": asdict(found.best),
        "rounds_by_noise": {f"{noise:g}": count for noise, count in found.rounds.items()},
        "looks": [asdict(one) for one in found.looks],
        "settings": settings,
        "expected_batch": found.best.batch,
    }
    output.result(_text(found, settings, epsilon, delta, rounds, steps), facts, as_json)


def _settings(best: BatchPlan, epsilon: float, delta: float, rounds: int, steps: int) -> list[str]:
    """Lines for `peers create --set`."""
    return [
        f"rounds={rounds}",
        f"privacy.steps_per_round={steps}",
        f"privacy.sample_rate={best.sample_rate:.6g}",
        f"privacy.noise_multiplier={best.noise_multiplier:g}",
        f"privacy.delta={delta:g}",
        f"privacy.max_epsilon={epsilon:g}",
    ]


def _text(found: PrivacyPlan, settings: list[str], epsilon: float, delta: float, rounds: int, steps: int) -> str:
    best = found.best
    rows = [["", "batch", "rate", "noise", "ε", "noise / longest signal", "a record is used"]]
    rows += [
        [
            "►" if one is best else "",
            f"{one.batch}",
            f"{one.sample_rate:.3g}",
            f"{one.noise_multiplier:.3g}",
            f"{one.epsilon:.2f}",
            f"{one.relative_noise:.3g}",
            f"{one.uses:.3g} times",
        ]
        for one in found.batches
    ]
    bought = [["noise", *(f"{noise:g}" for noise in found.rounds)], ["rounds", *map(str, found.rounds.values())]]
    looks = [
        ["measures.looks", *(str(one.looks) for one in found.looks)],
        ["measures.noise_multiplier", *(f"{one.noise_multiplier:g}" for one in found.looks)],
        ["noise in a count, records", *(f"± {one.records:.1f}" for one in found.looks)],
    ]
    return "\n".join(
        [
            f"{rounds} rounds of {steps} steps within ε {epsilon:g} at δ {delta:g}: {meaning(epsilon, delta)}",
            "",
            output.aligned(rows, right=range(1, 7)),
            "",
            f"With batches of {best.batch} the budget buys, of {steps} steps each:",
            output.aligned(bought, right=range(1, 1 + len(found.rounds))),
            "",
            f"Looks at held-out records with noise, all of them within ε {found.looks[0].epsilon:.2g} of their own:",
            output.aligned(looks, right=range(1, 1 + len(found.looks))),
            "",
            "What to agree on, and expected_batch in the task:",
            "  p2pfl peers create …" + "".join(f" --set {line}" for line in settings),
            f"  expected_batch: {best.batch}",
            "A learning rate is found on records that are public or made up: p2pfl simulate.",
        ]
    )
