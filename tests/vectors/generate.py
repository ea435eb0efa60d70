"""Write the sharing kernel's vectors: python -m tests.vectors.generate [--check].

Every expected value comes from the slow twins in tests/sharing/reference.py, which are written from the
specification, not from the code that the vectors then hold. A case has a `name`, an `operation`, its inputs, and
`expect` or `error` (the stable code of a refusal). Words are little-endian bytes in hex; keys are SHA-256 of the name
given beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from p2pfl.sharing.field import FIELDS, Field
from tests.sharing import reference
from tests.sharing.reference import key
from tests.vectors.files import Case, write

REFUSED_31 = 641_741_466  # a place that stream 1 of this key refuses in the 31-bit field, found by search
REFUSED_31_KEY = "p2pfl: a key whose 31-bit stream refuses a word"


def words(values: Sequence[int], field: Field) -> str:
    return b"".join(value.to_bytes(field.word_bytes, "little") for value in values).hex()


def stream_keys() -> list[Case]:
    cases = []
    for label, edge, segment in (("prg/edge", (0, 1), 0), ("prg/edge", (4, 0), 1), ("prg/self", (2, 2), 0)):
        run, seed = key("run"), key(f"seed {edge}")
        context = run + b"".join(value.to_bytes(8, "big") for value in (3, 12, 1))
        context += b"".join(value.to_bytes(2, "big") for value in (*edge, segment))
        cases.append(
            {
                "name": f"{label} of edge {edge}, segment {segment}",
                "operation": "stream_key",
                "seed": seed.hex(),
                "label": label,
                "run": run.hex(),
                "epoch": 3,
                "round": 12,
                "attempt": 1,
                "edge": list(edge),
                "segment": segment,
                "expect": {"context": context.hex(), "key": reference.stream_key(seed, label, context).hex()},
            }
        )
    return cases


def prg(bits: int) -> list[Case]:
    field, cases = FIELDS[bits], []
    places = [("start", "first words", 0, 40), ("start", "from an odd word", 7, 9), ("far", "far out", 10**12 + 1, 9)]
    if bits == 16:
        place = next(k for k in range(10**6) if reference.prg_word(key("start"), field, k)[1] > 1)
        places.append(("start", "stream 1 refuses the middle word", place - 2, 5))
    if bits == 31:
        places.append((REFUSED_31_KEY, "stream 1 refuses the middle word", REFUSED_31 - 2, 5))
    for name, what, start, count in places:
        cases.append(
            {
                "name": what,
                "operation": "expand",
                "bits": bits,
                "key": key(name).hex(),
                "key_name": name,
                "start": start,
                "count": count,
                "expect": words(reference.prg(key(name), field, start, count), field),
            }
        )
    return cases


def mask(bits: int) -> list[Case]:
    field, cases = FIELDS[bits], []
    made, received, own = [key("m0"), key("m1")], [key("r0"), key("r1")], key("own")
    edges = [0, 1, field.half, field.half + 1, field.p - 1]
    common = {
        "operation": "mask",
        "bits": bits,
        "made": [k.hex() for k in made],
        "received": [k.hex() for k in received],
        "own": own.hex(),
    }
    for name, x, start in (("zeros", [0] * 20, 0), ("edge values", edges * 4, 0), ("a chunk alone", edges, 1_000_003)):
        expect = words(reference.mask(x, made, received, own, field, start), field)
        cases.append({"name": name, **common, "x": words(x, field), "start": start, "expect": expect})
    bad = words([0, field.p, 0], field)
    cases.append({"name": "a word of p", **common, "x": bad, "start": 0, "error": "P2P-SHARE-004"})
    return cases


def split() -> list[Case]:
    cases: list[Case] = []
    for bits, field in FIELDS.items():
        x, rand = [0, field.p - 1, 5], key("one") + key("two")
        rows = [reference.prg(each, field, 0, 3) for each in (key("one"), key("two"))]
        common: Case = {"operation": "split", "bits": bits, "x": words(x, field)}
        shares = [words(row, field) for row in reference.complete(x, rows, field)]
        cases += [
            {"name": f"three shares, {bits} bits", **common, "n": 3, "rand": rand.hex(), "expect": shares},
            {"name": "one byte short", **common, "n": 3, "rand": rand[1:].hex(), "error": "P2P-SHARE-009"},
            {"name": "one byte over", **common, "n": 3, "rand": rand.hex() + "00", "error": "P2P-SHARE-009"},
            {"name": "one share", **common, "n": 1, "rand": "", "error": "P2P-SHARE-009"},
            {
                "name": "a word of p",
                **common,
                "x": words([field.p], field),
                "n": 3,
                "rand": rand.hex(),
                "error": "P2P-SHARE-004",
            },
        ]
    return cases


def field() -> list[Case]:
    cases: list[Case] = []
    for bits, each in FIELDS.items():
        top, size = (1 << each.word_bits) - 1, each.word_bytes
        common: Case = {"operation": "from_bytes", "bits": bits}
        good = [0, 1, each.half, each.half + 1, each.p - 1]
        signed = [value if value <= each.half else value - each.p for value in good]
        cases += [
            {"name": "edge values", **common, "data": words(good, each), "count": 5, "expect": signed},
            {"name": "p", **common, "data": words([1, each.p], each), "count": 2, "error": "P2P-SHARE-002"},
            {"name": "all bits", **common, "data": words([top], each), "count": 1, "error": "P2P-SHARE-002"},
            {
                "name": "half a word",
                **common,
                "data": bytes(size + size // 2).hex(),
                "count": 1,
                "error": "P2P-SHARE-003",
            },
            {"name": "a word short", **common, "data": bytes(size).hex(), "count": 2, "error": "P2P-SHARE-003"},
            {"name": "a word over", **common, "data": bytes(3 * size).hex(), "count": 2, "error": "P2P-SHARE-003"},
        ]
    return cases


def quantiser() -> list[Case]:
    u = [0.0, 0.5, -0.5, 0.1, -0.1, 1.0, -1.0, 1e-9, 3.0, -3.0]
    cases: list[Case] = []
    for bits, rotate, clip in ((16, False, 0.0), (16, True, 0.0), (31, False, 2.0), (61, False, 0.0)):
        common = {
            "operation": "quantise",
            "bits": bits,
            "n": 5,
            "clip": clip,
            "limit": 1.5,
            "rotate": rotate,
            "rotation_seed": key("rotation").hex(),
            "rounding": key("rounding").hex(),
            "u": u,
        }
        found = reference.quantise(u, FIELDS[bits], 5, clip, 1.5, rotate, key("rotation"), key("rounding"))
        expect = {
            "first_words": words(found[:64], FIELDS[bits]),
            "sha256": reference.sha256(bytes.fromhex(words(found, FIELDS[bits]))).hex(),
        }
        cases.append({"name": f"{bits} bits, rotate {rotate}, clip {clip}", **common, "expect": expect})
    plain = {**cases[0]}
    del plain["expect"]
    return [
        *cases,
        {**plain, "name": "not a number", "u": ["nan"], "error": "P2P-SHARE-008"},
        {**plain, "name": "infinite", "u": [0.0, "inf"], "error": "P2P-SHARE-008"},
        {**plain, "name": "a limit of zero", "limit": 0.0, "error": "P2P-SHARE-006"},
        {**plain, "name": "a negative clip", "clip": -1.0, "error": "P2P-SHARE-006"},
        {**plain, "name": "more peers than the field holds", "n": 32761, "error": "P2P-SHARE-005"},
    ]


def fixed_point() -> list[Case]:
    common: Case = {"operation": "fixed_point", "n": 5, "limit": "1000", "decimals": 2}
    p = FIELDS[61].p
    return [
        {
            "name": "half to even",
            **common,
            "values": ["0.005", "0.015", "-0.005", "-0.015", "1000", "-1000"],
            "expect": words([0, 2, 0, p - 2, 100_000, p - 100_000], FIELDS[61]),
        },
        {"name": "over the limit", **common, "values": ["0", "1000.001"], "error": "P2P-SHARE-007"},
        {"name": "far over the limit", **common, "values": ["-1e400000"], "error": "P2P-SHARE-007"},
        {"name": "no number", **common, "values": ["1,5"], "error": "P2P-SHARE-008"},
        {"name": "not a number", **common, "values": ["nan"], "error": "P2P-SHARE-008"},
        {"name": "could wrap", **common, "limit": "1e16", "values": [], "error": "P2P-SHARE-005"},
        {"name": "a limit of zero", **common, "limit": "0", "values": [], "error": "P2P-SHARE-006"},
        {"name": "too many decimals", **common, "decimals": 19, "values": [], "error": "P2P-SHARE-006"},
    ]


def graph() -> list[Case]:
    return [
        {
            "name": f"{n} peers",
            "operation": "graph",
            "n": n,
            "expect": sorted(list(reference.edge(i, j, n)) for i in range(n) for j in range(i)),
        }
        for n in (3, 4, 5, 6, 7, 10)
    ]


def merkle() -> list[Case]:
    cases: list[Case] = []
    for size, index in ((1, 0), (2, 1), (5, 4), (7, 3), (8, 0)):
        leaves = [bytes([number]) * number for number in range(size)]
        path = [step.hex() for step in reference.merkle_path(leaves, index)]
        common: Case = {
            "operation": "merkle",
            "leaves": [leaf.hex() for leaf in leaves],
            "index": index,
            "root": reference.merkle_root(leaves).hex(),
        }
        cases.append({"name": f"leaf {index} of {size}", **common, "path": path, "expect": True})
        altered = [*path, "00" * 32]
        cases.append({"name": f"leaf {index} of {size}, a step too many", **common, "path": altered, "expect": False})
        if path:
            cases.append({"name": f"leaf {index} of {size}, a step short", **common, "path": path[1:], "expect": False})
    return cases


def shamir() -> list[Case]:
    cases: list[Case] = []
    for threshold, count, size in ((1, 1, 1), (2, 3, 32), (3, 5, 32), (4, 7, 5), (13, 20, 32), (3, 255, 2)):
        secret = key(f"secret of {count}")[:size]
        coefficients = b"".join(key(f"coefficients {row} of {count}")[:size] for row in range(1, threshold))
        shares = reference.shamir_split(secret, threshold, count, coefficients)
        cases.append(
            {
                "name": f"{threshold} of {count}, {size} bytes",
                "operation": "shamir",
                "secret": secret.hex(),
                "threshold": threshold,
                "count": count,
                "coefficients": coefficients.hex(),
                "expect": [share.hex() for share in shares],
            }
        )
        last = {place: shares[place] for place in range(count - threshold, count)}
        wrong = {**last, count - 1: bytes(byte ^ 1 for byte in last[count - 1])}
        for what, some in (("last shares combined", last), ("the very last one wrong", wrong)):
            cases.append(
                {
                    "name": f"{threshold} of {count}, {what}",
                    "operation": "combine",
                    "shares": {str(place): share.hex() for place, share in some.items()},
                    "expect": reference.shamir_combine(some).hex(),
                }
            )
    return cases


def forms() -> list[Case]:
    cases: list[Case] = []
    for bits, field in FIELDS.items():
        challenge, p, size = key(f"challenge of {bits}"), field.p, field.word_bytes
        drawn = reference.form_coefficients(challenge, field)
        common: Case = {"operation": "tag", "bits": bits, "challenge": challenge.hex()}
        chunks = {
            "one word": [1],
            "two words, one row": [p - 1, 2],
            "three words, a row not full": [1, 2, 3],
            "edge values": [0, 1, field.half, field.half + 1, p - 1],
            "all p − 1": [p - 1] * 50,
            "zeros": [0] * 7,
            "a hundred": reference.prg(key("chunk"), field, 0, 100),
        }
        for name, x in chunks.items():
            tag = reference.form_tag(x, drawn, field)
            cases.append({"name": f"{name}, {bits} bits", **common, "x": words(x, field), "expect": tag.hex()})
        # Longer chunks by their key: vectors stay small.
        for count in (1000, 40_000):
            tag = reference.form_tag(reference.prg(key("chunk"), field, 0, count), drawn, field)
            cases.append(
                {
                    "name": f"{count} words of a stream, {bits} bits",
                    **common,
                    "key": key("chunk").hex(),
                    "count": count,
                    "expect": tag.hex(),
                }
            )
        tags = [words([p - 1] * (8 // size), field), words([2, *[0] * (8 // size - 1)], field)]
        total = words([1, *[p - 1] * (8 // size - 1)], field)
        plus: Case = {"operation": "add_tags", "bits": bits}
        cases += [
            {"name": f"two tags added, {bits} bits", **plus, "tags": tags, "expect": total},
            {
                "name": "a word of a tag is p",
                **plus,
                "tags": [tags[0], words([p], field) + tags[1][2 * size :]],
                "error": "P2P-SHARE-002",
            },
            {"name": "a tag is a word short", **plus, "tags": [tags[0], tags[1][2 * size :]], "error": "P2P-SHARE-003"},
            {"name": "a tag is a word over", **plus, "tags": [tags[0] + "00" * size], "error": "P2P-SHARE-003"},
            {"name": "no tags", **plus, "tags": [], "error": "P2P-SHARE-009"},
            {"name": "a chunk with a word of p", **common, "x": words([1, p], field), "error": "P2P-SHARE-004"},
        ]
    return cases


FILES: dict[str, Callable[[], list[Case]]] = {
    "stream-keys.json": stream_keys,
    **{f"prg-{bits}.json": (lambda bits=bits: prg(bits)) for bits in FIELDS},
    **{f"mask-{bits}.json": (lambda bits=bits: mask(bits)) for bits in FIELDS},
    "split.json": split,
    "shamir.json": shamir,
    "forms.json": forms,
    "field.json": field,
    "quantiser.json": quantiser,
    "fixed-point.json": fixed_point,
    "graph.json": graph,
    "merkle.json": merkle,
}


if __name__ == "__main__":
    sys.exit(write(FILES, sys.argv[1:]))
