"""A report as one HTML page: no script, no other file, every word from elsewhere escaped. Pure: facts in, text out.

jinja2 fills the templates, with autoescape, and refuses a name that it does not know; what is markup was made here
(drawings.py). The page's own policy lets a browser load nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from p2pfl.report import drawings, words
from p2pfl.report.drawings import Drawing
from p2pfl.report.reported import LedgerFacts, ReportedFigure, ReportedRound
from p2pfl.report.study import StudyReport

TEMPLATES: Final = Path(__file__).parent / "templates"
MOST_NOTES: Final = 40  # incidents that the page lists; the ledger has all
MOST_SIGNERS: Final = 6  # names in a cell; of more, how many there are


def page(report: StudyReport) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": words.amount,
        "ranges": ranges,
        "figure": figure,
        "label": words.label,
        "named": named,
        "short": lambda value: f"{value[:12]}…" if len(value) > 12 else value,
        "percent": words.percent,
    }
    drawn = {one.name: {"svg": Markup(one.svg), "alt": one.alt} for one in _drawings(report)}
    return environment.get_template("report.html").render(
        r=report,
        ledger=report.ledger,
        beside=report.beside,
        last=report.ledger.last_measured,
        earlier=_earlier_model(report.ledger),
        drawn=drawn,
        privacy_words=_privacy_words(report),
        notes=report.ledger.incidents[-MOST_NOTES:],
        least_sum=_least_sum(report.ledger.rounds),
        first_judged=_first_judged,
    )


# ── what is drawn ─────────────────────────────────────────────────────────────────────────────────────────────


def _drawings(report: StudyReport) -> Iterator[Drawing]:
    ledger = report.ledger
    rounds = ledger.trained or tuple(one.last for one in ledger.questions)
    if rounds:
        label_ = "round" if ledger.trained else "question"
        yield drawings.participation(
            [(one.name, _cells(one.name, rounds, ledger.epochs)) for one in ledger.sites], label_
        )
    points = [(at, one.value, one.low, one.high) for at, one in ledger.metric_by_rounds]
    if points:
        yield drawings.metric(points, words.label(ledger.metric)[:60])
    if spent := ledger.epsilon_by_rounds:
        limit = ledger.privacy.max_epsilon if ledger.privacy else None
        yield drawings.epsilon(spent, limit)
    if report.beside.sent:
        yield drawings.traffic([(one.round, float(one.sent)) for one in report.beside.sent], report.dense_bytes)
    yield from _quality(report)


def _quality(report: StudyReport) -> Iterator[Drawing]:
    last, curves = report.ledger.last_measured, report.beside.curves
    figures = last.figures if last is not None else {}
    point = [
        (one.value, one.value if one.low is None else one.low, one.value if one.high is None else one.high)
        for one in (figures.get("specificity"), figures.get("sensitivity"))
        if one is not None
    ]
    point = point if len(point) == 2 else []
    if curves is not None or point:
        auc = figures.get("auc")
        title = f"AUC {figure(auc)}" if auc is not None else "no AUC was measured"
        held = curves.roc if curves is not None else ()
        yield drawings.roc(held, point, title)
    if curves is not None and curves.calibration:
        error = figures.get("calibration_error")
        yield drawings.calibration(curves.calibration, error.value if error is not None else None)


def _cells(name: str, rounds: Sequence[ReportedRound], epochs: Mapping[int, Sequence[str]]) -> list[str]:
    return ["in" if name in one.survivors else "out" if name in epochs.get(one.epoch, ()) else "none" for one in rounds]


def _earlier_model(ledger: LedgerFacts) -> str:
    """Which model the last figures are of, where rounds of training came behind it; else empty."""
    measured, trained = ledger.measured, ledger.count_trained
    if not measured or measured[-1][0] == trained:
        return ""
    model, last = measured[-1][0], ledger.trained[-1]
    which = f"after {model} of {trained} rounds" if model else "before the first round"
    why = f": {last.unmeasured}" if last.unmeasured else ""
    return f"of the model {which}; the last one was not measured{why}"


def _first_judged(one: ReportedRound) -> list[tuple[str, ReportedFigure]]:
    """The figures, the one that the training is judged by first."""
    return sorted(one.figures.items(), key=lambda row: row[0] != one.metric)


def _least_sum(rounds: Sequence[ReportedRound]) -> int:
    """The fewest sites of any sum; 0 without one."""
    return min((len(one.survivors) for one in rounds), default=0)


def _privacy_words(report: StudyReport) -> list[str]:
    held = report.ledger.privacy
    if held is None or not report.ledger.count_trained:
        return []
    if held.unit == "none" or held.epsilon is None:
        return words.unbounded()
    return words.bounded_by(held.epsilon, held.delta or 0.0, held.unit, held.parts, report.epsilon_alone)


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────────────────


def figure(held: ReportedFigure) -> str:
    """0.871 (0.820 to 0.922)."""
    interval = "" if held.low is None or held.high is None else f" ({held.low:.3f} to {held.high:.3f})"
    return f"{held.value:.3f}{interval}"


def ranges(numbers: Sequence[int]) -> str:
    """1, 3–7, 9: entry numbers, neighbours together."""
    parts: list[list[int]] = []
    for one in numbers:
        if parts and one == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], one]
        else:
            parts.append([one])
    shown = ["–".join(map(str, part)) for part in parts]
    return ", ".join(shown[:24]) + (f", … {len(numbers)} in all" if len(shown) > 24 else "")


def named(names: Sequence[str], everybody: int) -> str:
    """`all 5`, or the names; of many, how many."""
    if len(names) == everybody:
        return f"all {everybody}"
    return ", ".join(names) if len(names) <= MOST_SIGNERS else f"{len(names)} of {everybody}"
