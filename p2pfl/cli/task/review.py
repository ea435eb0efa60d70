"""`p2pfl task review`: people read the code that will run on their records, before it ever does."""

from __future__ import annotations

import ast
import difflib
import hashlib
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, read_whole, unlock_options
from p2pfl.errors.task_process import TaskNotPython
from p2pfl.home import Home
from p2pfl.node.approvals import approved
from p2pfl.training.source_text import lines_of, source_text

# Names that reach beyond the records: not forbidden, since datasets open files; shown, so that nobody overlooks them.
REACHING: Final = frozenset(
    {"open", "exec", "eval", "compile", "__import__", "getattr", "setattr", "globals"},
)
TRAINS: Final = frozenset({"numpy", "torch", "p2pfl", "collections", "typing", "math", "__future__"})


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@home_option
@unlock_options
@json_option
def review(file: Path, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Show FILE, or what changed in it since the version that was approved here, and what it reaches for."""
    raw = read_whole(file)
    sha256, reaching = hashlib.sha256(raw).digest(), reaches(raw, file)
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        held = approved(opened)
    last = list(held.values())[-1] if held else None
    state = "approved here" if sha256 in held else "not approved here"
    lines = [f"{file}: SHA-256 {sha256.hex()}, {state}"]
    if sha256 not in held:
        lines += _shown(raw, last, file)
        lines += ["", f"It reaches for: {', '.join(reaching)}" if reaching else "It imports nothing but what trains."]
        lines += [
            "It will run on this site's records. Read it all; then",
            f"  p2pfl task approve {quote(str(file))} --home {quote(str(home))}",
        ]
    facts: dict[str, Any] = {"path": str(file), "sha256": sha256.hex(), "approved": sha256 in held, "reaches": reaching}
    output.result("\n".join(lines), facts, as_json)


def _shown(raw: bytes, last: bytes | None, file: Path) -> list[str]:
    """The whole text, or the lines that differ from the approved one."""
    text = lines_of(source_text(raw, file))
    if last is None:
        return ["", *text]
    before = lines_of(last.decode("utf-8", "replace"))  # read by a person, whatever it was
    return ["", *difflib.unified_diff(before, text, "the approved version", str(file), lineterm="")]


def reaches(raw: bytes, file: Path) -> list[str]:
    """Imports of more than what trains, and names that reach beyond the records, by line. Raises TaskNotPython."""
    try:
        tree = ast.parse(source_text(raw, file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        raise TaskNotPython(evidence=f"line {line}: {getattr(error, 'msg', None) or error}", path=file) from None
    except (RecursionError, MemoryError):  # the parser's own way to say so, however much memory there is
        raise TaskNotPython(evidence="an expression in it is nested too deep", path=file) from None
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        elif isinstance(node, ast.Name) and node.id in REACHING:
            names = [node.id]
        at = getattr(node, "lineno", 0)
        found += [(at, name) for name in names if name.partition(".")[0] not in TRAINS]
    return [f"{name} (line {at})" for at, name in dict.fromkeys(sorted(found))]
