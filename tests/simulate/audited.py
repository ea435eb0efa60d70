"""An audit of the mechanism from outside: canaries through the real pipeline, and what a guesser can tell of them.

A canary is a record whose gradient, far longer than the clip, lies in one row of the model's only matrix. Half of the
rows have one. The real trainer clips, noises and projects; the real quantiser makes words; real rounds in virtual time
share them and open their sum. The guesser colludes with all other sites, so it takes their words away, and it sees
all else that a peer sees. Each row is a trial of its own: is its canary there? Error rates of any guess bound μ of the
mechanism from below (Dong, Roth, Su 2022), and μ bounds ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.special import betaincinv, ndtr, ndtri
from torch import nn

from p2pfl.federation import Federation
from p2pfl.sharing import events as e
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.training import _Site, federation_of, seeded
from p2pfl.training.compression.nomination import Ground
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.local import Trainer
from p2pfl.training.records.records import Arrays, Records, SiteRecords
from p2pfl.training.update import FlatVector
from tests.training.settings import Small

ROWS, COLUMNS = 1200, 8
LOUD = 2000.0  # a canary's gradient before it is clipped to 1
# A sound mechanism fails an audit with at most this chance: each of the two error rates gets half of it.
FALSE_ALARM = 1e-4
# One private step over every record, and room for whatever a fault lets through.
SETTINGS = (
    "rounds=2",
    "privacy.steps_per_round=1",
    "privacy.sample_rate=1",
    "privacy.max_epsilon=100",
    "sharing.clip=1e6",
    "sharing.scale=1e4",
)


class Canaries(Small):
    """One matrix; a record (x, k) has the gradient `sign`·e_k xᵀ. `sign` is public, and may change between passes."""

    name: ClassVar[str] = "canaries"
    learning_rate = 1.0
    expected_batch = 1.0
    sign = 1.0

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS, ROWS, bias=False))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.sign * outputs.gather(1, targets[:, None])[:, 0]


@dataclass(frozen=True)
class Seen:
    """What the guesser has of one round.

    change       the audited site's part of the opened sum, with its sign turned: (ROWS, COLUMNS)
    after        the model that all sites have after the round: (m,)
    nomination   positions that the site named, (k,); None where nothing is
    subspace     where the round moved; None: everywhere
    """

    change: np.ndarray
    after: FlatVector
    nomination: np.ndarray | None
    subspace: Subspace | None


class Opening(SimulatedFederation):
    """Real rounds that sum given words: one vector for each site and round."""

    def __init__(self, words: Sequence[Sequence[np.ndarray]], bits: int) -> None:
        """words    by round and site"""
        super().__init__(len(words[0]), rounds=len(words), length=len(words[0][0]), bits=bits)
        self._words = {name: [row[place] for row in words] for place, name in enumerate(self.roster.names)}

    def update(self, name: str, number: int) -> tuple[e.Vector, ...]:
        return (e.Vector(self.bits, self._words[name][number - 1].copy()),)  # a round masks them in place

    def opened(self) -> list[np.ndarray]:
        """The sums, by round. Every site is in each of them."""
        self.run()
        first = self.peers[self.roster.names[0]]
        assert all(f'"{name}"' in one.decode() for one in first.disk.ledger for name in self.roster.names)
        return [total[0].words for total in first.disk.totals]


def quantised(site: _Site, values: np.ndarray) -> np.ndarray:
    """The words of its values, by its own draws."""
    return site.quantiser.quantise(values, bytes(32), site.draw(32))[0]


def opened(sites: Sequence[_Site], words: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What the first site's words stand for, by the sum that real rounds open less all other words; and the whole sum.

    float64, as long as what the sites quantised
    """
    quantiser, (total,) = sites[0].quantiser, Opening([words], int(sites[0].quantiser.field.name)).opened()
    alone = quantiser.field.combine([total], list(words[1:]))
    size = words[0].size
    return (
        quantiser.dequantise_sum(alone, 1, bytes(32), size),
        quantiser.dequantise_sum(total, len(sites), bytes(32), size),
    )


class Audit:
    """Sites of one training; the first one has the canaries of the rows `present`, the others silent records."""

    def __init__(self, *settings: str, peers: int = 3) -> None:
        names = [f"site-{place}" for place in range(peers)]
        self.federation: Federation = federation_of(names, (*SETTINGS, *settings))
        self.task = Canaries()
        probe = Trainer(task=self.task, site=self._records(np.zeros(COLUMNS), []), privacy=self.federation.privacy)
        self.first: FlatVector = probe.initial(bytes(32))
        self.model = self.first
        self.present = np.arange(ROWS) % 2 == 0
        compressed = _Site("", probe, self.federation, seeded(0, "")).compressor
        self.subspace: Subspace | None = compressed.subspace(self.first, self.model)
        self.direction = np.eye(COLUMNS)[0] if self.subspace is None else self.subspace.pieces[0].right[:, 0]
        rows = np.flatnonzero(self.present)
        self.sites = [
            self._site(name, self._records(self.direction, rows if name == names[0] else [])) for name in names
        ]

    def _records(self, direction: np.ndarray, rows: Sequence[int] | np.ndarray) -> SiteRecords:
        """A canary of each of `rows`; without any, two records without a gradient."""
        y = np.asarray(rows if len(rows) else [0, 1], np.int64)
        x = np.tile(LOUD * direction * (len(rows) > 0), (len(y), 1)).astype(np.float32)
        records = Records(Arrays(x, y, tuple(str(row).encode() for row in y)))
        return SiteRecords(records, records)

    def _site(self, name: str, records: SiteRecords) -> _Site:
        trainer = Trainer(task=self.task, site=records, privacy=self.federation.privacy, local=self.federation.local)
        return _Site(name, trainer, self.federation, seeded(1, name))

    def play(self, sign: float = 1.0, behind: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> Seen:
        """One round from the first model: what the guesser sees of it.

        behind    what a faulty site does to its values behind its nomination
        """
        self.task.sign = sign
        said = dict[str, bytes]()
        for one in self.sites:
            ground = Ground(leads=one is self.sites[0])
            said[one.name] = one.nominate(self.model, 0, self.subspace, ground)
        support = self.sites[0].compressor.support(said)
        words = [quantised(one, behind(one.compressor.values(support, self.subspace))) for one in self.sites]
        name = self.sites[0].name
        return self._seen(words, support, self.sites[0].compressor.support({name: said[name]}))

    def _seen(self, words: list[np.ndarray], support: np.ndarray | None, mine: np.ndarray | None) -> Seen:
        alone, total = opened(self.sites, words)

        def change(values: np.ndarray) -> np.ndarray:
            found = np.zeros(ROWS * COLUMNS)
            if self.subspace is not None:
                return self.subspace.expand(values)
            found[slice(None) if support is None else support] = values
            return found

        after = (self.model + change(total) / len(self.sites)).astype(np.float32)
        return Seen(-change(alone).reshape(ROWS, COLUMNS), after, mine, self.subspace)

    def along(self, seen: Seen) -> np.ndarray:
        """How far each row moved along the canaries' direction, in units of the clip.    (ROWS,)"""
        return seen.change @ self.direction

    def mu(self, guessed: np.ndarray) -> float:
        """The bound of a guess (ROWS,) at which rows have their canary."""
        return least_mu(guessed[~self.present], guessed[self.present])


def least_mu(out: np.ndarray, there: np.ndarray) -> float:
    """μ that guesses of "there" (bool) about canaries that are not there, and of those that are, show at least.

    Φ⁻¹(1 − false alarms) − Φ⁻¹(misses), each rate at its upper bound by Clopper and Pearson 1934.
    """
    false_alarms, misses = upper_rate(int(out.sum()), out.size), upper_rate(int((~there).sum()), there.size)
    return float(max(0.0, ndtri(1.0 - false_alarms) - ndtri(misses)))


def upper_rate(hits: int, trials: int) -> float:
    """Above a binomial's rate but with chance FALSE_ALARM / 2."""
    return 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1.0 - FALSE_ALARM / 2))


def epsilon_of(mu: float, delta: float) -> float:
    """ε of a μ-Gaussian mechanism at δ (Balle and Wang 2018), by bisection."""

    def delta_at(epsilon: float) -> float:
        return float(ndtr(-epsilon / mu + mu / 2) - math.exp(epsilon) * ndtr(-epsilon / mu - mu / 2))

    low, high = 0.0, 200.0
    if mu == 0.0 or delta_at(low) <= delta:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
    return high
