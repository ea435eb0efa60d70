"""How much a round may send by what the sites agreed on: before it begins, and before a peer's word is believed.

A site that was away fetches a sum of whatever was summed meanwhile, also of another question than its own. So this
reads what `SumRun.question` and `TrainingRun.configuration` wrote, and knows nothing of the run under way.
"""

from __future__ import annotations

from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.round import SupportTooLarge
from p2pfl.errors.training import SupportMalformed
from p2pfl.federation import Federation
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.phases.propose import most_support
from p2pfl.sharing.rotation import padded
from p2pfl.training.compression.nomination import MOST_PARAMETERS, decode_support, most_bytes, most_nominated

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


def check_leader(federation: Federation, parameters: int) -> None:
    """Where one leader names all positions of a round, they fit into its proposal. `parameters`: that all sites share.

    Raises SupportTooLarge.
    """
    compression, n = federation.compression, len(federation.roster.members)
    if compression.method != "leader":
        return
    size, most = most_bytes(most_nominated(compression.density, parameters, 1), parameters), most_support(n)
    if size > most:
        evidence = (
            f"{parameters} parameters, density {compression.density:g}: a leader's positions may take {size} bytes"
        )
        raise SupportTooLarge(n=n, evidence=f"{evidence}, at most {most} fit")


def _bytes(bits: Any, words: Any) -> int:
    if bits not in FIELDS or type(words) is not int or words < 0:
        raise ValueError(f"{words!r:.40} words of {bits!r:.40} bits")
    return FIELDS[bits].word_bytes * words
