"""What a configuration on which sites agreed says of what they send: before anything of a peer's is believed.

A site that was away fetches a sum of whatever was summed meanwhile, also of another question than its own. So this
reads what `SumRun.question` and `TrainingRun.configuration` wrote, and knows nothing of the run under way.
"""

from __future__ import annotations

from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.training import SupportMalformed
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.rotation import padded
from p2pfl.training.compression.nomination import MOST_PARAMETERS, decode_support, most_nominated

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


def check_support(configuration: bytes, support: bytes, peers: int, peer: str) -> None:
    """Return when `support` is a nomination that one of `peers` peers may make in such a sum.

    Raises SupportMalformed, naming `peer`. A configuration that does not say how many is no reason: whoever proposes
    another one than this site's is in no set with it.
    """
    try:
        facts = codec.read_facts(configuration)
    except codec.Malformed:
        facts = {}
    kind = facts.get("compression") if facts.get("purpose") == "training" else "none"
    leads = kind == "leader" and facts.get("leader") == peer
    if kind != "nominate" and not (leads and support):
        if support:
            raise SupportMalformed(evidence=f"{len(support)} bytes where nothing is nominated", peer=peer)
        return
    try:
        parameters, density = int(facts["parameters"]), float(facts["density"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    if 1 <= parameters <= MOST_PARAMETERS and 0.0 < density <= 1.0:
        decode_support(support, parameters, most_nominated(density, parameters, 1 if leads else peers), peer)


def _bytes(bits: Any, words: Any) -> int:
    if bits not in FIELDS or type(words) is not int or words < 0:
        raise ValueError(f"{words!r:.40} words of {bits!r:.40} bits")
    return FIELDS[bits].word_bytes * words
