"""Metrics: what is counted, in the library's own format, on loopback alone, whoever asks slowly or too much."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2pfl.cli.metrics import MOST_CALLERS, Metrics, place_of
from p2pfl.errors.mesh import KeyNotListed, LinkFlooded
from p2pfl.errors.people import MetricsNotLocal, MetricsPortBusy
from p2pfl.federation import Federation
from p2pfl.mesh.events import Path
from p2pfl.mesh.relay import Carried
from p2pfl.node.progress import LinkRefused, PassCharged, PhaseEntered, RoundFinal, RuleBroken
from p2pfl.roster import Address
from tests.federation.sample import NAMES, peers_yaml
from tests.mesh.sites import free_address

FEDERATION = Federation.parse(peers_yaml())


def peer() -> Any:
    link = SimpleNamespace(
        state="up", bytes_sent=1200, bytes_received=3400, queued=5, rtt_s=0.02, path=Path("relay", NAMES[2])
    )
    away = SimpleNamespace(state="down", bytes_sent=0, bytes_received=0, queued=0, rtt_s=None, path=None)
    links = {NAMES[1]: link, NAMES[2]: away}
    node, carried = SimpleNamespace(epsilon="0.25"), Carried(7, 2, 9000)
    return SimpleNamespace(
        name=NAMES[0], links=lambda: links, node=node, federation=FEDERATION, carried=lambda: carried
    )


GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def asked(place: Address, request: bytes = GET) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(request)
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


def samples(body: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(body)
        for one in family.samples
    }


def test_what_happened_is_counted_and_read_by_the_librarys_parser() -> None:
    now = [100.0]
    metrics = Metrics(FEDERATION, now=lambda: now[0])
    metrics(PhaseEntered(round=3, attempt=1, phase="gather"))
    metrics(PassCharged(round=3, epsilon="0.75", limit="3.0"))
    metrics(LinkRefused(None, KeyNotListed(peer="a caller from 10.0.0.9", evidence="")))
    metrics(RuleBroken(NAMES[1], LinkFlooded(peer=NAMES[1], evidence=""), proof=""))
    metrics(RoundFinal(2, 9, NAMES, {}, {}, {}, seconds=1.0, bytes_sent=0, payload_bytes=0, taken_up=False))
    now[0] = 107.5

    async def scene() -> tuple[str, str]:
        async with metrics.serving(place := free_address(), peer()):
            return await asked(place)

    head, body = asyncio.run(scene())
    assert head.startswith("HTTP/1.0 200 OK\r\n")
    assert "\r\nContent-Type: text/plain; version=" in head
    found = samples(body)
    assert found[("p2pfl_epoch", ())] == 1
    assert (found[("p2pfl_round", ())], found[("p2pfl_attempt", ())]) == (2, 1)
    assert found[("p2pfl_phase", (("phase", "gather"),))] == 1
    assert found[("p2pfl_rounds_final_total", ())] == 1
    assert found[("p2pfl_last_final_round_seconds", ())] == 7.5
    assert (found[("p2pfl_epsilon_spent", ())], found[("p2pfl_epsilon_limit", ())]) == (0.75, 3.0)
    assert found[("p2pfl_refusals_total", (("code", "P2P-MESH-006"),))] == 1
    assert found[("p2pfl_breaches_total", (("code", "P2P-MESH-061"), ("peer", NAMES[1])))] == 1
    assert found[("p2pfl_link_up", (("peer", NAMES[1]),))] == 1
    assert found[("p2pfl_link_up", (("peer", NAMES[2]),))] == 0
    assert found[("p2pfl_link_relayed", (("peer", NAMES[1]),))] == 1
    assert found[("p2pfl_link_relayed", (("peer", NAMES[2]),))] == 0
    assert (found[("p2pfl_relay_calls", ())], found[("p2pfl_relay_bytes_total", ())]) == (2, 9000)
    assert found[("p2pfl_link_bytes_total", (("direction", "sent"), ("peer", NAMES[1])))] == 1200
    assert found[("p2pfl_link_round_trip_seconds", (("peer", NAMES[1]),))] == 0.02
    assert found[("process_resident_memory_bytes", ())] > 1 << 20
    assert {value for _, labels in found for label, value in labels if label == "peer"} <= set(NAMES)
    assert "10.0.0.9" not in body


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("9464", "127.0.0.1"),
        ("127.0.0.5:9464", "127.0.0.5"),
        ("[::1]:9464", "::1"),
    ],
)
def test_a_place_on_loopback_is_taken(text: str, host: str) -> None:
    assert place_of(text) == Address(host, 9464)


@pytest.mark.claim("CLI-3")
@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:9464",
        "[::]:9464",
        "10.0.0.1:9464",
        "mayo.example:9464",
        "localhost:9464",
        "0",
        "70000",
        "x",
        "",
    ],
)
def test_any_other_place_is_refused_by_name(text: str) -> None:
    with pytest.raises(MetricsNotLocal):
        place_of(text)


def test_a_port_that_is_taken_is_named() -> None:
    async def scene() -> None:
        place = free_address()
        async with Metrics(FEDERATION).serving(place, peer()):
            with pytest.raises(MetricsPortBusy) as caught:
                async with Metrics(FEDERATION).serving(place, peer()):
                    pass
            assert str(place.port) in caught.value.happened

    asyncio.run(scene())


@pytest.mark.claim("CLI-3")
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n", "200"),
        (b"GET / HTTP/1.0\r\n\r\n", "200"),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", "200"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n", "403"),
        (b"GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "404"),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        (b"\x16\x03\x01\r\n\r\n", "404"),
    ],
)
def test_one_page_is_shown_and_to_names_of_this_machine_alone(request_: bytes, status: str) -> None:
    async def scene() -> str:
        async with Metrics(FEDERATION).serving(place := free_address(), peer()):
            return (await asked(place, request_))[0]

    assert asyncio.run(scene()).split()[1] == status


def test_callers_who_stall_or_say_too_much_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who say nothing, say too much or take nothing are let go."""
    monkeypatch.setattr("p2pfl.cli.metrics.PATIENCE_S", 0.3)

    async def scene() -> None:
        metrics = Metrics(FEDERATION)
        async with metrics.serving(place := free_address(), peer()):
            crowd = [await asyncio.open_connection(place.host, place.port) for _ in range(MOST_CALLERS)]
            reader, _ = late = await asyncio.open_connection(place.host, place.port)
            assert await ended(reader), "one too many is closed at once"
            for each, _ in crowd:
                assert await ended(each)
            reader, writer = await asyncio.open_connection(place.host, place.port)
            writer.write(b"GET /" + b"x" * 100_000)
            assert await ended(reader)
            reader, writer = await asyncio.open_connection(place.host, place.port)
            gone = asyncio.ensure_future(ended(reader))
            for each in b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1":  # never quite silent, and never done
                writer.write(bytes([each]))
                if (await asyncio.wait({gone}, timeout=0.1))[0]:
                    break
            assert gone.done(), "one that trickles is let go as well"
            assert await gone
            reader, writer = await asyncio.open_connection(place.host, place.port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")  # and its answer is never read
            monkeypatch.setattr("p2pfl.cli.metrics.PATIENCE_S", 60.0)  # this caller may be slow
            assert (await asked(place))[0].startswith("HTTP/1.0 200")
            del late

    async def ended(reader: asyncio.StreamReader) -> bool:
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True

    asyncio.run(scene())
