"""events.md: what --log writes, from the events of a node and the table of facts that the log lets through."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator

from p2pfl.cli.json_log import EVENTS
from p2pfl.node.progress import Progress
from tools.reference.markdown import GENERATED, cell, table

HEAD = f"""\
# Log events

{GENERATED}
`--log FILE` writes one JSON object a line: `time` (UTC), `level`, `site` (empty until the home is open), `event`, and
the event's facts, which are the keys below. No secret, no value of a vector and no file's name is in it. A line that
found no room is counted in the next one's `lines_dropped`. Events and keys are only ever added to. How to keep the
file: [operations.md](../operations.md#watch).

The command itself writes `started` (info: `command`, `version`, `federation`, `epoch`, `federation_digest`, which is
the SHA-256 of peers.yaml) and `ended` (info or error: `status`, `code`).
"""
# What the log takes out of an event's error or outcome.
INSIDE = {
    "refused": "`code`, `text`, `evidence` of the error",
    "breach": "`code`, `text`, `evidence` of the error",
    "round": "`metric`, `value`, where the round measured one",
}


def _told(kind: type) -> tuple[str, dict[str, str]]:
    """The docstring of an event as prose, and the facts that it explains line by line."""
    prose: list[str] = []
    facts: dict[str, str] = {}
    for line in (inspect.getdoc(kind) or "").splitlines():
        if found := re.fullmatch(r"(\w+) {2,}(.+)", line):
            facts[found[1]] = found[2]
        elif line.startswith("  ") and facts:
            facts[next(reversed(facts))] += f" {line.strip()}"
        else:
            prose.append(line)
    return _as_json(" ".join(prose)), {name: _as_json(text) for name, text in facts.items()}


def _as_json(text: str) -> str:
    """One line, with Python's None as the log writes it."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _rows() -> Iterator[tuple[str, str, str, str]]:
    kinds = {kind.kind: kind for kind in typing.get_args(Progress)}
    for event, (level, names) in EVENTS.items():
        prose, facts = _told(kinds[event])
        keys = [f"`{name}`" + (f" ({cell(facts[name])})" if name in facts else "") for name in names]
        yield f"`{event}`", level, cell(prose), "; ".join([*keys, *([INSIDE[event]] if event in INSIDE else [])])


def page() -> str:
    return "\n".join([HEAD, table(("event", "level", "what happened", "facts"), _rows())])
