"""scikit-learn's estimators: by steps or by fits, linear or an MLP, with classes that a site has no record of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")

from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier

from p2pfl.adapters import sklearn
from p2pfl.adapters.first import begun, read_arrays, written
from p2pfl.errors.adapters import ClientUnusable
from tests.adapters import sklearn_clients
from tests.adapters.sites import federation_of, judged, trained, trainer_of

FEDERATION = federation_of("sklearn", "score", settings=["sharing.scale=10"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "least"), [("sgd", 0.94), ("logistic", 0.95), ("linear", 0.4), ("sgd-regressor", 0.4)]
)
def test_three_sites_average_their_coefficients(estimator: str, least: float) -> None:
    trainers = [
        trainer_of(
            sklearn.algorithm_of(sklearn_clients.site, "s:site", {"partition-id": part}, {"estimator": estimator}),
            FEDERATION,
        )
        for part in range(3)
    ]
    assert [name for name, _ in trainers[0].layout.tensors] == ["coef_", "intercept_"]
    assert judged(trainers, trained(trainers, 3))["score"] > least


@pytest.mark.filterwarnings("ignore")
def test_an_mlp_starts_from_a_first_model_and_learns() -> None:
    algorithm = sklearn.algorithm_of(sklearn_clients.site, "s:site", {}, {"estimator": "mlp"})
    first = read_arrays(written(begun(algorithm)), Path("first"))
    assert list(first) == ["coefs_.0", "coefs_.1", "intercepts_.0", "intercepts_.1"]
    before = algorithm.evaluate(first, 1).metrics["score"]
    arrays = first
    for number in range(1, 6):
        arrays = algorithm.fit(arrays, number).arrays
    assert algorithm.evaluate(arrays, 6).metrics["score"] > max(before, 0.8)


def test_a_round_starts_from_the_model_that_it_is_given_and_not_from_its_last_one() -> None:
    algorithm = sklearn.algorithm_of(sklearn_clients.site, "s:site", {}, {"estimator": "sgd"})
    zeros = {name: np.zeros_like(one) for name, one in begun(algorithm).items()}
    one, two = (algorithm.fit(zeros, number).arrays for number in (1, 2))
    far = algorithm.fit({name: part + 5 for name, part in zeros.items()}, 3).arrays
    assert np.allclose(one["coef_"], two["coef_"], atol=0.05)
    assert np.abs(far["coef_"] - one["coef_"]).max() > 1


def test_a_site_without_a_record_of_a_class_trains_by_steps_and_is_refused_a_fit() -> None:
    x, y = np.random.default_rng(1).normal(size=(40, 3)), np.zeros(40, int)
    site = sklearn.SklearnSite(SGDClassifier(loss="log_loss"), x, y, classes=[0, 1, 2])
    assert begun(sklearn.algorithm_of(site, "s:site", {}, {}))["coef_"].shape == (3, 3)
    with pytest.raises(ClientUnusable) as caught:
        sklearn.algorithm_of(sklearn.SklearnSite(LogisticRegression(), x, y, classes=[0, 1]), "s:site", {}, {})
    assert "partial_fit" in caught.value.render()


def test_what_cannot_be_averaged_is_an_error_for_people() -> None:
    x, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    for site in (
        sklearn.SklearnSite(SGDClassifier(), x, y),
        sklearn.SklearnSite(MiniBatchKMeans(2), x, y),
        LinearRegression(),
    ):
        with pytest.raises(ClientUnusable):
            sklearn.algorithm_of(site, "s:site", {}, {})
