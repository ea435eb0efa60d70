"""The mean of arrays that a caller's own trainer has made: what is summed, with which noise, charged as what.

It is not locked to a set of sites, as a statistic is: each call brings new arrays, as each round of a training does.
Two calls over sets that differ by a site, with arrays that hardly moved, tell that site's arrays. So either each site
adds noise to its own, which then holds against whoever sees any number of sums; or all agreed on `privacy: none`.

**The noise is local, and of a whole site.** Arrays are clipped to an L2 norm C, and each site adds N(0, (zC)²) to each
number of its own. Whatever of its records differ, the clipped arrays move by at most 2C, from one end of the ball to
the other: so a call is charged as a Gaussian mechanism of noise multiplier z/2 on all records. One record among many is
better protected, at less noise, by a trainer that clips each record (`Peer.train`). docs/adr/0045.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.adapters import ArraysUnfit, PrivacyAgreed
from p2pfl.federation.federation import NO_PRIVACY, Privacy
from p2pfl.keys import SEED_BYTES, Draw, Secret, digest
from p2pfl.node.runs.readings import FLOATS, ReadAs
from p2pfl.node.runs.set_back import AVERAGE
from p2pfl.node.runs.sums import Encoded
from p2pfl.node.runs.turns import Turn
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.update import TensorLayout

BLOCK: Final = 1 << 17  # numbers that are noised at a time
TAILS: Final = 8.0  # standard deviations within which a number lies, but for one in 10¹⁵
TURNED: Final = 64.0  # √4096: how much smaller a rotated block's numbers are than its norm
KINDS: Final = "fiub"


@dataclass(frozen=True)
class Flat:
    """Arrays as one vector (m,) float32, what its coordinates mean, and the way back to the caller's structure."""

    vector: NDArray[np.float32]
    layout: TensorLayout
    restore: Callable[[NDArray[np.float64]], Any]


def flatten(arrays: Any) -> Flat:
    """`arrays`: one array or torch tensor, or a list, tuple or dict of them. Raises ArraysUnfit.

    What comes back has the structure, shapes and kinds that went in; integers come back as float64.
    """
    if isinstance(arrays, Mapping):
        named = {f"[{name!r}]": one for name, one in arrays.items()}
    elif isinstance(arrays, list | tuple):
        named = {f"[{place}]": one for place, one in enumerate(arrays)}
    else:
        named = {"": arrays}
    found = {name: _numpy(name, one) for name, one in named.items()}
    layout = TensorLayout(tuple((name, one.shape) for name, one in found.items()))
    if not layout.parameters:
        raise ArraysUnfit(evidence="they hold no number")
    vector = np.concatenate([one.astype(np.float32).ravel() for one in found.values()])
    if not np.isfinite(vector).all():
        raise ArraysUnfit(evidence=f"{np.count_nonzero(~np.isfinite(vector))} of {vector.size} are not finite")

    def restore(mean: NDArray[np.float64]) -> Any:
        parts, start = [], 0
        for (name, given), array in zip(named.items(), found.values(), strict=True):
            parts.append(_like(mean[start : start + array.size].reshape(array.shape), found[name], given))
            start += array.size
        if isinstance(arrays, Mapping):
            return dict(zip(arrays, parts, strict=True))
        return type(arrays)(parts) if isinstance(arrays, list | tuple) else parts[0]

    return Flat(vector, layout, restore)


def _numpy(name: str, one: Any) -> NDArray[Any]:
    array = np.asarray(one.detach().cpu() if hasattr(one, "detach") else one)
    if array.dtype.kind not in KINDS:
        raise ArraysUnfit(evidence=f"{name or 'it'} holds {array.dtype}")
    return array


def _like(values: NDArray[np.float64], array: NDArray[Any], given: Any) -> Any:
    """`values` in the type of `array`, and as a tensor on the device of `given` where that is one."""
    typed = values.astype(array.dtype if array.dtype.kind == "f" else np.float64)
    if not hasattr(given, "new_tensor"):
        return typed
    return given.new_tensor(typed, dtype=given.dtype if array.dtype.kind == "f" else given.double().dtype)


# ── noise, and what it is charged as ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Averaging:
    """How one call averages; equal at all sites.

    clip      L2 bound on a site's arrays, all together
    noise     standard deviation of each site's noise, in units of clip; None: none
    weights   public, by site; None: all equal
    """

    clip: float
    noise: float | None
    weights: Mapping[str, float] | None

    def charged_as(self, agreed: Privacy) -> Privacy:
        """What a call costs of the records that stand behind the arrays, and within which limit.

        Raises PrivacyAgreed where there is no noise, and the sites did not agree to that.
        """
        if self.noise is None:
            if not agreed.is_none:
                raise PrivacyAgreed(evidence=f"noise=None, and privacy in peers.yaml is of a {agreed.unit}")
            return NO_PRIVACY
        once = replace(agreed, noise="local", colluders=None, parts=1, steps_per_round=1)
        return replace(once, noise_multiplier=self.noise / 2.0, sample_rate=1.0)

    def check(self) -> None:
        """Raises ArraysUnfit for a clip or a noise that is not above 0, or weights that are not."""
        numbers = [self.clip, *([self.noise] if self.noise is not None else []), *(self.weights or {}).values()]
        if not all(math.isfinite(one) and one > 0.0 for one in numbers):
            raise ArraysUnfit(evidence=f"clip {self.clip}, noise {self.noise}, weights {self.weights}: all are above 0")

    def weight_of(self, name: str) -> float:
        """This site's weight, in units of the largest. Raises ArraysUnfit where the weights leave it out."""
        if self.weights is None:
            return 1.0
        if name not in self.weights:
            raise ArraysUnfit(evidence=f"the weights are of {', '.join(self.weights)}, and {name} is not there")
        return self.weights[name] / max(self.weights.values())

    def divisor(self, survivors: tuple[str, ...]) -> float:
        """What the sum over these sites is divided by."""
        return math.fsum(self.weight_of(name) for name in survivors)

    def noised(self, vector: NDArray[np.float32], draw: Draw) -> NDArray[np.float64]:
        """`vector` clipped, and noised on every number: all that leaves is a function of it.    (m,)"""
        norm = math.sqrt(math.fsum(float(np.dot(part, part)) for part in _blocks(vector)))
        out = vector.astype(np.float64)
        if norm > self.clip:
            out *= self.clip / norm * (1.0 - 2.0**-40)  # below the clip also after rounding
        if self.noise is not None:
            stream = BitStream(Secret(draw(SEED_BYTES), "seed of an average's noise"), "training/noise")
            for first in range(0, out.size, BLOCK):
                part = out[first : first + BLOCK]
                part += stream.normals(part.size) * (self.noise * self.clip)
        return out


def _blocks(vector: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    return [vector[first : first + BLOCK].astype(np.float64) for first in range(0, vector.size, BLOCK)]


def encode_average(
    values: NDArray[np.float64],
    layout: TensorLayout,
    how: Averaging,
    *,
    peers: int,
    bits: int,
    draw: Draw,
    turn: Turn | None = None,
    step: int = 0,
) -> Encoded:
    """Words for `values` (m,), weighted: quantised as a training's updates are, rotated over the 16-bit field.

    turn, step    where they are those of one turn, (k,): each holds what was not sent since its last turn
    Raises SumCouldWrap.
    """
    turns = 1 if turn is None else turn.turns
    rotate, noise, clip = bits == 16, (how.noise or 0.0) * how.clip * math.sqrt(turns), how.clip * turns
    limit = clip * (TAILS / TURNED if rotate else 1.0) + TAILS * noise
    # A noised vector is clipped before its noise; without noise the grid holds the bound, and the sum is held to it.
    grid = Quantiser(FIELDS[bits], peers, 0.0 if noise else clip, limit, rotate)
    seed = digest("rotation", layout.digest)
    rounding = draw(32)
    facts = {
        "as": AVERAGE,
        "layout": layout.digest.hex(),
        "length": int(values.size),
        "clip": repr(how.clip),
        "noise": "none" if how.noise is None else repr(how.noise),
        "weights": {name: repr(one) for name, one in sorted((how.weights or {}).items())},
        "field": bits,
        **({} if turn is None else {"step": step, "turns": turns}),
    }
    reading = ReadAs(FLOATS, bits, int(values.size), repr(grid.step), seed if rotate else b"")
    return Encoded(lambda out=None: grid.quantise(values, seed, rounding, out)[0], facts, reading, grid.within_bound)
