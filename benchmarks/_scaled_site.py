"""One real site of benchmarks/at_scale.py: its own process, home, ledger and TLS; a UNet on made-up volumes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _process as process  # noqa: E402
from benchmarks._federation import key_file  # noqa: E402
from p2pfl.home.keyslots import KeyFile  # noqa: E402
from p2pfl.peer import Peer  # noqa: E402
from p2pfl.training.lean import without_compiler  # noqa: E402
from p2pfl.training.records.records import Arrays  # noqa: E402
from p2pfl.training.tasks.volumes import Volumes  # noqa: E402

RECORDS: Final = 20
SIDE: Final = 32
LEVELS: Final = 5
UNITS: Final = 2


class Scaled(Volumes):
    """MONAI's UNet of five levels, as wide as asked for."""

    name = "scaled"
    classes = ("background", "body")
    size = (SIDE, SIDE, SIDE)
    units = UNITS
    learning_rate, expected_batch = 0.1, 2.0

    def __init__(self, base: int) -> None:
        super().__init__()
        self.levels = tuple(base << level for level in range(LEVELS))


def volumes(site: int) -> Arrays:
    """A bright box in noise.    (N, 1, X, Y, Z) float32, (N, X, Y, Z) int64"""
    dice = np.random.default_rng(site)
    x = dice.normal(size=(RECORDS, 1, SIDE, SIDE, SIDE)).astype(np.float32)
    y = np.zeros((RECORDS, SIDE, SIDE, SIDE), np.int64)
    y[:, 8:20, 8:20, 8:20] = 1
    x[:, 0] += y
    return Arrays(x, y, [hashlib.sha256(bytes([site, row])).digest() for row in range(RECORDS)])


@contextmanager
def spent(told: dict[str, float], name: str, interface: str) -> Iterator[None]:
    """Seconds, processor seconds, bytes out of the interface, and the most memory, of what is done within."""
    process.give_back()
    process.forget_peak()
    cpu, out, begun = process.cpu_s(), process.interface_bytes(interface), time.perf_counter()
    yield
    told[f"{name}_s"], told[f"{name}_cpu_s"] = time.perf_counter() - begun, process.cpu_s() - cpu
    told[f"{name}_bytes"] = float(process.interface_bytes(interface) - out)
    told[f"{name}_peak"] = float(process.peak_bytes())


async def site(folder: Path, number: int, peers: int, base: int, interface: str, gloo: bool) -> dict[str, float]:
    """Train to the end of the rounds; then, of as many numbers, gloo's plaintext all-reduce for each round."""
    import torch

    without_compiler()  # as the process does that trains for `join`
    torch.set_num_threads(1)
    told, name = dict[str, float](), f"site-{number}"
    key = KeyFile(key_file(folder, name))
    async with Peer.join(folder / "peers.yaml", home=folder / name, unlock=[key]) as peer:
        await peer.sum(np.zeros(10), limit=1.0, name="first")  # links and genesis are there
        Scaled(2).model()  # torch is loaded
        process.give_back()
        told["idle_bytes"] = float(process.resident_bytes())
        rounds, sent = peer.federation.rounds, peer.node.bytes_sent
        with spent(told, "ours", interface):
            trained = await peer.train(Scaled(base), data=volumes(number))
        told["sent"], told["rounds"] = float(peer.node.bytes_sent - sent), float(rounds)
        told["parameters"] = float(sum(p.numel() for p in trained.model.parameters()))
        del trained
        await peer.sum(np.zeros(10), limit=1.0, name="last")  # nobody leaves while others still train
    if gloo:
        _all_reduce(told, folder, number, peers, interface)
    return told


def _all_reduce(told: dict[str, float], folder: Path, number: int, peers: int, interface: str) -> None:
    import torch
    import torch.distributed as dist

    init = f"file://{folder / 'gloo'}"
    dist.init_process_group("gloo", init_method=init, rank=number, world_size=peers, timeout=timedelta(minutes=10))
    whole: NDArray[np.float32] = np.zeros(int(told["parameters"]), np.float32)
    tensor = torch.from_numpy(whole)
    dist.barrier()
    with spent(told, "dense", interface):
        for _ in range(int(told["rounds"])):
            dist.all_reduce(tensor)
    dist.barrier()
    dist.destroy_process_group()


def main(arguments: Sequence[str]) -> None:
    folder, number, peers, base, interface, gloo = arguments
    found = asyncio.run(site(Path(folder), int(number), int(peers), int(base), interface, gloo == "gloo"))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
