"""What the sites agreed on about statistics of their tables: how small a group may be, what may be asked, how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.federation.readers import List, Word, YamlNode, wrong
from p2pfl.federation.table_columns import MOST_COLUMNS, is_column_name
from p2pfl.federation.table_schema import TableSchema

KINDS: Final = (
    "describe", "table-one", "histogram", "quantiles", "crosstab", "correlation", "ttest", "anova", "km", "linear",
    "logistic", "poisson", "cox", "roc", "calibration", "meta",
)  # fmt: skip
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class StatisticsRules:
    """The same at every site, and enforced at each before anything leaves.

    minimum_cell   the fewest people of a group that is counted, unless there is nobody in it
    most_numbers   that one question may open
    questions      about one data set, counted at each site; the same question of the same data counts once
    only           columns that may be asked; None: all of the table's
    never          columns that may not be asked, whatever `only` says
    standing       kinds of question that need no approval of their own
    noise_multiplier   of each sum of a question, in units of what one record or patient moves; 0: exact, and guarded
    """

    minimum_cell: int
    most_numbers: int
    questions: int
    only: tuple[str, ...] | None
    never: tuple[str, ...]
    standing: tuple[str, ...]
    noise_multiplier: float

    def allows(self, column: str) -> bool:
        """The column may be asked."""
        return column not in self.never and (self.only is None or column in self.only)

    def unknown_to(self, schema: TableSchema | None) -> tuple[str, ...]:
        """Columns that these rules name and the described table does not have."""
        known = [one.name for one in schema.described] if schema is not None else []
        return tuple(name for name in (*(self.only or ()), *self.never) if name not in known)


def words_of(node: YamlNode) -> tuple[str, ...] | None:
    """The words of a list; also of one that the command line gave as `[a, b]`; None of what is no list of words."""
    if isinstance(node, List):
        words = tuple(one.text for one in node.values if isinstance(one, Word))
        return words if len(words) == len(node.values) else None
    if isinstance(node, Word) and not node.place.line and node.text.startswith("[") and node.text.endswith("]"):
        inner = node.text[1:-1].strip()
        return tuple(one.strip() for one in inner.split(",")) if inner else ()
    return None


def read_columns_named(node: YamlNode, key: str) -> tuple[str, ...]:
    """A list of columns' names. Raises WrongValue."""
    words = words_of(node)
    if words is None or len(words) > MOST_COLUMNS or not all(map(is_column_name, words)):
        wrong(node, key, "a list of columns, as [age, sex]")
    return words


def read_columns_or_all(node: YamlNode, key: str) -> tuple[str, ...] | None:
    """`all` (None), or a list of columns' names. Raises WrongValue."""
    if isinstance(node, Word) and node.text == ALL:
        return None
    if words_of(node) is None:
        wrong(node, key, "all, or a list of columns, as [age, sex]")
    return read_columns_named(node, key)


def read_kinds(node: YamlNode, key: str) -> tuple[str, ...]:
    """A list of kinds of question. Raises WrongValue."""
    words = words_of(node)
    if words is None or not all(word in KINDS for word in words):
        wrong(node, key, f"a list, maybe empty, of {', '.join(KINDS)}")
    return words
