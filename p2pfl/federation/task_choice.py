"""What peers.yaml says under `task:`."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.federation.clients import ClientChoice
from p2pfl.federation.description import read_section
from p2pfl.federation.readers import Table, text
from p2pfl.federation.scan_schema import ImageSchema, VolumeSchema
from p2pfl.federation.settings import HEX32
from p2pfl.federation.table_schema import TableSchema


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """What peers.yaml describes; a class of a file pinned by its SHA-256; or code of each site's own.

    python   the name of a Task that each site makes, whose code nobody pins
    client   what the sites agree on where each brings a client of Flower, MONAI or scikit-learn
    """

    table: TableSchema | None = None
    scans: ImageSchema | VolumeSchema | None = None
    file: str | None = None
    cls: str | None = None
    sha256: bytes | None = None
    python: str | None = None
    client: ClientChoice | None = None

    @property
    def label(self) -> str:
        """How it is called in a model's file, and by people."""
        if self.python is not None:
            return f"python:{self.python}"
        if self.client is not None:
            return self.client.label
        if self.scans is not None:
            return self.scans.kind
        return "table" if self.table is not None else f"{self.file}:{self.cls}"


def read_task(row: Table) -> TaskChoice:
    """The table under `task:`. Raises leaves of errors.federation."""
    if "client" in row.rows:
        return TaskChoice(client=ClientChoice.read(row))
    pinned = "file" in row.rows
    if "python" in row.rows:
        row.only(("python",))
        return TaskChoice(python=row.value("python", text(r"[A-Za-z0-9_.-]{1,100}", "the name of a task in Python")))
    if not pinned:
        described = read_section(row)
        return TaskChoice(table=described) if isinstance(described, TableSchema) else TaskChoice(scans=described)
    row.only(("file", "class", "sha256"))
    return TaskChoice(
        file=row.value("file", text(r"[A-Za-z0-9_.-]{1,100}\.py", "a file's name ending in .py")),
        cls=row.value("class", text(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "a class in that file")),
        sha256=bytes.fromhex(row.value("sha256", HEX32)),
    )
