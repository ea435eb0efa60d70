"""Cards and a few overrides ► the text of a peers.yaml, every default written in full, each with its reason.

A default that is not in the file could differ between two versions of the program, so none is left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from p2pfl.errors.federation import SettingWithoutValue, UnknownSetting, WrongValue
from p2pfl.federation.federation import VERSION, Federation, read_feature
from p2pfl.federation.readers import Position, Word, shown
from p2pfl.federation.settings import BY_KEY, HEADINGS, SETTINGS
from p2pfl.keys import fingerprint
from p2pfl.roster import Member

COMMENT_COLUMN = 34
FEATURES = "task.features"  # the one key under task: that --set may give


@dataclass(frozen=True, slots=True)
class TaskLines:
    """The lines under `task:`: a built-in's name, or file, class and digest; features and constants in order."""

    choice: Mapping[str, str]
    features: Sequence[str]
    constants: Mapping[str, Sequence[str]]


def peers_file(name: str, members: Sequence[Member], task: TaskLines, overrides: Sequence[str] = ()) -> bytes:
    """Return the file's bytes, which Federation.parse accepts. Raises a leaf of errors.federation if they cannot be."""
    given = dict(map(override, overrides))
    if FEATURES in given:
        task = _with_features(task, names_in(given.pop(FEATURES)))
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
        *_task(task),
        "",
        *_settings(words),
    ]
    raw = ("\n".join(lines) + "\n").encode()
    Federation.parse(raw, "the drafted peers.yaml")
    return raw


def override(argument: str) -> tuple[str, str]:
    """`privacy.delta=1e-4` ► (key, word), checked by that setting's own reader.

    Raises SettingWithoutValue, UnknownSetting, WrongValue.
    """
    key, equals, value = argument.partition("=")
    source = f"--set {argument}"
    known = (*BY_KEY, FEATURES)
    if not equals:
        near = difflib.get_close_matches(key, known, 1)
        raise SettingWithoutValue(
            evidence=f"the setting nearest to it is {near[0]}" if near else source, text=shown(key)
        )
    if key not in known:
        raise UnknownSetting(evidence=f"{source}; settings are {', '.join(known)}", key=shown(key))
    place = Position(source, 0, 0)
    try:
        for word in names_in(value) if key == FEATURES else (value,):
            read = read_feature if key == FEATURES else BY_KEY[key].read
            read(Word(word, False, place), key)
    except WrongValue as error:
        raise WrongValue(**{**error.fields, "evidence": error.evidence, "source": "peers.yaml"}) from None
    return key, value


def names_in(value: str) -> tuple[str, ...]:
    """`age, sex` or `[age, sex]` ► the names."""
    inner = value.strip().removeprefix("[").removesuffix("]").strip()
    return tuple(name.strip() for name in inner.split(",")) if inner else ()


def _with_features(task: TaskLines, features: Sequence[str]) -> TaskLines:
    """`task` with these columns alone; constants of others do not stand in the file."""
    kept = {name: row for name, row in task.constants.items() if name in features}
    return replace(task, features=tuple(features), constants=kept)


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


def _task(task: TaskLines) -> list[str]:
    lines = ["task:"]
    quoted = {key: f'"{word}"' if key == "sha256" else word for key, word in task.choice.items()}
    lines += [f"  {key}: {word}" for key, word in quoted.items()]
    lines += [
        "  # The columns that every site has, by these names, and the public numbers that scale them: constants,",
        "  # never statistics of anybody's records.",
    ]
    lines += ["  features: [" + ", ".join(task.features) + "]"]
    if not task.constants:
        return [*lines, "  constants: {}"]
    return [*lines, "  constants:", *(f"    {key}: [{', '.join(row)}]" for key, row in task.constants.items())]


def _settings(words: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    heading = ""
    for setting in SETTINGS:
        if setting.table and setting.table != heading:
            lines += ["", f"{setting.table}:"]
        elif not setting.table and heading:
            lines += [""]
        heading = setting.table
        indent = "  " if setting.table in HEADINGS else ""
        lines.append(commented(f"{indent}{setting.name}: {words[setting.key]}", setting.comment))
    return lines
