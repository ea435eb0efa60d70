"""The processes of one site on one machine, as `torchrun` starts them, and what they say to each other.

Only tensors travel: no object is pickled. What goes between the ranks is not noised yet, so they are on one machine and
talk over its loopback. Each says things in the same order, so a rank that died is found by whoever listens to it next.
"""

from __future__ import annotations

import datetime
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from p2pfl.errors.from_python import RankLost, RanksApart

PATIENCE: Final = datetime.timedelta(days=365)  # other ranks wait while rank 0 waits for other hospitals
END, RECORDS, PASS, CARRIERS, STEP, SUM, ABANDON = range(7)  # what rank 0 says next
LOOPBACK: Final = "lo0" if sys.platform == "darwin" else "lo"


class PassAbandoned(Exception):
    """Rank 0 has given up the pass under way: this rank waits for what comes next."""


class Ranks:
    """The processes of this site's training. `size` is 1 where `torchrun` started none."""

    def __init__(self, rank: int, size: int, group: dist.ProcessGroup | None = None) -> None:
        self.rank, self.size, self._group, self._lost = rank, size, group, False

    @property
    def leads(self) -> bool:
        """This process speaks for the site."""
        return self.rank == 0

    def say(self, what: int, number: int = 0) -> None:
        """Rank 0: what comes next. Raises RankLost."""
        self.share(torch.tensor([what, number], dtype=torch.int64))

    def hear(self, *wanted: int) -> tuple[int, int]:
        """Another rank: what rank 0 says next. Raises RankLost, PassAbandoned."""
        what, number = self.share(torch.zeros(2, dtype=torch.int64)).tolist()
        if what == ABANDON:
            raise PassAbandoned
        if what not in wanted:
            self._lose(f"rank 0 said {what}, one of {wanted} was expected")
        return what, number

    def share(self, held: torch.Tensor) -> torch.Tensor:
        """Rank 0's tensor at every rank; others give one of its shape and type, which is filled. Raises RankLost."""
        if held.numel():
            with self._talking("rank 0" if self.rank else "a rank"):
                dist.broadcast(held, src=0, group=self._group)
        return held

    def share_array(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same of an array."""
        return self.share(torch.from_numpy(np.array(array))).numpy()

    def total(self, mine: torch.Tensor) -> torch.Tensor:
        """Rank 0: Σ over the ranks, in their order, of what each gives.    (m,) float32 ► (m,) float64"""
        total, other = mine.double(), torch.empty_like(mine)
        for rank in range(1, self.size):
            with self._talking(f"rank {rank}"):
                dist.recv(other, src=rank, group=self._group)
            total += other
        return total

    def give(self, mine: torch.Tensor) -> None:
        """Another rank: its part of rank 0's `total`."""
        with self._talking("rank 0"):
            dist.send(mine, dst=0, group=self._group)

    def abandon(self) -> None:
        """Rank 0: the pass under way is given up."""
        if not self._lost:
            with suppress(RankLost):
                self.say(ABANDON)

    def release(self) -> None:
        """Rank 0: the others need not wait any more."""
        if self.leads and self.size > 1 and not self._lost:
            with suppress(RankLost):
                self.say(END)

    @contextmanager
    def _talking(self, whom: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._lose(f"{whom} is gone: {str(error).splitlines()[0][:200]}")

    def _lose(self, evidence: str) -> NoReturn:
        self._lost = True
        raise RankLost(evidence=evidence, rank=self.rank) from None


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The ranks that `torchrun` started, of which this process is one; this process alone without it.

    At the end of rank 0's block the others are released. Raises RanksApart, RankLost.
    """
    told = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")]
    rank, size, here = (int(one or default) for one, default in zip(told, (0, 1, 1), strict=True))
    if size == 1:
        yield Ranks(0, 1)
        return
    if here != size:
        raise RanksApart(evidence=f"{here} of {size} processes are on this machine")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    begun = not dist.is_initialized()
    if begun:
        # Imported later, by Opacus, it would hold the group in its functions' defaults. Then gloo's threads outlive the
        # block, and one that still lets go of a tensor when the interpreter ends aborts the process.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("gloo", timeout=PATIENCE)
    # Beside a group of the caller's own, which may be NCCL's: what rank 0 noises lies on the processor.
    group = None if begun else dist.new_group(backend="gloo", timeout=PATIENCE)
    found = Ranks(rank, size, group)
    try:
        yield found
    finally:
        found.release()
        dist.destroy_process_group(group)
