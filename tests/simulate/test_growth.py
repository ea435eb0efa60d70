"""What a site does in a round grows with the sites as its letters do, and not faster: counted by calls, never by time.

A site gets some n letters of each kind, and each of n chunks has n tags. What was done anew for each letter, over all n
sites or all n chunks, was most of a round of two hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.sharing.field import Field
from p2pfl.sharing.peers import PeerView
from p2pfl.simulate import SimulatedFederation

FEW, MANY = 7, 21
LINEAR = 1.35 * MANY / FEW  # a margin for what begins and ends with a quorum


def counted(monkeypatch: pytest.MonkeyPatch, sites: int) -> Counter[str]:
    """Calls of one round, all sites together."""
    calls: Counter[str] = Counter()

    def count(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            calls[name] += 1
            return real(*given, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(codec, "read_facts", count("records read", codec.read_facts))
        patch.setattr(Field, "from_bytes", count("arrays of words", Field.from_bytes))
        patch.setattr(PeerView, "away", count("looks at a link", PeerView.away))
        federation = SimulatedFederation(sites, length=4 * sites, bits=31)
        federation.run()
    assert all(len(peer.disk.ledger) == 1 for peer in federation.peers.values())
    return calls


def test_what_a_site_does_in_a_round_grows_no_faster_than_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = counted(monkeypatch, FEW), counted(monkeypatch, MANY)
    assert few["arrays of words"] > FEW  # they are counted at all
    for what in few | many:
        assert many[what] / MANY <= LINEAR * max(few[what] / FEW, 1.0), what
