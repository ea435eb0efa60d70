"""What a peer knows of the others beyond one round: links that stand, proven liars, breaches that were told."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from p2pfl.errors import RemoteProtocolError, bare
from p2pfl.messages import Letter, Message
from p2pfl.roster import Roster
from p2pfl.sharing.vows import Vows

AGAIN_S: Final = 3.0  # seconds that one is waited for whom the last round waited for in vain


@dataclass
class PeerView:
    """Shared by all rounds of one process. Times are seconds on the driver's monotonic clock."""

    roster: Roster
    me: str
    began: float = 0.0
    down: dict[str, float] = field(default_factory=dict)  # by peer without a link: since when
    # By liar, the Evidence; None where the proof is too large for a letter, and each peer finds it by itself.
    proven: dict[str, Letter[Message] | None] = field(default_factory=dict)
    breaches: dict[str, RemoteProtocolError] = field(default_factory=dict)  # the last broken rule of each
    told: set[tuple[str, str, int]] = field(default_factory=set)  # peer, error code, round: each is noted once
    vows: Vows = field(default_factory=Vows)
    # Left out of the last final round before this process: they were waited for once, and may be back at any moment.
    missed: Collection[str] = frozenset()
    parted: set[str] = field(default_factory=set)  # peers with which this site holds no link by its own decision
    apart: float = 0.0  # when links to fewer than a quorum last stood
    patience_s: float = math.inf  # seconds that a peer without a link is waited for; known from the first proposals on
    _up: dict[str, float] = field(default_factory=dict)  # by peer with a link: since when

    def __post_init__(self) -> None:
        self.down = dict.fromkeys((name for name in self.roster.names if name != self.me), self.began)
        self.apart = self.began

    @property
    def connected(self) -> bool:
        """Links to a quorum stand, this peer counted."""
        return len(self.roster.names) - len(self.down) >= self.roster.quorums.q

    def link_up(self, peer: str, now: float) -> None:
        """The link to `peer` stands."""
        if not self.connected:
            self.apart = now
        self.down.pop(peer, None)
        self._up[peer] = now

    def stands(self, peer: str, since: float) -> bool:
        """The link to `peer` stands, and has since then."""
        return peer not in self.down and self._up.get(peer, self.began) <= since

    def link_down(self, peer: str, now: float) -> None:
        """The link to `peer` has ended."""
        self.down.setdefault(peer, now)
        if not self.connected:
            self.apart = now

    def away(self, peer: str, now: float, patience_s: float) -> bool:
        """No link to `peer` has stood for `patience_s` seconds."""
        since = self.down.get(peer)
        return since is not None and now - since >= patience_s

    def unlinked_at(self, peer: str) -> float:
        """From when on `peer` is known to be without a link: it has been waited for once. `inf`: not for now.

        Seconds in which this peer itself had no quorum do not count: it may be the one that was cut off.
        """
        if peer in self.parted:
            return -math.inf
        if peer not in self.down or not self.connected:
            return math.inf
        patience_s = min(self.patience_s, AGAIN_S) if peer in self.missed and peer not in self._up else self.patience_s
        return max(self.down[peer], self.apart) + patience_s

    def unlinked(self, now: float) -> tuple[str, ...]:
        """Peers known to be without a link to this one, in roster order."""
        return tuple(name for name in self.roster.names if name != self.me and now >= self.unlinked_at(name))

    def note_breach(self, error: RemoteProtocolError, number: int) -> bool:
        """Keep the breach; True when its kind was not yet told of this peer in this round."""
        self.breaches[error.fields["peer"]] = bare(error)
        place = (error.fields["peer"], error.code, number)
        known = place in self.told
        self.told.add(place)
        return not known

    @property
    def too_many(self) -> RemoteProtocolError | None:
        """The breach that leaves fewer than q peers to sum with, or None."""
        room = len(self.roster.names) - self.roster.quorums.q
        return list(self.breaches.values())[-1] if len(self.breaches) > room else None
