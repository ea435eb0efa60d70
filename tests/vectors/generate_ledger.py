"""Write the ledger's vectors: python -m tests.vectors.generate_ledger [--check].

Every expected value comes from a stranger's program: the standard library and `cryptography`, nothing of p2pfl. So a
verifier in another language can be held to the same files. A case has a `name`, an `operation`, its inputs, `expect`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.files import Case, write


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def canonical(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


SALT = "cd" * 16  # of an entry of a site log


def start(time: int) -> bytes:
    """A record of the kind `start`."""
    held = {"kind": "start", "time": time, "version": "0.1.0", "python": "3.11.9", "incarnation": "00" * 16}
    return canonical({**held, "salt": SALT})


HASH = "ab" * 32


def round_(number: int, base: bytes, **changed: Any) -> bytes:
    """A record of the kind `round`, which rests on the record that `base` names."""
    held = {
        "kind": "round",
        "run": HASH,
        "epoch": 1,
        "round": number,
        "attempt": 0,
        "rests_on": max(number - 2, 0),
        "base": base.hex(),
        "survivors": ["charite", "st-olav", "ucl"],
        "left_out": ["uppsala"],
        "attempt_digest": HASH,
        "view": HASH,
        "total": HASH,
        "model_before": HASH,
        "model_after": HASH,
        "configuration": {"purpose": "training"},
        "outcome": {},
        "epsilon": {"charite": "0.5", "ucl": ""},
        "site_heads": {"charite": HASH},
        "time_ms": 1_700_000_000_000,
        "salt": HASH,
        **changed,
    }
    return canonical(held)


def base_of(record: bytes) -> bytes:
    """How a round's record is named by the one that rests on it."""
    return sha(b"p2pfl/1/base\0" + len(record).to_bytes(8, "big") + record)


PLACE = {"time": 1, "salt": SALT, "run": HASH, "epoch": 1, "round": 2, "attempt": 3}
LEFT = canonical({"kind": "left", **PLACE, "lacking": ["ucl"], "sent": True})
BREACH = canonical({"kind": "breach", **PLACE, "peer": "ucl", "code": "P2P-ROUND-019", "proof": None})
QUERY = canonical(
    {
        "kind": "query",
        "time": 1,
        "salt": SALT,
        "run": HASH,
        "round": 2,
        "attempt": 0,
        "query": "salary",
        "data": HASH,
        "members": ["charite", "st-olav", "ucl"],
    }
)
ACTS = canonical(
    {
        "kind": "acts",
        "time": 1,
        "salt": SALT,
        "acts": [{"command": "withdraw", "options": {"at": 1_700_000_000, "records": 1, "times": 1}}],
    }
)
NO_ACTS = canonical({"kind": "acts", "time": 1, "salt": SALT, "acts": []})


def entry_hash(previous: bytes, record: bytes) -> bytes:
    parts = b"".join(len(part).to_bytes(8, "big") + part for part in (previous, record))
    return sha(b"p2pfl/1/entry\0" + parts)


def tree_root(hashes: list[bytes]) -> bytes:
    """RFC 6962 §2.1, as the text has it."""
    if not hashes:
        return sha(b"")
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha(b"\x01" + tree_root(hashes[:split]) + tree_root(hashes[split:]))


def chain() -> list[Case]:
    cases = []
    for count in (0, 1, 2, 3, 5, 8):
        records = [start(1_700_000_000 + number) for number in range(count)]
        hashes, previous = [], bytes(32)
        for record in records:
            previous = entry_hash(previous, record)
            hashes.append(previous.hex())
        root = tree_root([sha(b"\x00" + record) for record in records])
        cases.append(
            {
                "name": f"{count} entries",
                "operation": "chain",
                "records": [record.decode() for record in records],
                "expect": {"hashes": hashes, "root": root.hex()},
            }
        )
    first = round_(1, bytes(32))
    third = round_(3, base_of(first))  # round 2 was left behind
    cases.append(
        {
            "name": "rounds that rest on each other",
            "operation": "rests",
            "records": [first.decode(), third.decode(), round_(5, base_of(third)).decode()],
            "expect": [bytes(32).hex(), base_of(first).hex(), base_of(third).hex()],
        }
    )
    for name, record in (
        ("a round left behind", LEFT),
        ("a breach without proof", BREACH),
        ("a query", QUERY),
        ("what people did", ACTS),
        ("a round in which nobody did anything", NO_ACTS),
    ):
        cases.append({"name": name, "operation": "kind", "record": record.decode(), "expect": json.loads(record)})
    good = start(1)
    for name, bad in (
        ("blanks", good.replace(b",", b", ")),
        ("keys out of order", b'{"version":"0.1.0","kind":"start","time":1}'),
        ("a float", good.replace(b'"time":1', b'"time":1.0')),
        ("a field too many", good[:-1] + b',"weather":"fine"}'),
        ("a field missing", good.replace(b'"time":1,', b"")),
        ("negative time", good.replace(b'"time":1', b'"time":-1')),
        ("an unknown kind", good.replace(b'"start"', b'"weather"')),
        ("a duplicate key", good[:-1] + b',"version":"0.1.0"}'),
        ("not JSON", b"\xff" + good),
        ("a round that names nothing that it rests on", round_(1, b"")),
        ("a round that says whom it left out with a number", round_(1, bytes(32), left_out=1)),
        ("a round left behind, of which a number says that its update was sent", LEFT.replace(b"true", b"1")),
        ("a breach with half a digest", BREACH.replace(b"null", b'"' + b"ab" * 16 + b'"')),
        ("what people did, and where", ACTS.replace(b'"command"', b'"at":"ward","command"')),
        ("an entry of a site log without a salt", NO_ACTS.replace(f',"salt":"{SALT}"'.encode(), b"")),
        ("an entry of a site log with half a salt", NO_ACTS.replace(SALT.encode(), SALT[:16].encode())),
        ("a query of no attempt", QUERY.replace(b'"attempt":0,', b"")),
    ):
        cases.append({"name": name, "operation": "record", "record": bad.hex(), "expect": "refused"})
    return cases


def note(origin: str, size: int, root: bytes, extensions: list[str], name: str, seed: bytes) -> tuple[str, bytes, str]:
    """The text, the public key, and the signed note."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    lines = [origin, str(size), base64.b64encode(root).decode(), *extensions]
    text = "".join(line + "\n" for line in lines)
    key_id = sha(name.encode() + b"\n" + b"\xff" + b"p2pfl/1/head" + public)[:4]
    signature = key.sign(b"p2pfl/1/head\0" + text.encode())
    return text, public, f"{text}\n— {name} {base64.b64encode(key_id + signature).decode()}\n"


def head() -> list[Case]:
    cases: list[Case] = []
    heads = (
        ("a site log", "p2pfl/1/site/charite", 12, ["federation 7 " + base64.b64encode(sha(b"f")).decode()]),
        ("a federation log", "p2pfl/1/federation/" + "0a" * 16, 1, []),
    )
    for title, origin, size, extensions in heads:
        seed, root = sha(title.encode()), sha(origin.encode())
        text, key, signed = note(origin, size, root, extensions, "charite", seed)
        common = {"operation": "head", "signer": "charite", "key": key.hex()}
        cases.append(
            {
                "name": title,
                **common,
                "seed": seed.hex(),
                "origin": origin,
                "size": size,
                "root": root.hex(),
                "extensions": extensions,
                "note": signed,
                "expect": "signed",
            }
        )
        line = signed.split("\n\n")[1]
        for name, bad, expect in (
            ("another size", signed.replace(f"\n{size}\n", f"\n{size + 1}\n"), "unsigned"),
            ("another signer's name", signed.replace("— charite", "— st-olav"), "unsigned"),
            ("one more line", text + "more\n\n" + line, "unsigned"),
            ("a size with a zero in front", signed.replace(f"\n{size}\n", f"\n0{size}\n"), "malformed"),
            ("no signature", text, "malformed"),
            ("no empty line", text + line, "malformed"),
            ("a signature cut", signed[:-6] + "\n", "malformed"),
            ("a hyphen for the dash", signed.replace("— ", "- "), "malformed"),
            ("Windows line ends", signed.replace("\n", "\r\n"), "malformed"),
        ):
            cases.append({"name": f"{title}, {name}", **common, "note": bad, "expect": expect})
    return cases


def segment() -> list[Case]:
    key, salt = sha(b"segment key"), sha(b"segment salt")
    front = b"p2pfl/1/segment\0" + salt
    whole, ends, previous = front, [], bytes(32)
    for number in range(3):
        record = start(number)
        signatures = b"".join(bytes((len(name),)) + name + bytes((number,)) * 64 for name in (b"charite", b"ucl"))
        opened = struct.pack(">BQI32sI", 1, number, number, previous, len(record)) + record + signatures
        frame_head = struct.pack(">4sII", b"\xf7P2\xa4", number, len(opened) + 16)
        sealed = AESGCM(key).encrypt(bytes(8) + number.to_bytes(4, "big"), opened, front + frame_head)
        whole += frame_head + sealed
        ends.append(len(whole))
        previous = entry_hash(previous, record)
    common = {"operation": "segment", "key": key.hex()}
    flipped = bytearray(whole)
    flipped[ends[0] + 40] ^= 1
    cases = [
        {"name": "three frames", "segment": whole.hex(), "salt": salt.hex(), "expect": {"frames": 3, "damage": None}},
        {"name": "no frame", "segment": front.hex(), "expect": {"frames": 0, "damage": None}},
        {"name": "cut in a frame", "segment": whole[: ends[1] + 30].hex(), "expect": {"frames": 2, "damage": "torn"}},
        {"name": "cut in a head", "segment": whole[: ends[1] + 5].hex(), "expect": {"frames": 2, "damage": "torn"}},
        {"name": "cut in the header", "segment": front[:20].hex(), "expect": {"frames": 0, "damage": "torn"}},
        {"name": "a byte changed", "segment": bytes(flipped).hex(), "expect": {"frames": 1, "damage": "tampered"}},
        {
            "name": "a frame left out",
            "segment": (whole[: ends[0]] + whole[ends[1] :]).hex(),
            "expect": {"frames": 1, "damage": "tampered"},
        },
        {
            "name": "a frame twice",
            "segment": (whole + whole[ends[1] :]).hex(),
            "expect": {"frames": 3, "damage": "tampered"},
        },
        {
            "name": "another salt",
            "segment": (whole[:16] + bytes(32) + whole[48:]).hex(),
            "expect": {"frames": 0, "damage": "tampered"},
        },
        {
            "name": "another version",
            "segment": whole.replace(b"/1/", b"/2/", 1).hex(),
            "expect": {"frames": 0, "damage": "tampered"},
        },
    ]
    return [{**case, **common} for case in cases]


FILES: dict[str, Callable[[], list[Case]]] = {
    "ledger-chain.json": chain,
    "ledger-head.json": head,
    "ledger-segment.json": segment,
}


if __name__ == "__main__":
    sys.exit(write(FILES, sys.argv[1:]))
