"""Delivery: one mutually authenticated TLS 1.3 link per pair of sites, ZeroMQ inside it, exactly-once frames on top."""

from p2pfl.mesh.events import (
    Delivered,
    Greeter,
    Limits,
    LinkClosed,
    LinkOpened,
    LinkStatus,
    MeshEvent,
    Refused,
    TlsFacts,
)
from p2pfl.mesh.mesh import Mesh
from p2pfl.mesh.site import LocalSite

__all__ = [
    "Delivered",
    "Greeter",
    "Limits",
    "LinkClosed",
    "LinkOpened",
    "LinkStatus",
    "LocalSite",
    "Mesh",
    "MeshEvent",
    "Refused",
    "TlsFacts",
]
