"""A task that peers.yaml describes: a table, images or volumes. One file of it is what `peers create --task` takes.

A table's file holds the table's keys at its top; of images and volumes the one key `images` or `volumes`, and theirs
below it. Under `task:` of peers.yaml each has a key of its own.
"""

from __future__ import annotations

from typing import Final

from p2pfl.federation import strict_yaml
from p2pfl.federation.misfits import Misfits
from p2pfl.federation.readers import Table, table
from p2pfl.federation.scan_schema import SECTIONS, ImageSchema, VolumeSchema, read_images, read_volumes
from p2pfl.federation.table_schema import TableSchema

TABLE: Final = "table"
Described = TableSchema | ImageSchema | VolumeSchema


def parse_description(raw: bytes, source: str) -> Described:
    """The task in a file of its own. Raises leaves of errors.federation with line and column."""
    top = strict_yaml.read_yaml(raw, source)
    return read_section(top) if section_of(top) != TABLE else TableSchema.read(top)


def section_of(top: Table) -> str:
    """Which kind of task the keys of `top` describe; a table, unless they name another."""
    return next((name for name in SECTIONS if name in top.rows), TABLE)


def read_section(row: Table) -> Described:
    """The task under the one key `table`, `images` or `volumes` of `row`. Raises TableUnfit, WrongValue, UnknownKey."""
    name = section_of(row)
    row.only((name,))
    section = row.value(name, table)
    if name == TABLE:
        return TableSchema.read(section)
    found = Misfits(section.place)
    schema: Described = read_images(section, found) if name == "images" else read_volumes(section, found)
    found.refuse_any()
    return schema
