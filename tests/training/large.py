"""A federation in memory over a model of 10⁵ parameters and more: private passes, supports, error feedback, mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pfl.federation.federation import Privacy
from p2pfl.training.compression import Compressor
from p2pfl.training.local import Trainer
from p2pfl.training.models import predict
from p2pfl.training.privacy import Account
from p2pfl.training.records import Records, SiteRecords
from p2pfl.training.update import apply_mean
from tests.training.settings import Images, draw_of, read


@dataclass(frozen=True)
class Outcome:
    """AUC before and after, and bytes that one peer sends in all, positions included, against dense fp32."""

    before: float
    after: float
    sent_bytes: float
    dense_bytes: float
    parameters: int


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, ties counting half."""
    order = np.sort(scores[labels == 0])
    positive = scores[labels == 1]
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.sum() / 2 / len(positive) / len(order))


def federate(
    sites: list[Records], test: Records, private: Privacy, method: str, density: float, rounds: int
) -> Outcome:
    task, n = Images(), len(sites)
    trainers = [
        Trainer(task=task, site=SiteRecords(own, test), privacy=private, draw=draw_of(f"site {place}"))
        for place, own in enumerate(sites)
    ]
    m = trainers[0].parameters
    compressors = [Compressor(method, density, m, n) for _ in sites]
    account = Account()
    model = trainers[0].initial(bytes(32))
    labels = read(test)[1]
    before, sent_bytes = auc(predict(task, model, test), labels), 0.0
    for _ in range(rounds):
        charges = [Account(account.history).charge(private) for _ in sites]
        account.charge(private)
        updates = [trainer.train(model, charge) for trainer, charge in zip(trainers, charges, strict=True)]
        named = {
            f"site-{place}": one.nominate(update)
            for place, (one, update) in enumerate(zip(compressors, updates, strict=True))
        }
        support = compressors[0].support(named)
        total = np.zeros(m)
        where = slice(None) if support is None else support
        for one in compressors:
            values = one.values(support).astype(np.float64)
            one.settle(support, values)
            total[where] += values
        model = apply_mean(model, total, n)
        words, width = (m, 4) if support is None else (len(support), 2)
        sent_bytes += 2 * (n - 1) / n * words * width + (n - 1) * len(named["site-0"])
    return Outcome(before, auc(predict(task, model, test), labels), sent_bytes, 2 * (n - 1) / n * 4 * m * rounds, m)
