"""The harness itself: what it makes is removed after a failure and after a kill; what is cut is cut."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from benchmarks._links import LinksUnavailable, Network, address_of, network
from tests.end_to_end.processes import PATIENCE_S, ROOT

DIES = """
import subprocess, sys
from benchmarks._links import network
with network(1) as net:
    program = [*net.places[0].prefix, "sh", "-c", "echo here; exec sleep 1000"]
    inside = subprocess.Popen(program, stdout=subprocess.PIPE)
    inside.stdout.readline()
    print(net.hub, inside.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def two() -> Iterator[Network]:
    try:
        with network(2) as net:
            yield net
    except LinksUnavailable as reason:
        pytest.skip(f"network namespaces cannot be made here: {reason}")


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def reaches(net: Network, source: int, target: int) -> bool:
    """A packet from one place arrives at another, and the answer comes back."""
    from_there = [*net.places[source].prefix, sys.executable, "-c", CALL, address_of(target)]
    return subprocess.run(from_there, check=False, timeout=PATIENCE_S).returncode == 0


# A port that nobody listens on refuses: that is an answer. Whoever is not reached gives none.
CALL = """
import socket, sys
caller = socket.socket()
caller.settimeout(1.0)
try:
    caller.connect((sys.argv[1], 9))
except ConnectionRefusedError:
    sys.exit(0)
except OSError:
    sys.exit(1)
"""


# A place calls itself, and the call comes about.
WITHIN = """
import socket
with socket.create_server(("127.0.0.1", 20001)) as door, socket.create_connection(door.getsockname(), 10):
    door.accept()
"""


def test_a_network_is_gone_after_a_failure_inside_it(two: Network) -> None:
    with pytest.raises(KeyError), network(1) as inner:
        assert inner.hub in namespaces()
        raise KeyError
    assert inner.hub not in namespaces()


def test_what_a_killed_process_left_is_removed_by_the_next(two: Network) -> None:
    """With the programs that run in it."""
    dying = subprocess.Popen(
        [sys.executable, "-c", DIES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert dying.stdout is not None
    hub, program = dying.stdout.readline().split()
    inside = hub.replace("-hub", "-0")
    assert program in subprocess.run(["ip", "netns", "pids", inside], capture_output=True, text=True).stdout.split()
    running = os.pidfd_open(int(program))
    dying.kill()
    dying.wait()
    with network(1):
        left = namespaces()
    assert hub not in left and inside not in left
    assert select.select([running], [], [], 60) == ([running], [], [])  # it has ended
    os.close(running)


def test_a_place_that_is_cut_is_reached_by_nobody_until_it_is_mended(two: Network) -> None:
    assert reaches(two, 0, 1)
    two.cut(1)
    assert not reaches(two, 0, 1)
    assert not reaches(two, 1, 0)
    two.mend(1)
    assert reaches(two, 0, 1)


def test_two_places_that_are_kept_apart_reach_each_other_again_afterwards(two: Network) -> None:
    two.keep_apart(0, 1)
    assert not reaches(two, 0, 1)
    two.keep_apart(0, 1, apart=False)
    assert reaches(two, 0, 1)


def test_what_is_said_to_a_deaf_place_goes_astray(two: Network) -> None:
    two.deafen(1, to=0)
    assert not reaches(two, 0, 1)
    assert not reaches(two, 1, 0)  # the answer goes astray
    two.hear(1, to=0)
    assert reaches(two, 0, 1)


@pytest.mark.parametrize("shut", [Network.close_door, Network.answer_nobody], ids=["nftables", "routes"])
def test_a_place_that_refuses_callers_may_call_others_and_itself(
    two: Network, shut: Callable[[Network, int], None]
) -> None:
    try:
        shut(two, 1)
    except LinksUnavailable as reason:
        if shut is Network.answer_nobody:  # it needs no more than what made the places
            raise
        pytest.skip(f"no firewall can be set here: {reason}")
    assert not reaches(two, 0, 1)
    assert reaches(two, 1, 0)
    within = [*two.places[1].prefix, sys.executable, "-c", WITHIN]
    assert subprocess.run(within, check=False, timeout=PATIENCE_S).returncode == 0


def test_without_nftables_the_routes_refuse_callers(two: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Network, number: int) -> None:
        raise LinksUnavailable("nft: No such file or directory")

    monkeypatch.setattr(Network, "close_door", missing)
    two.refuse_callers(1)
    assert not reaches(two, 0, 1)
    assert reaches(two, 1, 0)
