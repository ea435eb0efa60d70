"""Write the vectors of letters: python -m tests.vectors.generate_wire [--check].

Every expected byte comes from a stranger's program: the packer below, hashlib and `cryptography`, nothing of p2pfl. A
case has a `name`, an `operation` (`read`: the form alone; `open`: the form and the signature), `data` in hex, and
either `kind`, `envelope`, `fields`, or `error` with the class of its `reason`. Bytes are lowercase hex.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER: Final = Path(__file__).parent
FILE: Final = "wire.json"
NAMES: Final = ("charite", "mayo", "st-olav")
SENDER: Final = "st-olav"
Case = dict[str, Any]


def filled(word: str, size: int = 32) -> bytes:
    """`size` bytes that stand for something: SHA-256 of its name, cut or repeated."""
    return (hashlib.sha256(word.encode()).digest() * (size // 32 + 1))[:size]


def identity(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(filled(f"identity of {name}"))


def public(name: str) -> bytes:
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return identity(name).public_key().public_bytes(*raw)


def pack(value: Any) -> bytes:
    """The shortest msgpack of nil, whole numbers, text, bytes and arrays."""
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        if value < 0x80:
            return bytes([value])
        size = next(size for size in (1, 2, 4, 8) if value < 1 << 8 * size)
        return bytes([0xCC + (1, 2, 4, 8).index(size)]) + value.to_bytes(size, "big")
    if isinstance(value, str):
        raw = value.encode()
        return (bytes([0xA0 + len(raw)]) if len(raw) < 32 else b"\xd9" + bytes([len(raw)])) + raw
    if isinstance(value, bytes):
        size = next(size for size in (1, 2, 4) if len(value) < 1 << 8 * size)
        return bytes([0xC4 + (1, 2, 4).index(size)]) + len(value).to_bytes(size, "big") + value
    head = bytes([0x90 + len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
    return head + b"".join(map(pack, value))


def envelope(sender: str = SENDER) -> tuple[Any, ...]:
    return (filled("run"), 1, 12, 2, sender, filled(f"process of {sender}", 16))


def sign(kind: str, body: bytes, sender: str = SENDER) -> bytes:
    return identity(sender).sign(b"p2pfl/1/message/" + kind.lower().encode() + b"\0" + body)


def letter(number: int, kind: str, fields: tuple[Any, ...], sender: str = SENDER) -> bytes:
    body = pack((1, *envelope(sender), *fields))
    return pack((number, body, sign(kind, body, sender)))


def bulk(number: int, fields: tuple[Any, ...], words: bytes, at: int = -1) -> bytes:
    """`fields` with the size of `words` at place `at`, and the words behind the letter."""
    row = list(fields)
    row[at] = len(words)
    return pack((number, pack((1, *envelope(), *row)))) + words


D, V, H = filled("attempt digest"), filled("view"), filled("some digest")
PATH = (filled("sibling"), filled("uncle"))
BUNDLE = (filled("commitment to b"), filled("commitment to the nonce"), filled("root of shares"))
READYS = tuple(letter(13, "Ready", (D, V), name) for name in NAMES)
ACKS = tuple(letter(3, "Ack", (tuple((name, H) for name in NAMES), ()), name) for name in NAMES)
GROUNDS = (
    filled("federation_digest"),
    11,
    filled("base"),
    filled("model"),
    b'{"purpose":"sum"}',
    b"",
    60_000,
    1_750_000_000_000,
    "0.31",
    H,
    b"",
)
PROPOSES = tuple(letter(4, "Propose", GROUNDS, name) for name in NAMES)
BUNDLES = tuple(letter(1, "Bundle", BUNDLE, name) for name in NAMES)
LEAVES = tuple(letter(16, "Leave", (("mayo",),), name) for name in ("charite", "st-olav"))
ACKED = tuple(
    (filled(f"process of {name}", 16), filled(f"signature of {name}", 64), beside, unlinked)
    for name, beside, unlinked in zip(NAMES, ((), (("zurich", H),), ()), ((), (), ("zurich",)), strict=True)
)
MEMBERS = (NAMES, BUNDLES, ACKED, PROPOSES, NAMES, 60_000, LEAVES)
SURVIVORS = (1, D, V, NAMES, ())
ABANDONS = tuple(letter(14, "Ballot", (0, b"", b"", (), ("mayo",)), name) for name in ("charite", "st-olav"))

HELLO = (
    filled("link"),
    filled("federation_digest"),
    filled("signature", 64),
    b"",
    0,
    3,
    H,
    "0.31",
    b"a head of the receiver's log",
    PROPOSES[:1],
    ((b'{"kind":"membership"}', (("mayo", filled("approval", 64)),)),),
)

# number, class, where its bulk stands among its fields (None: it has none and is signed), their values in wire order
KINDS: Final[tuple[tuple[int, str, int | None, tuple[Any, ...]], ...]] = (
    (1, "Bundle", None, BUNDLE),
    (2, "Share", None, (BUNDLES[2], filled("edge seed"), filled("share of b"), filled("salt"), PATH)),
    (3, "Ack", None, (tuple((name, H) for name in NAMES[:2]), NAMES[2:])),
    (4, "Propose", None, GROUNDS),
    (5, "Members", None, MEMBERS),
    (6, "Held", None, (ACKS[:1], PROPOSES[:1], BUNDLES[:1])),
    (7, "Root", None, (D, ((16, 200), (61, 3)), filled("two leaves", 64))),
    (8, "Chunk", 2, (D, 300, filled("words", 64))),
    (9, "SumDigest", None, (D, 70_000, H, filled("roots"))),
    (10, "Nonce", None, (V, filled("nonce"))),
    (11, "SumChunk", 2, (D, 0, filled("words", 300))),
    (12, "Tags", None, (H, filled("two tags", 16))),
    (13, "Ready", None, (D, V)),
    (14, "Ballot", None, SURVIVORS),
    (15, "Certificate", None, (ABANDONS, b"")),
    (16, "Leave", None, (("mayo",),)),
    (17, "Reveal", None, ((("st-olav", filled("b")),),)),
    (18, "BackupShare", None, ((("mayo", filled("share of b"), filled("salt"), filled("edge"), PATH),),)),
    (19, "Confirm", None, (filled("total"), filled("model"), b'{"auc":"0.9"}', filled("cosignature", 64))),
    (20, "Want", None, ("words", (("mayo", 0, 300), ("charite", 3, 0)))),
    (21, "Total", 5, (1, 0, 61, 2, 0, filled("words", 16), 2)),
    (22, "Hello", None, HELLO),
    (23, "Opened", 3, (D, 300, "mayo", filled("words", 64))),
    (24, "Evidence", None, (READYS[:2],)),
    (25, "Behind", None, (3, b"", 0)),
    (26, "Entries", None, (3, 4, ((b'{"kind":"round"}', (("mayo", filled("cosignature", 64)),)),))),
    (27, "ModelPart", 3, (filled("model"), 1 << 20, 65_536, filled("weights", 64))),
    (28, "Handed", None, (ACKS,)),
    (29, "Changed", None, (b'{"kind":"membership"}', (("mayo", filled("approval", 64)),))),
    (30, "SiteHead", None, (b"a head of the sender's log", 12, PATH)),
    (31, "Cosigned", None, (b"a head of the receiver's log",)),
)


def plain(value: Any) -> Any:
    """As JSON: bytes in hex, arrays as lists."""
    if isinstance(value, (bytes, memoryview)):
        return value.hex()
    return list(map(plain, value)) if isinstance(value, tuple) else value


def whole() -> list[Case]:
    cases = []
    for number, kind, tail, fields in KINDS:
        data = letter(number, kind, fields) if tail is None else bulk(number, fields, fields[tail], tail)
        cases.append(
            {
                "name": f"a {kind}",
                "operation": "open",
                "data": data.hex(),
                "kind": kind,
                "envelope": plain(envelope()),
                "fields": plain(fields),
            }
        )
    survivors, abandon, gone = (D, V, (), ()), (0, b"", b"", (), ("mayo",)), (0, 0, 0, 0, 0, b"", 0)
    more = [
        ("a Ballot that abandons", "Ballot", abandon, letter(14, "Ballot", abandon)),
        ("a Ballot of one bit, no READY", "Ballot", (1, *survivors), letter(14, "Ballot", (1, *survivors))),
        ("a Total of a sum whose words are gone", "Total", gone, bulk(21, gone, b"", 5)),
    ]
    for name, kind, fields, data in more:
        cases.append(
            {
                "name": name,
                "operation": "open",
                "data": data.hex(),
                "kind": kind,
                "envelope": plain(envelope()),
                "fields": plain(fields),
            }
        )
    return cases


def ready(
    *, head: tuple[Any, ...] | None = None, fields: tuple[Any, ...] = (D, V), number: int = 13, kind: str = "Ready"
) -> bytes:
    """A letter signed over whatever its body says."""
    body = pack(((1, *envelope()) if head is None else head) + fields)
    return pack((number, body, sign(kind, body)))


def placed(place: int, value: Any) -> bytes:
    """A READY whose head has another value at `place`, counted from the version."""
    head = [1, *envelope()]
    head[place] = value
    return ready(head=tuple(head))


def raw(body: bytes, number: int = 13, kind: str = "Ready") -> bytes:
    return pack((number, body, sign(kind, body)))


def sized(size: bytes) -> bytes:
    """A Chunk of two bytes whose head spells their number like that."""
    return pack((8, pack((1, *envelope(), D, 0, 2))[:-1] + size)) + b"\0\0"


def malformed_form() -> list[tuple[str, bytes, str]]:
    good = ready()
    body = pack((1, *envelope(), D, V))
    signature = sign("Ready", body)
    long = b"\x93\x0d\xc5" + len(body).to_bytes(2, "big") + body
    deep = b"\x91" * 2000 + b"\xc0"
    return [
        ("no byte at all", b"", "msgpack"),
        ("a number alone", b"\x05", "parts"),
        ("two parts", pack((13, body)), "parts"),
        ("four parts", pack((13, body, signature, b"")), "parts"),
        ("a byte after the end", good + b"\x00", "spelling"),
        ("the last byte missing", good[:-1], "msgpack"),
        ("a map in place of the letter", b"\x81\x01\x02", "msgpack"),
        ("arrays in arrays without end", deep, "parts"),
        ("an array that claims 2³²−1 items", b"\xdd\xff\xff\xff\xff", "parts"),
        ("bytes that claim 4 GiB", b"\x93\x0d\xc6\xff\xff\xff\xff", "msgpack"),
        ("an extension type", b"\x93\x0d\xd4\x01\x00\xc4\x00", "msgpack"),
        ("kind 0", pack((0, body, signature)), "kind"),
        ("kind 32", pack((32, body, signature)), "kind"),
        ("kind true", b"\x93\xc3" + pack(body) + pack(signature), "parts"),
        ("kind as text", pack(("13", body, signature)), "parts"),
        ("a body of text", pack((13, "body", signature)), "parts"),
        ("a signature of 63 bytes", pack((13, body, signature[:-1])), "parts"),
        ("a signed kind without signature", pack((13, body, b"")), "parts"),
        ("bulk with a signature", pack((8, pack((1, *envelope(), D, 0, b"\0\0")), signature)), "bulk"),
        ("bulk with an empty signature", pack((8, pack((1, *envelope(), D, 0, b"\0\0")), b"")), "parts"),
        ("bulk with its words in the head", pack((8, pack((1, *envelope(), D, 0, b"\0\0")))), "field"),
        ("bulk with a word too few", bulk(8, (D, 0, None), b"\0\0")[:-1], "tail"),
        ("bulk with a word too many", bulk(8, (D, 0, None), b"\0\0") + b"\0", "tail"),
        ("bulk of a kind that is signed", pack((13, body)) + signature, "parts"),
        ("bulk of kind 32", pack((32, body)) + b"\0\0", "kind"),
        ("bulk whose head is cut", bulk(8, (D, 0, None), b"")[:40], "head"),
        ("bulk whose head claims 4 GiB", b"\x92\x08\xc6\xff\xff\xff\xff", "head"),
        ("bulk whose head is longer than 1 KiB", pack((8, bytes(1 << 10))), "head"),
        ("bulk with its kind in two bytes", b"\x92\xcc" + bulk(8, (D, 0, None), b"\0\0")[1:], "spelling"),
        ("bulk with a size in three bytes", sized(b"\xcd\x00\x02"), "spelling"),
        ("a kind in two bytes", b"\x93\xcc\x0d" + pack(body) + pack(signature), "spelling"),
        ("a body's length in two bytes", long + pack(signature), "spelling"),
    ]


def with_round(spelling: bytes) -> bytes:
    """A READY that spells its round, which is 12, in these bytes; signed."""
    after = pack(2) + pack(SENDER)
    return raw(pack((1, *envelope(), D, V)).replace(pack(12) + after, spelling + after))


def malformed_body() -> list[tuple[str, bytes, str]]:
    body = pack((1, *envelope(), D, V))
    return [
        ("version 0", placed(0, 0), "version"),
        ("version 2", placed(0, 2), "field"),
        ("a run of 31 bytes", placed(1, filled("run", 31)), "field"),
        ("a run of text", placed(1, "run"), "field"),
        ("a round of 2⁵³", placed(3, 1 << 53), "field"),
        ("a negative round", with_round(b"\xff"), "field"),
        ("a round that is true", with_round(b"\xc3"), "field"),
        ("a round that is a real", with_round(b"\xcb" + bytes(8)), "field"),
        ("a round that is nil", with_round(b"\xc0"), "field"),
        ("a round in two bytes", with_round(b"\xcc\x0c"), "spelling"),
        ("a sender of 32 characters", placed(5, "a" * 32), "field"),
        ("a sender that is not UTF-8", raw(body.replace(pack(SENDER), b"\xa7st-\xffla\xc3")), "msgpack"),
        ("an incarnation of 15 bytes", placed(6, bytes(15)), "field"),
        ("a field too few", ready(fields=(D,)), "field"),
        ("a field too many", ready(fields=(D, V, b"")), "field"),
        ("a map as a field", raw(body[:-34] + b"\x81\x01\x02"), "msgpack"),
        ("an empty map as a field", raw(body[:-34] + b"\x80"), "field"),
        ("a digest of 33 bytes", ready(fields=(D, V + b"\0")), "field"),
        ("a Ballot that is 2", ready(fields=(2, D, V, (), ()), number=14, kind="Ballot"), "field"),
        ("a Ballot that holds READYs", ready(fields=(1, D, V, READYS, ()), number=14, kind="Ballot"), "field"),
        (
            "a Confirm with a record",
            ready(fields=(b'{"kind":"round"}', filled("cosignature", 64)), number=19, kind="Confirm"),
            "field",
        ),
        ("a Ballot with a digest of 31 bytes", ready(fields=(1, D[:31], V, (), ()), number=14, kind="Ballot"), "field"),
        ("an Ack with rows of three", ready(fields=((("mayo", H, H),), ()), number=3, kind="Ack"), "field"),
        ("a Share without a backup", ready(fields=(b"\0", b"", b"", H, ()), number=2, kind="Share"), "field"),
        ("a Share with a long backup", ready(fields=(b"\0", b"", H + b"\0", H, ()), number=2, kind="Share"), "field"),
        ("a Share with half a seed", ready(fields=(b"\0", H[:16], H, H, ()), number=2, kind="Share"), "field"),
        ("a path of 33 steps", ready(fields=(b"\0", b"", H, H, (H,) * 33), number=2, kind="Share"), "field"),
        ("an ε that is no number", ready(fields=(*GROUNDS[:8], "0,31", H, b""), number=4, kind="Propose"), "form"),
        ("an ε with a line's end", ready(fields=(*GROUNDS[:8], "0.31\n", H, b""), number=4, kind="Propose"), "form"),
        ("a proposal on no round", ready(fields=(GROUNDS[0], None, *GROUNDS[2:]), number=4, kind="Propose"), "field"),
        ("a Root with a segment of 62 bits", ready(fields=(D, ((62, 1),), H), number=7, kind="Root"), "field"),
        ("a Root with 65 segments", ready(fields=(D, ((61, 1),) * 65, H), number=7, kind="Root"), "field"),
        ("a Chunk without words", bulk(8, (D, 0, None), b""), "field"),
        ("Tags that are a list", ready(fields=(H, (filled("tag", 8),)), number=12, kind="Tags"), "msgpack"),
        ("a Leave of 201 names", ready(fields=(("mayo",) * 201,), number=16, kind="Leave"), "field"),
        ("a BackupShare without path", ready(fields=((("mayo", H, H, H),),), number=18, kind="BackupShare"), "field"),
        ("a Want of 17 characters", ready(fields=("t" * 17, ()), number=20, kind="Want"), "field"),
        ("a Want of nobody knows what", ready(fields=("wares", ()), number=20, kind="Want"), "form"),
        ("a Want of a sixth item", ready(fields=("words", (("mayo", 5, 0),)), number=20, kind="Want"), "field"),
        ("a Want of chunk 2⁵³", ready(fields=("words", (("mayo", 0, 1 << 53),)), number=20, kind="Want"), "field"),
        ("a Total that is masked twice", bulk(21, (2, 0, 61, 1, 0, None, 1), bytes(8), 5), "field"),
        ("an Opened without words", bulk(23, (D, 0, "mayo", None), b""), "field"),
        ("an Evidence of text", ready(fields=(("mayo",),), number=24, kind="Evidence"), "field"),
    ]


def not_signed() -> list[tuple[str, bytes, str]]:
    body = pack((1, *envelope(), D, V))
    changed = pack((1, *envelope(), D, H))
    stranger = pack((1, filled("run"), 1, 12, 2, "nobody", filled("process", 16), D, V))
    return [
        ("a signature over another body", pack((13, changed, sign("Ready", body))), "signature"),
        ("a signature of the same body as a Nonce", pack((13, body, sign("Nonce", body))), "signature"),
        ("a signature by another member", pack((13, body, sign("Ready", body, "mayo"))), "signature"),
        ("a sender that is not in the roster", pack((13, stranger, sign("Ready", stranger))), "signature"),
        ("a signature of zeros", pack((13, body, bytes(64))), "signature"),
    ]


def cases() -> list[Case]:
    found = whole()
    for operation, rows in (("read", malformed_form() + malformed_body()), ("open", not_signed())):
        for name, data, reason in rows:
            found.append(
                {
                    "name": name,
                    "operation": operation,
                    "data": data.hex(),
                    "error": "Malformed",
                    "reason": reason,
                }
            )
    return found


def document() -> bytes:
    """The committed file."""
    keys = json.dumps({name: public(name).hex() for name in NAMES})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases())
    return f'{{"epoch": 1, "keys": {keys},\n"cases": [\n{lines}\n]}}\n'.encode()


def main() -> int:
    if "--check" in sys.argv:
        return int((FOLDER / FILE).read_bytes() != document())
    (FOLDER / FILE).write_bytes(document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
