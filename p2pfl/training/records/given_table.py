"""A table as somebody hands it over: a CSV, or a pandas DataFrame, which is read as the CSV that it is written to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from p2pfl.federation.table_columns import CodeColumn
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.records.column_map import ColumnMap, MapFile
from p2pfl.training.records.columns import read_file

FRAME: Final = "the DataFrame"  # how errors call it; its line 1 is the header


def is_frame(data: object) -> bool:
    """It is a pandas DataFrame; pandas is not loaded to find out."""
    return any(kind.__module__.partition(".")[0] == "pandas" for kind in type(data).__mro__) and hasattr(data, "to_csv")


@dataclass(frozen=True, slots=True)
class GivenTable:
    """The bytes of a CSV, and how errors call what they came from.

    typed   they are a DataFrame's: its numbers are numbers, however a file of the same site writes them
    """

    raw: bytes = field(repr=False)
    source: str = "the records"
    typed: bool = False

    @classmethod
    def of(cls, data: Any) -> GivenTable:
        """A path, a DataFrame, or what was read before. Raises DataUnreadable."""
        if isinstance(data, GivenTable):
            return data
        return cls.of_frame(data) if is_frame(data) else cls.of_file(data)

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> GivenTable:
        """Raises DataUnreadable."""
        return cls(read_file(Path(path)), str(path))

    @classmethod
    def of_frame(cls, frame: Any) -> GivenTable:
        """pandas makes floats of whole numbers where a cell is blank; they are whole again here: 1.0 is no level 1."""
        text: str = frame.convert_dtypes().to_csv(index=False)
        return cls(text.encode(), FRAME, typed=True)

    def column_map(self, schema: TableSchema, raw: bytes | None) -> ColumnMap:
        """The site's map onto all columns that the schema describes, those too that this reading leaves out.

        Raises leaves of errors.federation, WrongColumnMap.
        """
        if raw is None:
            return ColumnMap()
        known = (*schema.described, *([CodeColumn(schema.patient, ())] if schema.patient else []))
        source = raw.source if isinstance(raw, MapFile) else f"{self.source}'s column map"
        found = ColumnMap.parse(raw, source, known)
        return found.of_numbers() if self.typed else found
