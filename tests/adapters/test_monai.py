"""A MONAI ClientAlgo with MONAI's own exchange objects."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("monai", reason="MONAI, of the extra [volumes], is not installed")
pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")

from safetensors.torch import save_file

from p2pfl.adapters import monai
from p2pfl.adapters.first import begun, written
from p2pfl.errors.adapters import ClientUnusable
from tests.adapters import monai_clients
from tests.adapters.sites import federation_of, judged, trained, trainer_of


@pytest.mark.parametrize("cls", [monai_clients.Algo, monai_clients.Difference])
def test_three_algos_train_whether_they_give_weights_or_a_difference(cls: type, tmp_path: Path) -> None:
    path = tmp_path / "first.safetensors"
    state = monai.algorithm_of(monai_clients.Algo, "m:a", {}, {}, "ada")._algo.model.state_dict()  # type: ignore[attr-defined]
    save_file(state, path)
    federation = federation_of(
        "monai", "accuracy", first=hashlib.sha256(path.read_bytes()).digest(), settings=["sharing.scale=10"]
    )
    algorithms = [
        monai.algorithm_of(cls(), "m:a", {"partition-id": part, "num-partitions": 3}, {}, f"site-{part}")
        for part in range(3)
    ]
    trainers = [trainer_of(one, federation, first=path) for one in algorithms]
    assert sorted(trainers[0].layout.tensors) == [("bias", (1,)), ("weight", (1, 30))]
    assert judged(trainers, trained(trainers, 3))["accuracy"] > 0.95
    for one in trainers:
        one.finish()
    assert algorithms[2]._algo.name == "site-2"  # type: ignore[attr-defined]
    assert algorithms[2]._algo.asked == ["initialize", "train", "train", "train", "finalize"]  # type: ignore[attr-defined]


def test_the_first_model_is_the_algos_own() -> None:
    algorithm = monai.algorithm_of(monai_clients.Algo, "m:a", {}, {}, "ada")
    assert abs(begun(algorithm)["weight"]).max() > 0
    assert len(written(begun(algorithm))) > 4 * 31


def test_what_is_no_algo_is_an_error_for_people() -> None:
    with pytest.raises(ClientUnusable) as caught:
        monai.algorithm_of(object(), "m:a", {}, {}, "ada")
    assert "ClientAlgo is wanted" in caught.value.render()
