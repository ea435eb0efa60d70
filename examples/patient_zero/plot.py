"""The plot of findings.json: python examples/patient_zero/plot.py. Needs matplotlib, of the extra [plots]."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
# Okabe and Ito's colours, which people with any colour vision tell apart; shapes and places differ, too.
ROWS: Final = (
    ("outside", "#0072B2", "o"),
    ("inside", "#D55E00", "^"),
)
TICKS: Final = (1e-6, 1e-4, 1e-2, 0.5, 0.99)
FARTHEST: Final = (1e-7, 0.999)  # a chance beyond is drawn there


def draw(findings: Sequence[Mapping[str, Any]], out: Path) -> None:
    """patient_zero.svg and patient_zero.png in `out`: a mark for each model, at what it says of Patient Zero."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    spines = {f"axes.spines.{side}": False for side in ("top", "right", "left")}
    matplotlib.rcParams.update({"font.size": 10, "svg.hashsalt": "p2pfl", **spines})

    def place(chance: Any) -> Any:
        p = np.clip(np.asarray(chance, float), *FARTHEST)
        return np.log(p) - np.log1p(-p)

    figure, axes = plt.subplots(2, 1, figsize=(8, 5.4), sharex=True)
    for axis, found in zip(axes, findings, strict=True):
        rng = np.random.default_rng(0)
        for row, (key, colour, mark) in enumerate(ROWS):
            x = place(found[key])
            y = row + rng.uniform(-0.28, 0.28, len(x))
            axis.scatter(x, y, s=26, c=colour, marker=mark, alpha=0.7, linewidths=0)
            axis.plot([np.median(x)] * 2, [row - 0.4, row + 0.4], color=colour, linewidth=2)
        count = found["models"]
        axis.set_yticks([0, 1], [f"{count} models\nwithout her", f"{count} models\nwith her"])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-0.55, 1.55)
        axis.set_title(_title(found), loc="left", fontsize=10.5, pad=8)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    axes[-1].set_xticks(place(TICKS), [f"{100 * one:.4g}%" for one in TICKS])
    axes[-1].set_xlabel("chance that a model gives to Patient Zero's true label (line: median)")
    figure.tight_layout(h_pad=1.8)
    for suffix in ("svg", "png"):
        figure.savefig(out / f"patient_zero.{suffix}", dpi=150, metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)


def _title(found: Mapping[str, Any]) -> str:
    spent = f"With differential privacy, ε = {found['epsilon']:.1f}"
    spent = spent if found["epsilon"] < 1e6 else "Without differential privacy"
    return f"{spent}: attack's AUC {found['auc']:.2f}; accuracy on others {found['accuracy']:.1%}"


if __name__ == "__main__":
    draw(json.loads((HERE / "findings.json").read_text()), HERE)
