"""The newest model of a home, as it lies there."""

from __future__ import annotations

from typing import Final

from p2pfl.errors.people import NoModel
from p2pfl.home import Home

ITEM: Final = "checkpoints/model"


def model_of(home: Home) -> bytes:
    """The newest model of `home`, safetensors bytes. Raises NoModel."""
    held = home.read(ITEM)
    if held is None:
        raise NoModel(evidence=f"there is no {ITEM} in it", path=home.path)
    return held
