"""peer: one site of a federation, from Python. Each thing that is done together is in a file of its own."""

from p2pfl.peer.peer import Peer

__all__ = ["Peer"]
