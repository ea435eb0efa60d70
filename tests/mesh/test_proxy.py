"""Out through an HTTP proxy: TLS ends at the peer, the proxy resolves names, and each of its refusals has a name."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.errors.paths import WrongProxy
from p2pfl.mesh.proxy import ANSWER_BYTES, Proxy, password_from
from p2pfl.roster import Address
from tests.mesh.connect_proxy import ConnectProxy
from tests.mesh.sites import QUICK, Sites, free_address, running

OUTSIDE = Address("bob.hospital.example", 7443)  # a name that no name service has


def behind(says: bytes | None = None, password: str = "") -> tuple[Sites, ConnectProxy]:
    sites = Sites("ada", "bob", "cyd")
    return sites, ConnectProxy({str(OUTSIDE): sites.addresses["bob"]}, password, says)


@pytest.mark.claim("NET-11")
def test_a_proxy_resolves_the_peers_name_and_tls_ends_at_the_peer() -> None:
    """Only the proxy resolves the name."""

    async def scene() -> None:
        sites, http = behind()
        ada = sites.mesh("ada", roster=sites.reached_at("bob", OUTSIDE), listens=False, proxy=http.proxy())
        bob = sites.mesh("bob", roster=sites.reached_at("ada", None))
        async with http.running(), running(ada, bob) as (one, two):
            marker = b"PATIENT ZERO" * 20_000
            await ada.send("bob", marker)
            await bob.send("ada", marker)
            assert await two.payloads("ada", 1) == await one.payloads("bob", 1) == [marker]
            path = ada.links()["bob"].path
            assert path is not None
            assert (path.kind, path.via) == ("proxy", str(OUTSIDE))
            assert str(OUTSIDE) in http.asked
            assert len(http.captured) > 2 * len(marker)
            assert b"PATIENT" not in http.captured

    asyncio.run(scene())


def test_a_proxy_gets_its_password_and_says_407_without_it() -> None:
    """It says 407 to a wrong one too."""

    async def scene() -> None:
        sites, http = behind(password="ada:p@ss word")
        roster = sites.reached_at("bob", OUTSIDE)
        async with http.running(), running(sites.mesh("bob", roster=sites.reached_at("ada", None))):
            for credentials in ("", "ada:guess"):
                proxy = http.proxy(credentials)
                async with running(sites.mesh("ada", roster=roster, listens=False, proxy=proxy)) as (refused,):
                    said = (await refused.refusal("P2P-MESH-031")).error.render()
                    assert "407" in said
                    assert "guess" not in said
            proxy = http.proxy("ada:p%40ss%20word")
            async with running(sites.mesh("ada", roster=roster, listens=False, proxy=proxy)) as (one,):
                await one.up("bob")

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("says", "code", "evidence"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "P2P-MESH-032", "403 Forbidden"),
        (b"HTTP/1.0 405 Method Not Allowed\r\n\r\n", "P2P-MESH-032", "405"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "P2P-MESH-034", "'SSH-2.0-OpenSSH_'"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 2_000, "P2P-MESH-034", "no end of a header"),
        (b"HTTP/1.1 OK\r\n\r\n", "P2P-MESH-034", "no status line"),
        (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03", "P2P-MESH-034", "it speaks before this site has"),
        (b"", "P2P-MESH-034", "it closed the connection after 0 bytes"),
    ],
)
def test_what_a_proxy_may_answer_is_told_by_name(says: bytes, code: str, evidence: str) -> None:
    async def scene() -> None:
        sites, http = behind(says)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", OUTSIDE), listens=False, proxy=http.proxy())
        async with http.running(), running(ada) as (one,):
            assert evidence in (await one.refusal(code)).error.evidence

    assert ANSWER_BYTES < 2_000 * 18
    asyncio.run(scene())


def test_a_proxy_that_is_silent_or_absent_is_no_way() -> None:
    """A silent one is no proxy; one that is not there is unreachable."""

    async def scene() -> None:
        sites, http = behind()
        roster = sites.reached_at("bob", OUTSIDE)
        where = free_address()
        silent = await asyncio.start_server(lambda reader, writer: None, where.host, where.port)
        hasty = replace(QUICK, handshake_s=0.2)
        async with silent:
            ada = sites.mesh("ada", roster=roster, listens=False, proxy=Proxy(where), limits=hasty)
            async with running(ada) as (one,):
                assert "no answer within" in (await one.refusal("P2P-MESH-034")).error.evidence
        async with running(sites.mesh("ada", roster=roster, listens=False, proxy=http.proxy())) as (one,):
            await one.refusal("P2P-MESH-030")

    asyncio.run(scene())


def test_a_peer_whom_the_proxy_does_not_reach_is_as_one_that_is_not_started() -> None:
    async def scene() -> None:
        sites, http = behind()
        elsewhere = sites.reached_at("bob", Address("nowhere.example", 7443))
        async with (
            http.running(),
            running(sites.mesh("ada", roster=elsewhere, listens=False, proxy=http.proxy())) as (one,),
        ):
            await http.until(lambda: http.asked.count("nowhere.example:7443") > 1)
            error = one.mesh.links()["bob"].last_error
            assert error is not None
            assert error.code == "P2P-MESH-033"
            assert "502" in error.evidence
            assert one.told == []

    asyncio.run(scene())


@pytest.mark.parametrize(
    "text",
    [
        "proxy.example:3128",
        "https://proxy.example:3128",
        "http://proxy.example",
        "http://proxy.example:port",
        "http://proxy.example:3128/path",
        "socks5://proxy.example:1080",
        "http://:3128",
    ],
)
def test_what_names_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(WrongProxy):
        Proxy.parse(text)


@pytest.mark.claim("CLI-1", "NET-11")
def test_a_password_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(WrongProxy) as refused:
        Proxy.parse("http://ada:hush@proxy.example:3128", argument=True)
    assert "hush" not in refused.value.render()
    assert "a name and a password stand in it" in refused.value.evidence
    with pytest.raises(WrongProxy) as refused:
        Proxy.parse("http://ada:hu@sh:3128:x")
    assert "sh:3128" not in refused.value.render()


@pytest.mark.claim("NET-11")
def test_a_password_is_read_from_a_file_that_nobody_else_can_read_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("ada:hush\n")
    file.chmod(0o600)
    secret = password_from(file)
    proxy = Proxy.parse("http://proxy.example:3128", secret)
    assert secret.reveal() == b"ada:hush"
    assert "hush" not in f"{proxy!r} {proxy}"
    file.chmod(0o640)
    with pytest.raises(WrongProxy):
        password_from(file)
    file.write_text("hush")
    file.chmod(0o600)
    with pytest.raises(WrongProxy):
        password_from(file)
