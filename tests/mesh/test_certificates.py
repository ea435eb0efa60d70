"""Bare keys become anchors, identities issue leaves, and the signature alone says who somebody is."""

from __future__ import annotations

import os
import re
import ssl
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from p2pfl.clocks import SYSTEM
from p2pfl.keys import Identity
from p2pfl.mesh.certificates import Credentials, MalformedLeaf, anchor, build_context, expiry_of, issue, signer_of
from p2pfl.mesh.serverhello import group_of
from p2pfl.roster import Member, Roster
from tests.mesh.sites import Sites, respelt


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def test_an_anchor_is_the_same_bytes_at_every_site_and_holds_the_key() -> None:
    key = Identity.generate().key
    assert anchor(key) == anchor(key)
    assert x509.load_der_x509_certificate(anchor(key)).public_key().public_bytes_raw() == key  # type: ignore[union-attr]


def test_a_leaf_is_valid_from_a_day_before_for_thirty_days() -> None:
    leaf = issue(Identity.generate(), "ada", 1_800_000_000.0)
    found = x509.load_pem_x509_certificate(leaf.certificate)
    assert found.not_valid_before_utc.timestamp() == 1_800_000_000 - 86400
    assert found.not_valid_after_utc.timestamp() == leaf.expires == 1_800_000_000 + 29 * 86400
    assert expiry_of(der(leaf.certificate)) == leaf.expires


def test_the_signer_is_found_whatever_the_leaf_claims() -> None:
    sites = Sites("ada", "bob", "cyd")
    leaf = issue(sites.identities["bob"], "cyd", time.time())
    member, claimed = signer_of(der(leaf.certificate), sites.roster)
    assert member is not None
    assert (member.name, claimed) == ("bob", "cyd")


def test_a_leaf_of_a_stranger_has_no_signer() -> None:
    sites = Sites("ada", "bob", "cyd")
    assert signer_of(der(issue(Identity.generate(), "bob", time.time()).certificate), sites.roster)[0] is None


def test_an_unreadable_leaf_of_a_member_is_malformed() -> None:
    """Its name never reaches a terminal as it is."""
    sites = Sites("ada", "bob", "cyd")
    bob = sites.identities["bob"]
    leaf = issue(bob, "bob", time.time())
    with pytest.raises(MalformedLeaf):
        signer_of(der(respelt(leaf, bob, b"\x13\x03b@b").certificate), sites.roster)
    _, claimed = signer_of(der(respelt(leaf, bob, b"\x0c\x03\x1b[J").certificate), sites.roster)
    assert claimed == " [J"


def test_a_leaf_key_is_never_printed() -> None:
    leaf = issue(Identity.generate(), "ada", time.time())
    assert "PRIVATE" not in repr(leaf)


def test_a_context_asks_for_everything_that_identity_needs() -> None:
    sites = Sites("ada", "bob", "cyd")
    leaf = issue(sites.identities["ada"], "ada", time.time())
    for accepting in (True, False):
        context = build_context(leaf, sites.roster, accepting=accepting)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is context.maximum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_flags & ssl.VerifyFlags.VERIFY_X509_STRICT
        assert len(context.get_ca_certs()) == 3
    assert build_context(leaf, sites.roster, accepting=True).num_tickets == 0


def test_without_memfd_the_leaf_key_reaches_openssl_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    sites, read = Sites("ada", "bob", "cyd"), list[Path]()
    leaf = issue(sites.identities["ada"], "ada", time.time())
    secret = load_pem_private_key(leaf.key.reveal(), None).private_bytes_raw()  # type: ignore[union-attr]
    load = ssl.SSLContext.load_cert_chain

    def spied(context: ssl.SSLContext, path: str, *, password: bytes) -> None:
        held = Path(path).read_bytes()
        _, certificate, key = re.split(rb"(?=-----BEGIN )", held)
        assert certificate == leaf.certificate
        assert key.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert secret not in ssl.PEM_cert_to_DER_cert(key.decode().replace("ENCRYPTED PRIVATE KEY", "CERTIFICATE"))
        assert load_pem_private_key(key, password).private_bytes_raw() == secret  # type: ignore[union-attr]
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
        read.append(Path(path))
        load(context, path, password=password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spied)
    build_context(leaf, sites.roster, accepting=True)
    assert [path.parent.exists() for path in read] == [False]


def test_credentials_renew_after_ten_days_and_when_the_clock_was_set_back() -> None:
    identity = Identity.generate()
    roster = Roster(1, (Member("ada", identity.key), Member("bob", Identity.generate().key)))
    clock = [1_800_000_000.0]
    credentials = Credentials(identity, "ada", roster, replace(SYSTEM, wall=lambda: clock[0]))
    first = credentials.current()
    clock[0] += 9 * 86400
    assert credentials.current() is first
    clock[0] += 2 * 86400
    second = credentials.current()
    assert second is not first
    clock[0] -= 5 * 86400
    assert credentials.current() is not second


@pytest.mark.parametrize(
    "stream", [b"", b"\x16\x03\x03\x00\x04\x02\x00", b"HTTP/1.1 400", b"\x16\x03\x03\x00\x05\x02\x00\x00\x01\x03"]
)
def test_a_group_that_cannot_be_read_is_unknown(stream: bytes) -> None:
    assert group_of(stream) == "unknown"
