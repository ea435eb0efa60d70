"""What a stranger sees who records every packet at a site: TLS 1.3, from the first byte to the last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.network.capture import NotTls, read_as_tls, recorded, streams
from tests.network.namespaces import ended_well, placed

Played = Callable[[Callable[[Path], None]], None]
FLOW = ("10.0.0.1", 1, "10.0.0.2", 2)


def a_sum_seen(place: Path) -> None:
    """Four sites; the packets of one, while they sum."""
    with placed(place, 4) as (net, sites):
        with recorded(net.places[0], place / "packets"):
            for name in sites.names:
                sites.site(name, [{"sum": [1], "times": 50_000, "brief": True, "name": "count"}])
            ended_well(sites)
        found = streams(place / "packets")
        assert read_as_tls(found) >= 3  # connections, one with each other site
        assert sum(map(len, found.values())) > 8 * 50_000


@pytest.mark.claim("NET-5")
@pytest.mark.parametrize("scene", [a_sum_seen], ids=["at a site"])
def test_every_byte_of_every_packet_of_a_site_is_of_a_tls_13_session(scene: Any, played: Played) -> None:
    played(scene)


def hello(*extensions: bytes) -> bytes:
    """A ServerHello as a record: version 1.2 in its head, as every one has, and these extensions."""
    listed = b"".join(extensions)
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x13\x02" + b"\x00" + len(listed).to_bytes(2, "big") + listed
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return record(22, message)


def record(kind: int, body: bytes, version: bytes = b"\x03\x03") -> bytes:
    return bytes([kind]) + version + len(body).to_bytes(2, "big") + body


CHOOSES_1_3 = b"\x00\x2b\x00\x02\x03\x04"


def test_the_check_passes_a_session_of_tls_13() -> None:
    assert read_as_tls({FLOW: hello(CHOOSES_1_3) + record(20, b"\x01") + record(23, bytes(99))}) == 1


@pytest.mark.claim("NET-5")
@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        hello(),
        hello(b"\x00\x2b\x00\x02\x03\x03"),
        hello(CHOOSES_1_3) + b"plain text",
        hello(CHOOSES_1_3) + record(23, b"x", b"\x03\x01"),
        hello(CHOOSES_1_3) + record(22, b"\x0b\x00\x00\x01x"),
        record(23, b"no hello"),
    ],
    ids=["http", "TLS 1.2", "1.2 by extension", "text behind", "old records", "a certificate", "no hello"],
)
def test_the_check_fails_on_what_is_anything_else(stream: bytes) -> None:
    with pytest.raises(NotTls):
        read_as_tls({FLOW: stream})
