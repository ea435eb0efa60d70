"""The newest model of a home, as it lies there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pfl.errors.people import NoModel
from p2pfl.home import Home

if TYPE_CHECKING:
    from p2pfl.training.personal import PersonalState

ITEM: Final = "checkpoints/model"
OWN: Final = "checkpoints/personal"


def own_layers(home: Home) -> PersonalState | None:
    """This site's own layers; None where the home has none. Raises ModelFileBroken, ModelMisfit."""
    held = home.read(OWN)
    if held is None:
        return None
    from p2pfl.training.personal import PersonalState  # it brings numpy

    return PersonalState.from_file(held, f"{OWN} in {home.path}")


def model_of(home: Home) -> bytes:
    """The newest model of `home`, safetensors bytes. Raises NoModel."""
    held = home.read(ITEM)
    if held is None:
        raise NoModel(evidence=f"there is no {ITEM} in it", path=home.path)
    return held
