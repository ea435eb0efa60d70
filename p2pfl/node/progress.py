"""What a running node tells whoever watches it: facts in the order in which they happened. The cli words them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """One fact. `kind` says which keys `facts` has:

    listening  address                                  refused    peer (or None), error (a P2PFLError)
    link_up    peer, version, cipher, group, path (direct, proxy or relay), via (an address, or the relay's name)
    link_down  peer, reason
    waiting    round, phase, missing {peer: what}, silent {peer: seconds since last seen, None for never}
    charged    round, epsilon, limit                    trained    round, seconds
    phase      round, attempt, phase
    abandoned  round, attempt, waited_for
    left       round, attempt, lacking (names), sent (this site's masked vector had left it)
    caught_up  round (the newest that was taken over), peer (whose ledger it came from)
    change     epoch, from_round, added, removed, rotated (names), hub (None: as before): enough sites approved it, and
               it is on its way
    epoch      epoch, sites (names), roster: membership has changed, and this node is of the new epoch
    breach     peer, error (a P2PFLError), proof (name of what `ledger evidence` keeps of it, or empty)
    round      round, survivors, outcome, epsilon {name: text}, seconds, bytes_sent, payload_bytes, dense_bytes, rounds
    """

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)


Observer = Callable[[Progress], None]


def unseen(progress: Progress) -> None:
    """The observer of those who do not watch."""
