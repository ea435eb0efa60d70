"""What `join --json` and `run --json` print of a training: read off its result, its links, and the home's ledger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from p2pfl.cli.figures import classes_of, title
from p2pfl.cli.joining import Access
from p2pfl.cli.watch import Watch, label_of
from p2pfl.cli.wording import bounded, dense_bytes
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.node.studies import view

if TYPE_CHECKING:
    from p2pfl.node.runs.metric import Metric
    from p2pfl.node.runs.results import TrainResult
    from p2pfl.peer import Peer
    from p2pfl.training.measures.measure import Figure


def facts_of(peer: Peer, result: TrainResult, watch: Watch, parameters: int) -> dict[str, Any]:
    """What `join --json` prints, but for the ledger and the time. Bytes are those of this process."""
    federation, links = peer.federation, peer.links().values()
    trained = [record for record in result.records if record["configuration"].get("purpose") == "training"]
    count = len(federation.roster.names)
    here = sum(final.configuration.get("purpose") == "training" for final in watch.rounds)
    words = sum(final.payload_bytes for final in watch.rounds)
    return {
        "name": peer.name,
        "federation": federation.name,
        "rounds_completed": len(trained),
        "rounds_here": here,
        "ended": result.ended or None,
        "metric": _metric(result, classes_of(federation.task)),
        "privacy": federation.privacy.unit,
        "epsilon": bounded(result.epsilon),
        "epsilon_alone": bounded(result.alone) if result.alone is not None else None,
        "delta": result.delta,
        "max_epsilon": bounded(federation.privacy.max_epsilon),
        "parameters": parameters,
        "bytes_sent": sum(link.bytes_sent for link in links),
        "bytes_received": sum(link.bytes_received for link in links),
        "payload_sent": _payload_sent(federation, peer.name, words),
        "dense_bytes": dense_bytes(count, parameters, here),
        "field": federation.sharing.field,
        "quorum": federation.roster.quorums.q,
        "survivors_per_round": [record["survivors"] for record in trained],
        "tls": watch.tls,
        "links": watch.paths,
        "relayed": {"calls": peer.carried().calls, "bytes": peer.carried().bytes_received},
    }


def _metric(result: TrainResult, classes: Sequence[str]) -> dict[str, Any]:
    """The figure that the training is judged by, first and last; and all that the last model was measured by, or why
    it was not.
    """

    def value(metric: Metric | None) -> float | None:
        return metric.figure.value if metric is not None and metric.figure is not None else None

    held = result.final or result.initial
    told = result.final.figures if result.final else {}
    return {
        "name": label_of(held.name if held else ""),
        "figure": held.name if held else None,
        "initial": value(result.initial),
        "final": value(result.final),
        "private": held.private if held else None,
        "unmeasured": _unmeasured(result),
        "figures": {name: _interval(figure) | {"name": title(name, classes)} for name, figure in told.items()},
    }


def _unmeasured(result: TrainResult) -> dict[str, Any] | None:
    """Why the last model has no figure, and who was away; None where it has one, or its task measures nothing."""
    last = result.records[-1] if result.records and result.final is None else {}
    why = last.get("outcome", {}).get("unmeasured", "")
    return {"why": why, "away": list(last["left_out"])} if why else None


def _interval(figure: Figure) -> dict[str, Any]:
    low, high = (part if math.isfinite(part) else None for part in (figure.low, figure.high))
    return {"value": figure.value, "low": low, "high": high}


def _payload_sent(federation: Federation, name: str, words: int) -> int:
    """Bytes of masked words to their owners, and of the sums of those that this site owns to all."""
    count = len(federation.roster.names)
    if federation.hub is None:
        return round(2 * (count - 1) / count * words)
    return (count - 1) * words if name == federation.hub else words


def ledger_of(access: Access, federation: Federation) -> dict[str, object]:
    """What `join --json` says of the home's ledger, once it is verified."""
    from p2pfl.ledger.verify import verify

    with Home.open(access.home, unlock=access.keys, write=False) as opened:
        report = verify(view(opened, lambda: federation))
    return {"verified": report.verified, "entries": report.federation.entries, "root": report.federation.root.hex()}
