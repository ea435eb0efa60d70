"""A secure sum between real processes beside gloo's plaintext fp32 all-reduce, in the same processes, in turn.

Everything counts that a round needs: secrets, masks, TLS, ZeroMQ, fsync, ballots and the ledger entry. The last lines
give the bytes that a peer sends, against those of an optimal plaintext all-reduce of words of that width.

    python benchmarks/secure_sum.py [--peers 5] [--words 10000000] [--bits 31] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _report as report  # noqa: E402

WORD_BYTES = {31: 4, 61: 8}


def federation(folder: Path, peers: int, field: int) -> Path:
    """Homes of `peers` sites under `folder`, and the peers.yaml of them all."""
    from p2pfl import draft
    from p2pfl.cards import Card
    from p2pfl.cli.children import free_ports
    from p2pfl.home import Home
    from p2pfl.keyslots import KeyFile
    from p2pfl.roster import Address

    cards = []
    for number, port in enumerate(free_ports(peers)):
        name = f"site-{number}"
        keys = [KeyFile(folder / "keys" / f"{name}.key")]
        with Home.create(folder / name, name, keys) as home:
            cards.append(Card.sign(home.identity(), name, [Address("127.0.0.1", port)]))
    path = folder / "peers.yaml"
    task = draft.TaskLines({"name": "tabular"}, (), {})
    path.write_bytes(draft.write("bench", [card.member for card in cards], task, [f"sharing.field={field}"]))
    return path


async def site(folder: Path, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """One peer's process: in each round a plaintext all-reduce, then a secure sum, each begun together by a barrier."""
    import numpy as np
    import torch
    import torch.distributed as dist

    from p2pfl.keyslots import KeyFile
    from p2pfl.peer import Peer

    torch.set_num_threads(1)
    # gloo meets in a file, so that the two systems share nothing but the machine.
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'gloo'}", rank=number, world_size=options.peers,
        timeout=timedelta(minutes=10),
    )  # fmt: skip
    vector = np.random.default_rng(number).uniform(-1, 1, options.words).astype(np.float32)
    name = f"site-{number}"
    key = KeyFile(folder / "keys" / f"{name}.key")
    plain, secure, sent = [], [], []
    async with Peer.join(folder / "peers.yaml", home=folder / name, unlock=[key]) as peer:
        for turn in range(options.rounds + 1):
            tensor = torch.from_numpy(vector.copy())
            await asyncio.to_thread(dist.barrier)
            begun = time.perf_counter()
            await asyncio.to_thread(dist.all_reduce, tensor)
            between = time.perf_counter()
            await asyncio.to_thread(dist.barrier)
            start, before = time.perf_counter(), peer.node.bytes_sent
            result = await peer.sum(vector, limit=1.0)
            done = time.perf_counter()
            worst = float(np.abs(np.asarray(result.total) - tensor.numpy()).max())
            if worst > 1e-4:
                raise SystemExit(f"the sums differ by {worst}")
            if turn:  # the first warms up both
                plain.append(between - begun)
                secure.append(done - start)
                sent.append(peer.node.bytes_sent - before)
        await asyncio.to_thread(dist.barrier)
    usage = __import__("resource").getrusage(__import__("resource").RUSAGE_SELF)
    return {"plain": plain, "secure": secure, "sent": sent, "peak_mb": usage.ru_maxrss / 1024}


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Start the peers, wait, and collect what each measured."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        federation(folder, options.peers, options.bits)
        argv = [sys.executable, __file__, "--peers", str(options.peers), "--words", str(options.words),
                "--bits", str(options.bits), "--rounds", str(options.rounds), "--folder", held]  # fmt: skip
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        children = [
            subprocess.Popen([*argv, "--site", str(number)], stdout=subprocess.PIPE, env=env, text=True)
            for number in range(options.peers)
        ]
        said = [child.communicate(timeout=1800)[0] for child in children]
        if any(child.returncode for child in children):
            raise SystemExit("a peer of the benchmark failed; its error is above")
    return [json.loads(text.splitlines()[-1]) for text in said]


def findings(options: argparse.Namespace, told: list[dict[str, Any]]) -> list[report.Finding]:
    """The slowest peer of each round counts, on both sides."""
    plain = [max(each) for each in zip(*(one["plain"] for one in told), strict=True)]
    secure = [max(each) for each in zip(*(one["secure"] for one in told), strict=True)]
    n, m, width = options.peers, options.words, WORD_BYTES[options.bits]
    ideal = 2 * (n - 1) / n * m * width
    sent = [max(each) / ideal for each in zip(*(one["sent"] for one in told), strict=True)]
    memory = [one["peak_mb"] * 2**20 / (m * 4) for one in told]
    large = m >= 1_000_000
    return [
        report.Finding("secure sum / plaintext all-reduce, loopback", report.ratios(secure, plain),
                       at_most=6.0 if large and n == 5 else None),
        report.Finding("secure sum", tuple(secure), "s"),
        report.Finding("plaintext all-reduce (gloo, fp32)", tuple(plain), "s"),
        report.Finding("bytes sent per peer / optimum", tuple(sent), at_most=1.02 if m >= 10_000_000 else None),
        report.Finding("peak memory / vector (Python and torch included)", tuple(memory)),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--words", type=int, default=10_000_000)
    parser.add_argument("--bits", type=int, default=31, choices=sorted(WORD_BYTES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--site", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.site is not None:
        print(json.dumps(asyncio.run(site(options.folder, options.site, options))))
        return
    told = run(options)
    title = f"secure sum: {options.peers} peers, {options.words:,} words, {options.bits}-bit field"
    on = report.machine("numpy", "torch", "pyzmq", "cryptography")
    sys.exit(report.show(title, findings(options, told), on, as_json=options.json))


if __name__ == "__main__":
    main()
