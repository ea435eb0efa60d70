"""How a node reaches the others, and how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.mesh.proxy import Proxy
from p2pfl.roster import Address


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What the operator of a site says about its process.

    listen   where to bind; None: nowhere, this site dials the others
    wait_s   seconds without a step forward after which it gives up; None: never
    proxy    the HTTP proxy that outgoing connections pass; None: none
    """

    listen: Address | None = None
    wait_s: float | None = None
    proxy: Proxy | None = None
