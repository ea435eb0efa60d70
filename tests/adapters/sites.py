"""What the tests of this room share: a federation that trains clients, and rounds of several without a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pfl.adapters.algorithm import Algorithm
from p2pfl.adapters.trainer import ClientTrainer
from p2pfl.federation import Federation, draft
from p2pfl.federation.federation import NO_PRIVACY
from p2pfl.keys import Secret
from p2pfl.training.privacy.account import Account
from p2pfl.training.update import FlatVector, apply_mean
from tests.federation.sample import CARDS

SEED = Secret(bytes(32), "seed of a pass")


def federation_of(kind: str, *metrics: str, first: bytes | None = None, settings: Sequence[str] = ()) -> Federation:
    lines = draft.client_lines(kind, first, metrics)
    members = [card.member for card in CARDS]
    return Federation.parse(draft.peers_file("trial", members, lines, ["privacy=none", *settings]))


def trainer_of(algorithm: Algorithm, federation: Federation, **given: object) -> ClientTrainer:
    assert federation.task.client is not None
    return ClientTrainer(algorithm, federation, federation.task.client, **given)  # type: ignore[arg-type]


def trained(trainers: Sequence[ClientTrainer], rounds: int) -> FlatVector:
    """The model after some rounds of plain means."""
    accounts = [Account() for _ in trainers]
    model = trainers[0].initial(bytes(32))
    for number in range(1, rounds + 1):
        total = np.zeros(model.size)
        for trainer, account in zip(trainers, accounts, strict=True):
            total += trainer.train(model, account.charge(NO_PRIVACY), SEED, number - 1)
        model = apply_mean(model, total, len(trainers))
    return model


def judged(trainers: Sequence[ClientTrainer], model: FlatVector) -> dict[str, float]:
    """The figures of the sum of all sites' counts."""
    total = sum((trainer.evaluate(model) for trainer in trainers), np.zeros(trainers[0].counts, np.int64))
    return {name: figure.value for name, figure in trainers[0].figures(total).items()}
