"""One site's pass on several processes of one machine: one GPU each, or some processors.

Rank 0 speaks for the site: it alone has the home, the ledger and the seeds, draws one Poisson sample a step, and adds
the noise once. Each rank clips and sums the gradients of its share of that sample, maybe of no record. Rank 0 adds the
sums in float64 in the order of ranks, whatever the network does, and hands the noised gradient back; every rank takes
the same step. So an update differs from that of a single process by rounding alone, and the same number of ranks gives
the same bits. docs/adr/0044.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.errors.distributed_noise import NoiseOfOneProcess
from p2pfl.errors.from_python import RanksDiffer
from p2pfl.federation import Federation
from p2pfl.keys import Secret, digest
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.given import Place, agreed_task, records_of
from p2pfl.training.gradients.clipping import ClippingOptimizer, KeystreamOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Charge
from p2pfl.training.ranks import CARRIERS, END, PASS, RECORDS, STEP, SUM, PassAbandoned, Ranks
from p2pfl.training.records.records import SiteRecords
from p2pfl.training.records.withdrawn import Withdrawn
from p2pfl.training.repeatable import repeatable, torch_seeds
from p2pfl.training.task import Task
from p2pfl.training.update import FlatVector


class LeadingOptimizer(KeystreamOptimizer):
    """Rank 0's: the noise goes on the sum over all ranks, and the others get the gradient that comes of it."""

    def __init__(self, ranks: Ranks, *given: Any) -> None:
        super().__init__(*given)
        self._ranks = ranks

    def sums(self) -> Iterator[torch.Tensor]:
        """For each parameter, the clipped sum over all ranks.    (numel,) float64"""
        self._ranks.say(SUM)
        total = self._ranks.total(_flat(p.summed_grad for p in self.params))
        yield from _parts(total, self.params)

    def add_noise(self) -> None:
        """As for a single process, for all."""
        super().add_noise()
        self._ranks.share(_flat(p.grad for p in self.params))


class FollowingOptimizer(ClippingOptimizer):
    """Another rank's: it gives its clipped sum away, and gets the noised gradient."""

    def __init__(self, ranks: Ranks, *given: Any) -> None:
        super().__init__(*given)
        self._ranks = ranks

    def add_noise(self) -> None:
        """Rank 0 does."""
        mine = _flat(p.summed_grad for p in self.params)
        self._ranks.hear(SUM)
        self._ranks.give(mine)
        noised = self._ranks.share(torch.empty_like(mine))
        for p, part in zip(self.params, _parts(noised, self.params), strict=True):
            p.grad = part.to(p.device, p.dtype).view_as(p)


def _flat(parts: Iterable[torch.Tensor | None]) -> torch.Tensor:
    """One vector of all parameters', on the processor.    (m,) float32"""
    return torch.cat([part.detach().reshape(-1).cpu().float() for part in parts if part is not None])


def _parts(flat: torch.Tensor, parameters: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Each parameter's part of such a vector.    (numel,)"""
    start = 0
    for p in parameters:
        yield flat[start : start + p.numel()]
        start += p.numel()


class LeadingTrainer(Trainer):
    """Rank 0's: a Trainer to whoever asks for a pass. It measures alone."""

    def __init__(self, ranks: Ranks, *, site: SiteRecords, **options: Any) -> None:
        """As of a Trainer; `ranks` have the same task, settings and records.

        Raises RanksDiffer, RankLost, NoiseOfOneProcess.
        """
        super().__init__(site=site, **options)
        if self._privacy.is_distributed:
            raise NoiseOfOneProcess(evidence=f"{ranks.size} ranks")
        self._ranks = ranks
        self._tell_records()

    def _tell_records(self) -> None:
        """The others train on these too. Raises RanksDiffer, RankLost."""
        ranks = self._ranks
        ranks.say(RECORDS)
        for rows in (self._site.train.rows, self._site.held_out.rows):
            ranks.say(RECORDS, len(rows))
            ranks.share_array(rows)
        ranks.share_array(np.frombuffer(self._named(), np.uint8))
        alike = int(ranks.total(torch.ones(1)).item())
        if alike < ranks.size:
            raise RanksDiffer(evidence=f"{alike} of {ranks.size} processes have what rank 0 has")

    def leave_out(self, withdrawn: Withdrawn) -> None:
        """As of a Trainer, at all ranks. Raises RanksDiffer, RankLost too."""
        before = len(self._site.train) + len(self._site.held_out)
        super().leave_out(withdrawn)
        if len(self._site.train) + len(self._site.held_out) < before:
            self._tell_records()

    def inputs(self, model: FlatVector, rounds_before: int = 0) -> bytes:
        """As of a Trainer: another number of ranks adds up in another order."""
        named = super().inputs(model, rounds_before)
        return digest("pass", b"ranks", self._ranks.size.to_bytes(8, "big"), named) if named else b""

    def train(
        self,
        model: FlatVector,
        charge: Charge,
        seed: Secret,
        rounds_before: int = 0,
        subspace: Subspace | None = None,
    ) -> FlatVector:
        """As of a Trainer. Raises RankLost too: the pass stays charged, and its seed is kept."""
        self._ranks.say(PASS, rounds_before)
        self._ranks.share_array(model)
        self._ranks.share_array(torch_seeds(seed, self._ranks.size).view(np.int64))
        carriers = subspace.carriers if subspace is not None else np.zeros(0)
        self._ranks.say(CARRIERS, len(carriers))
        self._ranks.share_array(carriers)
        try:
            return super().train(model, charge, seed, rounds_before, subspace)
        except BaseException:
            self._ranks.abandon()
            raise

    def _batches(self, samples: BitStream) -> Iterator[NDArray[np.int64]]:
        for rows in super()._batches(samples):
            self._ranks.say(STEP, len(rows))
            yield self._ranks.share_array(rows)[:: self._ranks.size]

    def _clipping(self, chosen: torch.optim.Optimizer, noise: BitStream) -> ClippingOptimizer:
        return LeadingOptimizer(self._ranks, chosen, self._privacy, self._task.expected_batch, noise)


class FollowingTrainer(Trainer):
    """Another rank's: it takes part in rank 0's passes, and knows no seed of noise or samples."""

    def __init__(self, ranks: Ranks, *, density: float = 1.0, **options: Any) -> None:
        """As of a Trainer; `density` is that of peers.yaml. Raises RanksDiffer, RankLost."""
        super().__init__(**options)
        self._density, self._ranks, mine = density, ranks, self._named()
        same = ranks.share_array(np.zeros(len(mine), np.uint8)).tobytes() == mine
        ranks.give(torch.tensor([float(same)]))
        if not same:
            raise RanksDiffer(evidence=f"rank {ranks.rank} has another task, other settings, records or versions")

    def follow(self) -> int:
        """Take part in every pass; what rank 0 says after the last one."""
        while True:
            what, rounds_before = self._ranks.hear(PASS, RECORDS, END)
            if what != PASS:
                return what
            model = self._ranks.share_array(np.zeros(self.whole.parameters, np.float32))
            seeds = self._ranks.share_array(np.zeros(self._ranks.size, np.int64)).view(np.uint64)
            carriers = self._ranks.share_array(np.zeros(self._ranks.hear(CARRIERS)[1]))
            subspace = Subspace.with_carriers(self.layout, self._density, carriers) if len(carriers) else None
            try:
                with repeatable(int(seeds[self._ranks.rank])), self._from(model, subspace):
                    self._run(self._heard(), self._giving, rounds_before)
            except PassAbandoned:
                continue

    def _heard(self) -> Iterator[NDArray[np.int64]]:
        """This rank's share of each step's sample."""
        for _ in range(self._privacy.steps_per_round):
            _, count = self._ranks.hear(STEP)
            rows = self._ranks.share_array(np.zeros(count, np.int64))
            yield rows[self._ranks.rank :: self._ranks.size]

    def _giving(self, chosen: torch.optim.Optimizer) -> FollowingOptimizer:
        return FollowingOptimizer(self._ranks, chosen, self._privacy)


def follow(
    ranks: Ranks,
    task: Task | None = None,
    *,
    peers: Place | Federation,
    data: Any,
    columns: Place | None = None,
    task_file: Place | None = None,
    device: str = "cpu",
) -> None:
    """Every rank but 0: take part in rank 0's passes until it leaves its block of `ranks`.

    peers    the same peers.yaml, for the settings of a pass; all else as for `peer.train`, and the same as there
    Raises RanksDiffer, RankLost, what the records and the model raise.
    """
    federation = peers if isinstance(peers, Federation) else Federation.load(os.fspath(peers))
    made = agreed_task(federation.task, task, None if task_file is None else Path(task_file))
    records = records_of(made, data, columns)
    what, _ = ranks.hear(RECORDS, END)
    while what == RECORDS:
        rows = [ranks.share_array(np.zeros(ranks.hear(RECORDS)[1], np.int64)) for _ in range(2)]
        if max(one.max(initial=-1) for one in rows) >= len(records):
            raise RanksDiffer(evidence=f"rank {ranks.rank} has {len(records)} records, fewer than rank 0")
        site = SiteRecords(*(records.at(one) for one in rows))
        local, privacy = federation.local, federation.privacy
        density = federation.compression.density
        trainer = FollowingTrainer(
            ranks, density=density, task=made, site=site, privacy=privacy, local=local, device=device
        )
        what = trainer.follow()
