"""Flower's clients with flwr's own objects: what they get, what they give, and that nothing else leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="flwr, of the extra [flower], is not installed")
pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")

from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from p2pfl.adapters import flower
from p2pfl.adapters.algorithm import Algorithm
from p2pfl.errors.adapters import ClientFailed, ClientUnusable
from tests.adapters import flower_clients
from tests.adapters.sites import federation_of, judged, trained, trainer_of

FEDERATION = federation_of("flower", "accuracy", "loss", settings=["sharing.scale=10"])


def made(found: Any, part: int = 0) -> Algorithm:
    return flower.algorithm_of(found, "client:app", {"partition-id": part, "num-partitions": 3}, {"lr": 0.5})


@pytest.mark.parametrize(
    "found",
    [
        lambda part: flower_clients.Numpy(part),
        lambda part: flower_clients.Numpy,
        lambda part: flower_clients.client_fn,
        lambda part: flower_clients.older,
    ],
    ids=["NumPyClient", "its class", "client_fn", "ClientApp of a client_fn"],
)
def test_clients_of_the_older_kinds_train_from_their_own_arrays(found: Any) -> None:
    trainers = [trainer_of(made(found(part), part), FEDERATION) for part in range(3)]
    assert trainers[0].layout.tensors == (("0", (30,)), ("1", (1,)))
    figures = judged(trainers, trained(trainers, 3))
    assert figures["accuracy"] > 0.9
    assert figures["loss"] == pytest.approx(1 - figures["accuracy"], abs=1e-5)


def test_a_numpy_client_is_told_the_round_and_the_settings() -> None:
    client = flower_clients.Numpy()
    trained([trainer_of(made(client), FEDERATION)], 2)
    assert client.seen == [{"lr": 0.5, "server-round": 1}, {"lr": 0.5, "server-round": 2}]


def test_a_client_app_gets_flwrs_own_messages_and_its_sites_partition() -> None:
    algorithm = made(flower_clients.app)
    fitted = algorithm.fit({"0": np.zeros(30), "1": np.zeros(1)}, 4)
    assert list(fitted.arrays) == ["0", "1"] and fitted.metrics["server-round"] == 4
    found = algorithm.evaluate(fitted.arrays, 4)
    assert found.examples == 48 and list(found.metrics) == ["accuracy"]
    other = made(flower_clients.app, 1).fit({"0": np.zeros(30), "1": np.zeros(1)}, 4)
    assert not np.allclose(other.arrays["0"], fitted.arrays["0"])


def test_names_and_types_of_a_state_dict_reach_the_client_as_they_are() -> None:
    app, seen = ClientApp(), []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        import torch

        state = message.content["arrays"].to_torch_state_dict()
        seen.append({name: (tuple(one.shape), one.dtype) for name, one in state.items()})
        context.state["held"] = ArrayRecord([np.ones(1)])
        assert torch
        return Message(content=RecordDict({"arrays": ArrayRecord(state)}), reply_to=message)

    import torch

    arrays = {"layer.weight": np.ones((2, 3), np.float32), "seen": np.array(5)}
    fitted = made(app).fit(arrays, 1)
    assert seen == [{"layer.weight": ((2, 3), torch.float32), "seen": ((), torch.int64)}]
    assert list(fitted.arrays) == list(arrays) and fitted.arrays["seen"] == 5


def test_what_is_no_client_or_gives_no_arrays_is_an_error_for_people() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(content=RecordDict(), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(Error(1, "patient 4711"), reply_to=message)

    algorithm = made(app)
    for ask in (algorithm.fit, algorithm.evaluate):
        with pytest.raises(ClientUnusable) as caught:
            ask({"w": np.zeros(1)}, 1)
        assert "4711" not in caught.value.render()
    with pytest.raises(ClientUnusable) as caught:
        algorithm.first()
    assert "--first" in caught.value.render()
    with pytest.raises(ClientUnusable):
        made(3)
    with pytest.raises(ClientFailed):  # flwr raises where no such function is registered
        trained([trainer_of(made(flower_clients.Numpy()), FEDERATION), trainer_of(made(broken), FEDERATION)], 1)


def broken(context: Context) -> Any:
    client = flower_clients.Numpy()
    client.fit = lambda parameters, config: 1 / 0  # type: ignore[method-assign]
    return client.to_client()
