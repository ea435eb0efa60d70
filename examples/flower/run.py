"""Five hospitals on this machine train client.py, which is an unchanged Flower client, without a Flower server.

Each is a real process with a home, a key and a port of its own. Usage: python examples/flower/run.py [--sites N]
[--rounds N] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from p2pfl.adapters.first import write_first
from p2pfl.cli.ports import free_ports

HERE = Path(__file__).resolve().parent
NAMES = ("ada", "ben", "cyd", "dot", "eve", "fay", "gus", "hal", "ida", "jon")


def p2pfl(*arguments: str, folder: Path, log: Path | None = None) -> subprocess.Popen[str]:
    """`p2pfl …`, run in the folder of the client. What it says goes to `log`; None: it is seen."""
    environment = {**os.environ, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "p2pfl", *arguments]
    said = None if log is None else log.open("w", encoding="utf-8")
    return subprocess.Popen(command, cwd=HERE, env=environment, text=True, stdout=subprocess.PIPE, stderr=said)


def done(process: subprocess.Popen[str], log: Path | None = None) -> str:
    """What it printed, once it is over. Exits where it failed, having said why on stderr."""
    out, _ = process.communicate()
    if process.returncode:
        if log is not None:
            sys.stderr.write(log.read_text(encoding="utf-8"))
        sys.exit(process.returncode)
    return out


def federated(folder: Path, sites: int, rounds: int) -> dict[str, object]:
    """What the first site prints at its end."""
    sys.path.insert(0, str(HERE))
    from client import Net

    torch.manual_seed(1)
    write_first(folder / "first.safetensors", Net().state_dict())
    names = NAMES[:sites]
    homes = {name: ["--home", str(folder / name)] for name in names}
    for name, port in zip(names, free_ports(sites), strict=True):
        done(p2pfl("init", "--name", name, "--listen", f"127.0.0.1:{port}", *homes[name], folder=folder))
    cards = [str(folder / name / f"{name}.card") for name in names]
    agreed = ["--client", "flower", "--first", str(folder / "first.safetensors"), "--metric", "accuracy"]
    settings = ["--set", "privacy=none", "--set", f"rounds={rounds}"]
    peers = str(folder / "peers.yaml")
    done(p2pfl("peers", "create", *cards, "-o", peers, "--name", "digits", *agreed, *settings, folder=folder))
    run = ["run", "--flower", "client:app", "--peers", peers, "--first", str(folder / "first.safetensors"), "--json"]
    print(f"{sites} sites, each a process of its own. What {names[0]} says:", flush=True)
    # Five would say the same at once: the others' words are kept, and shown of one that fails.
    logs = {name: folder / f"{name}.log" if name != names[0] else None for name in names}
    processes = {name: p2pfl(*run, *homes[name], folder=folder, log=logs[name]) for name in names}
    results = [json.loads(done(one, logs[name]).splitlines()[-1]) for name, one in processes.items()]
    if len({one["ledger"]["root"] for one in results}) != 1:
        sys.exit("the ledgers differ")
    return dict(results[0])


def main() -> None:
    parser = argparse.ArgumentParser(description="An unchanged Flower client, trained by hospitals without a server.")
    parser.add_argument("--sites", type=int, choices=range(3, len(NAMES) + 1), default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where homes are kept  [default: nowhere]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pfl-flower-") as kept:
        folder = given.folder or Path(kept)
        folder.mkdir(parents=True, exist_ok=True)
        found = federated(folder, given.sites, given.rounds)
    metric = found["metric"]
    assert isinstance(metric, dict)
    print(
        f"{given.sites} sites, {found['rounds_completed']} rounds, {found['parameters']} parameters: accuracy "
        f"{metric['initial']:.3f} → {metric['final']:.3f} on all sites' held-out digits, {found['wall_s']} s"
    )


if __name__ == "__main__":
    main()
