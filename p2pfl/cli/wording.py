"""How privacy, figures and traffic are told to a person, in the same words by every verb. Pure: facts in, text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from p2pfl.cli.output import aligned, amount, counted

NO_PRIVACY = "NONE: trained without differential privacy, ε is unbounded: the model may tell of any one patient"
SMALL = 100_000  # parameters below which sending a part of them saves nothing


def dense_bytes(count: int, parameters: int, rounds: int) -> int:
    """Bytes that each peer of a plain fp32 all-reduce of the whole model sends."""
    return round(2 * (count - 1) / count * 4 * parameters * rounds)


def bounded(epsilon: float) -> float | None:
    """ε for JSON, which has no infinity: null is no bound at all."""
    return epsilon if math.isfinite(epsilon) else None


def join_text(facts: Mapping[str, Any]) -> str:
    """What `join` prints at its end."""
    metric, ledger = facts["metric"], facts["ledger"]
    before, after = (
        f"{value:.3f}" if value is not None else "not measured" for value in (metric["initial"], metric["final"])
    )
    interval = metric["figures"].get(metric["figure"], {})
    if interval.get("low") is not None:
        after += f" ({interval['low']:.3f} to {interval['high']:.3f})"
    lacking = metric.get("unmeasured")
    classes = [[f"  {name}", told] for name, told in of_classes(metric["figures"])]
    one, here = facts["rounds_completed"] == 1, facts["rounds_here"]
    return "\n".join(
        [
            f"{facts['name']}: {counted(facts['rounds_completed'], 'round')} {'is' if one else 'are'} final"
            + (f": {facts['ended']}" if facts["ended"] else ""),
            f"  {metric['name']:<8} {before} → {after} on the held-out records of all sites"
            + (", with noise" if metric.get("private") else "")
            + (f": {unmeasured_text(lacking['why'], lacking['away'])}" if lacking else ""),
            *([aligned(classes)] if classes else []),
            f"  privacy  {spent_text(facts)}" + ("" if facts["epsilon"] is None else ", for this site's records"),
            f"  sent     {amount(facts['bytes_sent'])}, of which payload {amount(facts['payload_sent'])} "
            f"(dense fp32: {amount(facts['dense_bytes'])})"
            + (f", in the {counted(here, 'round')} since this start" if here < facts["rounds_completed"] else ""),
            f"  ledger   {'verified' if ledger['verified'] else 'NOT VERIFIED'}, {ledger['entries']} entries, "
            f"root {ledger['root']}",
        ]
    )


def unmeasured_text(why: str, away: Sequence[str]) -> str:
    """Why a round measured nothing, and who was away."""
    return why + (f" ({', '.join(away)} away)" if away else "")


def spent_text(facts: Mapping[str, Any]) -> str:
    """What the passes over a site's records have spent: `epsilon` of `max_epsilon`, at `delta`.

    `epsilon_alone`, where it is one, is that against all other sites together.
    """
    if facts["epsilon"] is None:
        return NO_PRIVACY
    limit = "no limit" if facts["max_epsilon"] is None else f"{facts['max_epsilon']:g}"
    told = f"ε {facts['epsilon']:.2f} of {limit} at δ {facts['delta']:g}"
    alone = facts.get("epsilon_alone")
    return told if alone is None else f"{told}; against all other sites together ε {alone:.2f}"


def of_classes(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What is said of single classes, by their names: "recall of malignant", 0.912 (0.870 to 0.951)."""
    return [
        (row["name"], figure_text(row["value"], row["low"], row["high"]))
        for row in figures.values()
        if " of " in row.get("name", "")
    ]


def figure_text(value: float, low: float | None, high: float | None) -> str:
    """A figure and its interval, where it has one: 0.871 (0.820 to 0.922)."""
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def meaning(epsilon: float, delta: float) -> str:
    """One plain sentence on what ε says."""
    factor = math.exp(epsilon)
    return (
        f"no conclusion about one patient becomes more than e^{epsilon:.2f} ≈ {factor:.1f} times likelier because that "
        f"patient's record was used, except with a chance of {delta:g}"
    )
