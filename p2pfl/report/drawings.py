"""Figures as SVG text for a page: the same bytes for the same facts, colours that follow the page, words for the blind.

Colours are Okabe and Ito's (2008), which people with any colour vision tell apart; each thing differs in form, too, so
that a print in black and white says the same. No date and no random id is in a figure. matplotlib draws.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

INK, MUTED, LINE, BLUE, RED, GREEN = "#1a1a1b", "#65656a", "#d4d4d9", "#0072b2", "#d55e00", "#009e73"
# In the page a colour is a property of its style sheet, which has another value where the reader prefers it dark.
VARIABLES: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    BLUE: "var(--blue)",
    RED: "var(--red)",
    GREEN: "var(--green)",
}
WIDTH: Final = 6.6  # inches: the text of an A4 page
SMALL: Final = 60  # columns up to which each cell of a grid stands alone
STYLE: Final[Any] = {
    "svg.hashsalt": "p2pfl",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name is a name, whatever it holds
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
    "path.simplify": False,
}
NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure for a page. `svg` is markup that was made here; `alt` says in words what it shows."""

    name: str
    svg: str
    alt: str


@contextmanager
def _canvas(height: float, width: float = WIDTH) -> Iterator[tuple[Canvas, Axes]]:
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height))
        FigureCanvasSVG(canvas)
        yield canvas, canvas.add_subplot()


def _drawing(canvas: Canvas, name: str, alt: str) -> Drawing:
    held = io.StringIO()
    canvas.savefig(held, format="svg", metadata=NO_METADATA, bbox_inches="tight", pad_inches=0.04)
    return Drawing(name, _inline(held.getvalue(), name), alt)


def _inline(text: str, name: str) -> str:
    """The `svg` element alone, for a page that holds several: ids of its own, colours of the page, no fixed size."""
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, count=1, flags=re.S)  # it would be the page's
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = re.sub(r'(<svg[^>]*?) width="[0-9.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[0-9.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) version="1.1"', r'\1 role="img" aria-labelledby="' + name + '-alt"', svg, count=1)
    svg = re.sub(r"(font(?:-family)?: [^;\"]*?)'?DejaVu Sans'?[^;\"]*", r"\1sans-serif", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.strip()


# ── who took part ─────────────────────────────────────────────────────────────────────────────────────────────


def participation(rows: Sequence[tuple[str, Sequence[str]]], label: str) -> Drawing:
    """Sites by rounds. rows: of each site a name, and for each round `in`, `out` or `none` (no member then)."""
    count = max((len(cells) for _, cells in rows), default=0)
    with _canvas(0.55 + 0.24 * len(rows)) as (canvas, axes):
        for at, (_, cells) in enumerate(rows):
            for first, length, state in runs_of(cells, alone=count <= SMALL):
                left, wide = first + 0.56, length - 0.12
                fill, edge = (BLUE, BLUE) if state == "in" else ("none", RED)
                axes.broken_barh([(left, wide)], (at - 0.36, 0.72), linewidth=1.0, facecolor=fill, edgecolor=edge)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlim(0.4, count + 0.6)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set_xlabel(label)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        told = "; ".join(f"{name} in {list(cells).count('in')} of {_there(cells)}" for name, cells in rows)
        return _drawing(canvas, "participation", f"Which site's numbers are in which sum, {count} in all: {told}.")


def _there(cells: Sequence[str]) -> int:
    return len(cells) - list(cells).count("none")


def runs_of(cells: Sequence[str], *, alone: bool) -> list[tuple[int, int, str]]:
    """(first, how many, state) of neighbours that are alike; `alone`: each by itself. What is `none` is left out."""
    found: list[tuple[int, int, str]] = []
    for at, state in enumerate(cells):
        if not alone and found and found[-1][2] == state and sum(found[-1][:2]) == at:
            found[-1] = (found[-1][0], found[-1][1] + 1, state)
        elif state != "none":
            found.append((at, 1, state))
    return found


# ── curves ────────────────────────────────────────────────────────────────────────────────────────────────────


def metric(points: Sequence[tuple[int, float, float | None, float | None]], title: str) -> Drawing:
    """points: rounds in the model, value, and the ends of its 95 % interval, where it has one."""
    with _canvas(2.5) as (canvas, axes):
        for part in _unbroken(points):
            at = [one[0] for one in part]
            banded = [one for one in part if one[2] is not None and one[3] is not None]
            if len(banded) == len(part) > 1:
                axes.fill_between(at, [one[2] or 0.0 for one in part], [one[3] or 0.0 for one in part], **BAND)
            else:
                for one in banded:
                    axes.vlines(one[0], one[2] or 0.0, one[3] or 0.0, color=BLUE, linewidth=4.0, alpha=0.25)
            axes.plot(at, [one[1] for one in part], color=BLUE, marker="o", markersize=_mark(len(points)))
        _whole_axis(axes, "rounds of training in the model")
        axes.set_ylabel(title)
        first, last = points[0], points[-1]
        interval = "" if last[2] is None or last[3] is None else f" (95 % interval {last[2]:.3f} to {last[3]:.3f})"
        alt = f"{title} by rounds of training: {first[1]:.3f} with {first[0]}, {last[1]:.3f} with {last[0]}{interval}."
        return _drawing(canvas, "metric", alt)


BAND: Final[Mapping[str, Any]] = {"color": BLUE, "alpha": 0.18, "linewidth": 0.0}


def _unbroken(points: Sequence[tuple[int, float, float | None, float | None]]) -> Iterator[list[Any]]:
    """Points without a gap between them: no line is drawn where nothing was measured."""
    part: list[Any] = []
    for one in points:
        if part and one[0] > part[-1][0] + 1:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _mark(count: int) -> float:
    """The size of markers: none where they would run into each other."""
    return 4.0 if count <= SMALL else 0.0 if count > 1 else 5.0


def _whole_axis(axes: Axes, label: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel(label)


def epsilon(points: Sequence[tuple[int, float, float]], limit: float | None) -> Drawing:
    """points: round, the largest ε of a site after it, the smallest."""
    with _canvas(2.2) as (canvas, axes):
        at, most, least = ([one[part] for one in points] for part in range(3))
        axes.fill_between(at, least, most, step="post", color=BLUE, alpha=0.18, linewidth=0.0)
        axes.step(at, most, where="post", color=BLUE, marker="o", markersize=_mark(len(points)))
        if limit is not None:
            axes.axhline(limit, color=RED, linestyle="--", linewidth=1.2)
            axes.annotate(f"agreed limit {limit:g}", (at[0], limit), (2, 3), color=RED, textcoords="offset points")
        axes.set_ylim(0.0, 1.12 * max([*most, limit or 0.0, 0.1]))
        _whole_axis(axes, "rounds of training")
        axes.set_ylabel("ε spent")
        bound = f", of at most {limit:g} agreed" if limit is not None else ""
        ends = f"{most[0]:.2f} after round {at[0]}, {most[-1]:.2f} after round {at[-1]}"
        return _drawing(canvas, "epsilon", f"ε, the largest of any site: {ends}{bound}.")


def traffic(sent: Sequence[tuple[int, float]], dense: float) -> Drawing:
    """sent: round, bytes that this site sent. dense: what a plain all-reduce of the whole model would have sent."""
    with _canvas(2.2) as (canvas, axes):
        unit, word = _unit(max([dense, *(count for _, count in sent)]))
        axes.bar([at for at, _ in sent], [count / unit for _, count in sent], color=BLUE, width=0.8)
        if dense:
            axes.axhline(dense / unit, color=RED, linestyle="--", linewidth=1.2)
        axes.set_ylim(0.0, 1.15 * max([dense, *(count for _, count in sent)]) / unit)
        _whole_axis(axes, "round")
        axes.set_ylabel(f"sent by this site, {word}")
        mean = math.fsum(count for _, count in sent) / len(sent)
        alt = f"Bytes that this site sent in each of {len(sent)} rounds: {mean / unit:.2f} {word} on average"
        return _drawing(canvas, "traffic", f"{alt}; a dense fp32 all-reduce sends {dense / unit:.3g} {word}.")


def _unit(most: float) -> tuple[float, str]:
    return next(
        ((size, word) for word, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if most >= size), (1.0, "bytes")
    )


# ── how good, and how honest ──────────────────────────────────────────────────────────────────────────────────


def roc(curve: Sequence[tuple[float, float]], point: Sequence[tuple[float, float, float]], title: str) -> Drawing:
    """curve: (1 − specificity, sensitivity), empty where no site holds one.

    point   at a score of one half: specificity and sensitivity, each with its interval
    """
    with _canvas(3.1, 3.3) as (canvas, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.0)
        if curve:
            axes.plot([one[0] for one in curve], [one[1] for one in curve], color=BLUE)
        alt = f"ROC plane: {title}."
        if point:
            (special, low, high), (sense, least, most) = point
            across, up = [[special - low], [high - special]], [[sense - least], [most - sense]]
            axes.errorbar(
                1 - special, sense, yerr=up, xerr=across[::-1], color=RED, marker="s", capsize=3, markersize=5
            )
            alt += f" At a score of one half: sensitivity {sense:.3f}, specificity {special:.3f}."
        _square(axes, "1 − specificity", "sensitivity")
        return _drawing(canvas, "roc", alt)


def calibration(groups: Sequence[tuple[float, float, float, float]], error: float | None) -> Drawing:
    """groups: mean score, share of positives, and the ends of its 95 % interval."""
    with _canvas(3.1, 3.3) as (canvas, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.0)
        said, seen = [one[0] for one in groups], [one[1] for one in groups]
        spread = [[one[1] - one[2] for one in groups], [one[3] - one[1] for one in groups]]
        axes.errorbar(said, seen, yerr=spread, color=BLUE, marker="o", markersize=4.5, capsize=3)
        _square(axes, "probability that the model says", "share of patients for whom it is so")
        by = f", {error:.3f} off on average" if error is not None else ""
        pairs = "; ".join(f"said {one[0]:.2f}, was {one[1]:.2f}" for one in groups)
        return _drawing(canvas, "calibration", f"Calibration{by}: {pairs}.")


def _square(axes: Axes, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
