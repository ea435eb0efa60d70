"""Clients as somebody writes them for Flower, of flwr and numpy alone: each kind that flwr takes, one small model."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from sklearn.datasets import load_breast_cancer


def records(part, parts):
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x, y = x[part::parts], y[part::parts]
    cut = len(y) * 3 // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def trained(w, b, x, y, rate):
    for _ in range(20):
        error = 1 / (1 + np.exp(-(x @ w + b))) - y
        w, b = w - rate * x.T @ error / len(y), b - rate * error.mean()
    return w, b


def accuracy(w, b, x, y):
    return float((((x @ w + b) > 0) == y).mean())


class Numpy(NumPyClient):
    def __init__(self, part=0, parts=3):
        self.train, self.test = records(part, parts)
        self.seen = []

    def get_parameters(self, config):
        return [np.zeros(30), np.zeros(1)]

    def fit(self, parameters, config):
        self.seen.append(dict(config))
        w, b = trained(*parameters, *self.train, float(config.get("lr", 0.5)))
        return [w, b], len(self.train[1]), {"train_accuracy": accuracy(w, b, *self.train)}

    def evaluate(self, parameters, config):
        found = accuracy(*parameters, *self.test)
        return 1 - found, len(self.test[1]), {"accuracy": found}


def client_fn(context: Context):
    return Numpy(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])).to_client()


older = ClientApp(client_fn=client_fn)
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    data, _ = records(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))
    w, b = (one.numpy() for one in message.content["arrays"].values())
    w, b = trained(w, b, *data, float(context.run_config.get("lr", 0.5)))
    metrics = MetricRecord({"num-examples": len(data[1]), "server-round": message.content["config"]["server-round"]})
    content = RecordDict({"arrays": ArrayRecord([w, b]), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    _, data = records(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))
    w, b = (one.numpy() for one in message.content["arrays"].values())
    metrics = MetricRecord({"num-examples": len(data[1]), "accuracy": accuracy(w, b, *data)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
