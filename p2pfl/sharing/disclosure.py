"""What this peer may ever reveal. The file an auditor opens first.

The whole rule (DESIGN §4.2):

    b_i of the bundles in D, for i ∈ U, under the attempt's one SURVIVORS certificate. Nothing else, ever.

Why that is enough. A peer's masked vector y_i holds one mask per neighbour and its own PRG(b_i). Edge seeds never
leave the two ends of their edge, so y_i alone says nothing. Once all b_i of U are known, Σ y_i gives Σ x_i, and each
single y_i is still hidden under its edges to every honest peer. So b_i may be opened once it is sure that the peer's
y_i is summed over one set U and no other: that is what the certificate proves. An attempt that was abandoned, or is
undecided, opens nothing.

What must never be added here: a request from a peer as a reason to reveal; an edge seed; a seed of an attempt other
than the certificate's; a seed of a bundle that D does not name.
"""

from __future__ import annotations

from p2pfl.codec import Malformed
from p2pfl.errors.round import DisclosureRefused
from p2pfl.keys import Secret
from p2pfl.sharing.certificate import check_certificate, own_bundle_counts
from p2pfl.sharing.state import State


def seed_to_reveal(state: State) -> Secret:
    """Return this peer's b_i, or raise DisclosureRefused (P2P-ROUND-021).

    Everything is checked anew from the certificate's own letters, not from flags that other code has set.
    """
    if state.certificate is None or state.deal is None:
        raise DisclosureRefused(evidence=f"no certificate for round {state.round}, attempt {state.attempt}")
    try:
        verdict = check_certificate(state.certificate, state.setting.roster)
    except Malformed as error:
        raise DisclosureRefused(evidence=f"the certificate decides nothing: {error}") from None
    if not verdict.survivors or verdict.members is None:
        raise DisclosureRefused(evidence=f"attempt {verdict.attempt} of round {verdict.round} was abandoned")
    if (verdict.round, verdict.attempt) != (state.round, state.attempt):
        raise DisclosureRefused(evidence=f"the certificate is of round {verdict.round}, attempt {verdict.attempt}")
    envelope = state.certificate.envelope
    if (envelope.run, envelope.epoch) != (state.setting.run, state.setting.roster.epoch):
        raise DisclosureRefused(evidence="the certificate is of another run")
    if state.attempt_digest != verdict.attempt_digest:
        # READYs need this peer's root under D: a certificate for a D that it never accepted rests on a lie.
        raise DisclosureRefused(evidence="the certificate is for a set under which this site masked nothing")
    try:
        counts = own_bundle_counts(state, verdict.members)
    except Malformed as error:
        raise DisclosureRefused(evidence=f"the certified set does not hold together: {error}") from None
    if not counts:
        raise DisclosureRefused(evidence="the certified set names another bundle than the one this site dealt")
    return state.deal.self_mask
