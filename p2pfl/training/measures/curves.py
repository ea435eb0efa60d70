"""ROC and calibration of a yes-or-no model, from counts of scores by class and bin, in groups large enough to be shown.

A curve with a step for each score says of single patients where they stand. So neighbouring bins are put together until
each group holds `least` patients of either class: no point of a curve is that of fewer. Where a patient may have
several records, counts of records do not say so, and there is no curve (docs/adr/0100).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from p2pfl.federation.table_labels import BinaryLabel
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.training.measures.classification import MIDDLES, Binary
from p2pfl.training.measures.measure import UNIT, proportion
from p2pfl.training.measures.scores import BINS

LEAST: Final = 5  # patients of either class in a group
GROUPS: Final = 10  # most groups in which calibration is shown

Counts2 = tuple[int, int, float]  # negative, positive, sum of scores of both


def curves_of(task: TaskChoice, total: Sequence[int], least: int = LEAST) -> dict[str, Any] | None:
    """Curves from the sum of all sites' counts: `least`, `roc`, `calibration`. None where the task has no such ones.

    roc           [1 − specificity, sensitivity], from the highest scores down
    calibration   [mean score, share of positives, low, high], 95 % interval of Wilson
    """
    if task.table is None or task.table.patient:
        return None
    if not isinstance(task.table.label, BinaryLabel) or len(total) != Binary.size:
        return None
    negative, positive = list(total[:BINS]), list(total[BINS : 2 * BINS])
    if min(*negative, *positive) < 0:
        return None
    least = max(least, LEAST)
    groups = _groups(negative, positive, least)
    if len(groups) < 2:
        return None
    m, n = sum(one[1] for one in groups), sum(one[0] for one in groups)
    roc, false, true = [[0.0, 0.0]], 0, 0
    for without, having, _ in reversed(groups):
        false, true = false + without, true + having
        roc.append([round(false / n, 6), round(true / m, 6)])
    coarse = _groups(negative, positive, max(least, -(-min(m, n) // GROUPS)))
    return {"least": least, "roc": roc, "calibration": [_calibrated(one) for one in coarse]}


def _groups(negative: Sequence[int], positive: Sequence[int], least: int) -> list[Counts2]:
    """Neighbouring bins together, each group with at least `least` of either class; what is left joins the last."""
    found, held = list[Counts2](), (0, 0, 0.0)
    for without, having, middle in zip(negative, positive, MIDDLES, strict=True):
        held = (held[0] + without, held[1] + having, held[2] + (without + having) * middle / UNIT)
        if min(held[:2]) >= least:
            found.append(held)
            held = (0, 0, 0.0)
    if found and (held[0] or held[1]):
        last = found.pop()
        found.append((last[0] + held[0], last[1] + held[1], last[2] + held[2]))
    return found


def _calibrated(group: Counts2) -> list[float]:
    without, having, scores = group
    share = proportion(having, without + having)
    return [round(part, 6) for part in (scores / (without + having), share.value, share.low, share.high)]
