"""Two doctors try the way through a third site: TLS from end to end, both ways, and nobody who did not ask."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from p2pfl.clocks import Clocks
from p2pfl.errors.mesh import HandshakeUnfinished, MalformedStream
from p2pfl.errors.paths import RelayUnfaithful
from p2pfl.keys import Identity
from p2pfl.mesh import LinkClosed
from p2pfl.mesh.events import Limits, Path
from p2pfl.mesh.probe import relay_probe, wire
from p2pfl.mesh.probe import server as probe_server
from p2pfl.mesh.probe.diagnose import Doctor, judge_relays
from p2pfl.mesh.probe.diagnosis import Diagnosis
from p2pfl.mesh.probe.doctor_port import DoctorPort
from p2pfl.mesh.probe.relay_probe import RelayProbe
from p2pfl.mesh.probe.rendezvous import (
    MOST_REQUESTS,
    CallRequest,
    Rendezvous,
    decode_granted,
    decode_requests,
    encode_requests,
)
from p2pfl.mesh.probe.wire import DOCTOR, About
from p2pfl.mesh.relay import YOU_ARE_CALLED, YOU_CALLED, RelayServer
from p2pfl.mesh.relay_client import RelayTicket
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address, Roster
from tests.mesh.doctors import BRISK, PEERS_FILE, doctor_ports, let_in, own_peers_file, site_of
from tests.mesh.relays import Middle, records
from tests.mesh.sites import OVERALL_S, Sites, running

TRIO = ("ada", "bob", "cyd")
APART = ("ada", "bob")  # neither has a port; cyd has


async def doctor(
    sites: Sites,
    name: str,
    roster: Roster,
    *,
    wait_s: float = OVERALL_S,
    peers_file: bytes = PEERS_FILE,
    enough: Callable[[RelayProbe], bool] = lambda probe: False,
) -> dict[str, Diagnosis]:
    """What a doctor without a port finds, by peer. It waits for cyd, and tries the other's addresses once.

    wait_s   from when it has reached cyd
    enough   it has found what it is here for, and ends
    """
    one = site_of(sites, name, roster=roster)
    port, now = DoctorPort(one, About("0.1.0", peers_file, DOCTOR), admit=let_in), one.clocks.now
    examiner = Doctor(one, own_peers_file(peers_file), False, now() + OVERALL_S)
    found = await examiner.examine_all(["cyd"], lambda line: None)
    probe = RelayProbe(examiner, port.serve_member, now() + wait_s)
    probe.begin()
    try:
        others = [peer for peer in APART if peer != name]
        found += await replace(examiner, until=now()).examine_all(others, lambda line: None)
        finishes = asyncio.create_task(probe.finish())
        while not (finishes.done() or enough(probe)):
            await asyncio.wait([finishes], timeout=0.05)
        finishes.cancel()
    finally:
        await probe.close()
        await port.close()
    judge_relays(found, roster, name)
    return {one.peer: one for one in found}


def is_told_of_another_key(probe: RelayProbe) -> bool:
    return any(isinstance(error, RelayUnfaithful) for error in probe._failures.values())


def codes(one: Diagnosis) -> list[str]:
    return [error.code for error in one.errors]


@pytest.mark.claim("PROBE-3")
def test_two_sites_without_a_port_meet_at_a_third_whose_doctor_sees_tls_alone() -> None:
    async def scene() -> None:
        sites = Sites(*TRIO)
        roster = sites.unreached(*APART)
        async with doctor_ports(sites, "cyd", roster=roster) as (cyd,):
            middle = Middle(cyd)
            ada, bob = await asyncio.gather(*(doctor(sites, name, roster) for name in APART))
        for one in (ada["bob"], bob["ada"]):
            assert one.through is not None
            assert (one.through.via, one.through.there, one.through.back) == ("cyd", True, True)
            assert one.through.round_trip_s == one.round_trip_s
            assert (one.works, one.path, one.errors) == (True, Path("relay", "cyd"), [])
            assert one.tls is not None and one.tls.version == "TLSv1.3"
            assert one.facts is not None and one.facts.software == "0.1.0"
            assert "cyd carried it, tried with TLS from end to end: both ends called" in one.notes[-1]
        assert len(middle.carried) >= 4  # two calls, both directions of each
        assert all(set(records(stream)) <= {20, 22, 23} for stream in middle.carried)
        assert not any(b"0.1.0" in stream or PEERS_FILE in stream for stream in middle.carried)

    asyncio.run(scene())


@pytest.mark.claim("PROBE-3")
def test_a_third_that_is_at_work_carries_the_doctors_beside_the_link_of_the_same_two() -> None:
    async def scene() -> None:
        sites = Sites(*TRIO)
        roster = sites.unreached(*APART)
        meshes = [sites.mesh(name, roster=roster, listens=name == "cyd") for name in TRIO]
        async with running(*meshes) as (ada, bob, cyd):
            await ada.up("bob")
            await bob.up("ada")
            found = await asyncio.gather(*(doctor(sites, name, roster) for name in APART))
            assert found[0]["bob"].through is not None
            assert found[1]["ada"].through is not None
            await ada.mesh.send("bob", b"as before")
            assert await bob.payloads("ada", 1) == [b"as before"]
            assert not [event for event in ada.seen + bob.seen + cyd.seen if isinstance(event, LinkClosed)]

    asyncio.run(scene())


def test_a_third_stays_for_two_sites_whose_first_calls_did_not_come_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its doctor left when no ticket was good any more, before both had asked again."""
    redeem, failed = relay_probe.redeem, set[tuple[str, str]]()

    async def too_slow(site: LocalSite, ticket: RelayTicket, tunnels: set[Tunnel]) -> tuple[socket.socket, Address]:
        if len(failed) < 4 and (place := (site.name, ticket.ticket.hex())) not in failed:
            failed.add(place)
            raise HandshakeUnfinished(peer=ticket.relay, evidence="as on a machine that is busy")
        return await redeem(site, ticket, tunnels)

    async def stays(port: DoctorPort) -> None:
        while not failed or port.relay_needed:
            await asyncio.sleep(0.05)
        await port.close()

    async def scene() -> None:
        sites = Sites(*TRIO)
        roster = sites.unreached(*APART)
        async with doctor_ports(sites, "cyd", roster=roster, limits=replace(BRISK, relay_answer_s=1.0)) as (cyd,):
            third = asyncio.create_task(stays(cyd))
            ada, bob = await asyncio.gather(*(doctor(sites, name, roster) for name in APART))
            await third
        assert len(failed) == 4
        for one in (ada["bob"], bob["ada"]):
            assert one.through is not None
            assert (one.through.there, one.through.back) == (True, True)

    monkeypatch.setattr(relay_probe, "redeem", too_slow)
    asyncio.run(scene())


def test_an_address_that_lets_nobody_in_stays_a_finding() -> None:
    """The way around it is tried."""

    async def scene() -> None:
        sites = Sites(*TRIO)  # all list an address, and at those of ada and bob nobody listens
        async with doctor_ports(sites, "cyd"):
            ada, bob = await asyncio.gather(*(doctor(sites, name, sites.roster) for name in APART))
        for one in (ada["bob"], bob["ada"]):
            assert codes(one) == ["P2P-MESH-043"]
            assert (one.there, one.works, one.path) == ("no", True, Path("relay", "cyd"))
            assert "until that is mended" in one.notes[-1]

    asyncio.run(scene())


def test_what_could_not_be_tried_is_said_with_what_has_to_run_where() -> None:
    async def scene() -> None:
        sites = Sites(*TRIO)
        roster = sites.unreached(*APART)
        async with doctor_ports(sites, "cyd", roster=roster):
            ada = await doctor(sites, "ada", roster, wait_s=1.5)  # bob's doctor does not run
        assert ada["bob"].through is None
        assert (ada["bob"].path, ada["bob"].errors) == (Path("relay", "cyd"), [])
        assert "not tried: for it, p2pfl doctor --wait 60 has to run here and at bob" in ada["bob"].notes[-1]

    asyncio.run(scene())


def test_another_peers_yaml_at_the_far_end_is_found_through_the_third() -> None:
    async def scene() -> None:
        sites = Sites(*TRIO)
        roster = sites.unreached(*APART)
        async with doctor_ports(sites, "cyd", roster=roster):
            ada, _ = await asyncio.gather(
                doctor(sites, "ada", roster), doctor(sites, "bob", roster, peers_file=PEERS_FILE + b"more: 1\n")
            )
        assert codes(ada["bob"]) == ["P2P-ROUND-033"]
        assert ada["bob"].theirs == PEERS_FILE + b"more: 1\n"
        assert not ada["bob"].works

    asyncio.run(scene())


def test_whoever_has_another_key_than_the_listed_one_is_no_way_to_that_site() -> None:
    async def scene() -> None:
        sites = Sites(*TRIO)
        roster, other = sites.unreached(*APART), Identity.generate()
        mine = Roster(
            1,
            tuple(
                type(one)(one.name, other.key, one.addresses) if one.name == "bob" else one for one in roster.members
            ),
        )
        async with doctor_ports(sites, "cyd", roster=roster):
            theirs = asyncio.create_task(doctor(sites, "bob", roster))
            ada = await doctor(sites, "ada", mine, enough=is_told_of_another_key)
            theirs.cancel()
            await asyncio.wait([theirs])
        assert codes(ada["bob"]) == ["P2P-MESH-037"]  # what cyd carried is not bob's: cyd's fault, or the file's
        assert ada["bob"].through is None

    asyncio.run(scene())


def test_a_third_of_an_earlier_version_is_asked_once_and_the_way_stays_untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        probe_server.wire, "QUESTIONS", {kind: most for kind, most in wire.QUESTIONS.items() if kind != wire.MEET}
    )

    async def scene() -> None:
        sites = Sites(*TRIO)
        roster = sites.unreached(*APART)
        async with doctor_ports(sites, "cyd", roster=roster):
            ada, _ = await asyncio.gather(*(doctor(sites, name, roster, wait_s=3.0) for name in APART))
        assert (ada["bob"].through, ada["bob"].errors, ada["cyd"].errors) == (None, [], [])
        assert "not tried" in ada["bob"].notes[-1]

    asyncio.run(scene())


# ── rendezvous ────────────────────────────────────────────────────────────────────────────────────────────────


class Third:
    """cyd's rendezvous, on a clock of the test's."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.at, drawn = 100.0, iter(range(1, 1000))
        self.relay_server = RelayServer(
            limits or Limits(),
            lambda *_: False,
            Clocks(lambda: self.at, time.time, lambda count: bytes([next(drawn)]) * count),
        )
        self.rendezvous = Rendezvous(self.relay_server, TRIO, lambda: self.at)

    def asks(self, peer: str, *asked: tuple[str, int]) -> Sequence[CallRequest]:
        return self.rendezvous.grant(peer, [CallRequest(name, role) for name, role in asked])


def test_a_call_is_given_when_both_ends_asked_for_the_same_one() -> None:
    """Each gets the ticket once."""
    third = Third()
    assert not third.asks("ada", ("bob", YOU_CALLED))
    assert not third.asks("bob", ("ada", YOU_CALLED)), "that is another call"
    assert third.rendezvous.pending
    (his,) = third.asks("bob", ("ada", YOU_ARE_CALLED))
    (hers,) = third.asks("ada", ("bob", YOU_CALLED))
    assert (his.name, his.role, hers.name, hers.role) == ("ada", YOU_ARE_CALLED, "bob", YOU_CALLED)
    assert his.ticket == hers.ticket
    assert not third.asks("ada", ("bob", YOU_CALLED)), "a second one needs both again"
    assert len(third.relay_server) == 1


@pytest.mark.claim("PROBE-3")
def test_a_request_of_long_ago_carries_nobody_to_anyone() -> None:
    third = Third()
    third.asks("ada", ("bob", YOU_CALLED))
    third.at += 4
    assert not third.rendezvous.pending
    assert not third.asks("bob", ("ada", YOU_ARE_CALLED))


def test_strangers_and_oneself_are_nobody_to_be_carried_to() -> None:
    third = Third()
    for name in ("eve", "ada"):
        third.asks(name, ("ada", YOU_ARE_CALLED))
        assert not third.asks("ada", (name, YOU_CALLED))
    assert not len(third.relay_server)


def test_a_relay_that_carries_as_much_as_it_may_gives_no_ticket() -> None:
    third = Third(Limits(relay_calls=0))
    third.asks("ada", ("bob", YOU_CALLED))
    assert not third.asks("bob", ("ada", YOU_ARE_CALLED))


def test_requests_and_tickets_come_back_as_they_were_and_nothing_else_does() -> None:
    asked = [CallRequest("bob", YOU_CALLED), CallRequest("a-hospital", YOU_ARE_CALLED)]
    assert decode_requests("ada", encode_requests(asked)) == asked
    given = [CallRequest("bob", YOU_CALLED, bytes(range(16)))]
    assert decode_granted("ada", encode_requests(given)) == given
    assert decode_granted("ada", b"") == []
    for body in (
        b"\x02\x03bob",
        b"\x00\x04bob",
        b"\x00\x03BOB",
        b"\x00",
        b"\x00\x00",
        encode_requests(asked)[:-1],
        encode_requests([asked[0]] * (MOST_REQUESTS + 1)),
    ):
        with pytest.raises(MalformedStream):
            decode_requests("ada", body)
    with pytest.raises(MalformedStream):
        decode_granted("ada", encode_requests(given)[:-1])
    assert len(encode_requests([CallRequest("n" * 31, 0)] * MOST_REQUESTS)) <= wire.MEET_BYTES
    assert len(encode_requests([CallRequest("n" * 31, 0, bytes(16))] * MOST_REQUESTS)) <= wire.MET_BYTES


def test_an_appointment_that_nobody_keeps_is_forgotten() -> None:
    third = Third()
    third.asks("ada", ("bob", YOU_CALLED))
    assert third.asks("bob", ("ada", YOU_ARE_CALLED))
    third.at += 9
    assert not third.asks("ada", ("bob", YOU_CALLED)), "its ticket is of no use any more"
    assert third.asks("bob", ("ada", YOU_ARE_CALLED))
    assert len(third.relay_server) == 1


def third_port(at: list[float]) -> tuple[LocalSite, DoctorPort]:
    """cyd's doctor, at a time of the test's."""
    sites = Sites(*TRIO)
    clocks = Clocks(lambda: at[0], time.time, os.urandom)
    site = LocalSite.of(sites.identities["cyd"], "cyd", sites.unreached(*APART), clocks)
    return site, DoctorPort(site, About("0", PEERS_FILE, DOCTOR), let_in)


def test_a_third_stays_for_as_long_as_a_site_may_take_to_come_back_to_it() -> None:
    """Over a satellite that is more than 3 s: it had left before the two could ask for a call."""
    at = [100.0]
    site, third = third_port(at)
    third._last_probe = at[0]
    at[0] += site.limits.handshake_s - 1
    assert third.relay_needed
    at[0] += 2
    assert not third.relay_needed


def test_a_call_that_nobody_came_to_keeps_no_doctor_waiting() -> None:
    """Both ends had its ticket, and one of them died or was too slow: the third would wait for all of --wait."""
    at = [100.0]
    site, third = third_port(at)
    assert not third.relay_needed
    assert third.relay_server.issue_probe_ticket(*APART)
    assert third.relay_needed
    at[0] += site.limits.relay_answer_s + 1
    assert not third.relay_needed
