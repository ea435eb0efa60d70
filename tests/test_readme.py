"""The README's commands are run as they stand there, and what it shows is what they print.

A block of commands is preceded by `<!-- run: NAME -->` (one shell), `<!-- run together: NAME -->` (one process a line,
all at once) or `<!-- not run: why -->`; a program by `<!-- file: NAME -->`, under which it is written; a block of text
by `<!-- output of: NAME -->` (of lines that run together: the first) or `<!-- output of: NAME, line 2 -->`. Numbers,
digests, times and words of fingerprints differ from run to run, so lines are compared without them. Ports are replaced
by free ones.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pfl.cli.demo_peers import free_ports
from p2pfl.ledger.entry import KINDS
from tests.test_errors import parse

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(?:^<!-- (?P<verb>[a-z ]+): (?P<name>[^\n]*?) -->\n)?^```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PORT = re.compile(r"(?<=127\.0\.0\.1:)7[0-9]{3}")
DEADLINE_S = 300  # a hang, not a speed


@dataclass(frozen=True)
class Block:
    verb: str
    name: str
    kind: str
    text: str


def blocks(file: str = "README.md") -> list[Block]:
    text = (ROOT / file).read_text()
    return [Block(m["verb"] or "", m["name"] or "", m["kind"], m["text"]) for m in BLOCK.finditer(text)]


def shape(line: str) -> str:
    """`line` without what differs from run to run."""
    line = re.sub(r"\b[0-9a-f]{12,64}\b", "HEX", line)
    line = re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}Z", "TIME", line)
    line = re.sub(r"\b([a-z]{3,8} ){7}[a-z]{3,8}\b", "WORDS", line)
    line = re.sub(r"[+-]?[0-9]+(\.[0-9]+)?(e-[0-9]+)?", "#", line)
    line = re.sub(r"# (B|kB|MB|min # s|s)\b", "# U", line)
    line = re.sub(r"# (k|M|G)\b", "# bit", line)
    line = re.sub(r"/\S+/", "", line)  # folders
    return " ".join(line.split())


def test_every_block_of_commands_says_whether_it_is_run() -> None:
    for block in blocks():
        if block.kind == "sh":
            assert block.verb in ("run", "run together", "not run") or block.text.startswith("make "), block.text
        if block.kind == "python":
            assert block.verb == "file", block.text
    shown = {block.name.partition(",")[0] for block in blocks() if block.verb == "output of"}
    assert shown <= {block.name for block in blocks() if block.verb.startswith("run")}


def prepared(tmp: Path) -> dict[str, str]:
    """The environment of somebody who has just installed p2pfl."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp),
        "OMP_NUM_THREADS": "1",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }


def run(block: Block, tmp: Path, environment: dict[str, str]) -> list[str]:
    """The block's stdout and stderr; of lines that run together, each one's."""
    lines = [block.text] if block.verb == "run" else block.text.strip().splitlines()
    started = [
        subprocess.Popen(
            ["bash", "-euc", line],
            cwd=tmp,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for line in lines
    ]
    try:
        said = [process.communicate(timeout=DEADLINE_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)
    return said


@pytest.mark.readme
@pytest.mark.processes
def test_the_readmes_commands_work_as_they_stand_and_print_what_it_shows(tmp_path: Path) -> None:
    environment = prepared(tmp_path)
    found = sorted({port for block in blocks() for port in PORT.findall(block.text)})
    ports = dict(zip(found, map(str, free_ports(len(found))), strict=True))
    outputs: dict[str, list[str]] = {}
    for block in blocks():
        if block.verb == "file":
            (tmp_path / block.name).write_text(block.text)
        elif block.verb.startswith("run"):
            text = PORT.sub(lambda match: ports[match[0]], block.text)
            outputs[block.name] = run(Block(block.verb, block.name, block.kind, text), tmp_path, environment)
        elif block.verb == "output of":
            name, _, line_number = block.name.partition(", line ")
            said = outputs[name][int(line_number or 1) - 1]
            printed = [shape(line) for line in said.splitlines()]
            for line in block.text.splitlines():
                if line.strip() not in ("", "…"):
                    assert shape(line) in printed, f"{block.name} does not print {line!r}:\n{said}"


def test_every_test_that_the_checklist_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs/hipaa.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert re.search(rf"^\s*def {test}\(", (ROOT / file).read_text(), re.M), f"{file}::{test}"


def column(file: str, heading: str) -> list[str]:
    """The cells under `heading`, of all tables of `file` that have it."""
    found, at = list[str](), -1
    for line in (ROOT / file).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            at = -1
        elif heading in cells:
            at = cells.index(heading)
        elif at >= 0 and set(cells[0]) != {"-"}:
            found.append(cells[at])
    return found


def test_the_checklist_names_only_kinds_of_entry_in_the_ledger() -> None:
    """Or says that there are none."""
    cells = column("docs/hipaa.md", "in the ledger")
    assert len(cells) > 40
    named = set[str]()
    for cell in cells:
        kinds = re.findall(r"`(\w+)`", cell)
        assert cell == (", ".join(f"`{kind}`" for kind in kinds) or "nothing"), cell
        named.update(kinds)
    assert named == set(KINDS)  # each kind backs something


def test_the_checklist_names_tests_or_says_that_there_are_none() -> None:
    for cell in column("docs/hipaa.md", "tests"):
        assert cell == "none" or all(re.fullmatch(r"`tests/.*`", one) for one in cell.split(", ")), cell


def test_every_command_of_the_checklist_is_one_that_the_program_takes() -> None:
    text = (ROOT / "docs/hipaa.md").read_text()
    commands = re.findall(r"`p2pfl ([^`]+)`", text) + re.findall(r"^    p2pfl (.+)$", text, re.M)
    assert len(commands) > 40
    for one in commands:
        parse(shlex.split(one))


def test_every_script_that_the_readme_names_exists() -> None:
    named = re.findall(r"`(benchmarks/\w+\.py)", (ROOT / "README.md").read_text())
    assert named
    for script in named:
        assert (ROOT / script).is_file(), script
