"""Every hash by which a round binds something, on one page: what is hashed, under which label, and what for.

`digest(label, …)` is SHA-256 over p2pfl/1/<label>\\0 and each part behind its length (keys.py), so no two labels and no
two lists of parts collide. § is the section of docs/spec/sharing.md; D and V are its names for `attempt_digest` and
`view_digest`. `Letter.digest`, of which some of these are made, is in messages/letters.py, Merkle trees in merkle.py.
Words, of which there may be gigabytes, are hashed by BLAKE3 first (`bulk_digest`).

| what | label | binds | § |
|---|---|---|---|
| `commitment` | commitment/self-mask, commitment/nonce | a dealer to a secret that it opens later | 3 |
| `edge_commitment` | edge | a dealer to an edge's seed, which is never opened | 3 |
| `share_leaf` | share | a dealer to one peer's share | 3 |
| `base_digest` | base | a proposal to the record that it rests on | 4 |
| `attempt_digest` | attempt | everyone to the set U, and what it would sum: D | 4 |
| `chunk_leaf` | chunk | an author to one chunk of its masked vector | 5 |
| `sum_digest` | sum | an owner to one chunk of the masked sum | 6 |
| `roots_digest` | roots | an owner to the Roots that it summed under | 6 |
| `view_digest` | view | everyone to all chunks of the masked sum: V | 6 |
| `challenge` | challenge | the random forms to V and to every member's nonce | 6 |
| `total_digest` | total | a record to the sum | 9 |
| `record_salt` | salt | nothing: it hides a record behind its exported hash | 9 |
| `leaving_draw` | leaves | a coordinator to its draw, once its nonce is open | 4.2 |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from p2pfl import merkle
from p2pfl.codec import Buffer
from p2pfl.keys import digest
from p2pfl.messages import Letter, Members, Root

if TYPE_CHECKING:  # numpy, and BLAKE3, are loaded where words are hashed: who reads a ledger hashes none
    from p2pfl.sharing.events import Vector, Words

# ── SHARE, PROPOSE ────────────────────────────────────────────────────────────────────────────────────────────


def commitment(kind: str, value: bytes) -> bytes:
    """Binds a dealer to 32 secret bytes; they are uniform, so they need no salt. `kind`: "self-mask" or "nonce"."""
    return digest("commitment/" + kind, value)


def edge_commitment(salt: bytes, seed: bytes) -> bytes:
    """Binds a dealer to the 32-byte seed of an edge, or to there being none (empty)."""
    return digest("edge", salt, seed)


def share_leaf(salt: bytes, edge: bytes, backup: bytes) -> bytes:
    """The Merkle leaf, not yet hashed as one, of a dealer's share for one peer; salted: the root tells nothing of it.

    edge   the `edge_commitment`, not the seed: so a backup share can be shown while the seed stays with its two ends
    """
    return digest("share", salt, edge, backup)


def base_digest(record: bytes) -> bytes:
    """Names a round's record, for the proposals that rest on it."""
    return digest("base", record)


def attempt_digest(members: Letter[Members]) -> bytes:
    """D: binds the envelope (run, epoch, round, attempt) and U with its acks, proposals, owners and deadline."""
    return digest("attempt", members.signed)


def leaving_draw(round: int, attempt: int, nonce: bytes) -> int:
    """A number below 2⁶⁴ by which a coordinator drops one of several peers that hold nothing of one another.

    nonce   the coordinator's own, which nobody else knows yet: who could foresee the draw would disagree where it wins
    """
    return int.from_bytes(digest("leaves", _eight(round), _eight(attempt), nonce)[:8], "big")


def bulk_digest(data: Buffer) -> bytes:
    """BLAKE3 of words, 32 bytes. What is signed, or stands in a record, is a digest of it and its place. docs/adr/0067.

    data   contiguous
    """
    from blake3 import blake3

    return blake3(memoryview(data).cast("B")).digest()


# ── MASK, GATHER ──────────────────────────────────────────────────────────────────────────────────────────────


def chunk_leaf(attempt: bytes, index: int, data: Buffer) -> bytes:
    """The Merkle leaf, not yet hashed as one, of one masked chunk: bound to its attempt D and its place."""
    return digest("chunk", attempt, _eight(index), bulk_digest(data))


def leaf_in_root(root: Root, index: int) -> bytes:
    """The leaf hash that a Root gives for chunk `index`; empty when it has no such chunk."""
    return root.leaves[merkle.HASH_BYTES * index : merkle.HASH_BYTES * (index + 1)]


def sum_digest(attempt: bytes, index: int, words: Words) -> bytes:
    """H(Y_k): over D, k and the little-endian words (count,) of chunk k of the masked sum."""
    from p2pfl.sharing.field import bytes_of

    return digest("sum", attempt, _eight(index), bulk_digest(bytes_of(words)))


def roots_digest(roots: Iterable[Letter[Root]]) -> bytes:
    """Names the Roots of U, in order, that a chunk was summed under: none can be exchanged afterwards."""
    return digest("roots", *(letter.digest for letter in roots))


def view_digest(attempt: bytes, digests: Sequence[bytes]) -> bytes:
    """V: over D and the `sum_digest` of every chunk, in order."""
    return digest("view", attempt, *digests)


def challenge(attempt: bytes, view: bytes, nonces: Sequence[bytes]) -> bytes:
    """What the forms are expanded from: one honest nonce is enough to keep it unknown until V is fixed."""
    return digest("challenge", attempt, view, *nonces)


# ── CONFIRM ───────────────────────────────────────────────────────────────────────────────────────────────────


def total_digest(vectors: Iterable[Vector]) -> bytes:
    """H(Σx) over every segment's field (its bits) and the digest of its little-endian words."""
    from p2pfl.sharing.field import bytes_of

    parts: list[Buffer] = []
    for vector in vectors:
        parts += [vector.bits.to_bytes(1, "big"), bulk_digest(bytes_of(vector.words))]
    return digest("total", *parts)


def record_salt(attempt: bytes, view: bytes) -> bytes:
    """The salt in a round's record, known to all who confirm it and to nobody else (docs/adr/0009)."""
    return digest("salt", attempt, view)


def _eight(number: int) -> bytes:
    return number.to_bytes(8, "big")
