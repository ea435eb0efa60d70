"""ledger-entries.md: every kind of ledger entry, with the keys of its record, from the classes that state them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from p2pfl.ledger.entry import KINDS
from p2pfl.ledger.kind import Kind
from tools.reference.markdown import GENERATED, cell, table

HEAD = f"""\
# Ledger entries

{GENERATED}
The record of an entry is canonical JSON: `kind` and exactly these keys; one with a `?` is there in some records only.
Reals are decimal text, bytes hexadecimal, times whole Unix seconds (`time_ms`: milliseconds). Bytes, signatures and
what `ledger verify` asks of each: [the specification](../spec/ledger.md). `p2pfl ledger show --json` prints records.
"""
LOGS = {
    "federation": "The federation log: identical bytes at every site",
    "site": "The site log: a site's own",
}


def _rows(log: str) -> Iterator[tuple[str, str, str]]:
    for word, kind in KINDS.items():
        if kind.in_log == log:
            keys = ", ".join(f"`{name}`" + ("?" if name in kind.optional else "") for name in kind.forms)
            yield f"`{word}`", _told(kind), keys


def _told(kind: type[Kind]) -> str:
    return cell(inspect.getdoc(kind) or "")


def page() -> str:
    sections = [f"## {title}\n\n{table(('kind', 'what it says', 'keys'), _rows(log))}" for log, title in LOGS.items()]
    return "\n".join([HEAD, *sections])
