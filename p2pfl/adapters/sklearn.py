"""scikit-learn's models: what `partial_fit` moves (linear models, the MLP), and linear models that are fitted whole.

A site brings a `SklearnSite`: an estimator and its records. What is averaged is the estimator's coefficients. Where it
has `partial_fit` a round is one trip over the site's records; else it is a fit, which goes on from the model with
`warm_start=True`, and begins by itself without. scikit-learn is loaded late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from p2pfl.adapters.algorithm import Algorithm, Arrays, Fitted, Judged, Settings
from p2pfl.errors.adapters import AdapterMissing, ClientUnusable

KIND: Final = "sklearn"
SINGLE, LISTED = ("coef_", "intercept_"), ("coefs_", "intercepts_")  # of linear models; of an MLP


@dataclass(frozen=True)
class SklearnSite:
    """What a site trains, and on what.

    estimator   a classifier or regressor that has `coef_` and `intercept_`, or `coefs_` and `intercepts_`, when fitted
    x, y        (N, features), (N,)
    classes     of a classifier: all classes, as the sites agreed, whether this site has records of each or not
    test        (x, y) by which a model is judged: `score` is the estimator's own
    """

    estimator: Any
    x: Any
    y: Any
    classes: Sequence[Any] | None = None
    test: tuple[Any, Any] | None = None


def algorithm_of(found: Any, reference: str, node: Settings, run: Settings) -> Algorithm:
    """The estimator that `found` brings, or a function of both settings does. Raises AdapterMissing, ClientUnusable."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise AdapterMissing(kind=KIND, package="'p2pfl-mesh[sklearn]'", evidence=str(error)) from None
    if callable(found) and not isinstance(found, SklearnSite):
        found = found({**node, **run})
    if not isinstance(found, SklearnSite):
        evidence = f"it is a {type(found).__name__}; a p2pfl.adapters.sklearn.SklearnSite is wanted"
        raise ClientUnusable(kind=KIND, reference=reference, evidence=evidence)
    return EstimatorAlgorithm(found, reference)


class EstimatorAlgorithm:
    """An estimator, made ready: it has coefficients, whose values do not matter yet."""

    kind = KIND

    def __init__(self, site: SklearnSite, reference: str) -> None:
        """Raises ClientUnusable."""
        from sklearn.base import clone, is_classifier

        self.reference, self._site = reference, site
        self._estimator = clone(site.estimator)
        self._steps = hasattr(self._estimator, "partial_fit")
        self._classes = None if site.classes is None else np.asarray(site.classes)
        if is_classifier(self._estimator):
            if self._classes is None:
                self._refuse("a classifier needs `classes`, all that the sites agreed on")
            elif not self._steps and set(np.unique(site.y)) != set(np.unique(self._classes)):
                self._refuse("its fit needs a record of every class at each site: take one with partial_fit")
        self._train()
        if self._names() is None:
            self._refuse(f"{type(self._estimator).__name__} has neither {SINGLE} nor {LISTED}")
        self._begun = self._read()

    def _refuse(self, evidence: str) -> None:
        raise ClientUnusable(kind=KIND, reference=self.reference, evidence=evidence)

    def _train(self) -> None:
        if not self._steps:
            self._estimator.fit(self._site.x, self._site.y)
        elif self._classes is not None:
            self._estimator.partial_fit(self._site.x, self._site.y, classes=self._classes)
        else:
            self._estimator.partial_fit(self._site.x, self._site.y)

    def _names(self) -> tuple[str, str] | None:
        return next((names for names in (SINGLE, LISTED) if all(hasattr(self._estimator, one) for one in names)), None)

    def _parts(self) -> dict[str, Any]:
        """By name, the estimator's own arrays."""
        found: dict[str, Any] = {}
        for name in self._names() or ():
            held = getattr(self._estimator, name)
            found |= (
                {f"{name}.{place}": one for place, one in enumerate(held)} if isinstance(held, list) else {name: held}
            )
        return found

    def _read(self) -> Arrays:
        return {name: np.array(part) for name, part in self._parts().items()}

    def _write(self, arrays: Arrays) -> None:
        for name, part in self._parts().items():
            if isinstance(part, np.ndarray) and part.shape:
                part[...] = arrays[name]
            else:  # a plain number, as of a LinearRegression without an intercept
                setattr(self._estimator, name, type(part)(arrays[name]))

    def first(self) -> Arrays:
        """Coefficients after one fit of its own: their shapes count."""
        return self._begun

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        """From these coefficients, one trip over the records, or one fit."""
        self._write(arrays)
        self._train()
        return Fitted(self._read())

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        """`score` on the site's test records."""
        if self._site.test is None:
            return Judged(0, {})
        self._write(arrays)
        x, y = self._site.test
        return Judged(len(y), {"score": float(self._estimator.score(x, y))})

    def finish(self) -> None:
        """An estimator has no end."""
