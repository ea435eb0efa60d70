"""Vows: what a peer has promised the others about rounds that are not final; the second safety rule.

The cross-round rule (docs/spec/sharing.md §9), which keeps two models from becoming final:

- a peer that signed CONFIRM of r signs no READY of a later round that does not rest on r, until it is shown a
  SURVIVORS certificate of a round after r that does not rest on r either;
- a peer that signed READY of such a later round, whose attempt is not abandoned, signs no CONFIRM of r.

q CONFIRMs of r and q READYs of a later round that ignores r would share q + q − n > c peers: one of them is honest, and
its vow broken. A round *rests on* the rounds of its chain: those whose sums led to its model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Chain = tuple[int, ...]  # rounds, in order, that are certified and not yet final


@dataclass
class Vows:
    """What this peer has signed of rounds that are not final."""

    final: int = 0  # the last final round
    confirmed: set[int] = field(default_factory=set)  # rounds with a CONFIRM of this peer
    vouched: dict[int, Chain] = field(default_factory=dict)  # round of a standing READY, and the chain it rests on

    def may_vouch(self, number: int, base: int, chain: Chain) -> bool:
        """READY for `number`, resting on round `base` and its `chain`, ignores no round that is final or confirmed."""
        return base >= self.final and {one for one in self.confirmed if one < number} <= set(chain)

    def may_confirm(self, number: int) -> bool:
        """CONFIRM of `number` breaks no READY of a later round."""
        return all(later < number or number in (later, *chain) for later, chain in self.vouched.items())

    def settled(self, number: int) -> None:
        """Round `number` is final: vows of rounds up to it bind no longer."""
        self.final = number
        self.confirmed = {one for one in self.confirmed if one > number}
        self.vouched = {one: chain for one, chain in self.vouched.items() if one > number}
