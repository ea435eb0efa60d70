"""A ClientAlgo as somebody writes it for MONAI: torch, and what monai.fl asks for."""

import torch
from monai.fl.client import ClientAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from sklearn.datasets import load_breast_cancer


class Algo(ClientAlgo):
    def initialize(self, extra=None):
        self.asked = ["initialize"]
        self.name = extra[ExtraItems.CLIENT_NAME]
        part, parts = extra.get("partition-id", 0), extra.get("num-partitions", 3)
        x, y = load_breast_cancer(return_X_y=True)
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        self.x = torch.tensor(x[part::parts], dtype=torch.float32)
        self.y = torch.tensor(y[part::parts], dtype=torch.float32)
        self.model = torch.nn.Linear(30, 1)

    def train(self, data, extra=None):
        self.asked.append("train")
        self.model.load_state_dict({name: torch.as_tensor(one) for name, one in data.weights.items()})
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(self.model(self.x)[:, 0], self.y).backward()
            optimizer.step()

    def get_weights(self, extra=None):
        return ExchangeObject(weights=self.model.state_dict(), weight_type=WeightType.WEIGHTS)

    def evaluate(self, data, extra=None):
        self.model.load_state_dict({name: torch.as_tensor(one) for name, one in data.weights.items()})
        with torch.no_grad():
            right = ((self.model(self.x)[:, 0] > 0) == (self.y > 0.5)).float().mean().item()
        return ExchangeObject(metrics={"accuracy": right, "num_examples": len(self.y)})

    def finalize(self, extra=None):
        self.asked.append("finalize")


class Difference(Algo):
    def train(self, data, extra=None):
        self.before = {name: torch.as_tensor(one).clone() for name, one in data.weights.items()}
        super().train(data, extra)

    def get_weights(self, extra=None):
        found = {name: one - self.before[name] for name, one in self.model.state_dict().items()}
        return ExchangeObject(weights=found, weight_type=WeightType.WEIGHT_DIFF)


algo = Algo
