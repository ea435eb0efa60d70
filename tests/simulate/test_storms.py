"""Many schedules of letters, deaths, returns and partitions: right or none, and right once all can talk."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from p2pfl.simulate import SimulatedFederation
from tests.examples import seeds
from tests.simulate.storms import WEATHERS, sweep, weathered

pytestmark = pytest.mark.usefixtures("letters_read_once")

MANY = {(3, 1): 100, (3, 2): 50, (4, 1): 50, (4, 2): 25, (5, 2): 25}  # (peers, rounds): seeds under each weather
FEW = {(3, 5): 4, (4, 4): 4, (5, 3): 4, (6, 1): 6, (6, 2): 4, (7, 1): 6, (7, 2): 4, (10, 1): 1}


@pytest.mark.claim("LIVE-1")
@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize(("peers", "rounds"), MANY)
def test_a_round_is_right_or_none_in_any_storm(peers: int, rounds: int, weather: str) -> None:
    """Whatever the order of letters, deaths and partitions."""
    sweep(peers, seeds(MANY[(peers, rounds)]), weather, rounds)


@pytest.mark.claim("LIVE-1")
@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize(("peers", "rounds"), FEW)
def test_larger_federations_and_more_models_in_a_row(peers: int, rounds: int, weather: str) -> None:
    sweep(peers, seeds(FEW[(peers, rounds)]), weather, rounds)


def test_these_weathers_hold_what_they_are_for() -> None:
    """Abandoned attempts, a U without somebody, backups, rounds left behind, sums fetched, rounds adopted by record."""
    seen: set[str] = set()
    for weather in WEATHERS:
        for federation in sweep(4, range(1000, 1003), weather):
            seen |= {type(letter.message).__name__ for _, letter in federation.log}
            seen |= {"left" for peer in federation.peers.values() if peer.left}
            seen |= {"adopted" for peer in federation.peers.values() if () in peer.disk.totals}
            seen |= {type(note).__name__ for peer in federation.peers.values() for note in peer.disk.notes}
            seen |= {
                "left out"
                for peer in federation.peers.values()
                for record in peer.disk.ledger
                if b'"left_out":[]' not in record
            }
    wanted = {"BackupShare", "Held", "Handed", "Leave", "Want", "Total", "Entries"}
    wanted |= {"left", "adopted", "NoteAbandoned", "left out"}
    assert wanted <= seen, wanted - seen


# ── the same seed, the same schedule ──────────────────────────────────────────────────────────────────────────


def told(federation: SimulatedFederation) -> str:
    """A digest over everything that was said, to whom, in order."""
    state = hashlib.sha256()
    for to, letter in federation.log:
        state.update(f"{to} {letter.sender}".encode() + letter.signed + letter.signature)
    return state.hexdigest()


ONCE_MORE = """
from p2pfl.sharing import chunks
from tests.sharing.owners import EACH
chunks.LEAST_BYTES = EACH  # as in the process that compares
from tests.simulate.storms import weathered
from tests.simulate.test_storms import told
print(*(told(weathered(4, seed, weather)) for seed in (3, 4) for weather in ("storm", "hours")))
"""


def test_a_seed_gives_the_same_schedule_in_every_process_whatever_its_hash_seed() -> None:
    runs = []
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", ONCE_MORE]
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        runs.append(ran.stdout.split())
    assert runs[0] == runs[1] == runs[2]
    assert len(set(runs[0])) == 4
    assert runs[0][0] == told(weathered(4, 3, "storm"))
