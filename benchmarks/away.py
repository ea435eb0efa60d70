"""What a site that is gone, or that another one no longer speaks with, costs the rounds of all the others.

    python benchmarks/away.py [--peers 5] [--rounds 20] [--json]

Real processes on loopback ask one sum of ten numbers after another. After `rounds` of them one process is killed, and
started again `rounds` later; in another run one site revokes the key of another (`p2pfl peers revoke`). The first round
after the loss waits for the lost link; from the second on, a round is held against those before it in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._federation import federation, key_file  # noqa: E402
from benchmarks._report import Finding, machine, show  # noqa: E402

NAMES: Final = ("ada", "ben", "cyd", "dot", "eve", "fay", "gus", "hal", "ivy", "jon")
PROMISED: Final = 1.5  # rounds with a site away / rounds before
WATCHED: Final = "ada"  # whose clock is read
LOST: Final = "cyd"
REVOKER: Final = "ben"


@dataclass
class Sites:
    """The homes of one federation in `folder`, and the process of each that runs."""

    folder: Path
    names: Sequence[str]
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        folder = self.folder
        site = [str(folder / "peers.yaml"), str(folder / name), str(key_file(folder, name))]
        self.running[name] = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "_away_site.py"), *site],
            stdout=subprocess.PIPE if name == WATCHED else subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    def revoke(self, by: str, name: str) -> None:
        command = [sys.executable, "-m", "p2pfl", "peers", "revoke", name, "--peers", str(self.folder / "peers.yaml")]
        keys = ["--home", str(self.folder / by), "--key-file", str(key_file(self.folder, by))]
        subprocess.run([*command, *keys], check=True, cwd=ROOT, capture_output=True)


@contextmanager
def sites(peers: int) -> Iterator[Sites]:
    """A federation whose processes run; at the end they are gone."""
    with tempfile.TemporaryDirectory(prefix="p2pfl-away-") as folder:
        found = Sites(Path(folder), NAMES[:peers])
        federation(found.folder, dict.fromkeys(found.names, "127.0.0.1"))
        for name in found.names:
            found.start(name)
        try:
            yield found
        finally:
            for name in found.running:
                found.kill(name)


@dataclass(frozen=True)
class Took:
    """One round of the watched site: by the machine's clock when it was final, seconds since the one before, who."""

    at: float
    seconds: float
    survivors: tuple[str, ...]


def told(stream: IO[str]) -> Iterator[Took]:
    """The rounds, as they come. The first is not among them: until then processes start."""
    last = None
    for line in stream:
        facts = json.loads(line)
        if last is not None:
            yield Took(facts["at"], facts["at"] - last, tuple(facts["survivors"]))
        last = facts["at"]


@dataclass(frozen=True)
class Part:
    """The rounds that became final while a step was done, and those after it."""

    meanwhile: list[Took]
    after: list[Took]


def timed(peers: int, rounds: int, steps: Sequence[Callable[[Sites], None]]) -> list[Part]:
    """`rounds` before the first step, and as many after each one. Raises RuntimeError when the site stops before.

    A step may be a command that takes as long as several rounds, and those lie in the pipe when it is over.
    """
    with sites(peers) as found:
        stream = found.running[WATCHED].stdout
        if stream is None:
            raise RuntimeError("nothing is read of the watched site")
        news, parts = told(stream), []
        for step in (None, *steps):
            over = 0.0
            if step is not None:
                step(found)
                over = time.monotonic()
            meanwhile, after = list[Took](), list[Took]()
            while len(after) < rounds:
                took = next(news, None)
                if took is None:
                    raise RuntimeError(f"{WATCHED} stopped")
                (after if took.at >= over else meanwhile).append(took)
            parts.append(Part(meanwhile, after))
        return parts


def slower(before: Sequence[Took], after: Sequence[Took]) -> Finding:
    """Median round from the second after a loss on / the median before it."""
    usual = statistics.median(took.seconds for took in before)
    ratios = tuple(took.seconds / usual for took in after[1:])
    return Finding("", ratios, at_most=PROMISED)


def named(name: str, found: Finding) -> Finding:
    return Finding(name, found.values, found.unit, found.at_least, found.at_most)


def findings(peers: int, rounds: int) -> list[Finding]:
    """Both runs. Raises RuntimeError when a lost site is in a sum, or one that is back is not."""
    print("one site is killed, and comes back …", file=sys.stderr)
    before, dead, back = timed(peers, rounds, [lambda each: each.kill(LOST), lambda each: each.start(LOST)])
    if any(LOST in took.survivors for took in dead.after[1:]):
        raise RuntimeError(f"{LOST} was killed and is in a sum")
    returned = next((place for place, took in enumerate(back.after) if LOST in took.survivors), None)
    if returned is None or any(LOST not in took.survivors for took in back.after[returned:]):
        raise RuntimeError(f"{LOST} is back and not in the sums")
    print("one site revokes another's key …", file=sys.stderr)
    usual, apart = timed(peers, rounds, [lambda each: each.revoke(REVOKER, LOST)])
    if any({REVOKER, LOST} <= set(took.survivors) for took in apart.after[2:]):  # a round may have been under way
        raise RuntimeError(f"{REVOKER} and {LOST} are in one sum")
    longest = max(took.seconds for took in (*apart.meanwhile, *apart.after[:3]))
    return [
        Finding("a round while all are there", tuple(took.seconds for took in (*before.after, *usual.after)), "s"),
        Finding("the first round after the kill", (dead.after[0].seconds,), "s"),
        named("a round with one site dead / before", slower(before.after, dead.after)),
        named("a round with one site back / before", slower(before.after, back.after[returned:])),
        Finding("the first rounds after the revocation, the longest", (longest,), "s"),
        named("a round with one revoked by one / before", slower(usual.after, apart.after[2:])),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=5, choices=range(4, len(NAMES) + 1))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    title = f"{options.peers} sites, one of them away"
    return show(title, findings(options.peers, options.rounds), machine("numpy", "pyzmq"), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
