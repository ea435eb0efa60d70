"""`p2pfl stats show`: what may be asked of this site's records, and what was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import click

from p2pfl import codec
from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, reading_or_new, unlock_options
from p2pfl.federation import Federation
from p2pfl.home import Home

MOST_SUMS: Final = 4096  # that are looked for


@click.command()
@peers_option
@home_option
@unlock_options
@json_option
def show(*, peers_file: Path, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Show the agreed rules, what this site's people approved, and how many questions were asked of its records."""
    from p2pfl.node import question_file, questions
    from p2pfl.node.runs.question_counts import counted_at, read_counts

    federation = Federation.load(peers_file)
    rules = federation.statistics
    with reading_or_new(home, unlock, federation) as opened:
        held, counts = questions.approvals(opened), read_counts(opened, counted_at(opened))
        noise = _noise(federation, opened)
    most, standing = counts.most, list(held.standing_in(federation))
    rows = [
        ["minimum", f"{federation.minimum.sites} sites, {rules.minimum_cell} people in a group that is counted"],
        ["columns", f"{'all' if rules.only is None else ', '.join(rules.only)}; never {_or_none(rules.never)}"],
        ["numbers", f"{rules.most_numbers} at most in one question"],
        ["questions", f"{most} asked of the records that were asked about most, {rules.questions} allowed"],
        ["standing", _or_none(standing)],
        *([["noise", _told(noise)]] if noise is not None else []),
    ]
    approved = {name.hex(): codec.read_facts(facts) for name, facts in held.questions.items()}
    rows += [["approved", f"{name[:16]}  {question_file.called(told)}"] for name, told in approved.items()]
    facts: dict[str, object] = {
        "minimum_sites": federation.minimum.sites,
        "minimum_cell": rules.minimum_cell,
        "most_numbers": rules.most_numbers,
        "only": None if rules.only is None else list(rules.only),
        "never": list(rules.never),
        "asked": most,
        "questions": rules.questions,
        "standing": standing,
        "noise": noise,
        "approved": [{"question": name, "told": told} for name, told in approved.items()],
    }
    output.result(output.aligned(rows), facts, as_json)


def _noise(federation: Federation, home: Home) -> dict[str, object] | None:
    """What is agreed on noise, what was spent, and how many sums more the budget holds; None where sums are exact."""
    from p2pfl.node.runs.accounts import read_accounts
    from p2pfl.node.runs.question_noise import QuestionNoise
    from p2pfl.training.privacy.account import Mechanism
    from p2pfl.training.privacy.accounts import EVERYTHING

    noise, private = QuestionNoise.of(federation), federation.privacy
    if noise is None or private.is_none:
        return None
    accounts = read_accounts(home)

    def fits(sums: int) -> bool:
        after = accounts.after(EVERYTHING, Mechanism.of_pass(noise.charged_as(sums)), private.delta)
        return after <= private.max_epsilon

    least, most = 0, 1
    while most <= MOST_SUMS and fits(most):
        least, most = most, 2 * most
    while most - least > 1:
        half = (least + most) // 2
        least, most = (half, most) if fits(half) else (least, half)
    spent = accounts.epsilon(EVERYTHING, private.delta)
    return {
        **noise.facts,
        "noise_multiplier": noise.multiplier,
        "epsilon": spent if math.isfinite(spent) else None,
        "max_epsilon": private.max_epsilon,
        "sums_left": least,
    }


def _told(noise: dict[str, object]) -> str:
    spent = noise["epsilon"]
    of = f"ε = {spent:.3f}" if isinstance(spent, float) else "ε unbounded"
    left = f"{noise['sums_left']} sums more, in one question"
    return f"multiplier {noise['noise_multiplier']:g} for each {noise['unit']}; {of} spent, room for {left}"


def _or_none(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(words) or "none"
