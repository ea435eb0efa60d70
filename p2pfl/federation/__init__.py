"""federation: what the sites agree on. peers.yaml, its cards and drafts, and the change from one epoch to the next."""

from p2pfl.federation.federation import Federation

__all__ = ["Federation"]
