"""What every part of the mesh knows of its own site: identity, roster, certificates, ways out, clocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pfl.mesh.certificates import Credentials
from p2pfl.mesh.connect import Reach
from p2pfl.mesh.events import Limits
from p2pfl.roster import Roster


@dataclass(frozen=True, slots=True)
class LocalSite:
    """Who knocks, and with what: this site, its peers, its certificates, its way out; seconds and Unix seconds."""

    name: str
    roster: Roster
    credentials: Credentials
    reach: Reach
    now: Callable[[], float]
    wall: Callable[[], float]

    @property
    def limits(self) -> Limits:
        return self.reach.limits
