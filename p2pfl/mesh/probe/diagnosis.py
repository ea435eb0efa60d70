"""What a doctor found about the link with one peer: the contract between the probe and whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.mesh.events import DIRECT, Path, TlsFacts
from p2pfl.mesh.probe.client import ClockOffset
from p2pfl.mesh.probe.wire import Dialed, PeerFacts
from p2pfl.roster import Address

OK: Final = "ok"
NO: Final = "no"
STALLS: Final = "stalls"
LINK: Final = "link"  # there is one, and nobody asked which end dialled
NONE: Final = "none"  # no address is listed
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class AddressTrial:
    """One listed address, tried from here. No error: this site was admitted there."""

    address: Address
    error: P2PFLError | None = None
    ip: str = ""
    segment: int = 0
    tcp_s: float = 0.0
    admitted_s: float = 0.0
    proxied: bool = False
    why: str = ""  # why it is reached through the proxy, or past it; "" where there is none


@dataclass
class RelayTrial:
    """A way through a third site that was tried: the relay, which ends called, and the round trip end to end."""

    via: str
    there: bool = False
    back: bool = False
    round_trip_s: float | None = None


@dataclass
class Diagnosis:
    """What was found about the link with one peer.

    ways       its addresses, in their order; `way`: the one that was used
    there      ok · no · stalls · none (it lists no address) · link
    back       the same, and unknown: nobody could try
    to_bytes_s, from_bytes_s   speed
    theirs     its peers.yaml, where it is not this site's
    relayed    a site that this one reaches can carry its calls
    through    the way through such a site, where it was tried, with the inner TLS end to end
    """

    peer: str
    ways: tuple[AddressTrial, ...] = ()
    way: AddressTrial | None = None
    path: Path = DIRECT
    there: str = NONE
    back: str = UNKNOWN
    dialed: tuple[Dialed, ...] = ()
    tls: TlsFacts | None = None
    facts: PeerFacts | None = None
    round_trip_s: float | None = None
    clock: ClockOffset | None = None
    to_bytes_s: float | None = None
    from_bytes_s: float | None = None
    theirs: bytes | None = None
    relayed: bool = False
    through: RelayTrial | None = None
    errors: list[P2PFLError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """One direction is enough for a link, and so is a relay that this site reaches; one peers.yaml is needed."""
        return self.theirs is None and (self.relayed or self.works_directly)

    @property
    def works_directly(self) -> bool:
        """One of the two was admitted at the other's address."""
        return bool({OK, LINK} & {self.there, self.back})
