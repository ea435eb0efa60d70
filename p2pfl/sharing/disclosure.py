"""What this peer may ever reveal. The file an auditor opens first.

The whole rule (docs/spec/sharing.md §8):

    b_i of the bundles in D, for i ∈ U, under the attempt's one SURVIVORS certificate. Nothing else, ever.

Why that is enough. A peer's masked vector y_i holds one mask per neighbour in U and its own PRG(b_i). Edge seeds never
leave the two ends of their edge, so y_i alone says nothing. Once all b_i of U are known, Σ y_i gives Σ x_i, and each
single y_i is still hidden under its edges to every honest peer. So b_i may be opened once it is sure that the peer's
y_i is summed over one set U and no other: that is what the certificate proves. An attempt that was abandoned, or is
undecided, opens nothing. A backup share of b_i is a part of b_i: the same rule holds for it.

What must never be added here: a request from a peer as a reason to reveal; an edge seed; a seed, or a share of one, of
an attempt other than the certificate's; of a bundle that D does not name; of a peer that is not in U.
"""

from __future__ import annotations

from p2pfl.codec import Malformed
from p2pfl.errors.round import DisclosureRefused, RolledBack
from p2pfl.keys import Secret
from p2pfl.messages import Certificate, narrow
from p2pfl.sharing.certificate import check_certificate, compose
from p2pfl.sharing.parts import Backup
from p2pfl.sharing.state import State


def may_be_opened(state: State) -> dict[str, bytes]:
    """By member of U, the commitment of the b_i that may be opened now. Raises DisclosureRefused when none may.

    Everything is checked anew from the certificate's own letters, not from types or flags that other code has set.
    """
    if state.certificate is None:
        raise DisclosureRefused(evidence=f"no certificate for round {state.round}, attempt {state.attempt}")
    try:
        verdict = check_certificate(narrow(state.certificate, Certificate), state.context.roster)
    except Malformed as error:
        raise DisclosureRefused(evidence=f"the certificate decides nothing: {error}") from None
    if not verdict.survivors or verdict.members is None:
        raise DisclosureRefused(evidence=f"attempt {verdict.attempt} of round {verdict.round} was abandoned")
    if (verdict.round, verdict.attempt) != (state.round, state.attempt):
        raise DisclosureRefused(evidence=f"the certificate is of round {verdict.round}, attempt {verdict.attempt}")
    envelope = state.certificate.envelope
    if (envelope.run, envelope.epoch) != (state.context.run, state.context.roster.epoch):
        raise DisclosureRefused(evidence="the certificate is of another run")
    if state.attempt_digest != verdict.attempt_digest:
        raise DisclosureRefused(evidence="the certificate is for another set than the one that this site holds")
    try:
        found = compose(verdict.members, state.context.roster)
    except Malformed as error:
        raise DisclosureRefused(evidence=f"the certified set does not hold together: {error}") from None
    held = {name: state.proposals.bundles[name] for name in found.bundles if name in state.proposals.bundles}
    return {name: letter.message.self_mask for name, letter in held.items() if letter.digest == found.bundles[name]}


def lost_bundle(state: State) -> RolledBack | None:
    """The certified set rests on a bundle of this site that its home does not know: the home is older than that."""
    held = state.unmasking.deal.bundle.digest if state.unmasking.deal is not None else b""
    dealt = state.proposals.bundles.get(state.context.me)
    if state.context.me not in state.survivors or (dealt is not None and dealt.digest == held):
        return None
    evidence = f"a certificate of round {state.round}, attempt {state.attempt} rests on a bundle that this site signed"
    return RolledBack(peer=state.coordinator, site=state.context.me, evidence=f"{evidence}; this home does not know it")


def seed_to_reveal(state: State) -> Secret | None:
    """This peer's b_i; None when it is not in U. Raises DisclosureRefused (P2P-ROUND-021)."""
    allowed = may_be_opened(state)
    if state.context.me not in state.survivors:
        return None
    if state.unmasking.deal is None or state.context.me not in allowed:
        raise DisclosureRefused(evidence="this site holds no secret of the bundle in the certified set")
    if state.unmasking.deal.bundle.digest != state.proposals.bundles[state.context.me].digest:
        raise DisclosureRefused(evidence="the certified set names another bundle than the one this site dealt")
    return state.unmasking.deal.self_mask


def share_to_reveal(state: State, dealer: str) -> Backup | None:
    """This peer's share of b_dealer; None when it holds none of the bundle in D. Raises DisclosureRefused."""
    return state.unmasking.backups.get(dealer) if dealer in may_be_opened(state) else None
