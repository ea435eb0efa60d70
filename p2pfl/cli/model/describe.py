"""A model's card as a page for people, in Markdown, with the sections of Mitchell et al. 2019.

A function of the card alone, so every site writes the same page. What no ledger knows, what the model is for, who
should not use it and for whom it was not tried, is left for people to fill in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from p2pfl.cli.figures import classes_of, title
from p2pfl.cli.wording import figure_text, meaning
from p2pfl.errors.counts import counted
from p2pfl.federation.table_columns import CodeColumn, Column
from p2pfl.federation.table_labels import BinaryLabel, ClassLabel, Label, NumberLabel
from p2pfl.training.model.card import ModelCard

TO_FILL: Final = "*To be filled in by the people who answer for this model.*"
MITCHELL: Final = "Mitchell et al. 2019, *Model Cards for Model Reporting*, doi 10.1145/3287560.3287596"


def page(card: ModelCard) -> str:
    """The whole page."""
    facts = card.facts
    named = facts["federation"]["name"]
    parts = [
        f"# Model card: {plain(named)}",
        f"Written by {facts['software']} from the ledger of the sites; the sections are those of {MITCHELL}.",
        "## What it is",
        _what(card),
        "## What it is for",
        TO_FILL,
        "- intended use, and by whom:\n- not to be used for:\n- groups of patients it was not tried on:",
        "## What goes in",
        _inputs(card),
        "## What comes out",
        _outputs(card),
        "## How good it is",
        _quality(card),
        "## What it tells of a single patient",
        _privacy(facts["privacy"]),
        "## Who trained it",
        _training(facts),
        "## How to check it",
        _check(facts),
        "## Ethical considerations, caveats and recommendations",
        TO_FILL,
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """A name in a page: no character of it is Markdown or HTML."""
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>()#+!|~&" else one for one in text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _what(card: ModelCard) -> str:
    facts, schema = card.facts, card.task.table
    kind = schema.summary if schema is not None else facts["task"].get("own", card.task.label)
    licence, averaged = facts["licence"], facts["model"]["row"] != "model"
    rows = [
        ["task", plain(kind)],
        ["parameters", f"{facts['model']['parameters']}"],
        ["trained", f"{_day(facts['training']['began'])} to {_day(facts['training']['ended'])}"],
        *([["lacks", f"{', '.join(map(plain, card.personal))}: each site keeps its own"]] if card.personal else []),
        ["licence", plain(licence) if licence else "none was named: ask the sites before you pass it on"],
        ["model", f"`{facts['model']['digest']}`{', a running mean of the models' if averaged else ''}"],
        ["task's digest", f"`{facts['task_digest']}`"],
    ]
    return _table(["what", "is"], rows)


def _inputs(card: ModelCard) -> str:
    schema = card.task.table
    if schema is None and card.task.file is None:
        return f"What the code reads that each site brings: {plain(card.facts['task']['own'])}."
    if schema is None:
        return (
            f"What the class {card.task.cls} of the file {card.task.file} reads, whose SHA-256 is "
            f"`{(card.task.sha256 or b'').hex()}`. Read that file before you run it."
        )
    rows = [
        [str(place), plain(one.name), *_column(one), "an input says so" if one.indicator else "adds nothing"]
        for place, one in enumerate(schema.columns, start=1)
    ]
    text = (
        "A CSV with these columns, by name. A number goes in as (number − centre) / scale, cut to −2 … 2. Centres, "
        "scales and ranges are agreed figures, never statistics of anybody's records."
    )
    return f"{text}\n\n{_table(['', 'column', 'is', 'plausible, or levels', 'centre', 'scale', 'missing'], rows)}"


def _column(column: Column) -> list[str]:
    if isinstance(column, CodeColumn):
        of = "a code, from least to most" if column.ordered else "a code"
        return [of, plain(", ".join(column.levels)), "", ""]
    zero = "; 0 is missing" if column.zero_is_missing else ""
    reach = f"{column.low:g} to {column.high:g}{zero}"
    return [f"number, {plain(column.unit)}", reach, f"{column.centre:g}", f"{column.scale:g}"]


def _outputs(card: ModelCard) -> str:
    label = card.task.table.label if card.task.table is not None else None
    lines = [plain(_said(label)) if label is not None else "What the task's code makes of a record."]
    if card.threshold is not None:
        lines.append(
            f"The sites agreed, before the training, to count a probability of {card.threshold:g} or more as yes."
        )
    elif label is None or isinstance(label, BinaryLabel):
        lines.append("No threshold was agreed: it is for people to say from which probability on something is done.")
    return " ".join(lines)


def _said(label: Label) -> str:
    if isinstance(label, BinaryLabel):
        return f"The probability that {label.column.name} is {' or '.join(label.positive)}."
    if isinstance(label, ClassLabel):
        return f"A probability for each level of {label.column.name}: {', '.join(label.column.levels)}."
    if isinstance(label, NumberLabel):
        return f"{label.column.name}, in {label.column.unit}."
    times = ", ".join(f"{one:g}" for one in label.grid)
    return f"The chance to be without {label.event.name} after {times} {label.time.unit}."


def _quality(card: ModelCard) -> str:
    metric = card.facts["metric"]
    if metric is None:
        return "It was not measured: not every site took part in the round that would have."
    classes = classes_of(card.task)
    rows = [[plain(title(name, classes)), _figure(row)] for name, row in _first(metric)]
    counted = (
        "The counts were noised, and each look at them charged to an account of the held-out records; the intervals "
        "hold the noise too."
        if metric["private"]
        else "The counts are exact, so these figures are not covered by the privacy below."
    )
    return (
        "On the records that every site held out of the training (a quarter), all of them counted together. In "
        "brackets the 95 % interval, which says how far chance alone reaches. It holds for patients like those; "
        f"elsewhere try it first. {counted}\n\n" + _table(["figure", "value"], rows)
    )


def _first(metric: Mapping[str, Any]) -> list[tuple[str, Mapping[str, str | None]]]:
    """The figures, the one that the training is judged by first."""
    return sorted(metric["figures"].items(), key=lambda one: one[0] != metric["name"])


def _figure(row: Mapping[str, str | None]) -> str:
    value, low, high = (None if row[key] is None else float(row[key] or 0) for key in ("value", "low", "high"))
    return figure_text(value or 0.0, low, high)


def _privacy(held: Mapping[str, Any] | None) -> str:
    if held is None:
        return (
            "**Trained without differential privacy**: it may have memorised single patients. Treat it as their data."
        )
    epsilon, delta, unit = float(held["epsilon"]), float(held["delta"]), held["unit"]
    several = (
        ""
        if unit == "patient"
        else ", and a patient with several records is protected less: with k of them by more than k times that"
    )
    return (
        f"Differential privacy, ε = {epsilon:.2f} at δ = {delta:g}, for one {unit}: {meaning(epsilon, delta)}. "
        f"That holds against anybody{'' if held['epsilon_alone'] is None else ' outside of these sites'} who has this "
        "file, whatever else they know and compute, and for all trainings on these records so far together. ε is the "
        "largest of all sites.\n\n"
        "It does not say that nothing about a patient can be concluded (that smoking harms applies to every smoker, "
        f"whether or not they took part), and does not cover the figures above{several}.\n\n"
        f"Mechanism: DP-SGD at every site, each {unit}'s gradient clipped to {held['max_grad_norm']}, Gaussian noise "
        f"of {held['noise_multiplier']} times that on every step, {unit}s drawn with chance {held['sample_rate']}, "
        f"{counted(held['steps_per_round'], 'step')} a round; at most ε = {held['max_epsilon']} was "
        f"agreed.{_shared(held)}"
    )


def _shared(held: Mapping[str, Any]) -> str:
    if held["epsilon_alone"] is None:
        return ""
    return (
        " Each site adds a part of that noise, a discrete Gaussian in the field of the sum, and the parts of "
        f"{held['parts']} honest sites make it up. Where all other sites pool what they know against one, the ε of its "
        f"records is {held['epsilon_alone']}."
    )


def _training(facts: Mapping[str, Any]) -> str:
    training, federation = facts["training"], facts["federation"]
    rows = [[plain(name), f"{count} of {training['rounds']}"] for name, count in training["in_rounds"].items()]
    compressed = (
        f"{float(training['density']):.1%} of the parameters in a round, by {plain(training['compression'])}"
        if training["compression"] != "none"
        else "all parameters in every round"
    )
    text = (
        f"The federation {plain(federation['name'])}, epoch {federation['epoch']}: {', '.join(federation['sites'])}. "
        f"{counted(training['rounds'], 'round')}; no record left its site, and no site's update was "
        "seen by anybody: only sums "
        f"over at least a quorum of sites were opened, in a prime field of {training['field']} bits, {compressed}."
    )
    return f"{text}\n\n{_table(['site', 'rounds in which its update counts'], rows)}"


def _check(facts: Mapping[str, Any]) -> str:
    ledger = facts["ledger"]
    return (
        f"The first {counted(ledger['entries'], 'entry')} of the sites' ledger have the root "
        f"`{ledger['root']}`; its first entry "
        f"is `{ledger['genesis']}`, and names the peers.yaml of SHA-256 `{facts['federation']['first']}`. Each "
        "site holds that ledger, signed by a quorum; ask one for `p2pfl ledger export --with-verifier`, which anybody "
        "can check. The last round's entry names this model. `p2pfl model show` computes the model's digest from its "
        "tensors and refuses a file whose card names another."
    )


def _day(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "an unknown day"
