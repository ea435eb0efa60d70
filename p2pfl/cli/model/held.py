"""The newest model of a home, as it lies there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from p2pfl.errors.people import NoModel
from p2pfl.errors.personal import NoOwnLayers
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.home import Home

if TYPE_CHECKING:
    from p2pfl.training.model.personal import PersonalState

ITEM: Final = "checkpoints/model"


def own_layers(home: Home, prefixes: Sequence[str]) -> PersonalState | None:
    """This site's own layers, by `local.personal`; None where the sites share all of them.

    Raises NoOwnLayers before the first pass of this site, ModelFileBroken, ModelMisfit.
    """
    if not prefixes:
        return None
    held = home.read(PERSONAL)
    if held is None:
        raise NoOwnLayers(evidence=f"there is no {PERSONAL} in it", path=home.path, prefixes=", ".join(prefixes))
    from p2pfl.training.model.personal import PersonalState  # it brings numpy

    return PersonalState.from_file(held, f"{PERSONAL} in {home.path}")


def model_of(home: Home) -> bytes:
    """The newest model of `home`, safetensors bytes. Raises NoModel."""
    held = home.read(ITEM)
    if held is None:
        raise NoModel(evidence=f"there is no {ITEM} in it", path=home.path)
    return held
