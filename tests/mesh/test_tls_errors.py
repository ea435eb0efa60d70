"""A caller that is no member on our terms is refused, and the end that can know the reason names it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors.home import DiskFull
from p2pfl.errors.mesh import KeyNotListed
from p2pfl.keys import Identity
from p2pfl.mesh import Refused, certificates
from p2pfl.mesh.certificates import ALPN, Leaf, build_context, issue, key_name
from p2pfl.roster import Address, Member, Roster
from tests.mesh.sites import OVERALL_S, Greetings, Sites, free_address, running

DAY_S = 86400.0


def call(
    address: Address, context: ssl.SSLContext | None, *, say: bytes = b"", session: ssl.SSLSession | None = None
) -> str:
    """Connect like a stranger would; what came back, or the TLS library's reason. Blocking: run it in a thread."""
    with contextlib.closing(socket.create_connection((address.host, address.port), timeout=OVERALL_S)) as plain:
        try:
            link: socket.socket = plain
            if context is not None:
                link = context.wrap_socket(plain, session=session)
            link.sendall(say)
            return link.recv(4096).decode("latin-1")
        except ssl.SSLError as error:
            return error.reason or str(error)
        except ConnectionError as error:
            return type(error).__name__


def refused(context_of: Callable[[Sites], ssl.SSLContext | None], code: str, *, say: bytes = b"") -> None:
    """One caller to ada's port; ada must name the error."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada")) as (ada,):
            await asyncio.to_thread(call, sites.addresses["ada"], context_of(sites), say=say)
            await ada.refusal(code)
            assert not any(link.state == "up" for link in ada.mesh.links().values())

    asyncio.run(scene())


def member(sites: Sites, name: str, *, claims: str | None = None, wall: float | None = None) -> ssl.SSLContext:
    leaf = issue(sites.identities[name], claims or name, time.time() if wall is None else wall)
    return build_context(leaf, sites.roster, accepting=False)


@pytest.mark.claim("NET-1")
def test_a_stranger_is_refused_and_both_ends_say_that_the_key_is_not_listed() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        stranger = Identity.generate()
        theirs = Roster(
            1,
            tuple(
                Member(each.name, stranger.key, each.addresses) if each.name == "bob" else each
                for each in sites.roster.members
            ),
        )
        async with running(sites.mesh("ada"), sites.mesh("bob", identity=stranger, roster=theirs)) as (ada, bob):
            said = await ada.refusal("P2P-MESH-006")
            assert said.error.exit_status == 3
            await bob.refusal("P2P-MESH-007")

    asyncio.run(scene())


@pytest.mark.claim("NET-2")
def test_another_members_key_at_a_listed_address_is_the_wrong_key() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        swapped = sites.reached_at("bob", sites.addresses["cyd"])
        async with running(sites.mesh("ada", roster=swapped), sites.mesh("cyd")) as (ada, cyd):
            said = await ada.refusal("P2P-MESH-005")
            assert (said.peer, "cyd" in said.error.happened) == ("bob", True)
            told = await cyd.refusal("P2P-MESH-020")
            assert "P2P-MESH-005" in told.error.evidence

    asyncio.run(scene())


@pytest.mark.claim("NET-2")
def test_a_member_who_mints_anothers_name_is_named_by_its_key() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada")) as (ada,):
            await asyncio.to_thread(call, sites.addresses["ada"], member(sites, "bob", claims="cyd"))
            said = await ada.refusal("P2P-MESH-016")
            assert "bob signed a certificate that claims to be cyd" in said.error.happened

    asyncio.run(scene())


def test_a_certificate_that_names_another_issuer_than_its_signer_is_refused() -> None:
    sites = Sites("ada", "bob", "cyd")
    mine = issue(sites.identities["bob"], "cyd", time.time())
    real = x509.load_pem_x509_certificate(mine.certificate)
    other = sites.identities["cyd"].signer.public_key()
    forged = x509.CertificateBuilder(
        issuer_name=key_name(sites.identities["cyd"].key),
        subject_name=real.subject,
        public_key=real.public_key(),
        serial_number=7,
        not_valid_before=real.not_valid_before_utc,
        not_valid_after=real.not_valid_after_utc,
    )
    for extension in real.extensions:
        value = extension.value
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(other)
        forged = forged.add_extension(value, critical=extension.critical)
    pem = forged.sign(sites.identities["bob"].signer, None).public_bytes(Encoding.PEM)

    async def scene() -> None:
        async with running(sites.mesh("ada")) as (ada,):
            context = build_context(replace(mine, certificate=pem), sites.roster, accepting=False)
            await asyncio.to_thread(call, sites.addresses["ada"], context)
            await ada.refusal("P2P-MESH-016")

    asyncio.run(scene())


@pytest.mark.claim("NET-3")
@pytest.mark.parametrize(("shift_s", "code"), [(-40 * DAY_S, "P2P-MESH-008"), (2 * DAY_S, "P2P-MESH-009")])
def test_an_expired_or_future_certificate_is_refused_and_its_owner_is_told(shift_s: float, code: str) -> None:
    """A clock that is weeks behind, or more than a day ahead, when the certificate is made."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada"), sites.mesh("bob", wall=lambda: time.time() + shift_s)) as (ada, bob):
            await ada.refusal(code)
            await bob.refusal("P2P-MESH-022")

    asyncio.run(scene())


@pytest.mark.parametrize("shift_s", [-20 * DAY_S, 0.9 * DAY_S])
def test_certificates_of_a_clock_slightly_wrong_pass(
    shift_s: float,
) -> None:
    """Less than a day ahead, or some weeks behind."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada"), sites.mesh("bob", wall=lambda: time.time() + shift_s)) as (ada, _):
            await ada.linked("bob", 1)
            assert not [each for each in ada.told if isinstance(each, Refused)]

    asyncio.run(scene())


@pytest.mark.parametrize("age_s", [30 * DAY_S, 45 * DAY_S])
def test_a_certificate_that_was_not_renewed_is_expired_and_no_clock_is_blamed(age_s: float) -> None:
    """Both clocks are right: one end finds the old leaf, and the other end finds nothing wrong with this one's."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada")) as (ada,):
            said = await asyncio.to_thread(call, sites.addresses["ada"], member(sites, "bob", wall=time.time() - age_s))
            assert "CERTIFICATE_EXPIRED" in said.upper()
            await ada.refusal("P2P-MESH-008")
            assert {each.error.code for each in ada.told if isinstance(each, Refused)} == {"P2P-MESH-008"}

    asyncio.run(scene())


@pytest.mark.claim("NET-1")
def test_tls_1_2_is_refused() -> None:
    def old(_: Sites) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    refused(old, "P2P-MESH-010")


@pytest.mark.claim("NET-1")
def test_a_caller_without_a_certificate_is_refused() -> None:
    def bare(_: Sites) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    refused(bare, "P2P-MESH-011")


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
def test_a_member_that_speaks_another_protocol_is_refused(protocols: list[str]) -> None:
    def foreign(sites: Sites) -> ssl.SSLContext:
        context = member(sites, "bob")
        context.set_alpn_protocols(protocols)
        return context

    refused(foreign, "P2P-MESH-012")


def test_plain_http_on_the_port_is_called_that() -> None:
    refused(lambda _: None, "P2P-MESH-013", say=b"GET / HTTP/1.1\r\nHost: ada\r\n\r\n")


def test_noise_on_the_port_is_not_tls() -> None:
    refused(lambda _: None, "P2P-MESH-014", say=b"SSH-2.0-OpenSSH_9.9\r\n")


def test_a_listed_address_that_is_a_web_server_is_called_that() -> None:
    async def web(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        server = await asyncio.start_server(web, "127.0.0.1", sites.addresses["bob"].port)
        async with server, running(sites.mesh("ada")) as (ada,):
            said = await ada.refusal("P2P-MESH-013")
            assert said.peer == "bob"

    asyncio.run(scene())


@pytest.mark.claim("NET-3")
def test_a_resumed_session_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own servers hand out no tickets, so this one is made to."""
    built = certificates.build_context

    def generous(leaf: Leaf, roster: Roster, *, accepting: bool, protocol: str = ALPN) -> ssl.SSLContext:
        context = built(leaf, roster, accepting=accepting, protocol=protocol)
        if accepting:
            context.options &= ~ssl.OP_NO_TICKET
            context.num_tickets = 2
        return context

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        context = member(sites, "bob")

        def twice() -> None:
            address = sites.addresses["ada"]
            with socket.create_connection((address.host, address.port), timeout=OVERALL_S) as plain:
                link = context.wrap_socket(plain)
                link.recv(1)  # the tickets come before the first byte of the opening
                session = link.session
                assert session is not None
                assert session.has_ticket
            call(address, context, session=session)

        monkeypatch.setattr(certificates, "build_context", generous)
        async with running(sites.mesh("ada")) as (ada,):
            await asyncio.to_thread(twice)
            await ada.refusal("P2P-MESH-015")

    asyncio.run(scene())


@pytest.mark.claim("NET-3")
def test_a_port_of_ours_hands_out_no_ticket() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        context = member(sites, "bob")

        def once() -> bool:
            address = sites.addresses["ada"]
            with socket.create_connection((address.host, address.port), timeout=OVERALL_S) as plain:
                link = context.wrap_socket(plain)
                link.recv(1)
                return link.session is not None and link.session.has_ticket

        async with running(sites.mesh("ada")):
            assert not await asyncio.to_thread(once)

    asyncio.run(scene())


def test_a_refused_greeting_is_said_at_both_ends() -> None:
    refusal = KeyNotListed(peer="bob", evidence="line 14 differs")

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada", greetings=Greetings("ada", refusal)), sites.mesh("bob")) as (ada, bob):
            said = await ada.refusal("P2P-MESH-006")
            assert said.peer == "bob"
            told = await bob.refusal("P2P-MESH-020")
            assert told.peer == "ada"
            assert "P2P-MESH-006: line 14 differs" in told.error.evidence

    asyncio.run(scene())


@pytest.mark.claim("NET-10")
def test_a_fault_of_this_sites_disk_is_not_told_to_its_peers() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        full = DiskFull(evidence="write: No space left on /srv/ada", path="/srv/ada/membership/change")
        async with running(sites.mesh("ada", greetings=Greetings("ada", full)), sites.mesh("bob")) as (_, bob):
            said = (await bob.refusal("P2P-MESH-020")).error
            assert "/srv" not in said.render()
            assert DiskFull.code in said.evidence

    asyncio.run(scene())


def test_an_address_that_leads_back_here_is_called_that() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        looped = sites.reached_at("bob", sites.addresses["ada"])
        async with running(sites.mesh("ada", roster=looped)) as (ada,):
            await ada.refusal("P2P-MESH-027")

    asyncio.run(scene())


def test_a_busy_port_is_named_with_its_holder() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        async with running(sites.mesh("ada")):
            with pytest.raises(Exception, match=f"Port {sites.addresses['ada'].port} is in use by process") as caught:
                await sites.mesh("ada").start()
            assert getattr(caught.value, "code", "") == "P2P-MESH-001"

    asyncio.run(scene())


def test_an_unreachable_peer_is_in_the_status_and_is_no_event() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        away = sites.reached_at("bob", free_address())
        paused = asyncio.Event()

        def draw(size: int) -> bytes:
            if size == 2:  # the jitter of a pause: an attempt has failed
                paused.set()
            return os.urandom(size)

        async with running(sites.mesh("ada", roster=away, draw=draw)) as (ada,):
            await paused.wait()
            status = ada.mesh.links()["bob"]
            assert status.last_seen is None
            assert status.last_error is not None
            assert status.last_error.code == "P2P-MESH-043"
            assert ada.told == []

    asyncio.run(scene())
