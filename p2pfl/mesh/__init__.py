"""Delivers: one mutually authenticated TLS 1.3 link per pair of sites, ZeroMQ inside it, exactly-once frames on top."""

from p2pfl.mesh.events import Delivered, Event, Greeter, Limits, LinkDown, LinkStatus, LinkUp, Refused, TlsFacts
from p2pfl.mesh.mesh import Mesh

__all__ = [
    "Delivered", "Event", "Greeter", "Limits", "LinkDown", "LinkStatus", "LinkUp", "Mesh", "Refused", "TlsFacts",
]  # fmt: skip
