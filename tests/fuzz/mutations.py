"""How valid bytes are spoilt: bits, cuts, splices, huge lengths, deep nesting. One list for all who draw.

`choose(n)` gives a whole number below n: whoever calls decides where it comes from, so that the same moves are drawn by
Hypothesis (and shrunk), by a fuzzer that watches the coverage, and by a seeded generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Choose = Callable[[int], int]

MOST_MOVES: Final = 4
LENGTHS: Final = (
    b"\xff",
    b"\xff" * 2,
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\x00\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\x84\xff\xff\xff\xff",
    b"99999999999999999999",
)
OPENERS: Final = (b"\x91", b"\xdc\x03\x28", b"[", b'{"a":', b"\x30\x80", b"{a: ", b"- ", b'"', b"(", b"\x81\xa1a")
ODD: Final = (
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b'"\\U00110000"',
    b'"\\ud800"',
    b"%YAML 1." + b"9" * 5000 + b"\n---\n",
    b"NaN",
    b"1e999",
    b"-0",
    b"1" * 5000,
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"!!python/object:os.system ",
    b"&a ",
    b"*a ",
)


def nested(opener: bytes, depth: int) -> bytes:
    """`opener`, `depth` times, and never closed."""
    return opener * depth


BOMBS: Final = tuple(nested(opener, depth) for opener in OPENERS for depth in (7, 60, 900, 20_000)) + tuple(
    length * times for length in LENGTHS for times in (1, 3)
)


def mutated(samples: Sequence[bytes], choose: Choose) -> bytes:
    """One of the samples after a few moves."""
    data = samples[choose(len(samples))]
    for _ in range(1 + choose(MOST_MOVES)):
        data = MOVES[choose(len(MOVES))](data, samples, choose)
    return data


def _place(data: bytes, choose: Choose) -> int:
    return choose(len(data) + 1)


def _flip(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    if not data:
        return b"\0"
    at = choose(len(data))
    return data[:at] + bytes([data[at] ^ (1 << choose(8))]) + data[at + 1 :]


def _byte(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    at = _place(data, choose)
    return data[:at] + bytes([choose(256)]) + data[at + 1 :]


def _cut(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    return data[: _place(data, choose)]


def _drop(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    at = _place(data, choose)
    return data[:at] + data[at + 1 + choose(9) :]


def _again(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    at = _place(data, choose)
    size = 1 + choose(64)
    return data[: at + size] + data[at:]


def _splice(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    other = samples[choose(len(samples))]
    return data[: _place(data, choose)] + other[_place(other, choose) :]


def _length(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    at, length = _place(data, choose), LENGTHS[choose(len(LENGTHS))]
    return data[:at] + length + data[at + len(length) * choose(2) :]


def _nest(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    at = _place(data, choose)
    return data[:at] + nested(OPENERS[choose(len(OPENERS))], 1 + choose(1200)) + data[at:]


def _odd(data: bytes, samples: Sequence[bytes], choose: Choose) -> bytes:
    at = _place(data, choose)
    return data[:at] + ODD[choose(len(ODD))] + data[at:]


MOVES: Final = (_flip, _byte, _cut, _drop, _again, _splice, _length, _nest, _odd)
