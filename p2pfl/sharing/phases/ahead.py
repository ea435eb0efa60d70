"""Masked sums on their way to the disk before the last of them has come: READY waits for little more than an fsync.

docs/spec/sharing.md §6. Each word of Y lies in its place for good once it is there, so what is written of it holds.
"""

from __future__ import annotations

from typing import Final

from p2pfl.sharing.events import Effect, Vector, WriteAhead
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.snapshot import pack_sums
from p2pfl.sharing.state import State

AHEAD_BYTES: Final = 4 << 20  # of Y that are written at once; a smaller Y is written whole


def write(state: State, whole: tuple[Vector, ...]) -> list[Effect]:
    """The words of Y, `whole`, up to the first that has not come, once these have become many more."""
    if state.voting.ballot is not None or state.certificate is not None:
        return []  # READY is past, and Y may be unmasked where it lies
    gathering = state.laid_out
    while gathering.in_order in gathering.sums:
        gathering.in_order += 1
    if not gathering.in_order or state.leaving.slot is not None:
        return []
    last = gathering.pieces[gathering.in_order - 1]
    bits, _ = gathering.segments[last.segment]
    words = sum(length for _, length in gathering.segments[: last.segment]) + last.stop
    if (words - gathering.ahead_words) * FIELDS[bits].word_bytes < AHEAD_BYTES:
        return []
    gathering.ahead_words = words
    return [WriteAhead(state.sums_item, pack_sums(whole, state.attempt_digest, words))]
