# mypy: ignore-errors
"""What Flower runs for secagg_plus.py: a client that answers with a constant vector, a server that measures its round.

This file is copied into a Flower app of its own and runs in Flower's environment; nothing here imports p2pfl. Flower's
own workflow and mod do all of the work. What is measured of them is written to the file that the run names.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Client(NumPyClient):
    """A site whose update is the constant (its number + 1) / 10."""

    def __init__(self, number):
        self.value = (number + 1) / 10

    def fit(self, parameters, config):
        return [np.full(parameters[0].shape, self.value, np.float32)], 1, {}


def cpu_s(home):
    """Processor seconds of all processes, those that have ended too, whose environment has Flower's home at `home`."""
    found, parents = {}, {}
    mark = f"FLWR_HOME={home}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            ours = mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        spent = sum(map(int, stat[11:15]))  # its own, and that of its children that were waited for
        if ours:
            found[int(entry)] = spent
        elif stat[0] == "Z":
            parents[int(entry)] = (int(stat[1]), spent)
    waiting = sum(spent for parent, spent in parents.values() if parent in found)
    return (sum(found.values()) + waiting) / TICKS_PER_S


def crossed(interface):
    """Bytes in and out of the server's interface: all of Flower's traffic, since all of it passes the server."""
    try:
        statistics = Path(f"/sys/class/net/{interface}/statistics")
        return sum(int((statistics / name).read_text()) for name in ("tx_bytes", "rx_bytes"))
    except OSError:
        return 0


client = ClientApp(client_fn=lambda context: Client(context.node_config["number"]).to_client(), mods=[secaggplus_mod])
server = ServerApp()


@server.main()
def main(grid, context):
    """`rounds` rounds of SecAgg+; one line of JSON for each."""
    config = context.run_config
    peers, words = int(config["peers"]), int(config["words"])
    strategy = FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=peers,
        min_available_clients=peers,
        initial_parameters=ndarrays_to_parameters([np.zeros(words, np.float32)]),
    )
    legacy = LegacyContext(context, config=ServerConfig(num_rounds=int(config["rounds"])), strategy=strategy)
    protocol = SecAggPlusWorkflow(int(config["shares"]), int(config["threshold"]), max_weight=1.0)
    expected = sum(range(1, peers + 1)) / 10 / peers

    def measured(grid, context):
        spent, out, begun = cpu_s(config["home"]), crossed(config["interface"]), time.perf_counter()
        protocol(grid, context)
        seconds = time.perf_counter() - begun
        told = {
            "s": seconds,
            "cpu_s": cpu_s(config["home"]) - spent,
            "out": out,
            "end": crossed(config["interface"]),
        }
        mean = next(iter(context.state.array_records.values())).to_numpy_ndarrays()[0]
        told["worst"] = float(np.abs(mean - expected).max())
        with Path(config["told"]).open("a") as file:
            file.write(json.dumps(told) + "\n")

    DefaultWorkflow(fit_workflow=measured)(grid, legacy)
