"""How large a sum is, from the configuration on which its members agreed: before the words of one are believed.

A site that was away fetches a sum of whatever was summed meanwhile, also of another question than its own. So this
reads what `SumRun.question` and `TrainingRun.configuration` wrote, and knows nothing of the run under way.
"""

from __future__ import annotations

from typing import Any, Final

from p2pfl import codec
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.rotation import padded

SCALARS: Final = 1 << 13  # bytes of the counts beside an update, and room for more of them


def sum_bytes(configuration: bytes) -> int:
    """The most bytes that the words of such a sum have; 0 of a configuration that says no size."""
    facts = codec.read_facts(configuration)
    try:
        if facts["purpose"] == "sum":
            return sum(_bytes(one["field"], one["length"]) for one in facts["vectors"])
        # The support is at most all of the parameters; a measuring round sums the counts alone.
        return _bytes(facts["field"], padded(facts["parameters"])) + SCALARS
    except (KeyError, TypeError, ValueError):
        return 0


def _bytes(bits: Any, words: Any) -> int:
    if bits not in FIELDS or type(words) is not int or words < 0:
        raise ValueError(f"{words!r:.40} words of {bits!r:.40} bits")
    return FIELDS[bits].word_bytes * words
