"""home: the one directory that is written, sealed item by item, and the keys that open it."""

from p2pfl.home.home import Home

__all__ = ["Home"]
