"""The fast path: y = x − Σ made + Σ received + self-mask, block by block in the processor's cache.

Over all members of U the made and received masks of an edge cancel, so Σ y_i = Σ x_i + Σ PRG(b_i), and `unmask`
takes the self-masks away. `additive.py` is the slow reference that this file is checked against.

Each block is expanded under all keys before the next one is touched, so a word of y crosses memory once, however many
peers there are. Each key's schedule is set up once. The compiled loops (kernel.py) do the same where they are, in
smaller blocks. This file must never see a seed, only stream keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfl.keys import Secret
from p2pfl.sharing import kernel
from p2pfl.sharing.field import BLOCK_BYTES, Accumulator, Field, Words, blocks
from p2pfl.sharing.prg import Stream, revealed
from p2pfl.sharing.room import Room

Key = Secret | bytes


def mask(
    x: Words,
    made: Sequence[Key],
    received: Sequence[Key],
    own: Key,
    *,
    field: Field,
    start: int = 0,
    out: Words | None = None,
) -> Words:
    """Return y = x − Σ PRG(made) + Σ PRG(received) + PRG(own)  (mod p).

    x         (m,) words < p, not modified (unless out is x)     made   stream keys of edges i→j
    received  stream keys of edges j→i                           own    stream key of this attempt's self-mask
    start     position of x[0] in the whole vector: a chunk masked alone is the slice of the whole masked
    Raises NotInField (P2P-SHARE-004) for a word ≥ p. Time O(n·m); a few blocks of memory beside y.
    Bonawitz et al. 2017, Bell et al. 2020; docs/spec/sharing.md; vectors/mask-*.json.
    """
    return combine(field.check_words(x), [*received, own], made, field, start, out)


def masks(made: Sequence[Key], received: Sequence[Key], own: Key, *, field: Field, start: int = 0, count: int) -> Words:
    """(count,) words −Σ PRG(made) + Σ PRG(received) + PRG(own), made ahead of x: `field.add(x, masks)` is `mask`."""
    return mask(field.zeros(count), made, received, own, field=field, start=start)


def unmask(total: Words, own_keys: Sequence[Key], *, field: Field, start: int = 0, out: Words | None = None) -> Words:
    """Σ x = total − Σ PRG(own_keys) mod p, where total = Σ y over U and own_keys are the self-masks of all of U."""
    return combine(field.check_words(total), [], own_keys, field, start, out)


@dataclass(frozen=True)
class SegmentMasks:
    """One segment of x, and what hides it: masks that were expanded before, and streams that have yet to be.

    x       (m,) words                        masks   at least m words that are added to x; None: there are none
    plus    stream keys that are added        minus   stream keys that are subtracted
    out     (m,) where y is written: x itself or the masks, where either may be overwritten; else an array of its own
    room    whose last words the masks are, if they are all of them
    made    made(n) writes the words of x before number n; None: all are there
    """

    field: Field
    x: Words
    masks: Words | None
    plus: Sequence[Secret]
    minus: Sequence[Secret]
    out: Words
    room: Room | None = None
    made: Callable[[int], object] | None = None

    def apply(self, start: int, stop: int) -> Words:
        """Words start … stop−1 of y. Once for each, in order: y may lie where x lay.

        Raises NotInField for a word ≥ p, and what the making of x raises.
        """
        if self.made is not None:
            self.made(stop)
        x, out = self.field.check_words(self.x[start:stop]), self.out[start:stop]
        if self.masks is not None:
            x = self.field.add(x, self.masks[start:stop], out=out)
            if self.out is not self.masks:
                self.masks[start:stop].fill(0)  # while they are in the processor's cache
        if self.masks is None or self.plus or self.minus:
            combine(x, self.plus, self.minus, self.field, start, out)
        return out

    def wiped(self) -> Words | None:
        """Once y is whole: the masks' memory, of which every word is 0; None where there is none, or y lies there."""
        return None if self.out is self.masks else self.masks


def combine(
    x: Words | None, plus: Sequence[Key], minus: Sequence[Key], field: Field, start: int = 0, out: Words | None = None
) -> Words:
    """x + Σ PRG(plus) − Σ PRG(minus) mod p, (m,) words; x must be < p. Everything above is a case of this.

    x   None: 0, as many words as `out` has, and what lay there is not read
    """
    result = np.empty(0 if x is None else x.size, field.dtype) if out is None else out
    if result.shape != (result.shape if x is None else x.shape) or result.dtype != field.dtype:
        raise ValueError(
            f"out is {result.shape} {result.dtype}, wanted {'words' if x is None else x.shape}, {field.dtype}"
        )
    loops = kernel.compiled(field.word_bytes, field.p)
    if loops is not None and (x is None or kernel.takes(x)) and kernel.takes(result):
        added_keys, taken_keys = [revealed(key) for key in plus], [revealed(key) for key in minus]
        loops.combine(result, x, added_keys, taken_keys, field.word_bytes, field.p, start)
        return result
    marks = bytearray(BLOCK_BYTES // field.word_bytes)
    added = [Stream(key, field, start, marks) for key in plus]
    taken = [Stream(key, field, start, marks) for key in minus]
    accumulator = Accumulator(field)
    expansion = np.empty(min(result.size, BLOCK_BYTES // field.word_bytes), field.dtype)
    nothing = field.zeros(expansion.size)
    for block in blocks(result.size, field.word_bytes):
        accumulator.load(nothing[: block.stop - block.start] if x is None else x[block])
        words = expansion[: block.stop - block.start]
        for stream in added:
            stream.fill(words)
            accumulator.add(words)
        for stream in taken:
            stream.fill(words)
            accumulator.subtract(words)
        accumulator.store(result[block])
    return result
