"""What people call the figures of a measure: those of a class by the class's own name.

In records and in `--json` a figure keeps its key, `recall_0`, whatever a level is called: keys never change meaning,
and a level's name may hold any character. The name stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from p2pfl.cli.watch import label_of
from p2pfl.federation.table_labels import ClassLabel
from p2pfl.federation.task_choice import TaskChoice

OF_A_CLASS: Final = re.compile(r"(?P<what>[a-z0-9_]+)_(?P<place>[0-9]{1,3})")


def classes_of(task: TaskChoice) -> Sequence[str]:
    """The levels that a described task tells apart; none where only its code knows them."""
    label = task.table.label if task.table is not None else None
    return label.column.levels if isinstance(label, ClassLabel) else ()


def title(figure: str, classes: Sequence[str]) -> str:
    """`recall_0` ► recall of class_0; `balanced_accuracy` ► balanced accuracy."""
    found = OF_A_CLASS.fullmatch(figure)
    if found is None or int(found["place"]) >= len(classes):
        return label_of(figure)
    return f"{label_of(found['what'])} of {classes[int(found['place'])]}"
