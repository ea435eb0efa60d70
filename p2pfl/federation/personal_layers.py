"""`local.personal`: the layers that stay at each site, by the names of their parameters or what those begin with; and
where a home keeps them."""

from __future__ import annotations

import re
from typing import Final

from p2pfl.federation.readers import YamlNode, wrong
from p2pfl.federation.statistics_rules import words_of

PERSONAL: Final = "checkpoints/personal"  # the item of a home
MOST_LAYERS: Final = 64
MOST_LENGTH: Final = 200
LAYER: Final = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def read_layers(node: YamlNode, key: str) -> tuple[str, ...]:
    """A list of layers, each once. Raises WrongValue."""
    words = words_of(node)
    if words is None or len(words) > MOST_LAYERS or len(set(words)) < len(words) or not all(map(is_layer, words)):
        wrong(node, key, "a list of layers, each once, as [head] or [head.weight, norm]")
    return words


def is_layer(text: str) -> bool:
    """It may be the name of a parameter, or what one begins with."""
    return len(text) <= MOST_LENGTH and LAYER.fullmatch(text) is not None
