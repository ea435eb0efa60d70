"""The commands of README and guide are run as they stand there, and what the pages show is what they print.

A block of commands is preceded by `<!-- run: NAME -->` (one shell), `<!-- run together: NAME -->` (one process a line,
all at once) or `<!-- not run: why -->`; a program by `<!-- file: NAME -->`, under which it is written; a block of text
by `<!-- output of: NAME -->` (of lines that run together: the first) or `<!-- output of: NAME, line 2 -->`. Numbers,
digests, times and words of fingerprints differ from run to run, so lines are compared without them. Ports are replaced
by free ones. A page that goes on where another ends is run after that one, in the same folder. Pages that go on from
one another are a trail, with a folder and a file of tests of its own: trails run side by side.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from p2pfl.training.tasks.heart_records import deal

ROOT = Path(__file__).resolve().parents[2]
README, GUIDE = "README.md", "docs/guide"
DEMO, DEMO_SITES = "demo", 5  # the records that the README's demo leaves in demo/SITE/records.csv
GOES_ON = {  # page: the one on whose homes and files it stands
    README: None,
    f"{GUIDE}/README.md": None,
    f"{GUIDE}/study.md": README,
    f"{GUIDE}/from-python.md": README,
    f"{GUIDE}/by-hand.md": DEMO,
    f"{GUIDE}/own-records.md": f"{GUIDE}/by-hand.md",
    f"{GUIDE}/reports.md": f"{GUIDE}/by-hand.md",
    f"{GUIDE}/dashboard.md": f"{GUIDE}/by-hand.md",
    f"{GUIDE}/when-a-site-is-away.md": f"{GUIDE}/by-hand.md",
    f"{GUIDE}/members-and-keys.md": f"{GUIDE}/when-a-site-is-away.md",
    f"{GUIDE}/several-studies.md": f"{GUIDE}/by-hand.md",  # last: verbs on its homes ask from then on which study
    f"{GUIDE}/privacy-officer.md": f"{GUIDE}/by-hand.md",  # behind all that trains on in the same homes
    f"{GUIDE}/own-table.md": DEMO,
    f"{GUIDE}/use-the-model.md": f"{GUIDE}/own-table.md",
    f"{GUIDE}/statistics.md": f"{GUIDE}/own-table.md",
    f"{GUIDE}/own-task.md": None,
    f"{GUIDE}/optimisers.md": None,
    f"{GUIDE}/own-client.md": None,
    f"{GUIDE}/images-and-volumes.md": None,
    f"{GUIDE}/firewall.md": None,
    f"{GUIDE}/gpu.md": None,
    f"{GUIDE}/privacy.md": None,
    f"{GUIDE}/terminal.md": None,
}
BLOCK = re.compile(
    r"(?:^<!-- (?P<verb>[a-z ]+): (?P<name>[^\n]*?) -->\n)?^```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PORT = re.compile(r"(?<=127\.0\.0\.1:)7[0-9]{3}")
DEADLINE_S = 600  # a hang, not a speed


@dataclass(frozen=True)
class Block:
    verb: str
    name: str
    kind: str
    text: str


def blocks(file: str) -> list[Block]:
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


def begins(page: str) -> str:
    """The page with which the trail of `page` begins."""
    before = GOES_ON[page]
    return page if before is None or before == DEMO else begins(before)


def trail(*first: str) -> list[str]:
    """The pages with commands to run whose trail begins with one of these, in the order in which they are run."""
    return [
        page for page in GOES_ON if begins(page) in first and any(one.verb.startswith("run") for one in blocks(page))
    ]


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


@dataclass
class Reader:
    """Somebody who follows the pages in one folder, with free ports in place of those that are written there."""

    folder: Path
    ports: dict[str, str]
    been: set[str] = field(default_factory=set)

    def text(self, block: Block) -> str:
        """The block as it is run here: `make` in this environment, a demo that leaves its homes, a few of the tests."""
        installed = f"-o {sys.prefix}/.installed VENV={sys.prefix}"
        few = {"demo": f"--home {self.folder}/demo", "test": "tests/test_codec.py"}

        def ready(goal: re.Match[str]) -> str:
            return f"make --no-print-directory -C {ROOT} {installed} {goal[1]} JOBS=0 ARGS='{few[goal[1]]}'"

        text = re.sub(r"^make (\w+)", ready, block.text, flags=re.M)
        return PORT.sub(lambda match: self.ports[match[0]], text)

    def deal(self) -> None:
        """Write what the demo of the README leaves of records; that it does is a test of that page."""
        for name, records in deal(DEMO_SITES).files.items():
            place = self.folder / "demo" / name
            place.mkdir(parents=True, exist_ok=True)
            (place / "records.csv").write_bytes(records)

    def follow(self, page: str) -> None:
        """Run `page`, after the one that it goes on from; what it shows is printed."""
        if page in self.been:
            return
        self.been.add(page)
        before = GOES_ON[page]
        if before == DEMO:
            self.deal()
        elif before is not None:
            self.follow(before)
        outputs: dict[str, list[str]] = {}
        for block in blocks(page):
            if block.verb == "file":
                (self.folder / block.name).write_text(block.text)
            elif block.verb.startswith("run"):
                ready = Block(block.verb, block.name, block.kind, self.text(block))
                outputs[block.name] = run(ready, self.folder, prepared(self.folder))
            elif block.verb == "output of":
                compare(block, outputs)


def compare(block: Block, outputs: dict[str, list[str]]) -> None:
    """Each line that `block` shows was printed."""
    name, _, line_number = block.name.partition(", line ")
    said = outputs[name][int(line_number or 1) - 1]
    printed = [shape(line) for line in said.splitlines()]
    for line in block.text.splitlines():
        if line.strip() not in ("", "…"):
            assert shape(line) in printed, f"{block.name} does not print {line!r}:\n{said}"
