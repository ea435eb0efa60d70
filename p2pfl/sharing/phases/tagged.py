"""The forms' values on the sums, as they come: once the challenge is known none waits until all are there.

docs/spec/sharing.md §6. Each is of words that their digest has fixed; they are compared when all tags are in.
"""

from __future__ import annotations

import functools

from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.forms import Forms
from p2pfl.sharing.state import State


def forms_of(state: State, index: int) -> Forms:
    """The forms of this attempt's challenge, over the field of a chunk."""
    gathering = state.laid_out
    bits, _ = gathering.segments[gathering.pieces[index].segment]
    return _forms_of(gathering.challenge, bits)


@functools.lru_cache(maxsize=8)
def _forms_of(challenge: bytes, bits: int) -> Forms:
    """Built once for tagging, checking and judging: they are public, and a function of the challenge."""
    return Forms(challenge, FIELDS[bits])


def tag_sum(state: State, index: int) -> None:
    """The values on one sum that has come: of no other, since a letter that brings one of many is a small step."""
    gathering = state.laid_out
    if gathering.challenge and index not in gathering.sum_tags:
        gathering.sum_tags[index] = forms_of(state, index).tag(gathering.sums[index])


def tag_sums(state: State) -> None:
    """The values on each sum that is here and has none yet; without a challenge on none."""
    for index in state.laid_out.sums:
        tag_sum(state, index)
