"""metrics.md: what --metrics shows, from the families that it gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from p2pfl.cli.metrics import Metrics
from p2pfl.federation import Federation
from p2pfl.mesh.relay import Carried
from tools.reference.markdown import GENERATED, cell, table
from tools.reference.settings import example

HEAD = f"""\
# Metrics

{GENERATED}
`--metrics PORT` of `join`, `run`, `sum` and `stats` shows these at `http://127.0.0.1:PORT/metrics`, on loopback alone.
A family with the label `peer` has a line for each other site; one with `code` has none before the first of its kind.
`process_…` (memory, descriptors, processor time) is prometheus_client's own. What to alert on:
[operations.md](../operations.md#watch).
"""


def _families() -> list[Any]:
    federation = Federation.parse(example()[1].encode(), "an example")
    metrics = Metrics(federation)
    peer: Any = SimpleNamespace(
        federation=federation,
        name=federation.roster.names[0],
        node=SimpleNamespace(epsilon=""),
        links=dict,
        carried=lambda: Carried(0, 0, 0),
    )
    metrics.peer = peer
    return list(metrics.families())


def page() -> str:
    rows = []
    for family in _families():
        total = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = ", ".join(family._labelnames or sorted(family.samples[0].labels if family.type == "info" else ()))
        rows.append((f"`{family.name}{total}`", family.type, labels or "–", cell(family.documentation)))
    return "\n".join([HEAD, table(("metric", "type", "labels", "what it is"), rows)])
