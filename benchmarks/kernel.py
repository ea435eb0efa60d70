"""How fast one core masks: PRG + mask + add, beside the bare AES-256-CTR keystream and memcpy of the same run.

A masked vector of five peers takes five expansions (two edges made, two received, the self-mask); "GB/s of field words"
counts each expanded and added word once. The keystream is that of `cryptography`, into one block that stays in cache:
nothing that expands AES-256-CTR through it can be faster. memcpy copies the vector, from and to main memory.
Where the compiled loops are (`machine` says so), numpy's time for the same stands beside theirs.
"tag" makes the random linear forms of all chunks of one vector, those of the challenge included; a peer tags twice as
many words as it masks, its own masked chunks and their sums, and the row below says what that is beside the masking.
The last rows say where a 128 KiB block's time goes, by numpy.

    python benchmarks/kernel.py [--megabytes 64] [--rounds 9] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Finding, interleave, machine, rates, ratios, show
from p2pfl.sharing import kernel
from p2pfl.sharing.chunks import CHUNK_BYTES
from p2pfl.sharing.field import BLOCK_BYTES, FIELDS, Accumulator, Field, Words
from p2pfl.sharing.forms import Forms
from p2pfl.sharing.masking import mask
from p2pfl.sharing.prg import Keystream, Stream, expand
from p2pfl.sharing.quantiser import Quantiser

PROMISED_GB_PER_S = 1.5
STREAMS = 5
REPEATS = 50  # of a block, in the rows that take one apart
KEYS = [hashlib.sha256(f"benchmark {number}".encode()).digest() for number in range(STREAMS)]


def keystream(count: int) -> Callable[[], None]:
    """Draw `count` bytes of AES-256-CTR keystream, block by block into one buffer."""
    block = np.empty(BLOCK_BYTES, np.uint8)

    def draw() -> None:
        stream = Keystream(KEYS[0], 1)
        for _ in range(count // BLOCK_BYTES):
            stream.fill(block)

    return draw


def by_numpy(step: Callable[[], object]) -> Callable[[], None]:
    """`step` without the compiled loops."""

    def run() -> None:
        loops, kernel.COMPILED = kernel.COMPILED, None
        try:
            step()
        finally:
            kernel.COMPILED = loops

    return run


def tags(field: Field, x: Words) -> Callable[[], None]:
    """Tag every chunk of x (m,) under one challenge."""
    step = CHUNK_BYTES // field.word_bytes

    def run() -> None:
        forms = Forms(KEYS[0], field)
        for first in range(0, x.size, step):
            forms.tag(x[first : first + step])

    return run


def whole(field: Field, size: int, rounds: int) -> list[Finding]:
    """Masking, keystream and memcpy of vectors of `size` bytes, taking turns."""
    x = expand(KEYS[0], field, 0, size // field.word_bytes)  # written: untouched pages are one page of zeros
    y = x.copy()
    made, received, own = KEYS[:2], KEYS[2:4], KEYS[4]
    quantiser = Quantiser(field, STREAMS, 0.0, 1.0, field.bits == 16)
    u = np.linspace(-0.1, 0.1, 262_144)
    words, _ = quantiser.quantise(u, KEYS[0], KEYS[1])
    seconds = interleave(
        {
            "numpy": by_numpy(lambda: mask(x, made, received, own, field=field, out=y)),
            "mask": lambda: mask(x, made, received, own, field=field, out=y),
            "keystream": keystream(STREAMS * size),
            "memcpy": lambda: np.copyto(y, x),
            "sum": lambda: field.sum([x] * STREAMS, out=y),
            "tag": tags(field, x),
            "quantise": lambda: quantiser.quantise(u, KEYS[0], KEYS[1]),
            "dequantise": lambda: quantiser.dequantise(words, KEYS[0], u.size),
        },
        rounds,
    )
    masked, bare = rates(STREAMS * size / 1e9, seconds["mask"]), rates(STREAMS * size / 1e9, seconds["keystream"])
    copied = rates(size / 1e9, seconds["memcpy"])
    twice = tuple(2 * each for each in ratios(seconds["tag"], seconds["mask"]))
    name = f"{field.name}-bit"
    return [
        Finding(f"{name} PRG + mask + add", masked, "GB/s", at_least=PROMISED_GB_PER_S),
        Finding(f"{name} … / bare AES-256-CTR keystream", ratios(masked, bare)),
        Finding(f"{name} … / memcpy", ratios(masked, copied)),
        Finding(f"{name} … / the same by numpy", ratios(seconds["numpy"], seconds["mask"])),
        Finding(f"{name} bare AES-256-CTR keystream", bare, "GB/s"),
        Finding(f"{name} memcpy", copied, "GB/s"),
        Finding(f"{name} sum of {STREAMS} vectors", rates(STREAMS * size / 1e9, seconds["sum"]), "GB/s"),
        Finding(f"{name} tag", rates(size / 1e9, seconds["tag"]), "GB/s"),
        Finding(f"{name} time of two tags / of PRG + mask + add", twice),
        Finding(f"{name} quantise", rates(u.size / 1e6, seconds["quantise"]), "Mfloat/s"),
        Finding(f"{name} dequantise", rates(u.size / 1e6, seconds["dequantise"]), "Mfloat/s"),
    ]


def parts(field: Field, rounds: int) -> list[Finding]:
    """Microseconds of each step on one block: keystream, the whole fill with its refusals, one addition, the end."""
    words = field.zeros(BLOCK_BYTES // field.word_bytes)
    bare, stream, total = Keystream(KEYS[0], 1), Stream(KEYS[0], field), Accumulator(field)
    stream.fill(words)
    total.load(words)
    copy = words.copy()
    steps: dict[str, Callable[[], object]] = {
        "keystream": lambda: bare.fill(copy),
        "keystream, top bits, refused words": lambda: stream.fill(copy),
        "add": lambda: total.add(words),
        "subtract": lambda: total.subtract(words),
        "load": lambda: total.load(words),
        "store": lambda: total.store(copy),
    }
    seconds = interleave({name: _repeat(step) for name, step in steps.items()}, rounds)
    return [
        Finding(f"{field.name}-bit block: {name}", tuple(each / REPEATS * 1e6 for each in taken), "µs")
        for name, taken in seconds.items()
    ]


def _repeat(step: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(REPEATS):
            step()

    return run


def measure(megabytes: float, rounds: int) -> list[Finding]:
    """All findings, for vectors of that many megabytes."""
    size = max(BLOCK_BYTES, int(megabytes * 1e6) // BLOCK_BYTES * BLOCK_BYTES)
    return [
        *(finding for field in FIELDS.values() for finding in whole(field, size, rounds)),
        *(finding for field in FIELDS.values() for finding in parts(field, rounds)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="PRG + mask + add on one core, beside AES-256-CTR and memcpy")
    parser.add_argument("--megabytes", type=float, default=64.0, help="length of the vector")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    findings = measure(arguments.megabytes, arguments.rounds)
    return show("kernel: one core", findings, machine("numpy", "cryptography"), as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
