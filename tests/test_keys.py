"""Secrets do not show; labels keep uses apart; signatures carry their kind; eight words name a key."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import re
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from p2pfl.keys import (
    LABELS,
    PRIME,
    SMALL_ORDER,
    Identity,
    Secret,
    belongs_to_somebody,
    derive,
    digest,
    fingerprint,
    signing_input,
    verify,
)

MARKER = b"a marker that nobody should read"
# RFC 8032, section 7.1, test 1
PRIVATE = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
WORDS = "street entry tone minor hurdle truth entire idle"
SECRETS = [Secret(MARKER, "seed"), Identity(MARKER)]


def shown(text: str) -> bool:
    return "marker" in text or MARKER.hex() in text or str(list(MARKER)) in text


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_a_secret_does_not_show_in_any_print(secret: Secret) -> None:
    texts = [repr(secret), str(secret), f"{secret}", f"{secret!r:>60}", f"{secret:>60}", f"{[secret]}", "%s" % secret]  # noqa: UP031
    assert not any(map(shown, texts))
    assert "32 bytes" in repr(secret)


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_a_secret_does_not_show_in_a_traceback(secret: Secret) -> None:
    def fails(seed: Secret) -> None:
        raise ValueError(f"no use for {seed}")

    with pytest.raises(ValueError) as caught:
        fails(secret)
    found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert not shown("".join(found.format()))


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_a_secret_is_neither_pickled_nor_copied(secret: Secret) -> None:
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled") as caught:
            write(secret)
        assert not shown(str(caught.value))


def test_secrets_are_equal_by_value_in_constant_time_and_have_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compare(one: bytes, other: bytes) -> bool:
        asked.append(len(one))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert Secret(MARKER) == Secret(MARKER, "another label")
    assert Secret(MARKER) != Secret(bytes(32))
    assert asked == [32, 32]
    assert Secret(MARKER) != MARKER
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(MARKER))


def test_only_reveal_gives_the_bytes_and_the_length_is_no_secret() -> None:
    assert Secret(MARKER).reveal() == MARKER
    assert len(Secret(MARKER)) == 32
    assert not hasattr(Secret(MARKER), "__dict__")
    with pytest.raises(TypeError):
        bytes(Secret(MARKER))  # type: ignore[call-overload]


# ── derivation and digests ────────────────────────────────────────────────────────────────────────────────────


def hkdf(secret: bytes, info: bytes, salt: bytes = bytes(32)) -> bytes:
    """RFC 5869 for 32 bytes, as the text has it."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


@pytest.mark.parametrize("label", LABELS)
def test_a_key_is_hkdf_over_label_and_context(label: str) -> None:
    info = b"p2pfl/1/" + label.encode() + b"\0context"
    assert derive(MARKER, label, b"context") == hkdf(MARKER, info)
    assert derive(MARKER, label, b"context", salt=bytes([7]) * 32) == hkdf(MARKER, info, bytes([7]) * 32)
    assert len(derive(MARKER, label, length=100)) == 100


def test_no_two_labels_give_one_key_and_no_label_is_another_with_a_context() -> None:
    assert len({derive(MARKER, label) for label in LABELS}) == len(LABELS)
    assert not any("\0" in label for label in LABELS)
    with pytest.raises(KeyError, match="no derivation label"):
        derive(MARKER, "prg/edge\0")


def test_every_label_is_used_and_has_a_purpose() -> None:
    package = Path(__file__).parents[1] / "p2pfl"
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.name != "keys.py")
    assert all(len(purpose) > 10 for purpose in LABELS.values())
    missing = {label for label in LABELS if label not in source}
    # the two that are put together from a purpose's name
    assert all(label.startswith(("home/", "keyslot/")) for label in missing), missing


@given(st.lists(st.binary(max_size=12), max_size=4), st.lists(st.binary(max_size=12), max_size=4))
def test_digests_of_unlike_part_lists_differ(one: list[bytes], other: list[bytes]) -> None:
    assert (digest("kind", *one) == digest("kind", *other)) == (one == other)


def test_a_digest_is_sha256_over_kind_and_length_prefixed_parts() -> None:
    spelled = b"p2pfl/1/sum\0" + (2).to_bytes(8, "big") + b"ab" + bytes(8)
    assert digest("sum", b"ab", b"") == hashlib.sha256(spelled).digest()
    assert digest("sum", b"ab") != digest("view", b"ab")


# ── identity ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_identity_has_the_public_key_of_rfc_8032() -> None:
    assert Identity(PRIVATE).key == PUBLIC
    assert Identity.generate() != Identity.generate()


@given(data=st.binary(max_size=64), kind=st.sampled_from(["record", "message/ready", "head"]))
def test_a_signature_is_ed25519_over_kind_and_data(data: bytes, kind: str) -> None:
    signature = Identity(PRIVATE).sign(kind, data)
    assert signature == Ed25519PrivateKey.from_private_bytes(PRIVATE).sign(b"p2pfl/1/" + kind.encode() + b"\0" + data)
    assert signing_input(kind, data) == b"p2pfl/1/" + kind.encode() + b"\0" + data
    assert verify(PUBLIC, kind, data, signature)
    assert not verify(PUBLIC, kind + "x", data, signature)
    assert not verify(PUBLIC, kind, data + b"\0", signature)
    assert not verify(Identity(MARKER).key, kind, data, signature)


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_any_key_and_signature_bytes_verify_or_do_not_and_never_raise(key: bytes, signature: bytes) -> None:
    assert verify(key, "record", b"", signature) is False
    assert verify(key.ljust(32, b"\0")[:32], "record", b"data", signature.ljust(64, b"\xff")[:64]) is False


# ── fingerprint ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_fingerprint_is_the_first_88_bits_as_eight_bip39_words() -> None:
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(b"p2pfl/1/fingerprint\0" + PUBLIC).digest()[:11])
    listed = Mnemonic("english").wordlist
    assert fingerprint(PUBLIC) == " ".join(listed[int(group, 2)] for group in re.findall(".{11}", bits))


def test_the_fingerprint_of_the_key_of_rfc_8032_never_changes() -> None:
    assert fingerprint(PUBLIC) == WORDS


# ── keys for which everybody can sign ─────────────────────────────────────────────────────────────────────────

D = -121665 * pow(121666, -1, PRIME) % PRIME  # of edwards25519, RFC 8032 §5.1
Point = tuple[int, int]


def added(one: Point, other: Point) -> Point:
    """The addition law of the twisted Edwards curve −x² + y² = 1 + d·x²·y², in affine coordinates."""
    (x1, y1), (x2, y2) = one, other
    t = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + t, -1, PRIME) % PRIME,
        (y1 * y2 + x1 * x2) * pow(1 - t, -1, PRIME) % PRIME,
    )


def times(factor: int, point: Point) -> Point:
    total: Point = (0, 1)
    while factor:
        if factor & 1:
            total = added(total, point)
        point, factor = added(point, point), factor >> 1
    return total


def points(most: int) -> list[Point]:
    """Points of the curve with small y, of whichever order."""
    found = []
    for y in range(2, most):
        square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
        root = pow(square, (PRIME + 3) // 8, PRIME)
        for x in (root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME):
            if x * x % PRIME == square:
                found.append((x, y))
    return found


def test_the_list_of_small_orders_is_what_the_group_law_says() -> None:
    """A point times the group's prime order is one whose order divides 8, and every such point comes up."""
    order = 2**252 + 27742317777372353535851937790883648493
    small = {times(order, point) for point in points(80)}
    assert len(small) == 8
    assert all(times(8, point) == (0, 1) for point in small)
    assert {y for _, y in small} == SMALL_ORDER


@pytest.mark.parametrize("y", [*sorted(SMALL_ORDER), PRIME, PRIME + 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_for_which_everybody_can_sign_signs_nothing(y: int, sign: int) -> None:
    assert not belongs_to_somebody((y | sign << 255).to_bytes(32, "little"))


def test_a_signature_that_anybody_can_write_is_refused_though_it_holds() -> None:
    """A key and a signature of 01 00 … 00: R = A = the neutral point, S = 0, so S·B = R + k·A for every message."""
    forged = (1).to_bytes(32, "little") + bytes(32)
    key = (1).to_bytes(32, "little")
    for data in (b"one", b"another"):
        Ed25519PublicKey.from_public_bytes(key).verify(forged, signing_input("hello", data))  # the library lets it pass
        assert not verify(key, "hello", data, forged)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_is_made_belongs_to_its_maker(private: bytes) -> None:
    assert belongs_to_somebody(Identity(private).key)
