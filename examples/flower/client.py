"""A Flower client as its quickstart has it: a small net on handwritten digits, of flwr and torch alone.

Nothing in it knows of p2pfl. Flower's own `flwr run` runs it too, with a ServerApp beside it.
"""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.hidden = nn.Linear(16 * 3 * 3, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.out(functional.relu(self.hidden(x.flatten(1))))


def load_data(partition, partitions):
    """This site's digits: 8x8 pixels; three quarters of them train."""
    digits = load_digits()
    x = torch.tensor(digits.images[partition::partitions], dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target[partition::partitions])
    cut = len(y) * 3 // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def data_of(context):
    return load_data(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))


app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    (x, y), _ = data_of(context)
    optimizer = torch.optim.SGD(model.parameters(), lr=float(context.run_config.get("lr", 0.02)), momentum=0.9)
    model.train()
    for _ in range(int(context.run_config.get("local-epochs", 3))):
        for batch in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
    metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(y)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    _, (x, y) = data_of(context)
    model.eval()
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == y).float().mean().item()
    metrics = MetricRecord({"accuracy": accuracy, "num-examples": len(y)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
