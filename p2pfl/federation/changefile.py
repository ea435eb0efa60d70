"""A change of membership as a file for people to pass on: its facts, the next peers.yaml line by line, signatures.

The file is read and written here alone. Only the record made from it counts; layout and comments do not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from p2pfl.codec import facts
from p2pfl.federation import strict_yaml
from p2pfl.federation.federation import VERSION, Federation
from p2pfl.federation.members import read_name
from p2pfl.federation.membership import EARLIEST, EPSILON, KIND, LATEST, RUNS, Change, agreed
from p2pfl.federation.readers import choice, items, table, text, whole
from p2pfl.federation.settings import HEX32
from p2pfl.roster import MOST_PEERS

MOST_LINES: Final = 10_000
MOST_BYTES: Final = 3 * strict_yaml.MOST_BYTES  # it holds a peers.yaml whose quotes are escaped
_read_line: Final = text(r"[^\n]*", "a line of the next peers.yaml, in quotes")
_read_signature: Final = text(r"[0-9a-f]{128}", "128 hexadecimal digits, lower case")
_NAMES: Final = items(read_name, MOST_PEERS)
_read_spent: Final = text(EPSILON.pattern, "what it has spent at the least, a decimal number")
KEYS: Final = ("version", "epoch", "of", "from_round", "before", "added", "removed", "rotated", "file", "signatures")
OPTIONAL: Final = ("recovered",)


def load(path: str | Path) -> Change:
    """Read the change at `path`. Raises a leaf of errors.federation with line and column."""
    return parse(strict_yaml.load(Path(path), MOST_BYTES), str(path))


def parse(raw: bytes, source: str) -> Change:
    """The change that `raw` holds, its signatures unverified. Raises a leaf of errors.federation with its place."""
    top = strict_yaml.read_yaml(raw, source, MOST_BYTES)
    top.only((*KEYS, *OPTIONAL))
    top.value("version", whole(VERSION, VERSION))
    file = "\n".join(top.value("file", items(_read_line, MOST_LINES)))
    federation = Federation.parse(file.encode(), f"the peers.yaml in {source}")
    added = list(top.value("added", _NAMES))
    spent = top.value("recovered", table) if "recovered" in top.rows else None
    recovered = {name: spent.value(name, _read_spent) for name in spent.rows} if spent is not None else {}
    record = facts(
        {
            "kind": KIND,
            "epoch": top.value("epoch", whole(2, 1 << 31)),
            "of": top.value("of", choice(*RUNS)),
            "from_round": top.value("from_round", whole(EARLIEST, LATEST)),
            "before": top.value("before", HEX32),
            "federation_digest": hashlib.sha256(file.encode()).hexdigest(),
            "peers": [[one.name, one.key.hex()] for one in federation.roster.members],
            "added": added,
            "removed": list(top.value("removed", _NAMES)),
            "rotated": list(top.value("rotated", _NAMES)),
            "file": file,
            **agreed(federation, added),
            **({"recovered": recovered} if recovered else {}),
        }
    )
    signed = top.value("signatures", table)
    signatures = {name: bytes.fromhex(signed.value(name, _read_signature)) for name in signed.rows}
    return Change(record, signatures)


def to_bytes(change: Change) -> bytes:
    """The file."""
    held = change.facts
    recovered = held.get("recovered", {})
    lines = [
        f"# p2pfl: a change of membership, to epoch {held['epoch']}. A site that agrees runs, on it or a copy of it,",
        "#   p2pfl peers approve THIS-FILE",
        *(
            ["# So does each site that joins: its signature is the one under the agreement that the file names."]
            if "agreement" in held
            else []
        ),
        "# Signatures of several copies are put together when all of them are given.",
        f"version: {VERSION}",
        *(f"{key}: {held[key]}" for key in ("epoch", "of", "from_round")),
        f'before: "{held["before"]}"   # SHA-256 of the peers.yaml that it changes',
        *(f"{key}: [{', '.join(held[key])}]" for key in ("added", "removed", "rotated")),
        *(
            ["recovered:   # they go on from an older home; epsilon that each has spent, at the least"]
            if recovered
            else []
        ),
        *(f'  {name}: "{spent}"' for name, spent in recovered.items()),
        "file:",
        *(f"  - {json.dumps(line, ensure_ascii=False)}" for line in held["file"].split("\n")),
        "signatures:" if change.signatures else "signatures: {}",
        *(f'  {name}: "{one.hex()}"' for name, one in sorted(change.signatures.items())),
    ]
    return ("\n".join(lines) + "\n").encode()
