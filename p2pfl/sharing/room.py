"""Memory of large vectors, used again from one to the next, and rooms in which a sum's numbers take its words' place.

Theory of operation. The system clears each page before it hands it out, and of a sum of 10⁷ words that was the largest
single part of a peer's processor time. So a *block*, an anonymous mapping, goes back to the pool when nothing looks
into it any more, no array and no letter that waits for a slow peer, and serves the next vector. Before that it is
overwritten with zeros: of an attempt that was given up neither masks nor words lie in it. Blocks are kept while sums
follow one another (`keep`, `rest`), and go back to the system otherwise.

A *room* is a block for all that one segment of a sum needs, one after the other:

    first words             last words
    x, then y               masks, then Y, then Σx
    the numbers that Σx stands for: float64 over both, once nobody looks at y, and the round has let go of Σx

docs/adr/0075.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt

from p2pfl.sharing.field import FIELDS, Field, Words

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

LEAST_BYTES: Final = 1 << 20  # smaller vectors are no block: the C library has pages for them
MOST_KEPT: Final = 256 << 20  # bytes of blocks that wait for the next vector
NUMBER_BYTES: Final = 8  # of a float64: no word is wider


class MemoryBlock:
    """A mapping, and how much of it was handed out: bytes from its beginning, and at its end."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a system without large pages
                self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.first = self.last = 0

    def wipe(self) -> None:
        """Overwrite what was handed out with zeros; pages that nobody asked for stay away."""
        whole = np.frombuffer(self.memory, np.uint8)
        whole[: self.first].fill(0)
        whole[whole.size - self.last :].fill(0)
        self.first = self.last = 0


class Pool:
    """The blocks of one process. Any thread may take one, and let go of one."""

    def __init__(self) -> None:
        self._free = deque[MemoryBlock]()  # to add to it and to take of it needs no lock
        self._keeping = False
        self.taken = 0  # blocks so far

    def take(self, size: int) -> tuple[Bytes, MemoryBlock]:
        """(size,) bytes of a block, all 0 or never written: the block is back once no view of them is left."""
        self.taken += 1
        block = self._fitting(size) or MemoryBlock(size)
        root: Bytes = np.frombuffer(block.memory, np.uint8)
        weakref.finalize(root, self._give_back, block).atexit = False
        return root, block

    def _fitting(self, size: int) -> MemoryBlock | None:
        """A free block of that length; those of other lengths that lie before it are asked for no more."""
        while self._free:
            try:
                block = self._free.popleft()
            except IndexError:  # another thread has taken the last one
                return None
            if len(block.memory) == size:
                return block
        return None

    def _give_back(self, block: MemoryBlock) -> None:
        if not self._keeping or len(block.memory) > MOST_KEPT:
            return  # unmapped with its last reference
        block.wipe()
        if self.kept_bytes + len(block.memory) <= MOST_KEPT:
            self._free.append(block)
        self._empty()  # `rest` may have come in between, in another thread, and not come again

    def _empty(self) -> None:
        """Give free blocks to the system, unless a sum has begun and they are kept."""
        if not self._keeping:
            self._free.clear()

    @property
    def kept_bytes(self) -> int:
        """Bytes of blocks that nobody uses."""
        return sum(len(block.memory) for block in tuple(self._free))

    def keep(self) -> None:
        """A sum begins: from now on blocks wait for the next one."""
        self._keeping = True

    def rest(self, taken: int) -> None:
        """Give everything back to the system, unless a block was taken since `taken` were."""
        if self.taken == taken:
            self._keeping = False
            self._empty()


POOL: Final = Pool()


class Room:
    """Memory for `count` words of `field` twice, and for as many numbers. Small ones are no block."""

    def __init__(self, field: Field, count: int) -> None:
        self.field, self.count = field, count
        size = NUMBER_BYTES * count
        self._block: MemoryBlock | None = None
        if size < LEAST_BYTES:
            self._root: Bytes = np.empty(size, np.uint8)
        else:
            self._root, self._block = POOL.take(size)
        self._first: weakref.ref[Words] | None = None
        self._lent = self._left = self._spent = False

    @property
    def shape(self) -> tuple[int, int]:
        """(bits, words)."""
        return self.field.bits, self.count

    def __repr__(self) -> str:
        return f"Room({self.count} words of {self.field.bits} bits)"

    def first(self) -> Words | None:
        """(count,) words at its beginning, unwritten; None where the last ones take all of it, or it has them."""
        width = self.field.word_bytes * self.count
        if 2 * width > self._root.size or self._first is not None:
            return None
        if self._block is not None:
            self._block.first = width
        words: Words = np.frombuffer(self._root.data[:width], self.field.dtype)
        self._first = weakref.ref(words)
        return words

    def last(self) -> Words:
        """(count,) words at its end, unwritten."""
        width = self.field.word_bytes * self.count
        if self._block is not None:
            self._block.last = width
        return np.frombuffer(self._root.data[self._root.size - width :], self.field.dtype)

    def lend(self) -> None:
        """Letters hold views of the last words."""
        self._lent = True

    def leave(self) -> None:
        """The round needs the last words no more: whoever reads their numbers may overwrite them."""
        self._left = True

    def numbers(self) -> Floats | None:
        """(count,) float64 over all of it, to be written front to back; None while somebody may look at its words.

        Whoever asks has the last words, and no other use for them. Given once: raises ValueError after that.
        """
        if self._spent:
            raise ValueError("these words have made room for their numbers")
        looked_at = self._first is not None and self._first() is not None
        if self._lent or not self._left or looked_at:
            return None
        self._spent = True
        if self._block is not None:
            self._block.first = self._root.size
        return np.frombuffer(self._root.data, np.float64)


class Rooms:
    """The rooms of the attempt for which masks were asked last."""

    def __init__(self) -> None:
        self._place: object = None
        self._rooms: tuple[Room, ...] = ()

    def open(self, place: object, segments: tuple[tuple[int, int], ...]) -> tuple[Room, ...]:
        """New ones for an attempt, by (bits, words) of each segment; none where there is no memory for them."""
        POOL.keep()
        try:
            self._place, self._rooms = place, tuple(Room(FIELDS[bits], length) for bits, length in segments)
        except OSError:  # the system has no such memory: words and masks lie where there is some
            self._place, self._rooms = None, ()
        return self._rooms

    def hand_over(self, place: object) -> tuple[Room, ...]:
        """Those of that attempt, if they are here; here they are no more."""
        rooms = self._rooms if self._place == place else ()
        self._place, self._rooms = None, ()
        return rooms
