"""A MONAI ClientAlgo, unchanged: initialize, train, get_weights, evaluate, finalize (monai.fl.client).

Its `get_data_stats` is never asked: statistics without noise, of one site. MONAI is loaded late.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from p2pfl.adapters.algorithm import Algorithm, Arrays, Fitted, Judged, Settings
from p2pfl.errors.adapters import AdapterMissing, ClientUnusable

KIND: Final = "monai"
EXAMPLES: Final = ("num_examples", "num-examples")


def algorithm_of(found: Any, reference: str, node: Settings, run: Settings, name: str) -> Algorithm:
    """The ClientAlgo that `found` is, or makes when it is called, initialised under the site's name.

    A function is called with both settings as one dict. Raises AdapterMissing, ClientUnusable.
    """
    try:
        from monai.fl.client import ClientAlgo
        from monai.fl.utils.constants import ExtraItems
        from monai.fl.utils.exchange_object import ExchangeObject
    except ImportError as error:
        raise AdapterMissing(kind=KIND, package="'p2pfl-mesh[volumes]'", evidence=str(error)) from None
    if callable(found) and not isinstance(found, ClientAlgo):
        found = found() if isinstance(found, type) else found({**node, **run})
    if not isinstance(found, ClientAlgo):
        evidence = f"it is a {type(found).__name__}; a monai.fl.client.ClientAlgo is wanted"
        raise ClientUnusable(kind=KIND, reference=reference, evidence=evidence)
    extra = {**node, **run, ExtraItems.CLIENT_NAME: name, ExtraItems.APP_ROOT: str(Path.cwd())}
    found.initialize(extra=extra)
    return MonaiAlgorithm(found, reference, extra, ExchangeObject)


class MonaiAlgorithm:
    """A ClientAlgo that is initialised."""

    kind = KIND

    def __init__(self, algo: Any, reference: str, extra: dict[str, Any], exchange: Callable[..., Any]) -> None:
        self.reference, self._algo, self._extra, self._exchange = reference, algo, extra, exchange

    def first(self) -> Arrays:
        """Its weights before it has trained. Raises ClientUnusable where they are a difference from nothing."""
        return self._weights({})

    def _weights(self, before: Arrays) -> Arrays:
        """What `get_weights` gives: whole, or as the difference from `before`."""
        found = self._algo.get_weights(extra=self._extra)
        if not found.weights:
            raise ClientUnusable(kind=KIND, reference=self.reference, evidence="its get_weights gives none")
        arrays = {str(name): _array(one) for name, one in found.weights.items()}
        if str(found.weight_type or "") != "fl_weight_diff":
            return arrays
        if not set(arrays) <= set(before):
            evidence = (
                "its get_weights gives a difference from arrays that it did not get: name a first model by --first"
            )
            raise ClientUnusable(kind=KIND, reference=self.reference, evidence=evidence)
        return {name: one + arrays[name] if name in arrays else one for name, one in before.items()}

    def _given(self, arrays: Arrays) -> Any:
        from monai.fl.utils.constants import WeightType

        return self._exchange(
            weights={name: one.copy() for name, one in arrays.items()}, weight_type=WeightType.WEIGHTS
        )

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        """train with the model, then get_weights."""
        self._algo.train(self._given(arrays), extra={**self._extra, "round": number})
        return Fitted(self._weights(arrays))

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        """Its metrics; a site counts once, unless they name how many examples they are of."""
        found = self._algo.evaluate(self._given(arrays), extra={**self._extra, "round": number})
        metrics = dict(found.metrics or {})
        examples = next((metrics.pop(name) for name in EXAMPLES if name in metrics), 1)
        numbers = {name: float(one) for name, one in metrics.items() if isinstance(one, int | float | np.number)}
        return Judged(int(examples), numbers)

    def finish(self) -> None:
        """finalize."""
        self._algo.finalize(extra=self._extra)


def _array(one: Any) -> Any:
    return one.detach().cpu().numpy() if hasattr(one, "detach") else np.asarray(one)
