"""A forecast as a picture: bytes, chance, time, ε. SVG, the same bytes for the same forecast, with words for the blind.

Colours are Okabe and Ito's (2008), which people with any colour vision tell apart; lines differ in form, too.
"""

from __future__ import annotations

import math
import re
from html import escape
from typing import Any, Final

from p2pfl.simulate.forecast import Forecast, Size, stands
from p2pfl.simulate.svg import svg

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKS: Final = "osD^vP"
MOST_LINES: Final = len(COLOURS)  # numbers of sites that are drawn; the table has all
CURVE: Final = 40  # points
WIDEST_AWAY: Final = 0.5
BANDWIDTHS: Final = (1e6, 1e10)  # bits a second


def alt(found: Forecast) -> str:
    """What the picture shows, in words."""
    told = [
        f"{one.sites} sites at density {one.density:g}: {one.bytes / 1e6:.3g} MB sent by a site in a round, "
        f"{one.seconds:.3g} s a round, {100 * one.stands:.4g} % chance that it stands"
        for one in found.sizes
    ]
    spent = [f"noise {one.noise_multiplier:g}, {one.rounds} rounds: ε {one.epsilon:.3g}" for one in found.spent]
    return ". ".join(["Four diagrams of a forecast", *told, *spent]) + "."


def drawing(found: Forecast) -> bytes:
    """The picture as SVG. Raises PlotLibraryMissing."""
    with svg(8.4, 6.6, {"legend.frameon": False, "legend.fontsize": 8.0}) as (canvas, out):
        (sent, chance), (time, privacy) = canvas.subplots(2, 2)
        _bytes(sent, found)
        _chance(chance, found)
        _seconds(time, found)
        _epsilon(privacy, found)
    words = f' role="img"><title>Forecast of a federation</title><desc>{escape(alt(found))}</desc>'
    named = re.sub(r"(<svg[^>]*)>", lambda opened: opened[1] + words, out.getvalue().decode(), count=1)
    return named.encode()


def _line(place: int, *, marks: bool = False) -> dict[str, Any]:
    at = place % MOST_LINES
    return {"color": COLOURS[at], "linestyle": DASHES[at], **({"marker": MARKS[at], "markersize": 5} if marks else {})}


def _bytes(axes: Any, found: Forecast) -> None:
    """Over sites, a line for each density: by the fit; a filled mark is a real round, an empty one is fitted."""
    last = max(one.sites for one in found.sizes)
    over = _spread(3, max(last, 10))
    densities = sorted({one.density for one in found.sizes}, reverse=True)
    for place, density in enumerate(densities[:MOST_LINES]):
        style = _line(place)
        axes.plot(over, [found.size(n, density).bytes for n in over], label=f"density {density:g}", **style)
        for one in found.sizes:
            if one.density == density:
                face = style["color"] if one.how == "real" else "white"
                axes.plot([one.sites], [one.bytes], MARKS[place], color=style["color"], markerfacecolor=face)
    axes.plot(
        over, [found.size(n, 1.0).dense_bytes for n in over], color="#65656a", linewidth=0.8, label="plaintext fp32"
    )
    axes.set(xscale="log", yscale="log", xlabel="sites", ylabel="bytes that a site sends in a round")
    axes.set_title("filled: real letters; empty: fitted", fontsize=9.0)
    axes.legend()


def _spread(first: int, last: int) -> list[int]:
    ratio = (last / first) ** (1.0 / (CURVE - 1))
    return sorted({round(first * ratio**step) for step in range(CURVE)})


def _by_sites(found: Forecast) -> list[Size]:
    """Of each number of sites the densest; as many as can be told apart."""
    densest = {one.sites: one for one in reversed(found.sizes)}  # they are in order of density, the densest first
    return [densest[sites] for sites in sorted(densest)][:MOST_LINES]


def _chance(axes: Any, found: Forecast) -> None:
    over = [WIDEST_AWAY * step / CURVE for step in range(CURVE + 1)]
    for place, one in enumerate(_by_sites(found)):
        axes.plot(
            over, [stands(one.sites, away) for away in over], label=f"{one.sites}, {one.quorum} needed", **_line(place)
        )
    axes.axvline(found.away, color="#65656a", linewidth=0.8)
    axes.set(xlabel="chance that a site is away", ylabel="chance that a round stands", ylim=(0, 1.03))
    axes.legend(title="sites")


def _seconds(axes: Any, found: Forecast) -> None:
    low, high = map(math.log10, BANDWIDTHS)
    over = [10.0 ** (low + (high - low) * step / CURVE) for step in range(CURVE + 1)]
    for place, one in enumerate(_by_sites(found)):
        fixed = one.seconds - 8.0 * one.bytes / found.bandwidth
        axes.plot(
            [each / 1e6 for each in over],
            [fixed + 8.0 * one.bytes / each for each in over],
            label=f"{one.sites}",
            **_line(place),
        )
    axes.axvline(found.bandwidth / 1e6, color="#65656a", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="Mbit/s of a site's uplink", ylabel="seconds of a round, no pass")
    axes.legend(title="sites")


def _epsilon(axes: Any, found: Forecast) -> None:
    noises = sorted({one.noise_multiplier for one in found.spent})
    for place, noise in enumerate(noises[:MOST_LINES]):
        rows = [one for one in found.spent if one.noise_multiplier == noise and math.isfinite(one.epsilon)]
        if rows:
            axes.plot(
                [one.rounds for one in rows],
                [one.epsilon for one in rows],
                label=f"noise multiplier {noise:g}",
                **_line(place, marks=True),
            )
            axes.legend()
    axes.set(xlabel=f"rounds of {found.steps_per_round} steps", ylabel=f"ε at δ = {found.delta:g}")
    axes.set_ylim(bottom=0)
    if not any(math.isfinite(one.epsilon) for one in found.spent):
        axes.text(0.5, 0.5, "no noise: ε is infinite", ha="center", transform=axes.transAxes)
