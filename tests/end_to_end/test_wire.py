"""What passes between real sites, recorded on loopback; and links that are cut, stopped and shouted at in mid-round."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.checks import check_everything
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Process, Sites, of
from tests.end_to_end.proxies import Proxy

HANDSHAKE, ALERT, CHANGE_CIPHER, APPLICATION = 22, 21, 20, 23
MARKER = 7_130_531_927_040_161  # a value that no other bytes of a run hold by chance


@pytest.fixture
def proxies() -> Iterator[dict[str, Proxy]]:
    made: dict[str, Proxy] = {}
    yield made
    for proxy in made.values():
        proxy.close()


def doors(proxies: dict[str, Proxy], cuts: dict[str, list[int]] | None = None) -> Callable[[str, int], int]:
    """Lists each site under the port of a proxy of its own."""

    def door(name: str, port: int) -> int:
        proxies[name] = Proxy(port, (cuts or {}).get(name, ()))
        return proxies[name].port

    return door


def start(sites: Sites, do: list[dict[str, object]], of_cyd: Mapping[str, Any] = MappingProxyType({})) -> list[Process]:
    """All sites, each listening on its own port behind its proxy; `of_cyd`: what only the third one's plan holds."""
    plans = {name: of_cyd if name == "cyd" else {} for name in sites.names}
    return [sites.site(name, do, listen=f"127.0.0.1:{sites[name].port}", **plans[name]) for name in sites.names]


def records(stream: bytes) -> list[tuple[int, int, bytes]]:
    """(type, version, body) of each TLS record; fails on anything that is not one."""
    found, at = [], 0
    while at + 5 <= len(stream):
        kind, version, size = stream[at], int.from_bytes(stream[at + 1 : at + 3], "big"), stream[at + 3 : at + 5]
        length = int.from_bytes(size, "big")
        assert kind in (HANDSHAKE, ALERT, CHANGE_CIPHER, APPLICATION), f"byte {at}: record type {kind}"
        assert version in (0x0301, 0x0303), f"byte {at}: record version {version:#x}"
        assert length <= (1 << 14) + 256, f"byte {at}: a record of {length} bytes"
        found.append((kind, version, stream[at + 5 : at + 5 + length]))
        at += 5 + length
    return found


def server_versions(found: list[tuple[int, int, bytes]]) -> bool:
    """The ServerHello's supported_versions extension says TLS 1.3."""
    says = b"\x00\x2b\x00\x02\x03\x04"
    return any(kind == HANDSHAKE and body[:1] == b"\x02" and says in body for kind, _, body in found)


def test_only_tls_13_records_pass_between_sites(make: MakeSites, proxies: dict[str, Proxy]) -> None:
    """No value, name or message is readable in them."""
    sites = make(3, "rounds=1", "privacy.steps_per_round=10", doors=doors(proxies))
    do = [{"sum": [MARKER] * 64, "limit": 1 << 56, "name": "secretquestion"}, {"train": 1}]
    for process in start(sites, do):
        ended = process.end()
        assert ended.status == 0, ended.text
        assert ended.facts["given"][0]["total"][0] == str(3 * MARKER)
    streams = [bytes(one) for proxy in proxies.values() for one in proxy.recorded if one]
    assert sum(map(len, streams)) > 30_000
    with_hello = 0
    for stream in streams:
        found = records(stream)
        with_hello += server_versions(found)
        plain = b"".join(body for kind, _, body in found if kind == HANDSHAKE)
        # In TLS 1.3 only the two hellos are in the clear; certificates, and so names, come encrypted.
        assert sum(kind == HANDSHAKE for kind, _, _ in found) <= 2
        for name in sites.names:  # as a certificate and as a server name would hold it
            assert not any(mark + bytes([len(name)]) + name.encode() in plain for mark in (b"\x0c", b"\x13", b"\0\0"))
    assert with_hello >= 3
    secrets = [MARKER.to_bytes(8, order) for order in ("little", "big")]
    everything = b"".join(streams)
    for mark in (*secrets, str(MARKER).encode(), b"secretquestion", b"p2pfl/1/", b"ROUTER", b"READY", b"survivors"):
        assert mark not in everything


def test_a_round_survives_links_that_are_cut_at_any_byte(make: MakeSites, proxies: dict[str, Proxy]) -> None:
    drawn = random.Random(20)
    cuts = {name: [drawn.randrange(1, 300_000) for _ in range(6)] for name in ("ada", "ben", "cyd")}
    sites = make(3, doors=doors(proxies, cuts))
    done = [process.end() for process in start(sites, [{"sum": [1, 2, 3, 4], "times": 15_000}])]
    assert [one.status for one in done] == [0, 0, 0], done[0].text
    for one in done:
        assert one.facts["given"][0]["total"] == ["3", "6", "9", "12"] * 15_000
    assert sum(proxy.cut_off for proxy in proxies.values()) >= 3
    check_everything(sites, rounds=0, sums=1)


def test_a_site_that_loses_its_network_is_named_and_nothing_is_lost(make: MakeSites, proxies: dict[str, Proxy]) -> None:
    """In the middle of a round."""
    sites = make(3, "rounds=2", "privacy.steps_per_round=10", doors=doors(proxies))
    stops = {"die": {"told": {"event": "phase", "phase": "propose"}}, "signal": "SIGSTOP"}
    ada, ben, cyd = start(sites, [{"train": 2}], of_cyd=stops)
    cyd.stopped()
    for proxy in proxies.values():
        proxy.cut()
    cyd.wake()
    for process in (ada, ben):
        process.event("waiting", silent=of("cyd"))
    for proxy in proxies.values():
        proxy.mend()
    assert [process.end().status for process in (ada, ben, cyd)] == [0, 0, 0]
    check_everything(sites, rounds=2, sums=0)


def test_a_site_that_sleeps_past_a_deadline_wakes_into_the_next_attempt(make: MakeSites) -> None:
    sites = make(3, "rounds=2", "privacy.steps_per_round=10")
    in_u = {"event": "phase", "phase": "mask"}  # it is in U, and owes its chunks
    sleeps = {"die": {"told": in_u}, "signal": "SIGSTOP"}
    ada, ben, cyd = (sites.site(name, [{"train": 2}], **(sleeps if name == "cyd" else {})) for name in sites.names)
    ada.event("abandoned", waited_for=of("cyd"))
    ada.event("waiting", missing=of("cyd"))
    cyd.wake()
    assert [process.end().status for process in (ada, ben, cyd)] == [0, 0, 0], cyd.tail
    check_everything(sites, rounds=2, sums=0)


def test_noise_http_and_silent_callers_at_the_port_disturb_no_round(make: MakeSites) -> None:
    sites = make(3)
    do = [{"sum": [number], "name": "calm"} for number in range(4)]
    started = [sites.site(name, do) for name in sites.names]
    started[0].event("listening")
    port, held = sites["ada"].port, []
    noise = np.random.default_rng(1).bytes(5000)
    try:
        http, half_hello = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"
        for shout in (b"", http, noise, half_hello, b"SSH-2.0-x\r\n") * 30:
            caller = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
            caller.sendall(shout)
            held.append(caller)
        assert [process.end().status for process in started] == [0, 0, 0]
    except ConnectionError:
        assert [process.end().status for process in started] == [0, 0, 0]
    finally:
        for caller in held:
            caller.close()
    check_everything(sites, rounds=0, sums=4)
