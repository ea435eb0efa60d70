"""Cards and a few overrides ► the text of a peers.yaml, every default written in full, each with its reason.

A default that is not in the file could differ between two versions of the program, so none is left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from p2pfl.errors.federation import DocumentTooLarge, ForbiddenYaml, SettingWithoutValue, UnknownSetting, WrongValue
from p2pfl.federation import strict_yaml
from p2pfl.federation.description import TABLE, parse_description, section_of
from p2pfl.federation.federation import VERSION, Federation
from p2pfl.federation.readers import Position, Word, shown
from p2pfl.federation.settings import BY_KEY, HEADINGS, PLAIN, SETTINGS
from p2pfl.federation.strict_yaml import MOST_BYTES
from p2pfl.keys import fingerprint
from p2pfl.roster import Member

COMMENT_COLUMN = 34
NO_PRIVACY_COMMENT = "NO DIFFERENTIAL PRIVACY: nothing bounds what the model tells of a patient"
INDENT = "  "
MOST_TASK_BYTES = MOST_BYTES * 3 // 4  # of a description: peers.yaml keeps room for sites that join

TaskLines = tuple[str, ...]
"""The lines under `task:`."""


def peers_file(name: str, members: Sequence[Member], task: TaskLines, overrides: Sequence[str] = ()) -> bytes:
    """Return the file's bytes, which Federation.parse accepts. Raises a leaf of errors.federation if they cannot be."""
    given = dict(map(override, overrides))
    _check_plain(given)
    words = {setting.key: setting.default for setting in SETTINGS} | given
    lines = [
        f"# p2pfl: the peers file of the federation {name}. Every site holds this file byte for byte: each hello",
        "# compares its SHA-256, so a changed comment is a changed file.",
        f"version: {VERSION}",
        commented(f"federation: {name}", "the name of this federation"),
        commented("epoch: 1", "counts changes of membership"),
        "",
        "peers:" if members else "peers: []",
        *(line for member in members for line in peer_lines(member)),
        "",
        "task:",
        *task,
        "",
        *_settings(words),
    ]
    raw = ("\n".join(lines) + "\n").encode()
    Federation.parse(raw, "the drafted peers.yaml")
    return raw


def description_lines(raw: bytes, source: str) -> TaskLines:
    """The text of a description of a task (a table, images, volumes), comments and all, as it stands under `task:`.

    Raises leaves of errors.federation, with the line and column of `source`.
    """
    if len(raw) > MOST_TASK_BYTES:
        evidence = f"{len(raw)} bytes; a task's description has at most {MOST_TASK_BYTES}"
        raise DocumentTooLarge(evidence=evidence, place=Position(source, 1, 1), source=source)
    parse_description(raw, source)
    lines = raw.decode().rstrip("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.startswith(("---", "...")):  # it would end the document that the lines are put into
            place = Position(source, number, 1)
            raise ForbiddenYaml(
                evidence=shown(line), place=place, source=source, feature="a document's beginning or end"
            )
    of_table = section_of(strict_yaml.read_yaml(raw, source)) == TABLE
    indent = 2 * INDENT if of_table else INDENT
    return (*(["  table:"] if of_table else []), *(indent + line if line.strip() else "" for line in lines))


def pinned_lines(file: str, cls: str, sha256: str) -> TaskLines:
    """A class of a file, pinned by its digest."""
    return (f"  file: {file}", f"  class: {cls}", f'  sha256: "{sha256}"')


def python_lines(name: str) -> TaskLines:
    """A Task that each site makes in Python, under this name."""
    return (f"  python: {name}",)


def client_lines(kind: str, first: bytes | None, metrics: Sequence[str]) -> TaskLines:
    """A client that each site brings. first: SHA-256 of the first model's file; None: zeros."""
    return (
        commented(f"  client: {kind}", "each site trains by code of its own: p2pfl run"),
        f'  first: "{first.hex()}"' if first is not None else "  first: zeros",
        commented(f"  metrics: [{', '.join(metrics)}]", "of what a client's evaluation returns"),
    )


def override(argument: str) -> tuple[str, str]:
    """`privacy.delta=1e-4` ► (key, word), checked by that setting's own reader.

    Raises SettingWithoutValue, UnknownSetting, WrongValue.
    """
    key, equals, value = argument.partition("=")
    source = f"--set {argument}"
    if not equals:
        near = difflib.get_close_matches(key, BY_KEY, 1)
        raise SettingWithoutValue(
            evidence=f"the setting nearest to it is {near[0]}" if near else source, text=shown(key)
        )
    read = PLAIN if key == "privacy" else BY_KEY[key].read if key in BY_KEY else None
    if read is None:
        raise UnknownSetting(evidence=f"{source}; settings are {', '.join(BY_KEY)}", key=shown(key))
    try:
        read(Word(value, False, Position(source, 0, 0)), key)
    except WrongValue as error:
        raise WrongValue(**{**error.fields, "evidence": error.evidence, "source": "peers.yaml"}) from None
    return key, value


def _check_plain(given: Mapping[str, str]) -> None:
    """Raises UnknownSetting for a setting of privacy beside `privacy=none`, which would mean nothing."""
    if "privacy" in given:
        for key in given:
            if key.startswith("privacy."):
                raise UnknownSetting(evidence="--set privacy=none is there too: nothing is clipped or noised", key=key)


def commented(line: str, comment: str) -> str:
    """A line of the file with its comment."""
    return f"{line:<{COMMENT_COLUMN - 2}}  # {comment}"


def peer_lines(member: Member) -> list[str]:
    """The lines of one site."""
    addresses = ", ".join(f'"{address}"' for address in member.addresses)
    return [
        f"  - name: {member.name}",
        f'    key: "{member.key.hex()}"   # {fingerprint(member.key)}',
        f"    addresses: [{addresses}]" + ("" if member.addresses else "   # none: it dials the others"),
    ]


def _settings(words: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    heading = ""
    for setting in SETTINGS:
        if setting.table == "privacy" and "privacy" in words:
            if heading != "privacy":
                lines += ["", commented(f"privacy: {words['privacy']}", NO_PRIVACY_COMMENT)]
            heading = "privacy"
            continue
        if setting.table and setting.table != heading:
            lines += ["", f"{setting.table}:"]
        elif not setting.table and heading:
            lines += [""]
        heading = setting.table
        indent = "  " if setting.table in HEADINGS else ""
        lines.append(commented(f"{indent}{setting.name}: {words[setting.key]}", setting.comment))
    return lines
