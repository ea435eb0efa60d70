"""Which round is the last of its epoch: more of its members must hold the change than may lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.messages import Propose
from p2pfl.roster import Member, Roster
from p2pfl.sharing.record import announced
from p2pfl.simulate import SimulatedFederation
from tests.sharing.letters import RUN

ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


def roster(n: int) -> Roster:
    return Roster(1, tuple(Member(f"site-{k}", bytes([k]) * 32) for k in range(n)))


def said(*changes: bytes) -> list[Propose]:
    plain = Propose(RUN, 0, bytes(32), RUN, b"{}", b"", 1000, 0, "0.1", RUN, b"")
    return [replace(plain, change=change) for change in changes]


@pytest.mark.claim("MEMBER-8")
@pytest.mark.parametrize("n", [3, 4, 5, 7, 10, 20])
def test_the_last_round_of_an_epoch_is_what_more_members_say_than_may_lie(n: int) -> None:
    c = roster(n).quorums.c
    rest = [b""] * (n - c)
    assert announced(said(*[ONE] * c, *rest), roster(n)) == b""  # liars may make one up
    assert announced(said(*[ONE] * (c + 1), *rest[1:]), roster(n)) == ONE
    assert announced(said(*[OTHER] * c, *[ONE] * (n - c)), roster(n)) == ONE


def test_a_round_in_which_nobody_says_so_has_a_record_without_that_field() -> None:
    assert announced(said(b"", b"", b""), roster(3)) == b""
    federation = SimulatedFederation(3, length=5)
    federation.run()
    assert all(b"announced" not in peer.disk.ledger[0] for peer in federation.peers.values())
