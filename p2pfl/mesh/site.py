"""What every part of the mesh knows of its own site: name, roster, certificates, way out, clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.clocks import Clocks
from p2pfl.keys import Identity
from p2pfl.mesh.certificates import Credentials
from p2pfl.mesh.connect import Connector
from p2pfl.mesh.events import Limits
from p2pfl.mesh.proxy import Proxy
from p2pfl.roster import Roster

DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class LocalSite:
    """This site as a member of one epoch: who it is, whom it knows, and how it gets out."""

    name: str
    roster: Roster
    credentials: Credentials
    connector: Connector
    clocks: Clocks

    @classmethod
    def of(
        cls,
        identity: Identity,
        name: str,
        roster: Roster,
        clocks: Clocks,
        *,
        limits: Limits = DEFAULT_LIMITS,
        proxy: Proxy | None = None,
    ) -> LocalSite:
        """The site `name`, whose certificates `identity` signs.

        proxy   the HTTP proxy that outgoing connections pass, except to the addresses that it lists
        Raises ValueError when the roster lists another key for `name`.
        """
        if roster[name].key != identity.key:
            raise ValueError(f"the identity is not the one that the roster lists for {name}")
        return cls(name, roster, Credentials(identity, name, roster, clocks), Connector(limits, proxy), clocks)

    @property
    def limits(self) -> Limits:
        return self.connector.limits
