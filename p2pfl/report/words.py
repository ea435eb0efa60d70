"""What ε says, for a person who decides and does not compute, and how figures and bytes are called. Pure."""

from __future__ import annotations

import math
from typing import Final

LABELS: Final = {"auc": "AUC", "dice": "Dice", "rmse": "RMSE", "mse": "MSE", "mae": "MAE", "r2": "R²", "brier": "Brier"}
CHANCES: Final = (0.01, 0.1, 0.5)  # of what somebody may think before: that the patient's record was used


def at_most(before: float, epsilon: float) -> float:
    """What a chance of `before` may become by all that the model tells, δ aside: e^ε times the odds, and no more."""
    if not math.isfinite(epsilon) or epsilon > 700.0:  # e^709 is the largest that a float holds
        return 1.0
    odds = before / (1.0 - before) * math.exp(epsilon)
    return odds / (1.0 + odds)


def unbounded() -> list[str]:
    """Of a training without differential privacy."""
    return [
        "The sites agreed to train without differential privacy. Nothing bounds what the model tells of a single "
        "patient: it may have memorised some. Treat the model as you treat the records themselves.",
        "What stays true: no record left its hospital, and no hospital's own contribution was seen by another.",
    ]


def bounded_by(
    epsilon: float, delta: float, unit: str, parts: int | None = None, alone: float | None = None
) -> list[str]:
    """ε at δ for one `unit`, in sentences.

    parts   sites whose parts make up the noise, where each adds one; `alone`: ε against all other sites, if it is known
    """
    factor = math.exp(min(epsilon, 700.0))
    one = "patient" if unit == "patient" else "patient's record"
    steps = [f"{percent(before)} can become {percent(at_most(before, epsilon))} at most" for before in CHANCES]
    several = (
        ""
        if unit == "patient"
        else " A patient with several records is protected less: with k of them by more than k times ε."
    )
    return [
        f"Suppose that somebody has the model, and wants to find out whether one {one} was used to train it. Whatever "
        f"else they know, and however long they compute, the odds that they can justify change by a factor of "
        f"{factor:.3g} at most (e to the power of ε = {epsilon:.2f}). A suspicion of {'; one of '.join(steps)}.",
        f"That can fail with a chance of δ = {rarely(delta)} at most. It holds against "
        f"{'anybody' if parts is None else 'anybody outside of the study'}, covers all trainings on these records so "
        f"far together, and does not wear off.{several}",
        *([] if parts is None else [in_parts(parts, alone)]),
        "It does not say that nothing can be concluded about a patient: what is true of patients in general (that "
        "smoking harms) applies to each of them, whether they took part or not.",
    ]


def in_parts(parts: int, alone: float | None) -> str:
    """Against whom among the hospitals themselves noise holds of which each adds a part."""
    less = "a larger ε holds, which the model's card names" if alone is None else f"ε = {alone:.2f} holds"
    return (
        f"Each hospital adds a part of the noise, and those of {parts} honest hospitals are enough: the same ε holds "
        f"against hospitals that pool what they see, as long as {parts} of each sum do not, the patient's own among "
        f"them. Where all others pool what they know against one hospital, {less} for its records."
    )


def rarely(chance: float) -> str:
    """1e-05 (1 in 100 000)."""
    return f"{chance:g} (1 in {round(1 / chance):,})".replace(",", " ") if 0.0 < chance < 1.0 else f"{chance:g}"


def percent(chance: float) -> str:
    """1 %, 88.8 %, 99.99 %: as many digits as keep it from being 100 %."""
    for digits in (0, 1, 2, 4):
        text = f"{100 * chance:.{digits}f}"
        if abs(float(text) - 100 * chance) < 0.05 and (chance == 1.0 or float(text) < 100.0):
            return f"{text} %"
    return "nearly 100 %"


def label(name: str) -> str:
    """What people call a figure."""
    return LABELS.get(name, name.replace("_", " "))


def amount(count: float) -> str:
    """Bytes as people read them: 812 B, 3.1 kB, 412 MB (powers of 1000)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            scaled = count / size
            return f"{scaled:.0f} {unit}" if scaled >= 100 else f"{scaled:.1f} {unit}"
    return f"{count:.0f} B"
