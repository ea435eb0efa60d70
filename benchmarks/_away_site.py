"""One site of `away.py`: asks one sum after another, and prints who is in each, and when it was final here."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from p2pfl.errors.round import SumMissed
from p2pfl.home.keyslots import KeyFile
from p2pfl.peer import Peer
from p2pfl.peer.epoch import sums_run


async def ask(peers: str, home: str, key: str) -> None:
    """Sums until it is killed; a site that comes back goes on where the others are."""
    async with Peer.join(peers, home=home, unlock=[KeyFile(Path(key))], linger_s=2.0) as peer:
        while True:
            done = peer.logs.count(sums_run(peer.federation))
            try:  # other numbers each time: the same ones are summed over one set of sites only
                result = await peer.sum(np.arange(done, done + 10), name=f"sum {done}")
            except SumMissed:
                continue
            print(json.dumps({"at": time.monotonic(), "survivors": result.survivors}), flush=True)


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1], sys.argv[2], sys.argv[3]))
