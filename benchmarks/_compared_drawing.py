"""The plot of benchmarks/compression_table.py: metric over bytes, a panel for each model and ε. SVG, the same bytes
each time; each way to send has a colour and a mark of its own, variants of lowrank a mark and its colour."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from p2pfl.simulate.svg import svg

if TYPE_CHECKING:
    from benchmarks.compression_table import Row

# Okabe and Ito 2008
LOOKS: Final = {
    "none": ("#000000", "s"),
    "lowrank": ("#0072B2", "o"),
    "nominate": ("#D55E00", "^"),
    "both": ("#E69F00", "<"),
    "leader": ("#56B4E9", ">"),
    "random": ("#CC79A7", "v"),
    "turning": ("#009E73", "D"),
    "momentum": ("#0072B2", "*"),
    "two": ("#0072B2", "P"),
    "residual": ("#0072B2", "X"),
    "growing": ("#0072B2", "h"),
}

ABREAST: Final = 2  # panels


def drawing(rows: Sequence[Row]) -> bytes:
    """One panel for each model, its rounds and ε."""
    panels = list(dict.fromkeys(row.panel for row in rows))
    wide = min(ABREAST, len(panels))
    high = -(-len(panels) // wide)
    with svg(0.6 + 4.2 * wide, 3.6 * high) as (canvas, out):
        for place, panel in enumerate(panels, start=1):
            axes = canvas.add_subplot(high, wide, place)
            mine = [row for row in rows if row.panel == panel]
            of = mine[0]
            middle = statistics.median(row.mean for row in mine)
            for row in mine:
                kind, _, value = row.method.partition(":")
                colour, mark = LOOKS[kind]
                axes.errorbar(
                    row.share, row.mean, row.spread or None, color=colour, marker=mark, capsize=3, linestyle=""
                )
                up = row.mean >= middle  # of neighbours the better one's name stands above
                end = row.mean + (row.spread if up else -row.spread)
                axes.annotate(
                    f"{kind} {value}".strip(), (row.share, end), (0, 5 if up else -12),
                    textcoords="offset points", color=colour, ha="center",
                )  # fmt: skip
            axes.margins(y=0.15)
            axes.set_xscale("log")
            shares = [row.share for row in mine]
            axes.set_xlim(min(shares) / 4, 4 * max(shares))
            axes.set_xlabel("bytes of a site / whole fp32 updates")
            axes.set_ylabel(f"{of.metric}, mean ± sd")
            told = dict.fromkeys(f"{len(row.seeds)}" for row in sorted(mine, key=lambda one: len(one.seeds)))
            seeds = f"{' or '.join(told)} seed{'s' * (list(told) != ['1'])}"
            axes.set_title(f"{of.model}: {of.about}\nε {of.budget:g}, {of.rounds} rounds, {seeds}", fontsize=9.0)
    return out.getvalue()
