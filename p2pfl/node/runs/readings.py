"""How the words of a sum become numbers, as a few facts beside them: a home keeps the words, and they are read once.

Words take 2, 4 or 8 bytes where a number takes 8 or more, and they are in memory as they are to lie on the disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from p2pfl import codec
from p2pfl.keys import SEED_BYTES
from p2pfl.sharing.events import Words
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.fixed_point import MOST_DECIMALS, decimals_of
from p2pfl.sharing.quantiser import floats_of
from p2pfl.sharing.room import Room
from p2pfl.sharing.rotation import padded

SumValue = npt.NDArray[Any] | tuple[Decimal, ...]
Row = tuple[str, int, int, str, bytes]

FLOATS: Final = "floats"
INTEGERS: Final = "integers"
DECIMALS: Final = "decimals"
FLAGS: Final = "flags"
NOTHING: Final = "nothing"  # a salt


@dataclass(frozen=True, slots=True)
class ReadAs:
    """What the words of one vector of a sum stand for.

    kind      FLOATS: float64; INTEGERS: int64; DECIMALS; FLAGS: bool, True where the word is not 0; NOTHING: not kept
    bits      of their field
    length    how many numbers
    scale     of FLOATS the value of one integer, as repr writes it; of DECIMALS the digits after the point; else empty
    rotation  of FLOATS that were rotated the seed, 32 bytes: their words are filled up to whole blocks; else empty
    """

    kind: str
    bits: int
    length: int
    scale: str = ""
    rotation: bytes = b""

    @property
    def field(self) -> Field:
        """Their field."""
        return FIELDS[self.bits]

    @property
    def words(self) -> int:
        """How many words."""
        return padded(self.length) if self.rotation else self.length

    def read(self, words: Words, room: Room | None = None) -> SumValue:
        """The numbers of the sum, the same bits at every site. In a room of their own they overwrite the words."""
        match self.kind:
            case "floats":
                out = room.numbers() if room is not None and not self.rotation else None
                return floats_of(words, self.field, float(self.scale), self.rotation or None, self.length, out)
            case "integers":
                return self.field.centred(words)
            case "decimals":
                return decimals_of(words, self.field, int(self.scale))
            case "flags":
                return np.not_equal(words, 0)
            case _:
                return ()

    @property
    def row(self) -> Row:
        """As it lies in the home."""
        return self.kind, self.bits, self.length, self.scale, self.rotation

    @classmethod
    def of_row(cls, row: Any) -> Self:
        """Undo `row`. Raises Malformed for anything that no reading gives."""
        if not (isinstance(row, tuple) and [type(one) for one in row] == [str, int, int, str, bytes]):
            raise codec.Malformed("no reading of a sum")
        found = cls(*row)
        if found.bits not in FIELDS or found.length < 0 or not found._is_scaled():
            raise codec.Malformed("a reading of a sum that no sum has")
        return found

    def _is_scaled(self) -> bool:
        """Scale and rotation are those of the kind, in their one spelling."""
        if self.kind == FLOATS:
            return len(self.rotation) in (0, SEED_BYTES) and _is_step(self.scale)
        if self.rotation:
            return False
        if self.kind == DECIMALS:
            return self.scale in map(str, range(MOST_DECIMALS + 1))
        return self.kind in (INTEGERS, FLAGS) and not self.scale


def _is_step(text: str) -> bool:
    try:
        step = float(text)
    except ValueError:
        return False
    return math.isfinite(step) and step > 0 and repr(step) == text


@dataclass(frozen=True, slots=True)
class Summed:
    """The words of one vector of a sum, and what they stand for.

    room   whose last words these are: the round has them no more, and their numbers may take their place
    """

    reading: ReadAs
    words: Words
    room: Room | None = None

    def read(self) -> SumValue:
        """The numbers, once, and not on the event loop: time O(m), and an array of them. Words in a room are lost."""
        return self.reading.read(self.words, self.room)
