"""A figure as SVG, the same bytes for the same picture: what the drawings of plans, forecasts and comparisons share."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from p2pfl.errors.planning import PlotLibraryMissing

STYLE: Final[Any] = {
    "font.size": 9.0,
    "svg.hashsalt": "p2pfl",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
}
NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@contextmanager
def svg(width: float, height: float, look: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, io.BytesIO]]:
    """A matplotlib Figure of so many inches to draw into, and where its SVG lies behind the block.

    look    settings of matplotlib beside STYLE
    Raises PlotLibraryMissing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotLibraryMissing(evidence="no package called matplotlib") from None
    out, settings = io.BytesIO(), dict[Any, Any](STYLE) | dict(look or {})
    with mpl.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, out
        figure.savefig(out, format="svg", metadata=NO_METADATA)
