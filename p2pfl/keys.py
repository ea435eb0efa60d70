"""Secrets with a dull repr, the site's Ed25519 identity, its eight words, and the one table of derivation labels."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Draw = Callable[[int], bytes]  # a source of randomness: n ► n fresh random bytes
SignedRecord = tuple[bytes, Mapping[str, bytes]]  # a ledger record, and by name the signatures over it

PROTOCOL: Final = b"p2pfl/1/"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SEED_BYTES: Final = 32

# Every key that this program derives, and its use. Two uses of one secret must differ here, in the label.
LABELS: Final = {
    "prg/edge": "words of the share that an edge's seed expands to",
    "prg/self": "words of a self-mask",
    "forms": "public words of the random linear forms that check a sum",
    "secret": "fresh secrets: system randomness bound to the nonces of the latest hellos",
    "home/identity": "seals the identity key at rest",
    "home/state": "seals what lies in state/, and what is no key in membership/",
    "home/checkpoint": "seals models at rest",
    "home/ledger": "seals each ledger segment, whose salt is its own, and the signed heads",
    "home/holdout": "keys the hash that picks held-out records",
    "home/records": "keys the marks by which privacy accounts know their records",
    "home/query": "keys the digest by which a site log names what was summed",
    "keyslot/passphrase": "wraps the master key under a stretched pass phrase",
    "keyslot/file": "wraps the master key under a key file",
    "keyslot/recovery": "wraps the master key under the recovery key",
    "training/noise": "keystream of DP noise",
    "training/discrete-noise": "keystream of the discrete Gaussian noise of which each site adds a part",
    "training/sampling": "keystream of Poisson sampling",
    "training/torch": "seed of torch's own generator during a pass: dropout, never noise or samples",
    "training/look": "keystream of the noise on the counts of held-out records",
    "statistics/noise": "keystream of a site's part of the noise on a question's sums",
    "statistics/errors": "public keystream of the noise by which an answer's errors are found",
    "training/initial": "public keystream of the initial model",
    "training/carriers": "public keystream of the carriers that a subspace starts from",
    "training/positions": "public keystream of the positions that nobody names",
    "average/turn": "public keystream of the order in which an average's numbers are sent",
    "quantiser/rounding": "keystream of stochastic rounding",
    "quantiser/rotation": "public signs of the randomised Hadamard rotation",
}


class Secret:
    """Bytes that nobody should see: a dull repr, comparison in constant time, no pickling.

    `label` says what the secret is, and nothing of its value. `reveal()` is the only way to the bytes.
    """

    __slots__ = ("_payload", "label")

    def __init__(self, payload: bytes, label: str = "secret") -> None:
        self._payload = bytes(payload)
        self.label = label

    def reveal(self) -> bytes:
        """The bytes. Keep them out of logs, errors and command lines."""
        return self._payload

    def __len__(self) -> int:
        return len(self._payload)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._payload, other._payload)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a fact about the secret

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label}, {len(self._payload)} bytes)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not pickled")


def signing_input(kind: str, data: bytes) -> bytes:
    """The bytes that a signature of `kind` covers: p2pfl/1/<kind>, a zero byte, the data."""
    return PROTOCOL + kind.encode("ascii") + b"\0" + data


class Identity(Secret):
    """One site's Ed25519 key pair (RFC 8032). Every use of it signs p2pfl/1/<kind>\\0‖bytes."""

    __slots__ = ("_signer", "key")

    def __init__(self, private: bytes) -> None:
        super().__init__(private, "Ed25519 identity")
        self._signer = Ed25519PrivateKey.from_private_bytes(private)
        self.key = self._signer.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the system's generator."""
        raw = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        return cls(raw)

    @property
    def signer(self) -> Ed25519PrivateKey:
        """The key object, for the one place that issues TLS leaves (mesh/certificates.py)."""
        return self._signer

    def sign(self, kind: str, data: bytes) -> bytes:
        """64 bytes over p2pfl/1/<kind>\\0‖data."""
        return self._signer.sign(signing_input(kind, data))


PRIME: Final = 2**255 - 19
# The y coordinates of the eight points whose order divides 8 (tests/test_keys.py finds them by the group law). Under
# such a key a signature that anybody can write holds for every message.
_ORDER_EIGHT: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER: Final = frozenset({0, 1, PRIME - 1, _ORDER_EIGHT, PRIME - _ORDER_EIGHT})


def belongs_to_somebody(key: bytes) -> bool:
    """True when only the holder of the private half can sign for this 32-byte public `key`.

    Refused are points of small order, for which everybody can sign, and the encodings y ≥ p, which RFC 8032 §5.1.3
    forbids and which would give one key two names.
    """
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)  # without the sign of x
    return len(key) == KEY_BYTES and y < PRIME and y not in SMALL_ORDER


@functools.lru_cache(maxsize=256)
def _verifier(key: bytes) -> Ed25519PublicKey:
    if not belongs_to_somebody(key):
        raise ValueError("a key for which everybody can sign")
    return Ed25519PublicKey.from_public_bytes(key)


def verify(key: bytes, kind: str, data: bytes, signature: bytes) -> bool:
    """True when `signature` is that of the 32-byte public `key` over p2pfl/1/<kind>\\0‖data.

    False under every key for which everybody can sign.
    """
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        _verifier(key).verify(signature, signing_input(kind, data))
    except (InvalidSignature, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=2048)
def verify_again(key: bytes, kind: str, data: bytes, signature: bytes) -> bool:
    """`verify`, remembered, for small letters: one READY rides in every ballot, one ballot in every certificate."""
    return verify(key, kind, data, signature)


def derive(secret: bytes, label: str, context: bytes = b"", *, salt: bytes | None = None, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869) of `secret` with info = p2pfl/1/<label>\\0‖context; `label` is a row of LABELS."""
    if label not in LABELS:
        raise KeyError(f"no derivation label {label!r}")
    return HKDF(hashes.SHA256(), length, salt, signing_input(label, context)).derive(secret)


def digest(kind: str, *parts: bytes | memoryview) -> bytes:
    """SHA-256 over p2pfl/1/<kind>\\0 and each part behind its 8-byte length: no two part lists collide."""
    state = hashlib.sha256(signing_input(kind, b""))
    for part in parts:  # of a memoryview, one of bytes: its length counts items
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


@functools.cache
def _words() -> tuple[str, ...]:
    from mnemonic import Mnemonic  # the BIP-39 list; read only when words are shown

    return tuple(Mnemonic("english").wordlist)


def fingerprint(key: bytes) -> str:
    """Eight BIP-39 words: the first 88 bits of SHA-256(p2pfl/1/fingerprint\\0‖key), 11 bits a word."""
    bits = int.from_bytes(hashlib.sha256(signing_input("fingerprint", key)).digest()[:11], "big")
    return " ".join(_words()[(bits >> (77 - 11 * place)) & 0x7FF] for place in range(8))
