"""What a certified sum is made of, for whoever keeps the sum without writing its words a second time."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MaskedSums:
    """Where the words of a certified sum come from: masked ones on the disk, less what the keys of each segment give.

    item             of the disk, as `snapshot.pack_sums` wrote it under the attempt digest
    attempt_digest   32 bytes
    keys             by segment: stream keys of all members' self-masks, which all of them have opened
    """

    item: str
    attempt_digest: bytes
    keys: tuple[tuple[bytes, ...], ...] = field(repr=False)
