"""The process of this site in one epoch: who it is, whom it knows, and what it reads the time from."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.clocks import Clocks
from p2pfl.keys import Identity, digest
from p2pfl.messages import Envelope
from p2pfl.roster import Roster


@dataclass(frozen=True, slots=True)
class SiteProcess:
    """One process in one epoch of the roster.

    incarnation         16 random bytes that name the process
    federation_digest   of the peers.yaml of the epoch
    """

    identity: Identity
    name: str
    roster: Roster
    incarnation: bytes
    federation_digest: bytes
    clocks: Clocks

    @property
    def others(self) -> tuple[str, ...]:
        """The other sites of the roster, in its order."""
        return tuple(name for name in self.roster.names if name != self.name)

    @property
    def envelope(self) -> Envelope:
        """Of a letter from node to node, which is of no round."""
        run_id = digest("run", self.federation_digest)
        return Envelope(run_id, self.roster.epoch, 0, 0, self.name, self.incarnation)
