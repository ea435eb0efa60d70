"""`peer.mean`: what a site notes of it says nothing of its weight; what was kept is not summed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfl.codec import read_facts
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import LimitMissing
from p2pfl.errors.sharing import ValueOverLimit
from p2pfl.peer.blocking import BlockingPeer
from tests.federation.sample import TASK
from tests.peer.sites import NAMES, Sites


def asked(weight: int) -> Callable[[BlockingPeer], tuple[float, int]]:
    """The mean, and how many entries the site's log has of it."""

    def ask(peer: BlockingPeer) -> tuple[float, int]:
        mean = float(peer.mean([3.0], weight=weight, limit=10.0)[0])
        entries = [read_facts(entry.record) for entry in peer.peer.node.logs.site.records()]
        return mean, sum(facts["kind"] == "query" for facts in entries)

    return ask


def test_a_site_notes_as_much_of_a_mean_whatever_its_weight(tmp_path: Path) -> None:
    """Every peer is told how long the log of every other one is."""
    found = Sites(tmp_path, TASK).all({name: asked(weight) for name, weight in zip(NAMES, (1, 1, 2), strict=True)})
    assert found == dict.fromkeys(NAMES, (pytest.approx(3.0, abs=1e-4), 2))


def test_a_mean_that_nobody_was_told_is_given_again_without_a_round(tmp_path: Path) -> None:
    """Neither of the two that it takes: sites are not counted again for what is known."""

    def ask(peer: BlockingPeer) -> tuple[float, int]:
        mean = float(peer.mean([3.0], weight=2, limit=10.0)[0])
        peer.peer.keep_answer()
        return mean, len(peer.peer.node.logs.federation)

    sites = Sites(tmp_path, TASK)
    first = sites.all(dict.fromkeys(NAMES, ask))
    assert first == dict.fromkeys(NAMES, (pytest.approx(3.0, abs=1e-4), 3))  # the genesis, a count, the mean
    assert sites.all(dict.fromkeys(NAMES, ask)) == first


@pytest.mark.parametrize(("limit", "error"), [(None, LimitMissing), (2.0, ValueOverLimit)])
def test_numbers_that_cannot_be_sent_are_refused_before_sites_are_counted(
    tmp_path: Path, limit: float | None, error: type[P2PFLError]
) -> None:
    def ask(peer: BlockingPeer, call: Callable[[BlockingPeer], Any]) -> int:
        with pytest.raises(error):
            call(peer)
        return sum(read_facts(entry.record)["kind"] == "round" for entry in peer.peer.node.logs.federation.records())

    def both(peer: BlockingPeer) -> tuple[int, int]:
        mean = ask(peer, lambda peer: peer.mean([3.0], limit=limit))
        return mean, ask(peer, lambda peer: peer.sum([3.0], limit=limit, records=9))

    assert Sites(tmp_path, TASK).all(dict.fromkeys(NAMES, both)) == dict.fromkeys(NAMES, (0, 0))
