"""One peer of benchmarks/secure_sum.py: its own process, home, ledger and links, and gloo beside them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _process as process  # noqa: E402
from benchmarks import _timeline as timeline  # noqa: E402
from benchmarks import _where as where  # noqa: E402
from benchmarks._federation import key_file  # noqa: E402
from p2pfl.home.keyslots import KeyFile  # noqa: E402
from p2pfl.node.effects import REST_S  # noqa: E402
from p2pfl.node.runs import answers  # noqa: E402
from p2pfl.node.runs.sums import SALT_WORDS, Asked, SumRun, encode, salt  # noqa: E402
from p2pfl.peer import Peer  # noqa: E402
from p2pfl.peer.epoch import sums_run  # noqa: E402
from p2pfl.sharing import kernel  # noqa: E402
from p2pfl.sharing.room import POOL  # noqa: E402

if TYPE_CHECKING:
    from p2pfl.node.source import Offer

LIMIT: Final = 1.0
Told = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the peers are to measure.

    bits      widths of the field, in their order
    ahead_s   seconds from a round's begin to its update
    cold      the update is there with the call, from which the clock counts
    numpy     without the compiled loops
    stamps    each peer stamps what it does, for a timeline
    """

    peers: int
    words: int
    bits: Sequence[int]
    rounds: int
    ahead_s: float = 1.0
    cold: bool = False
    numpy: bool = False
    stamps: bool = False


class Update(SumRun):
    """A sum whose vector is ready only when `ready` is set, as an update is when a training's pass ends."""

    def __init__(self, name: str, peer: Peer, make: Callable[[], Any], bits: int, words: int) -> None:
        node, run = peer.node, sums_run(peer.federation)
        self._salt = salt(node.clocks.draw)
        super().__init__(Asked(name, (), 3), [], node.logs, run, self._salt, partial(answers.keep, node.home))
        self.ready = threading.Event()
        self._make, self._shape = make, ((bits, words), (61, SALT_WORDS))

    def shape(self, number: int) -> tuple[tuple[int, int], ...]:
        """Known before the vector is, as that of a model's update."""
        return self._shape

    def propose(self, number: int, base: int) -> Offer:
        """Wait, then look at the vector: both belong to what a training does in its worker thread."""
        self.ready.wait()
        self.parts = (self._make(), self._salt)
        return super().propose(number, base)


async def site(folder: Path, number: int, interface: str, asked: Measured) -> Told:
    """In each round a plaintext all-reduce, then one secure sum for each width, each begun together by a barrier."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    # gloo meets in a file, so that the two systems share nothing but the machine and its links.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'gloo'}",
        rank=number,
        world_size=asked.peers,
        timeout=timedelta(minutes=10),
    )
    vector = np.random.default_rng(number).uniform(-LIMIT, LIMIT, asked.words).astype(np.float32)
    name = f"site-{number}"
    key = KeyFile(key_file(folder, name))
    tensor = torch.from_numpy(vector.copy())
    told: Told = {"plain": [], **{str(bits): [] for bits in asked.bits}, "memory": {}, "timeline": {}}
    told["inner loops"] = kernel.in_use()
    async with Peer.join(folder / "peers.yaml", home=folder / name, unlock=[key]) as peer:
        await peer.sum(vector[:1000], limit=LIMIT, name="first")  # genesis, code and buffers are there
        line = timeline.Timeline(Update, interface) if asked.stamps else None
        meter = Meter(peer, interface, line)
        for turn in range(asked.rounds + 1):
            tensor.copy_(torch.from_numpy(vector))
            await asyncio.to_thread(dist.barrier)
            meter.start(lean=not turn)
            await asyncio.to_thread(dist.all_reduce, tensor)
            seen = {"plain": meter.stop()}
            for bits in asked.bits:
                await asyncio.to_thread(dist.barrier)
                seen[str(bits)] = await secure(peer, vector, bits, tensor.numpy(), meter, dist.barrier, asked, not turn)
            for system, spent in seen.items():
                if turn:
                    told[system].append(spent)
                    told["timeline"][system] = (spent.pop("begun"), spent.pop("marks"))  # the last round's
                else:  # warms up all sides, too
                    told["memory"][system] = spent["memory"]
        if not asked.cold:
            await asyncio.sleep(REST_S + 1)
            told["memory"]["kept"] = meter.kept()
        await asyncio.to_thread(dist.barrier)
    return told


async def secure(
    peer: Peer,
    vector: Any,
    bits: int,
    plain: Any,
    meter: Meter,
    barrier: Callable[[], object],
    asked: Measured,
    lean: bool,
) -> Told:
    """One secure sum in the field of `bits`, checked against the plaintext one."""
    node = peer.node

    def make() -> Any:
        # Below Peer.sum, which takes 31 bits or more for floats.
        return encode(vector, peers=asked.peers, bits=bits, limit=LIMIT, decimals=None, draw=node.clocks.draw)

    update = Update(f"bench-{bits}", peer, make, bits, len(vector))
    meter.start(lean=lean)
    if asked.cold:
        update.ready.set()
    work = asyncio.create_task(node.run(update.run, update, node.logs.count(update.run) + 1))
    if not asked.cold:
        await asyncio.sleep(asked.ahead_s)
        await asyncio.to_thread(barrier)
        meter.clock()
        update.ready.set()
    await work
    answer, update.answer = update.answer, None  # as Peer.sum has it: the node goes on serving the round without it
    if answer is None:
        raise RuntimeError("the round ended without an answer")
    total = (await asyncio.to_thread(lambda: answer.totals))[0]
    seen = meter.stop()
    worst = max(
        float(np.abs(np.asarray(total[k : k + 1_000_000]) - plain[k : k + 1_000_000]).max())
        for k in range(0, plain.size, 1_000_000)
    )
    step = LIMIT * 2 * asked.peers / 2 ** (bits if bits != 61 else 53)
    if worst > asked.peers * step + 1e-5:
        raise SystemExit(f"the sums differ by {worst}")
    return seen


class Meter:
    """What one peer spends between `start` and `stop`; seconds count from `clock`, where that is called."""

    def __init__(self, peer: Peer, interface: str, line: timeline.Timeline | None) -> None:
        self._peer, self._interface, self._where, self._line = peer, interface, where.Where(Update), line
        process.give_back()
        self._first = self._resident = process.resident_bytes()

    def start(self, *, lean: bool) -> None:
        """Begin. `lean`: what is free goes back to the system first, which costs time, so that the peak is needed."""
        if lean:
            POOL.rest(POOL.taken)
            process.give_back()
        self._resident = process.resident_bytes()
        process.forget_peak()
        self._where.start()
        if self._line is not None:
            self._line.start()
        self._switches, self._cpu = process.switches(), process.cpu_s()
        self._begun = time.monotonic()
        self._sent, self._out = self._peer.node.bytes_sent, process.interface_bytes(self._interface)

    def clock(self) -> None:
        """The seconds count from here; all else goes on counting from `start`."""
        self._begun = time.monotonic()

    def stop(self) -> Told:
        seconds, cpu_s = time.monotonic() - self._begun, process.cpu_s() - self._cpu
        switches = process.switches() - self._switches
        return {
            "begun": self._begun,
            "marks": self._line.stop() if self._line is not None else [],
            "switches": switches,
            "s": seconds,
            "cpu_s": cpu_s,
            "where": self._where.stop(cpu_s),
            "sent": self._peer.node.bytes_sent - self._sent,
            "interface": process.interface_bytes(self._interface) - self._out,
            "memory": process.peak_bytes() - self._resident,
        }

    def kept(self) -> int:
        """Bytes that are not free now and were not held when this meter was made."""
        process.give_back()
        return process.resident_bytes() - self._first


def main(arguments: Sequence[str]) -> None:
    folder, number, interface, asked = arguments
    measured = Measured(**json.loads(asked))
    if measured.numpy:
        kernel.COMPILED = None
    print(json.dumps(asyncio.run(site(Path(folder), int(number), interface, measured))))


if __name__ == "__main__":
    main(sys.argv[1:])
