"""Turns OpenSSL's errors into named ones that a person can act on.

Each end knows one half of a failed handshake: the end that checks a certificate knows why it does not pass, the other
gets an alert, in TLS 1.3 often after its own handshake looked done.
"""

from __future__ import annotations

import ssl
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import (
    CertificateExpired,
    CertificateNotYetValid,
    HandshakeCut,
    HandshakeUnfinished,
    KeyNotListed,
    NameNotTheirs,
    NoClientCertificate,
    NotTls,
    OurCertificateRefused,
    OurKeyNotListed,
    OwnKeyThere,
    PlainHttp,
    SessionResumed,
    TlsFailed,
    TlsTooOld,
    WrongKey,
    WrongProtocol,
)
from p2pfl.errors.paths import RelayUnfaithful

_HTTP: Final = (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PRI ", b"HTTP")
_TLS_RECORDS: Final = (0x14, 0x15, 0x16, 0x17)

# Errors that an honest peer never causes, and a relay does when it connects to another site or changes bytes.
_NOT_THEIRS: Final = (
    KeyNotListed,
    NoClientCertificate,
    NotTls,
    OwnKeyThere,
    PlainHttp,
    SessionResumed,
    TlsFailed,
    TlsTooOld,
    WrongKey,
    WrongProtocol,
)

# X509_V_ERR_* of OpenSSL
_SIGNATURE_FAILURE: Final = 7
_NOT_YET_VALID: Final = 9
_HAS_EXPIRED: Final = 10
_NO_SUCH_ANCHOR: Final = (18, 19, 20, 21)


def translate(error: Exception, *, peer: str, first_bytes: bytes, dialed: bool) -> P2PFLError:
    """The named error for a handshake that ended in `error`.

    peer          the far end: a roster name, or "a caller from HOST"
    first_bytes   of the far end
    """
    if isinstance(error, P2PFLError):
        return error
    if first_bytes and first_bytes[0] not in _TLS_RECORDS:
        shown = ascii(first_bytes[:16].decode("latin-1"))
        kind = PlainHttp if first_bytes.startswith(_HTTP) else NotTls
        return kind(peer=peer, evidence=f"its first bytes are {shown}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, peer)
    if isinstance(error, TimeoutError):
        return HandshakeUnfinished(peer=peer, evidence=f"{len(first_bytes)} bytes arrived before the time was over")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _failed(error, peer, dialed=dialed)
    return HandshakeCut(peer=peer, evidence=str(error) or type(error).__name__)


def _unverified(error: ssl.SSLCertVerificationError, peer: str) -> P2PFLError:
    evidence = f"OpenSSL: {error.verify_message} (code {error.verify_code})"
    if error.verify_code == _HAS_EXPIRED:
        return CertificateExpired(peer=peer, evidence=evidence)
    if error.verify_code == _NOT_YET_VALID:
        return CertificateNotYetValid(peer=peer, evidence=evidence)
    if error.verify_code == _SIGNATURE_FAILURE:
        return NameNotTheirs(peer=peer, claimed="issued by a key that did not sign it", evidence=evidence)
    if error.verify_code in _NO_SUCH_ANCHOR:
        return KeyNotListed(peer=peer, evidence=evidence)
    return TlsFailed(peer=peer, evidence=evidence)


def _failed(error: ssl.SSLError, peer: str, *, dialed: bool) -> P2PFLError:
    reason = error.reason or ""
    evidence = f"OpenSSL: {reason or error}"
    if "UNKNOWN_CA" in reason:
        return OurKeyNotListed(peer=peer, evidence=evidence)
    if "ALERT_CERTIFICATE_EXPIRED" in reason:
        return OurCertificateRefused(peer=peer, said="expired", evidence=evidence)
    if "ALERT_BAD_CERTIFICATE" in reason:
        return OurCertificateRefused(peer=peer, said="not valid (now)", evidence=evidence)
    if "PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return NoClientCertificate(peer=peer, evidence=evidence)
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason or "VERSION_TOO" in reason:
        return TlsTooOld(peer=peer, evidence=evidence)
    if "APPLICATION_PROTOCOL" in reason:
        return WrongProtocol(peer=peer, evidence=evidence)
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
        return NotTls(peer=peer, evidence=evidence)
    return TlsFailed(peer=peer, evidence=evidence + ("" if dialed else ", on an incoming connection"))


def blame_relay(error: P2PFLError, relay: str, peer: str) -> P2PFLError:
    """The error of a call to `peer` through `relay`: RelayUnfaithful where another site answered or bytes changed."""
    if not isinstance(error, _NOT_THEIRS):
        return error
    return RelayUnfaithful(relay=relay, peer=peer, evidence=f"{error.code}: {error.happened} {error.evidence}")


def printable(text: str, most: int = 600) -> str:
    """A far end's words, safe to show in a terminal: no control characters, a bounded length."""
    return "".join(char if char.isprintable() else " " for char in text)[:most]
