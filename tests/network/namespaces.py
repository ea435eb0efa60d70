"""Sites that each run in a network namespace of their own, and what is done to the network between them."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks._links import LinksUnavailable, Network, network
from tests.end_to_end.processes import Process, Sites, federation

STOP = {"signal": "SIGSTOP"}  # a plan whose site stops where it would otherwise die


@contextlib.contextmanager
def placed(place: Path, count: int, *overrides: str, **options: Any) -> Iterator[tuple[Network, Sites]]:
    """`count` sites of one federation, each in its own namespace. Skips where none can be made, and says why."""
    with contextlib.ExitStack() as held:
        try:
            net = held.enter_context(network(count))
        except LinksUnavailable as reason:
            pytest.skip(f"network namespaces cannot be made here: {reason}")
        yield net, held.enter_context(federation(place, count, overrides, places=net.places, **options))


def silent(process: Process, peer: str, seconds: float = 20.0) -> None:
    """Wait until a process says that it has heard nothing of `peer` for so long."""

    def fits(line: str) -> bool:
        told = json.loads(line) if line.startswith('{"event": "waiting"') else {}
        return (told.get("silent", {}).get(peer) or 0.0) >= seconds

    process.line(fits)


def lost(process: Process, peer: str) -> None:
    """Wait until a process says that its link to `peer` has ended."""
    process.line(lambda line: '"link_down"' in line and f'"{peer}"' in line and "replaced" not in line)


def ended_well(sites: Sites) -> None:
    """Every process that was not killed ends by itself, with status 0; then all ledgers verify and are one."""
    for process in sites.started:
        assert process.end().status in (0, -signal.SIGKILL), process.tail
    assert len(sites.roots()) == 1
