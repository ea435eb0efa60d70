"""Who is at the other end: 30-day leaves from the identity, anchors from bare keys, the one TLS context.

`peers.yaml` pins 32-byte Ed25519 keys and nothing else. From each key every site builds the same *anchor*: a CA
certificate that holds the key and whose subject is the key's hash. Its own signature is noise, because OpenSSL takes
an anchor as given and never checks it. A site's identity signs a *leaf* over a throw-away key pair, and TLS shows the
leaf. The peer **is** the roster key whose signature the leaf bears (`signer_of`). Names inside the leaf are claims,
and one that does not fit its signer ends the link.

What must never be added here: a second way to build a context, a flag that weakens this one, session tickets.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfl.clocks import Clocks
from p2pfl.keys import Identity, Secret
from p2pfl.mesh.tls_errors import printable
from p2pfl.roster import Member, Roster

ALPN: Final = "p2pfl/1"
RELAY_ALPN: Final = "p2pfl-relay/1"  # of a connection that is to be carried to a third site
LEAF_DAYS: Final = 30
BACKDATED_HOURS: Final = 24  # so that a site whose clock is behind accepts a fresh leaf
RENEW_AFTER_S: Final = 10 * 86400.0
DAY_S: Final = 86400.0
MOST_CLAIMED: Final = 100  # characters of a leaf's claims that an error shows

# Signs the anchors. Nothing checks that signature, so the key is public on purpose.
_NOISE: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))


class MalformedLeaf(ValueError):
    """A certificate that OpenSSL accepts and this parser cannot read: members sign anything. The text is evidence."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate (PEM) and its throw-away private key (PKCS#8 PEM); times are in Unix seconds."""

    certificate: bytes
    key: Secret
    issued: float
    expires: float


@dataclass(frozen=True, slots=True)
class Contexts:
    """One immutable generation of TLS settings. A connection keeps its own; later ones may get another."""

    accepting: ssl.SSLContext
    dialing: ssl.SSLContext
    relaying: ssl.SSLContext  # to dial a relay
    leaf: Leaf


def key_name(key: bytes) -> x509.Name:
    """The X.509 name of a key: CN = hex SHA-256 of its 32 bytes."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hashlib.sha256(key).hexdigest())])


def anchor(key: bytes) -> bytes:
    """The trust anchor (DER) that stands for a 32-byte roster key; the same bytes at every site."""
    public = Ed25519PublicKey.from_public_bytes(key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(key_name(key))
        .issuer_name(key_name(key))
        .public_key(public)
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(_NOISE, None).public_bytes(serialization.Encoding.DER)


def issue(identity: Identity, name: str, wall: float) -> Leaf:
    """A leaf signed by `identity`, valid from a day before `wall` (Unix seconds) for 30 days, for a fresh key pair."""
    private = Ed25519PrivateKey.generate()
    begins = wall - BACKDATED_HOURS * 3600.0
    expires = begins + LEAF_DAYS * DAY_S
    issuer = identity.signer.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(key_name(identity.key))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(begins, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(expires, datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )
    certificate = builder.sign(identity.signer, None).public_bytes(serialization.Encoding.PEM)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Leaf(certificate, Secret(pem, "TLS leaf key"), wall, expires)


def signer_of(certificate: bytes, roster: Roster) -> tuple[Member | None, str]:
    """The member whose key signed this leaf (DER), or None; and the name that the leaf claims.

    Only the signature decides; the issuer's name says which key to try first. Raises MalformedLeaf.
    """
    with _readable():
        leaf = x509.load_der_x509_certificate(certificate)
        claims = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        claimed = printable(str(claims[0].value), MOST_CLAIMED) if len(claims) == 1 else ""
        issuer, signature, signed = leaf.issuer, leaf.signature, leaf.tbs_certificate_bytes
    for member in sorted(roster.members, key=lambda each: key_name(each.key) != issuer):
        try:
            Ed25519PublicKey.from_public_bytes(member.key).verify(signature, signed)
        except InvalidSignature:
            continue
        return member, claimed
    return None, claimed


def expiry_of(certificate: bytes) -> float:
    """The end of a leaf's validity (DER), in Unix seconds. Raises MalformedLeaf."""
    with _readable():
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn any exception into MalformedLeaf: the parser decodes lazily, and raises its own kind for many fields."""
    try:
        yield
    except Exception as error:
        raise MalformedLeaf(f"{type(error).__name__}: {printable(str(error), MOST_CLAIMED)}") from None


def build_context(leaf: Leaf, roster: Roster, *, accepting: bool, protocol: str = ALPN) -> ssl.SSLContext:
    """The one TLS context of this program: mutual TLS 1.3, anchors from the roster, no tickets, no SNI, one ALPN.

    The accepting end takes p2pfl/1 and p2pfl-relay/1; the dialling end offers `protocol` alone. The key-exchange groups
    are OpenSSL's default: hybrid post-quantum where it has it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if accepting else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # names are claims; signer_of() decides
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if accepting:
        context.num_tickets = 0  # a resumed session would outlive the leaf that opened it
    context.set_alpn_protocols([ALPN, RELAY_ALPN] if accepting else [protocol])
    context.load_verify_locations(cadata=b"".join(anchor(member.key) for member in roster.members))
    with _as_file(leaf) as (path, password):
        context.load_cert_chain(path, password=password)
    return context


class Credentials:
    """The current contexts of this site; renewed when the leaf is ten days old."""

    def __init__(self, identity: Identity, name: str, roster: Roster, clocks: Clocks) -> None:
        self._identity = identity
        self._name = name
        self._roster = roster
        self._clocks = clocks
        self._current: Contexts | None = None

    def current(self) -> Contexts:
        """The contexts for a connection that begins now. An older generation is never changed, only replaced."""
        now = self._clocks.wall()
        held = self._current
        # A clock that is set back must not leave this site with a leaf from the future.
        if held is None or not 0.0 <= now - held.leaf.issued <= RENEW_AFTER_S:
            leaf = issue(self._identity, self._name, now)
            accepting = build_context(leaf, self._roster, accepting=True)
            dialing = build_context(leaf, self._roster, accepting=False)
            relaying = build_context(leaf, self._roster, accepting=False, protocol=RELAY_ALPN)
            held = self._current = Contexts(accepting, dialing, relaying, leaf)
        return held


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@contextlib.contextmanager
def _as_file(leaf: Leaf) -> Iterator[tuple[str, bytes | None]]:
    """A path from which OpenSSL reads certificate and key: in memory where the system has memfd, else encrypted."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            _write_all(descriptor, leaf.certificate + leaf.key.reveal())
            yield f"/proc/self/fd/{descriptor}", None
        finally:
            os.close(descriptor)
        return
    password = os.urandom(32).hex().encode()
    private = serialization.load_pem_private_key(leaf.key.reveal(), None)
    sealed = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    with tempfile.TemporaryDirectory(prefix="p2pfl-") as folder:  # 0700
        path = Path(folder) / "leaf"
        path.write_bytes(leaf.certificate + sealed)
        yield str(path), password


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
