"""Each record's gradient clipped, the clipped ones added up, noise added: a step of DP-SGD (Abadi et al. 2016).

Per-record gradients come from Opacus, as `grad_sample` of each parameter; all that bounds them and hides them is here.
A sum is made in place of what it is made of, block by block: beside the records' gradients a step holds one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import torch

from p2pfl.federation.federation import Privacy
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.update import FlatVector

BLOCK: Final = 1 << 18  # coordinates that are added up or noised at a time: the draws take ten times their size
SHORTER: Final = 1.0 - 2.0**-40  # what float64 may have added to a norm is taken off the clip of distributed noise
STEADY: Final = 1e-6  # added to a norm before it divides: a record without gradient has one of 0


def check_gradients(parameters: Iterable[Any], records: int | None = None) -> list[torch.Tensor]:
    """The `grad_sample` (B, …) of each. Raises ValueError where one has not as many gradients as there are records.

    Each is clipped by itself, so that a record with two would count twice. records: None, as many as the first has
    """
    found = [getattr(p, "grad_sample", None) for p in parameters]
    samples = [one for one in found if isinstance(one, torch.Tensor)]
    if len(samples) < len(found) or len({len(one) for one in samples} | ({records} - {None})) > 1:
        raise ValueError("a parameter has no gradient for each record")
    return samples


class ClippingOptimizer:
    """An optimiser that sees clipped sums alone. What hides them is said below it.

    params    what it trains, in the order of its groups; in each lies `grad_sample` (B, …) after a backward pass, and
              `summed_grad` (numel,) float32 once `clip` was called
    """

    def __init__(self, optimizer: torch.optim.Optimizer, privacy: Privacy) -> None:
        self.original_optimizer = optimizer
        self.noise_multiplier, self.max_grad_norm = privacy.noise_multiplier, privacy.max_grad_norm
        self.params: list[Any] = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self.forget()

    def forget(self) -> None:
        """Nothing is left of the records that were seen."""
        for p in self.params:
            p.grad, p.grad_sample, p.summed_grad = None, None, None

    def clip(self) -> None:
        """Clip each record's gradient, over all parameters together, and add it to the sums; they are gone then.

        Without any record the sums are zeros; a record without a finite norm counts as zeros. Raises ValueError where a
        parameter has no gradient for each record: what the others have of a record would be clipped too little.
        """
        flat = self._rows()
        norms = torch.stack([one.norm(2, dim=1).to(flat[0].device) for one in flat], dim=1).norm(2, dim=1)
        norms = self._without_odd(flat, norms)
        factor = (self.max_grad_norm / (norms + STEADY)).clamp(max=1.0)  # (B,)
        for p in self.params:
            rows = flat.pop(0).to(p.dtype)
            p.grad_sample = None
            if p.summed_grad is None:
                p.summed_grad = torch.zeros(p.numel(), device=p.device, dtype=p.dtype)
            for start in range(0, p.numel(), BLOCK):
                block = slice(start, start + BLOCK)
                p.summed_grad[block] += factor.to(p.device, p.dtype) @ rows[:, block]

    def _without_odd(self, flat: list[torch.Tensor], norms: torch.Tensor) -> torch.Tensor:
        """The norms (B,), 0 where one is not finite; in `flat` such a record is zeros then.

        Else no sum that it is in would be finite: the pass would end, and tell that the record was drawn. What is not
        clipped (`privacy: none`) stays, so that a model that diverges is told.
        """
        odd = ~norms.isfinite()
        if not math.isfinite(self.max_grad_norm) or not odd.any():
            return norms
        flat[:] = [rows.masked_fill(odd.to(rows.device)[:, None], 0.0) for rows in flat]
        return norms.masked_fill(odd, 0.0)

    def _rows(self) -> list[torch.Tensor]:
        """Of each parameter the records' gradients, as views.    (B, numel), B ≥ 0

        Raises ValueError where a parameter has none for each record.
        """
        samples = check_gradients(self.params)
        return [one.reshape(len(one), p.numel()) for one, p in zip(samples, self.params, strict=True)]

    def step(self) -> None:
        """Take a step along the sums, once they are as the optimiser may see them."""
        self.add_noise()
        self.original_optimizer.step()

    def add_noise(self) -> None:
        """Leave each parameter's gradient as the optimiser is to see it."""
        raise NotImplementedError


class KeystreamOptimizer(ClippingOptimizer):
    """Noise from a keystream, a public divisor."""

    def __init__(self, optimizer: torch.optim.Optimizer, privacy: Privacy, divisor: float, noise: BitStream) -> None:
        super().__init__(optimizer, privacy)
        self._divisor = divisor
        self._noise = noise

    def sums(self) -> Iterator[torch.Tensor]:
        """For each parameter, the clipped sum, which may be written over.    (numel,), on the processor"""
        for p in self.params:
            yield p.summed_grad.detach().cpu()

    def add_noise(self) -> None:
        """Every parameter's gradient becomes (clipped sum + noise) / divisor, rounded once.

        Noise that is rounded before it is added leaves gaps that move with the sum, and the low bits tell (Mironov
        2012): so the sum is taken in float64, on the CPU, which every device's tensors reach exactly.
        """
        std = self.noise_multiplier * self.max_grad_norm
        for p, total in zip(self.params, self.sums(), strict=True):
            for start in range(0, total.numel(), BLOCK):
                part = total[start : start + BLOCK]  # (≤ BLOCK,), a view of it
                exact = part.double()
                if self.noise_multiplier:  # none where the sites agreed on `privacy: none`
                    exact += torch.from_numpy(self._noise.normals(part.numel()) * std)
                part.copy_(exact.div_(self._divisor))
            p.grad = total.to(p.device, p.dtype).view_as(p)
            p.summed_grad = None


class SummingOptimizer(ClippingOptimizer):
    """The clipped sum as it is, for noise of which each site adds a part where it is rounded (sharing/noise_grid.py).

    All in float64: what a unit adds is no longer than the clip, and does not move the roundings of others. No parameter
    moves. `update` is −rate/divisor times the sum.    (m,) float32
    """

    def __init__(self, optimizer: torch.optim.Optimizer, privacy: Privacy, divisor: float) -> None:
        super().__init__(optimizer, privacy)
        self._divisor = divisor
        self.update: FlatVector = np.zeros(0, np.float32)

    def clip(self) -> None:
        """Add each unit's gradient, no longer than the clip, to `summed_grad`, which is float64 on the processor.

        A unit without a finite norm counts as zeros. Raises ValueError where a parameter has no gradient for each unit.
        """
        flat = [rows.detach().cpu() for rows in self._rows()]
        squares = torch.zeros(len(flat[0]), dtype=torch.float64)
        for rows in flat:
            for start in range(0, rows.shape[1], BLOCK):
                squares += rows[:, start : start + BLOCK].double().square().sum(1)
        norms = self._without_odd(flat, squares.sqrt())
        factors = self.max_grad_norm * SHORTER / norms.clamp(min=self.max_grad_norm)  # (B,)
        for p, rows in zip(self.params, flat, strict=True):
            p.grad_sample = None
            if p.summed_grad is None:
                p.summed_grad = torch.zeros(p.numel(), dtype=torch.float64)
            for start in range(0, p.numel(), BLOCK):
                block = slice(start, start + BLOCK)
                p.summed_grad[block] += factors @ rows[:, block].double()

    def step(self) -> None:
        """Take no step: the sum becomes the update."""
        self.add_noise()

    def add_noise(self) -> None:
        """None here: whoever asked for the pass adds it before anything leaves."""
        total = torch.cat([p.summed_grad for p in self.params]).numpy()
        rate = float(self.original_optimizer.param_groups[0]["lr"])
        self.update = (total * (-rate / self._divisor)).astype(np.float32)
