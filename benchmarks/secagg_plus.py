"""Flower's SecAgg+ beside our secure sum: the same vector length, five sites, the same links, one after the other.

    python benchmarks/secagg_plus.py [--flower DIR] [--peers 5] [--words 10000000] [--rounds 2] [--shares 5]
                                     [--link 1gbit] [--json]

Flower runs as it is deployed: flower-superlink, one flower-supernode for each site, its own ServerApp with
SecAggPlusWorkflow and its own ClientApps with secaggplus_mod, every site and the server on a link of its own. Measured
is the workflow alone, from its first message to the aggregate at the server, without start-up, training (the clients
answer with a constant) or evaluation; the aggregate is checked. It runs without TLS, which favours it, and with its
defaults where it has any; shares and threshold, which it asks for, are those of our graph. A small vector, too, shows
what a round costs it whatever the vector is: it starts a process for each message to a client.
Ours is counted from the call, with nothing done ahead, TLS and fsync included.

Flower is not one of our dependencies. `make bench` puts it into an environment of its own, where it installs:

    python -m venv .flower && .flower/bin/pip install flwr==1.42.0
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _links as links  # noqa: E402
from benchmarks import _report as report  # noqa: E402
from benchmarks import secure_sum  # noqa: E402
from p2pfl.cli.ports import free_ports  # noqa: E402

BITS: Final = [31, 16]  # the default field first
SMALL: Final = 1000  # words: what is left is Flower's fixed cost
WAIT_S: Final = 60.0
LEAST_CPU, LEAST_TIME, MOST_BYTES = 5.0, 10.0, 0.5  # promised: docs/benchmarks.md
Told = dict[str, float]

PROJECT: Final = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "bench"
version = "1.0.0"
description = "SecAgg+ of one vector"
license = "Apache-2.0"
dependencies = ["flwr"]

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "bench.task:server"
clientapp = "bench.task:client"

[tool.flwr.app.config]
{config}
"""


class FlowerSilent(RuntimeError):
    """Flower is here and did not do its work; the text is the end of what it said."""


@dataclass(frozen=True)
class Flower:
    """A running SuperLink and its SuperNodes; `run` gives them one app to run."""

    bin: Path
    folder: Path
    env: dict[str, str]
    server: links.Place
    options: argparse.Namespace

    def run(self, words: int, rounds: int) -> list[Told]:
        """What each round of SecAgg+ over `words` words took. Raises FlowerSilent."""
        app, told = self.folder / f"app-{words}", self.folder / f"told-{words}"
        (app / "bench").mkdir(parents=True)
        config = {
            "words": words,
            "rounds": rounds,
            "peers": self.options.peers,
            "shares": self.options.shares,
            "threshold": self.options.threshold,
            "home": self.env["FLWR_HOME"],
            "told": str(told),
            "interface": self.server.interface,
        }
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items())
        (app / "pyproject.toml").write_text(PROJECT.format(config=lines), encoding="utf-8")
        (app / "bench" / "__init__.py").touch()
        shutil.copyfile(ROOT / "benchmarks" / "_flower_app.py", app / "bench" / "task.py")
        command = [*self.server.prefix, str(self.bin / "flwr"), "run", str(app), "bench", "--stream"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=1800, check=False)
        seen = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        if len(seen) != rounds:
            raise FlowerSilent("\n".join((done.stdout + done.stderr).splitlines()[-12:]))
        if max(each["worst"] for each in seen) > 1e-4:
            raise FlowerSilent(f"its aggregate is wrong by {max(each['worst'] for each in seen)}")
        # What belongs to one round may cross the link while the next is counted; over all rounds it adds up.
        sent = (seen[-1]["end"] - seen[0]["out"]) / rounds
        return [{"s": each["s"], "cpu_s": each["cpu_s"], "bytes": sent} for each in seen]


@contextlib.contextmanager
def flower(options: argparse.Namespace, places: list[links.Place]) -> Iterator[Flower]:
    """Flower's server at the last of the places, a client at each of the others. Raises FlowerSilent."""
    *sites, server = places
    port, *ports = free_ports(1 + len(sites))
    with tempfile.TemporaryDirectory() as held, contextlib.ExitStack() as alive:
        folder = Path(held)
        home = folder / "home"
        home.mkdir()
        connection = f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{server.address}:{port}"\n'
        (home / "config.toml").write_text(connection + "insecure = true\n", encoding="utf-8")
        alive.callback(_end_all, home)
        path = f"{options.flower}:{os.environ.get('PATH', '')}"
        env = {
            **os.environ,
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": path,
            "OMP_NUM_THREADS": "1",
        }
        env.pop("PYTHONPATH", None)

        def start(place: links.Place, name: str, *arguments: str) -> Path:
            log = folder / f"{name}.log"
            with log.open("w") as out:
                command = [*place.prefix, str(options.flower / name.partition("_")[0]), "--insecure", *arguments]
                child = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
            alive.callback(_end, child)
            return log

        link = start(
            server,
            "flower-superlink",
            "--disable-runtime-dependency-installation",
            "--host",
            server.address,
            "--port",
            str(port),
        )
        _until(link, "running on")
        nodes = [
            start(
                place,
                f"flower-supernode_{number}",
                "--superlink",
                f"{server.address}:{port}",
                "--port",
                str(ports[number]),
                "--node-config",
                f"number={number}",
            )
            for number, place in enumerate(sites)
        ]
        for log in nodes:
            _until(log, "SuperNode ID")
        yield Flower(options.flower, folder, env, server, options)


def _until(log: Path, said: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while said not in log.read_text(errors="replace"):
        if time.monotonic() > deadline:
            raise FlowerSilent("\n".join(log.read_text(errors="replace").splitlines()[-12:]))
        time.sleep(0.2)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _end_all(home: Path) -> None:
    """End what Flower started by itself: it has the environment of this run, and of no other."""
    mark = f"FLWR_HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def findings(
    options: argparse.Namespace, link: str, mine: Mapping[int, list[Told]], its: list[Told], small: Told
) -> list[report.Finding]:
    """Ratios round by round; promised for the default field, 10⁷ words, the time at 1 Gbit/s (docs/benchmarks.md)."""
    promised = options.words >= secure_sum.LARGE and options.peers == 5

    def per_word(told: Sequence[Told]) -> tuple[float, ...]:
        return tuple(each["bytes"] / options.words / options.peers for each in told)

    beyond = [{what: max(each[what] - small[what], 0.0) for what in small} for each in its]
    found = []
    for bits, told in mine.items():
        holds = promised and bits == BITS[0]
        name = f"ours ({bits} bits)"
        found += [
            report.Finding(
                f"processor, SecAgg+ / {name}",
                report.column_ratios(its, told, "cpu_s"),
                at_least=LEAST_CPU if holds else None,
            ),
            report.Finding("… SecAgg+ without its fixed cost", report.column_ratios(beyond, told, "cpu_s")),
            report.Finding(
                f"time, SecAgg+ / {name}",
                report.column_ratios(its, told, "s"),
                at_least=LEAST_TIME if holds and link == "1gbit" else None,
            ),
            report.Finding("… SecAgg+ without its fixed cost", report.column_ratios(beyond, told, "s")),
            report.Finding(f"processor, {name}, all peers", report.column(told, "cpu_s"), "s"),
            report.Finding(f"time, {name}", report.column(told, "s"), "s"),
        ]
        if link != "loopback":
            found += [
                report.Finding(
                    f"bytes, {name} / SecAgg+",
                    report.column_ratios(told, its, "bytes"),
                    at_most=MOST_BYTES if holds else None,
                ),
                report.Finding(f"bytes per word and site, {name}", per_word(told), "bytes"),
            ]
    found += [
        report.Finding("processor, SecAgg+, server and clients", report.column(its, "cpu_s"), "s"),
        report.Finding(f"… fixed cost: with {SMALL} words", (small["cpu_s"],), "s"),
        report.Finding("time, SecAgg+", report.column(its, "s"), "s"),
        report.Finding(f"… fixed cost: with {SMALL} words", (small["s"],), "s"),
    ]
    if link != "loopback":
        found.append(report.Finding("bytes per word and site, SecAgg+, model down and sum up", per_word(its), "bytes"))
    return found


def measure(options: argparse.Namespace) -> tuple[str, list[report.Finding]]:
    """On limited links if this process may make them, else on loopback, where nobody counts bytes."""

    def both(link: str, places: list[links.Place]) -> tuple[str, list[report.Finding]]:
        mine = secure_sum.cold(places[:-1], options.words, BITS, options.rounds)
        with flower(options, places) as running:
            small = running.run(SMALL, 2)
            its = running.run(options.words, options.rounds)
        least = {what: small[-1][what] for what in ("s", "cpu_s")}  # the first also installs the app
        return link, findings(options, link, mine, its, least)

    if options.link != "loopback":
        try:
            with links.limited(options.peers + 1, options.link) as places:
                return both(options.link, places)
        except links.LinksUnavailable as reason:
            print(f"{options.link}: {reason}; on loopback instead, and the bytes are not measured", file=sys.stderr)
    return both("loopback", links.loopback(options.peers + 1))


def _flower(folder: Path | None) -> Path | None:
    """The folder of Flower's commands: the one given, else that of this checkout, else that on the PATH."""
    if folder is None:
        found = shutil.which("flower-superlink", path=ROOT / ".flower" / "bin") or shutil.which("flower-superlink")
        return Path(found).parent if found else None
    return folder.absolute() if (folder / "flower-superlink").exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flower", type=Path, help="folder of flower-superlink; default: .flower/bin, or the PATH")
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--words", type=int, default=secure_sum.LARGE)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shares", type=int, default=0, help="of each secret; default: one for every site")
    parser.add_argument("--threshold", type=int, default=0, help="shares that open a secret; default: q − 1 of ours")
    parser.add_argument("--link", default="1gbit", help="loopback, or a speed as tc writes it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.flower = _flower(options.flower)
    if options.flower is None:
        print("not measured: Flower is not here. python -m venv .flower && .flower/bin/pip install flwr==1.42.0")
        return 0
    options.shares = options.shares or options.peers
    options.threshold = options.threshold or 2 * options.peers // 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        link, found = measure(options)
    except FlowerSilent as error:
        print(f"not measured: Flower did not run here. It said:\n{error}")
        return 0
    version = subprocess.run([options.flower / "flwr", "--version"], capture_output=True, text=True, check=False).stdout
    on = {**report.machine("numpy", "pyzmq", "cryptography"), "flower": version.split()[-1]}
    title = f"Flower's SecAgg+ and ours: {options.peers} sites, {options.words:,} words, {link}"
    return report.show(title, found, on, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
