"""Averages of which each call sends a part: whose turn it is, and what a site holds back until its turn comes.

With `step` a call of `Peer.average` sends ⌈density · m⌉ of the m numbers. Which ones follows from public values alone,
name, structure and step: a shuffled order that is cut into turns, shuffled anew when all have had theirs. So every
number is sent once in each cycle of turns, no site tells a position, and positions tell nothing of anybody's arrays.

A site adds its arrays, clipped and noised on **every** number, to what it held back before; what is sent is taken off,
and the rest is kept (error feedback). The noise comes first, so what is kept and sent is post-processing of what the
call was charged for. What is kept is durable behind the charge and before a word leaves. A call that is repeated after
a crash starts from what was kept before it, less all that the first one may have sent: that is never sent again.
Nominated positions would need a phase that no other sum has, and would be known by a site's name; a subspace needs a
model in common.
"""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.errors.adapters import ArraysUnfit
from p2pfl.home import Home
from p2pfl.keys import Secret, digest
from p2pfl.training.compression.nomination import Positions
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.update import FlatVector, TensorLayout

FOLDER: Final = "state/averages"
MOST_HEAD: Final = 1 << 8  # bytes
MOST_STEP: Final = 1 << 53


def step_of(given: Any) -> int:
    """The number of a call, as its caller counts, numpy's integers too. Raises ArraysUnfit."""
    with suppress(TypeError):
        if 0 <= (step := operator.index(given)) < MOST_STEP:
            return step
    raise ArraysUnfit(evidence=f"step {given!r}: steps are whole numbers, counted from 0 on")


@dataclass(frozen=True, slots=True)
class Turn:
    """The numbers of one call that are sent, of `turns` calls in which each is sent once.

    positions   (k,), increasing
    """

    positions: Positions
    turns: int

    @classmethod
    def of(cls, federation: bytes, name: str, layout: TensorLayout, density: float, step: int) -> Turn:
        """`federation` is the digest of its first peers.yaml. The same bits at every site. Time O(m log m)."""
        m = layout.parameters
        count = max(1, math.ceil(density * m))
        turns = math.ceil(m / count)
        cycle, place = divmod(step, turns)
        seed = digest("average turn", federation, name.encode(), layout.digest, cycle.to_bytes(8, "big"))
        words = BitStream(Secret(seed, "public: whose turn it is"), "average/turn").words(m)
        order = np.argsort(words, kind="stable")
        return cls(np.sort(order[place * count : (place + 1) * count]), turns)

    def spread(self, values: NDArray[np.float64], m: int) -> NDArray[np.float64]:
        """`values` (k,) at their positions, and 0 elsewhere.    (m,)"""
        whole = np.zeros(m)
        whole[self.positions] = values
        return whole


@dataclass(frozen=True, eq=False)
class HeldBack:
    """What a site holds back of the arrays of one name, (m,) float32 each.

    layout   digest of the arrays' structure
    step     of the call behind which it is
    kept     for the next call
    again    for the same call, made once more
    """

    layout: bytes
    step: int
    kept: FlatVector
    again: FlatVector

    def to_pieces(self) -> codec.Pieces:
        """For the home, which seals it."""
        parts = (np.ascontiguousarray(one, "<f4").data.cast("B") for one in (self.kept, self.again))
        return codec.with_tail((self.layout, self.step), *parts)

    @classmethod
    def from_bytes(cls, data: codec.Buffer) -> HeldBack:
        """What `to_pieces` wrote. Raises Malformed."""
        head, tail = codec.split_tail(data, most=MOST_HEAD, items=2)
        if not isinstance(head, tuple) or len(head) != 2:
            raise codec.Malformed("a head of another form")
        layout, step = head
        if not isinstance(layout, bytes) or len(layout) != 32 or type(step) is not int or not 0 <= step < MOST_STEP:
            raise codec.Malformed("no structure and step")
        if len(tail) % 8 or not len(tail):
            raise codec.Malformed(f"{len(tail)} bytes behind the head")
        both = np.frombuffer(tail, "<f4").astype(np.float32)
        if not np.isfinite(both).all():
            raise codec.Malformed("a number that is not finite")
        half = len(both) // 2
        return cls(layout, step, both[:half], both[half:])

    def before(self, layout: TensorLayout, step: int) -> FlatVector | None:
        """What the call of that step starts from; None where it is of other arrays, or begins anew.    (m,)"""
        if self.layout != layout.digest or len(self.kept) != layout.parameters or step < self.step:
            return None
        return self.again if step == self.step else self.kept


@dataclass
class Feedback:
    """The error feedback of one call: what it sends, and what this home holds behind it."""

    home: Home
    item: str
    layout: TensorLayout
    step: int
    turn: Turn
    _before: FlatVector
    _whole: NDArray[np.float64]
    _sent: NDArray[np.float64]
    _is_kept: bool = False

    @classmethod
    def of(
        cls, home: Home, name: str, layout: TensorLayout, step: int, turn: Turn, noised: NDArray[np.float64]
    ) -> Feedback:
        """`noised` (m,) are this call's arrays. Raises Malformed, ItemDamaged."""
        item = f"{FOLDER}/{digest('average', name.encode())[:8].hex()}"
        data = home.read(item)
        held = None if data is None else HeldBack.from_bytes(data).before(layout, step)
        before = np.zeros(layout.parameters, np.float32) if held is None else held
        return cls(home, item, layout, step, turn, before, noised + before, np.zeros(len(turn.positions)))

    @property
    def values(self) -> NDArray[np.float64]:
        """What may be sent.    (k,)"""
        return self._whole[self.turn.positions]

    def settle(self, sent: NDArray[np.float64]) -> None:
        """`sent` (k,) is what the words of `values` stand for; the difference is kept, once `keep` is called.

        In another epoch they are other words, of the same values.
        """
        self._sent = sent
        if self._is_kept:
            self.keep()

    def keep(self) -> None:
        """What is held back is durable: call it behind the charge, and before a word leaves."""
        kept, again = self._whole.copy(), self._before.copy()
        kept[self.turn.positions] -= self._sent
        again[self.turn.positions] = 0.0
        held = HeldBack(self.layout.digest, self.step, kept.astype(np.float32), again)
        self.home.replace(self.item, held.to_pieces())
        self._is_kept = True
