"""`p2pfl` in a process that keeps what it hands to TLS, in a file, before it is encrypted; or one that leaks.

    python -m tests.end_to_end.tapped TAP LEAK ARGUMENTS…

TAP is that file. LEAK is empty, or JSON of what is planted: `numbers`, two that ride in each letter as the name of the
process; `text`, which is said on stderr; `file`, bytes in hex that are left in the temporary folder.
"""

from __future__ import annotations

import json
import ssl
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from p2pfl.cli.main import main
from p2pfl.node import node


def tap(file: Path) -> None:
    """Keep every byte that goes into TLS."""
    kept, write = file.open("ab", buffering=0), ssl.SSLObject.write

    def tapped(self: ssl.SSLObject, data: Any) -> int:
        count = write(self, data)
        kept.write(memoryview(data).cast("B")[:count])
        return count

    ssl.SSLObject.write = tapped  # type: ignore[method-assign]


def plant(leak: dict[str, Any]) -> None:
    """Do what no site may."""
    made = node.SiteProcess

    def leaking(identity: Any, name: str, roster: Any, incarnation: bytes, *rest: Any) -> Any:
        return made(identity, name, roster, struct.pack("<2d", *leak["numbers"]), *rest)

    node.SiteProcess = leaking  # type: ignore[assignment,misc]
    print(leak["text"], file=sys.stderr, flush=True)
    Path(tempfile.gettempdir(), "scratch").write_bytes(bytes.fromhex(leak["file"]))


if __name__ == "__main__":
    file, planted, *arguments = sys.argv[1:]
    tap(Path(file))
    if planted:
        plant(json.loads(planted))
    main(arguments)
