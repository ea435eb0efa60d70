"""Signed heads as text, in the form of C2SP signed-note and tlog-checkpoint.

    p2pfl/1/site/charite                                 which log
    12                                                   entries
    qINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=          RFC 6962 root over their records
    federation 7 5Wd2nRsqx9jlzW1q4VpTtJY1pqTnWdOEJ6oBn7R8Ivw=      (site log: the federation log's head at that time)
    epsilon 0.734512                                     (site log: what its records have spent by then, if anything)

    — charite AbCdEf…                                    key id (4 bytes) ‖ Ed25519 signature

Every signature of a site is over p2pfl/1/<kind>\\0‖bytes, here of kind "head" over the text above the empty line, its
last newline included. That is not the note format's own Ed25519 type, so the key id uses its type 0xff with the name
p2pfl/1/head: other programs skip our lines instead of finding them false.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from p2pfl.keys import SIGNATURE_BYTES, Identity, verify

KIND: Final = "head"
TYPE: Final = b"\xffp2pfl/1/head"
DASH: Final = "— "
LINE: Final = re.compile(r"— ([a-z][a-z0-9-]{0,30}) ([A-Za-z0-9+/=]+)")
SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
FEDERATION: Final = "federation"  # extension line of a site log's head: the federation log's entries and root
EPSILON: Final = "epsilon"  # … and, once its site has spent any: what its records have spent by then
SPENT: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?|inf")
MOST_NOTE: Final = 64 << 10  # characters


@dataclass(frozen=True, slots=True)
class Head:
    """A log at one moment: its origin, its number of entries, the root over them, extension lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode("ascii"), *self.extensions)
        return "".join(line + "\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    signature: bytes


def federation_of(head: Head) -> tuple[int, bytes] | None:
    """Entries and root of the federation log that a site log's head states. Raises ValueError on a malformed line."""
    for line in head.extensions:
        word, _, stated = line.partition(" ")
        if word == FEDERATION:
            size, _, root = stated.partition(" ")
            if not SIZE.fullmatch(size):
                raise ValueError(f"{size[:20]!r} is not a number of entries")
            return int(size), _base64(root, 32)
    return None


def epsilon_of(head: Head) -> float:
    """ε that a site log's head says its records have spent; 0 where it says nothing. Raises ValueError."""
    for line in head.extensions:
        word, _, stated = line.partition(" ")
        if word == EPSILON:
            if not SPENT.fullmatch(stated):
                raise ValueError(f"{stated[:20]!r} is no epsilon")
            return float(stated)
    return 0.0


def site_origin(name: str) -> str:
    """The first line of a site log's heads."""
    return f"p2pfl/1/site/{name}"


def federation_origin(genesis: bytes) -> str:
    """The first line of a federation log's heads, the same at every site: a digest of its first record."""
    return f"p2pfl/1/federation/{hashlib.sha256(genesis).hexdigest()[:32]}"


def key_id(name: str, key: bytes) -> bytes:
    """The first 4 bytes of SHA-256(name ‖ newline ‖ type ‖ key), as in C2SP signed-note."""
    return hashlib.sha256(name.encode("ascii") + b"\n" + TYPE + key).digest()[:4]


def sign(head: Head, name: str, identity: Identity) -> str:
    """The note: the head's text, an empty line, one signature."""
    return f"{head.text}\n{_line(head, name, identity)}"


def cosign(note: str, name: str, identity: Identity) -> str:
    """The note with one more signature. Ask `witness.may_cosign` first. Raises ValueError when it is no note."""
    head, _ = parse_note(note)
    return note + _line(head, name, identity)


def _line(head: Head, name: str, identity: Identity) -> str:
    signed = key_id(name, identity.key) + identity.sign(KIND, head.text.encode("utf-8"))
    return f"{DASH}{name} {base64.b64encode(signed).decode('ascii')}\n"


def parse_note(note: str) -> tuple[Head, tuple[Signature, ...]]:
    """The head and the signature lines, unverified. Raises ValueError with the reason."""
    if len(note) > MOST_NOTE:
        raise ValueError(f"a note of {len(note)} characters")
    text, gap, signed = note.partition("\n\n")
    lines = text.split("\n")
    if not gap or not signed.endswith("\n") or len(lines) < 3:
        raise ValueError("a note is a text of three lines or more, an empty line, and signature lines")
    origin, size, root, *extensions = lines
    if not SIZE.fullmatch(size):
        raise ValueError(f"{size[:20]!r} is not a number of entries")
    head = Head(origin, int(size), _base64(root, 32), tuple(extensions))
    return head, tuple(_signature(line) for line in signed[:-1].split("\n"))


def _signature(line: str) -> Signature:
    found = LINE.fullmatch(line)
    if found is None:
        raise ValueError("a signature line is '— NAME BASE64'")
    raw = _base64(found[2], 4 + SIGNATURE_BYTES)
    return Signature(found[1], raw[:4], raw[4:])


def _base64(text: str, size: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("a value is not base64") from None
    if len(raw) != size or base64.b64encode(raw).decode("ascii") != text:
        raise ValueError(f"a value is not the base64 of {size} bytes")
    return raw


def signed_by(note: str, name: str, key: bytes) -> bool:
    """True when the note carries a signature line of `name` that `key` made over its text. Raises ValueError."""
    head, signatures = parse_note(note)
    wanted, text = key_id(name, key), head.text.encode("utf-8")
    mine = [each.signature for each in signatures if each.name == name and each.key_id == wanted]
    return any(verify(key, KIND, text, signature) for signature in mine)
