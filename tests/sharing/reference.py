"""The slow obvious ones: Python integers, one word at a time, written from the specification and not from the code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pfl.sharing.field import Field


def key(name: str) -> bytes:
    """A 32-byte test key that anyone can make again: SHA-256 of its name."""
    return hashlib.sha256(name.encode()).digest()


def stream_key(seed: bytes, label: str, context: bytes) -> bytes:
    """HKDF-SHA256, no salt, info = p2pfl/1/<label> 0x00 context."""
    return HKDF(hashes.SHA256(), 32, None, b"p2pfl/1/" + label.encode() + b"\0" + context).derive(seed)


def stream_bytes(key: bytes, stream: int, first: int, count: int) -> bytes:
    """Bytes of AES-256-CTR from counter block stream‖0, by whole blocks from the one that holds byte `first`."""
    counter = stream.to_bytes(8, "big") + (first // 16).to_bytes(8, "big")
    whole = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(first % 16 + count))
    return whole[first % 16 :]


def prg_word(key: bytes, field: Field, position: int) -> tuple[int, int]:
    """(word, stream it came from)."""
    stream = 1
    while True:
        raw = stream_bytes(key, stream, position * field.word_bytes, field.word_bytes)
        word = int.from_bytes(raw, "little") % (1 << field.p.bit_length())
        if word < field.p:
            return word, stream
        stream += 1


def prg(key: bytes, field: Field, start: int, count: int) -> list[int]:
    return [prg_word(key, field, position)[0] for position in range(start, start + count)]


def mask(
    x: Sequence[int], made: Sequence[bytes], received: Sequence[bytes], own: bytes, field: Field, start: int = 0
) -> list[int]:
    """x − Σ PRG(made) + Σ PRG(received) + PRG(own), word by word."""
    result = []
    for place, word in enumerate(x):
        minus = sum(prg_word(each, field, start + place)[0] for each in made)
        plus = sum(prg_word(each, field, start + place)[0] for each in (*received, own))
        result.append((word - minus + plus) % field.p)
    return result


def complete(x: Sequence[int], rows: Sequence[Sequence[int]], field: Field) -> list[list[int]]:
    """The textbook: the last share is what is missing."""
    last = [(word - sum(row[place] for row in rows)) % field.p for place, word in enumerate(x)]
    return [*map(list, rows), last]


def edge(i: int, j: int, n: int) -> tuple[int, int]:
    """The edge between i and j, dealer first, drawn by walking the rule of the specification."""
    for dealer, far in ((i, j), (j, i)):
        if far in [(dealer + step) % n for step in range(1, (n - 1) // 2 + 1)]:
            return dealer, far
    return min(i, j), max(i, j)  # the opposite pair of an even n


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1, as its recursion is written there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


def merkle_consistency(leaves: list[bytes], old: int, *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962 §2.1.2."""
    if old == len(leaves):
        return [] if whole else [merkle_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*merkle_consistency(leaves[:split], old, whole=whole), merkle_root(leaves[split:])]
    return [*merkle_consistency(leaves[split:], old - split, whole=False), merkle_root(leaves[:split])]


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    if len(leaves) <= 1:
        return []
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    if index < split:
        return [*merkle_path(leaves[:split], index), merkle_root(leaves[split:])]
    return [*merkle_path(leaves[split:], index - split), merkle_root(leaves[:split])]


def hadamard(values: Sequence[float]) -> list[float]:
    """H·v/64 for one block of 4096, butterfly by butterfly."""
    block, half = list(values), 1
    while half < len(block):
        for first in range(0, len(block), 2 * half):
            for place in range(first, first + half):
                a, b = block[place], block[place + half]
                block[place], block[place + half] = a + b, a - b
        half *= 2
    return [value / 64.0 for value in block]


def folded_square(values: Sequence[float]) -> float:
    """Σ v², halves folded onto one another."""
    squares = [value * value for value in values]
    while len(squares) & (len(squares) - 1) or not squares:
        squares.append(0.0)
    while len(squares) > 1:
        half = len(squares) // 2
        squares = [squares[place] + squares[place + half] for place in range(half)]
    return squares[0]


def quantise(
    u: Sequence[float], field: Field, n: int, clip: float, limit: float, rotate: bool, seed: bytes, rounding: bytes
) -> list[int]:
    """Words of one vector of at most one block, rounded by the first draw (a test picks inputs that it suits)."""
    most = (field.p - 1) // (2 * n)
    square = folded_square(u)
    factor = clip / math.sqrt(square) if clip and square > clip * clip else 1.0
    values = [value * factor for value in u]
    if rotate:
        values += [0.0] * (4096 - len(values))
        bits = stream_bytes(stream_key(seed, "quantiser/rotation", b""), 1, 0, 512)
        signs = [1.0 - 2.0 * (bits[place // 8] >> place % 8 & 1) for place in range(4096)]
        values = hadamard([value * sign for value, sign in zip(values, signs, strict=True)])
    drawn = stream_bytes(stream_key(rounding, "quantiser/rounding", b""), 1, 0, 8 * len(values))
    words = []
    for place, value in enumerate(values):
        scaled = min(max(value * (most / limit), -float(most)), float(most))
        low = int(scaled // 1)
        uniform = (int.from_bytes(drawn[8 * place : 8 * place + 8], "little") >> 11) * 2.0**-53
        words.append(max(-most, min(most, low + (uniform < scaled - low))) % field.p)
    return words


def gf_times(a: int, b: int) -> int:
    """The product in GF(2⁸) as FIPS 197 §4.2 writes it: of polynomials over bits, modulo x⁸ + x⁴ + x³ + x + 1."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def shamir_split(secret: bytes, threshold: int, count: int, coefficients: bytes) -> list[bytes]:
    """Each share as the sum Σ c_j x^j at x = place + 1, byte by byte; c_0 is the secret."""
    rows = [secret, *(coefficients[len(secret) * j : len(secret) * (j + 1)] for j in range(threshold - 1))]
    shares = []
    for x in range(1, count + 1):
        power, values = 1, [0] * len(secret)
        for row in rows:
            values = [value ^ gf_times(byte, power) for value, byte in zip(values, row, strict=True)]
            power = gf_times(power, x)
        shares.append(bytes(values))
    return shares


def shamir_combine(shares: Mapping[int, bytes]) -> bytes:
    """Lagrange at 0, inverses found by trying them all."""
    length = len(next(iter(shares.values())))
    values = [0] * length
    for place, share in shares.items():
        weight = 1
        for other in shares:
            if other != place:
                quotient = next(q for q in range(256) if gf_times(q, (other + 1) ^ (place + 1)) == other + 1)
                weight = gf_times(weight, quotient)
        values = [value ^ gf_times(byte, weight) for value, byte in zip(values, share, strict=True)]
    return bytes(values)


def form_coefficients(challenge: bytes, field: Field) -> list[tuple[list[int], list[int]]]:
    """(u, v) of each form, 512 words each, one after the other in the stream under the challenge."""
    drawn = prg(stream_key(challenge, "forms", field.p.to_bytes(8, "big")), field, 0, 1024 * (8 // field.word_bytes))
    return [
        (drawn[1024 * form : 1024 * form + 512], drawn[1024 * form + 512 : 1024 * (form + 1)])
        for form in range(8 // field.word_bytes)
    ]


def form_tag(words: Sequence[int], forms: Sequence[tuple[Sequence[int], Sequence[int]]], field: Field) -> bytes:
    """Σ u[row] · word · v[column] of each form, the word at k being in row k // columns, column k % columns."""
    columns = next(side for side in range(1, 513) if side * side >= len(words))
    tag = b""
    for u, v in forms:
        value = sum(u[k // columns] * word * v[k % columns] for k, word in enumerate(words))
        tag += (value % field.p).to_bytes(field.word_bytes, "little")
    return tag


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
