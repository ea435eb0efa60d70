"""Strict YAML: bytes ► one table whose every value knows its line and column, or an error that names the place.

A file that several sites agree on must mean one thing. YAML has many ways to mean two: anchors, tags, merge keys,
duplicate keys, several documents, odd line breaks. All of them are refused; what is left is maps, lists and plain or
quoted words on one line. PyYAML's event stream is used, never its constructors, so nothing is built but words, lists
and tables. Size and depth are bounded before anything is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from p2pfl.errors.federation import (
    DocumentTooLarge,
    DuplicateKey,
    FileUnreadable,
    ForbiddenCharacter,
    ForbiddenYaml,
    NotYaml,
)
from p2pfl.federation.readers import List, Position, Table, Word, YamlNode
from p2pfl.files import read_file

MOST_BYTES: Final = 1 << 18
MOST_DEPTH: Final = 6
HALF: Final = re.compile("[\ud800-\udfff]")  # PyYAML makes one of an escape

# Line breaks to YAML and to no other tool, so a diff and a reader would count lines differently.
_BREAKS: Final = {"\r": "a carriage return", "\x85": "U+0085", "\u2028": "U+2028", "\u2029": "U+2029"}


def load(path: Path, most: int = MOST_BYTES) -> bytes:
    """The file's raw bytes, one more than `most` if it has more. Raises FileUnreadable."""
    try:
        return read_file(path, most)
    except OSError as error:
        raise FileUnreadable(evidence=error.strerror or type(error).__name__, path=path) from None


def read_yaml(raw: bytes, source: str, most: int = MOST_BYTES) -> Table:
    """Return the one table that `raw` holds; `source` names the file in errors (all leaves of errors.federation)."""
    if len(raw) > most:
        _too_large(Position(source, 1, 1), f"more than {most} bytes")
    builder = _Builder(source)
    document, last = _decode(raw, source), None
    try:
        for event in yaml.parse(document, Loader=yaml.SafeLoader):
            builder.add(event)
            last = event.end_mark
    except yaml.MarkedYAMLError as error:
        place = _place(source, error.problem_mark or error.context_mark)
        raise NotYaml(evidence=str(error.problem or error.context), place=place, source=source) from None
    except yaml.reader.ReaderError as error:
        _forbidden_character(document, error.position, f"the character U+{ord(document[error.position]):04X}", source)
    except (ValueError, OverflowError) as error:
        # PyYAML turns escapes and directives into characters and numbers without checking that those exist.
        raise NotYaml(evidence=f"behind this place: {error}", place=_place(source, last), source=source) from None
    if not isinstance(builder.top, Table):
        raise NotYaml(evidence="the file holds no keys", place=Position(source, 1, 1), source=source)
    return builder.top


def _place(source: str, mark: Any) -> Position:
    return Position(source, mark.line + 1, mark.column + 1) if mark else Position(source, 1, 1)


def _decode(raw: bytes, source: str) -> str:
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        _forbidden_character("", 0, "a byte order mark", source)
    try:
        document = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        _forbidden_character(before, len(before), f"the byte 0x{raw[error.start]:02X}, which is not UTF-8,", source)
    for position, character in enumerate(document):
        if character in _BREAKS:
            _forbidden_character(document, position, _BREAKS[character], source)
    return document


def _forbidden_character(document: str, position: int, character: str, source: str) -> NoReturn:
    before = document[:position]
    place = Position(source, before.count("\n") + 1, position - before.rfind("\n"))
    raise ForbiddenCharacter(
        evidence=f"character {position + 1} of the file", place=place, source=source, character=character
    )


def _too_large(place: Position, evidence: str) -> NoReturn:
    raise DocumentTooLarge(evidence=evidence, place=place, source=place.source)


def _several_lines(event: yaml.ScalarEvent) -> str:
    if event.style in ("|", ">"):
        return "a block of text"
    start, end = _place("", event.start_mark), _place("", event.end_mark)
    return "a value over several lines" if start.line != end.line else ""


@dataclass
class _Open:
    """A collection that is not closed yet: its values so far, and for a table the key that awaits its value."""

    place: Position
    is_table: bool
    values: list[YamlNode] = field(default_factory=list)
    rows: dict[str, tuple[Position, YamlNode]] = field(default_factory=dict)
    key: tuple[str, Position] | None = None


class _Builder:
    """YAML events ► nodes, with a depth limit and no recursion."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.top: YamlNode | None = None
        self._open: list[_Open] = []
        self._documents = 0

    def add(self, event: yaml.Event) -> None:
        place = _place(self.source, event.start_mark)
        self._refuse(event, place)
        if isinstance(event, yaml.ScalarEvent):
            if half := HALF.search(event.value):
                what = f"U+{ord(half[0]):04X}, which is half of a character,"
                evidence = "written as an escape: no file and no digest can hold it"
                raise ForbiddenCharacter(evidence=evidence, place=place, source=self.source, character=what)
            self._put(Word(event.value, event.style is not None, place))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self._open) >= MOST_DEPTH:
                _too_large(place, f"nested deeper than {MOST_DEPTH}")
            self._open.append(_Open(place, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self._open.pop()
            self._put(Table(done.rows, done.place) if done.is_table else List(tuple(done.values), done.place))

    def _refuse(self, event: yaml.Event, place: Position) -> None:
        feature = ""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if event.version or event.tags:
                feature = "a % directive"
            elif self._documents > 1:
                feature = "a second document"
        elif isinstance(event, yaml.AliasEvent):
            feature = "an alias"
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor:
                feature = "an anchor"
            elif getattr(event, "tag", None):
                feature = "a tag"
            elif isinstance(event, yaml.ScalarEvent):
                feature = _several_lines(event)
        if feature:
            evidence = "this file means one thing to every reader: keys, lists and values on one line"
            raise ForbiddenYaml(evidence=evidence, place=place, source=self.source, feature=feature)

    def _put(self, node: YamlNode) -> None:
        if not self._open:
            self.top = node
            return
        into = self._open[-1]
        if not into.is_table:
            into.values.append(node)
        elif into.key is None:
            if not isinstance(node, Word):
                raise ForbiddenYaml(
                    evidence="a key is one word",
                    place=node.place,
                    source=self.source,
                    feature="a list or table as a key",
                )
            if node.text in into.rows:
                first = into.rows[node.text][0]
                raise DuplicateKey(
                    evidence=f"first in line {first.line}, column {first.column}",
                    place=node.place,
                    source=self.source,
                    key=node.shown,
                )
            into.key = (node.text, node.place)
        else:
            key, place = into.key
            into.rows[key] = (place, node)
            into.key = None
