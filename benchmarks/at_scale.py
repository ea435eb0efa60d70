"""A 3-D UNet of 1.25·10⁸ parameters at a hundredth of the bytes: bytes, memory and processor of real sites.

    python benchmarks/at_scale.py [--scale 0.1] [--peers 3] [--rounds 2] [--link 1gbit|loopback] [--method lowrank]
                                  [--density 0.005] [--no-gloo] [--quick] [--json]
    python benchmarks/at_scale.py --alone [--scale 1]       what makes the vectors of a round, in one process

Sites are real processes with homes, ledgers and TLS, each in a network namespace of its own (benchmarks/_links.py,
root); with `--link loopback` there are no interfaces to count at, and what the links count stands for it. They train
MONAI's UNet, of five levels and as wide as the scale says, on made-up volumes, one step a round. Everything that a site
sends while it trains counts: shares, votes, keys, heartbeats, TCP and TLS. Beside it stands the plaintext all-reduce
of all parameters in each round: 2(n − 1)/n · 4 bytes each computed, and by gloo on the same links. Memory is the most
that the process held (VmHWM), and what that is beyond what it held with torch loaded and all links standing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _links as links  # noqa: E402
from benchmarks import _process as process  # noqa: E402
from benchmarks._federation import federation, numbered  # noqa: E402
from benchmarks._report import Finding, machine, show  # noqa: E402
from benchmarks._scaled_site import Scaled  # noqa: E402
from p2pfl.federation import draft  # noqa: E402

WHOLE: Final = 125_000_000
BASE: Final = 82  # channels of the first level at which it has so many
LARGE: Final = 10_000_000  # parameters from which on a promise is one
LEAST_SAVED: Final = 0.99
MOST_MODELS: Final = 4.0
MOST_TOP_S: Final = 2.0
LEAST_DENSITY: Final = 1e-9  # of which rank 1 comes
PATIENCE_S: Final = 3600.0


def base_of(scale: float) -> int:
    """The channels of the first level: parameters grow as their square."""
    return max(2, round(BASE * math.sqrt(scale)))


def trained(asked: argparse.Namespace, places: Sequence[links.Place]) -> list[dict[str, float]]:
    """What each site measured."""
    settings = [
        f"rounds={asked.rounds}",
        "privacy.steps_per_round=1",
        "privacy.sample_rate=0.1",
        "privacy.max_epsilon=99",
    ]
    settings += [f"compression.method={asked.method}", f"compression.density={asked.density}", "privacy.delta=1e-3"]
    with tempfile.TemporaryDirectory(prefix="p2pfl-scale-") as held, contextlib.ExitStack() as alive:
        federation(Path(held), numbered(places), task=draft.python_lines(Scaled.name), settings=settings)
        children = []
        for number, place in enumerate(places):
            env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": place.interface, "TMPDIR": held}
            site = [sys.executable, str(Path(__file__).with_name("_scaled_site.py")), held, str(number)]
            given = [str(asked.peers), str(base_of(asked.scale)), place.interface, "gloo" if asked.gloo else "-"]
            child = subprocess.Popen([*place.prefix, *site, *given], stdout=subprocess.PIPE, env=env, text=True)
            alive.callback(process.end, child)
            children.append(child)
        said = [child.communicate(timeout=PATIENCE_S)[0] for child in children]
        if any(child.returncode for child in children):
            raise SystemExit("a site of the benchmark failed; its error is above")
    return [json.loads(text.splitlines()[-1]) for text in said]


def of_sites(asked: argparse.Namespace, told: Sequence[dict[str, float]]) -> list[Finding]:
    """One value for each site."""

    def each(name: str, by: float = 1.0) -> tuple[float, ...]:
        return tuple(one[name] / by for one in told)

    parameters, rounds = told[0]["parameters"], told[0]["rounds"]
    dense, model = 2 * (asked.peers - 1) / asked.peers * 4 * parameters * rounds, 4 * parameters
    out = "ours_bytes" if asked.link != "loopback" else "sent"
    of = f"{asked.peers} sites, {parameters:.3g} parameters"
    more = tuple((one["ours_peak"] - one["idle_bytes"]) / model for one in told)
    saved = tuple(1.0 - one / dense for one in each(out))
    large = parameters >= LARGE and asked.method == "lowrank"
    found = [
        Finding(f"{of}: bytes of a site and round", each(out, rounds * 1e6), "MB"),
        Finding(f"{of}: payload of the links in it", each("sent", rounds * 1e6), "MB"),
        Finding(f"{of}: bytes of a plain all-reduce in a round, computed", (dense / rounds / 1e6,), "MB"),
        Finding(f"{of}: part of those that is saved", saved, at_least=LEAST_SAVED if large else None),
        Finding(f"{of}: most memory of a site", each("ours_peak", 1e6), "MB"),
        Finding(f"{of}: beyond what it held before / model", more, at_most=MOST_MODELS if large else None),
        Finding(f"{of}: seconds of a round", each("ours_s", rounds), "s"),
        Finding(f"{of}: processor of a site and round", each("ours_cpu_s", rounds), "s"),
    ]  # fmt: skip
    if asked.gloo:
        found += [
            Finding(f"{of}: gloo's all-reduce, seconds of a round", each("dense_s", rounds), "s"),
            Finding(f"{of}: gloo's all-reduce, processor", each("dense_cpu_s", rounds), "s"),
        ]
        if asked.link != "loopback":
            found.append(Finding(f"{of}: gloo's all-reduce, bytes in a round", each("dense_bytes", rounds * 1e6), "MB"))
    return found


# ── what makes the vectors of a round ─────────────────────────────────────────────────────────────────────────


class Clock:
    """Processor seconds of each block that it was entered for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __enter__(self) -> None:
        self._begun = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds.append(time.process_time() - self._begun)


def alone(scale: float, rounds: int) -> list[Finding]:
    """Nominating the top 1 % and 0.1 %; carriers, projection, expansion of rank 1. Processor seconds of one thread."""
    from p2pfl.training.compression.nomination import Compressor
    from p2pfl.training.compression.subspace import Subspace
    from p2pfl.training.models import build

    layout = build(Scaled(base_of(scale))).layout
    size, found = layout.parameters, list[Finding]()
    update, of = np.random.default_rng(0).standard_normal(size, np.float32), f"{layout.parameters:.3g} numbers"
    for density in (0.01, 0.001):
        sender, taken = Compressor("nominate", density, size, 3), Clock()
        for _ in range(rounds):
            with taken:
                sender.nominate(update)
        bound = MOST_TOP_S * size / WHOLE
        found.append(Finding(f"{of}: nominate the top {density:.1%}", tuple(taken.seconds), "s", at_most=bound))
        del sender
    first, ways = np.zeros(size, np.float32), {name: Clock() for name in ("carriers", "projection", "expansion")}
    process.give_back()
    process.forget_peak()
    before = process.resident_bytes()
    for _ in range(rounds):
        with ways["carriers"]:
            subspace = Subspace.of(layout, LEAST_DENSITY, first, update)
        with ways["projection"]:
            theta = subspace.project(update)
        with ways["expansion"]:
            subspace.expand(theta)
    found += [Finding(f"{of}, rank 1: {name}", tuple(way.seconds), "s") for name, way in ways.items()]
    more = (process.peak_bytes() - before) / (4 * size)
    found.append(Finding(f"{of}, rank 1: memory of it beyond model and update / model", (more,)))
    return found


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="part of the 1.25·10⁸ parameters")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--link", default="1gbit", help="loopback, or a speed as tc writes it")
    parser.add_argument("--method", choices=("none", "lowrank", "nominate"), default="lowrank")
    parser.add_argument("--density", type=float, default=0.005)
    parser.add_argument("--no-gloo", dest="gloo", action="store_false", help="without the measured all-reduce")
    parser.add_argument("--alone", action="store_true", help="the vectors of a round, in this process")
    parser.add_argument("--quick", action="store_true", help="a thousandth of the parameters")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.scale = 0.001
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """What was asked for."""
    asked = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # namespaces are removed on the way out
    if asked.alone:
        found, title = alone(asked.scale, asked.rounds), "what makes the vectors of a round"
    else:
        title = f"{asked.peers} real sites, {asked.method}, density {asked.density:g}, {asked.link}"
        try:
            limited = links.limited(asked.peers, asked.link)
            with contextlib.nullcontext(links.loopback(asked.peers)) if asked.link == "loopback" else limited as places:
                found = of_sites(asked, trained(asked, places))
        except links.LinksUnavailable as reason:
            print(f"not measured: {reason}", file=sys.stderr)
            return 0
    return show(title, found, machine("numpy", "torch", "pyzmq"), as_json=asked.json)


if __name__ == "__main__":
    sys.exit(main())
