"""What of an attempt must survive a crash: the only place that turns its secrets into bytes, for the sealed home alone.

A snapshot is enough to cast the one ballot, reveal, and confirm after a restart. It holds no edge seed and no word of
a masked vector: a new process masks nothing under a bundle that another one dealt.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, TypeVar

from p2pfl import codec
from p2pfl.codec import Pieces
from p2pfl.keys import Secret
from p2pfl.messages import (
    Ballot,
    Bundle,
    Certificate,
    Leave,
    Letter,
    Members,
    Message,
    Ready,
    carries,
    narrow,
    read_letter,
)
from p2pfl.roster import MOST_PEERS
from p2pfl.sharing.events import OfAttempt, Persist, Send, Stored, Vector
from p2pfl.sharing.field import FIELDS, bytes_of
from p2pfl.sharing.parts import MOST_DEALT, Backup, Deal
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.state import Context, State

M = TypeVar("M", bound=Message)
SNAPSHOT_VERSION: Final = 2
MOST_SNAPSHOT: Final = 1 << 27  # bytes
MOST_SUMS_HEAD: Final = 1 << 10  # bytes before the words of masked sums


def persist(state: State, then: type[OfAttempt], *beside: tuple[str, Stored], anew: bool = False) -> Persist:
    """Make this attempt durable as it stands, with what is given beside it; then `then`.

    anew   it holds fewer secrets than before, or those of another attempt
    """
    # The attempt last: a process that dies in between must not find a READY without the sums that it vouches for.
    return Persist((*beside, (state.item, snapshot(state))), then, state.round, state.attempt, anew)


def snapshot(state: State) -> bytes:
    """The attempt as bytes for the sealed home: enough to cast the one ballot, reveal, and confirm after a restart."""
    deal = state.unmasking.deal
    secrets = (deal.self_mask.reveal(), deal.nonce.reveal(), deal.bundle.wire) if deal else (b"", b"", b"")
    letters = (
        state.members,
        state.voting.ready,
        state.voting.ballot,
        state.certificate,
        state.leaving.leave,
        state.last_abandon,
    )
    wires = tuple(letter.wire if letter else b"" for letter in letters)
    bundles = tuple(bundle.wire for bundle in state.proposals.bundles.values())
    backups = tuple(
        (name, one.share.reveal(), one.salt, one.edge, one.path) for name, one in state.unmasking.backups.items()
    )
    older = tuple(
        (state.proposals.older[digest].wire, one.share.reveal(), one.salt, one.edge, one.path)
        for digest, one in state.unmasking.older.items()
    )
    record = state.confirming.record if state.confirming.signed else b""
    place = (SNAPSHOT_VERSION, state.round, state.attempt, *state.base, state.chain)
    grounds = (*state.leaving.grounds, *state.leaving.abandons)[:MOST_PEERS]
    rest = (older,) if older else ()
    return codec.pack((*place, secrets, wires, state.view, record, bundles, backups, grounds, *rest))


def _unpacked(data: codec.Buffer) -> tuple[int, int, Any]:
    version, number, attempt, *rest = codec.unpack(data, most=MOST_SNAPSHOT, items=MOST_DEALT * MOST_PEERS)
    if version != SNAPSHOT_VERSION:
        raise codec.Malformed(f"attempt snapshot of version {version}")
    return number, attempt, rest


def place_of(data: codec.Buffer) -> tuple[int, int]:
    """Round and attempt of what `snapshot` wrote. Raises Malformed."""
    return _unpacked(data)[:2]


def restore(context: Context, peers: PeerView, data: bytes) -> State:
    """The state that `snapshot` wrote, in a new process. Raises Malformed when the bytes are not a snapshot."""
    number, attempt, rest = _unpacked(data)
    based, base, chain, secrets, wires, view, record, bundles, backups, grounds, *older = rest
    state = State(context, peers, number, attempt, (based, base), tuple(chain), restored=True)
    members, ready, ballot, certificate, leave, last_abandon = wires
    state.members, state.voting.ready = _letter(members, Members), _letter(ready, Ready)
    state.voting.ballot, state.certificate = _letter(ballot, Ballot), _letter(certificate, Certificate)
    state.leaving.leave, state.last_abandon = _letter(leave, Leave), _letter(last_abandon, Certificate)
    state.view, state.confirming.record, state.confirming.signed = view, record, bool(record)
    state.leaving.grounds = tuple(wire for wire in grounds if carries(read_letter(wire), Leave))
    state.leaving.abandons = tuple(wire for wire in grounds if carries(read_letter(wire), Ballot))
    if state.last_abandon is not None:
        state.outbox.append(Send(None, state.last_abandon))
    state.proposals.bundles = {
        letter.sender: letter for letter in (narrow(read_letter(wire), Bundle) for wire in bundles)
    }
    for name, share, salt, edge, path in backups:
        state.unmasking.backups[name] = _backup(name, share, salt, edge, path)
    for wire, *row in itertools.chain(*older):
        dealt = narrow(read_letter(wire), Bundle)
        state.proposals.older[dealt.digest] = dealt
        state.unmasking.older[dealt.digest] = _backup(dealt.sender, *row)
    self_mask, nonce, bundle = secrets
    if bundle:
        dealt = narrow(read_letter(bundle), Bundle)
        state.unmasking.deal = Deal(Secret(self_mask, "self-mask seed"), Secret(nonce, "nonce"), dealt)
    return state


def _backup(dealer: str, share: bytes, salt: bytes, edge: bytes, path: tuple[bytes, ...]) -> Backup:
    return Backup(Secret(share, f"share of {dealer}'s self-mask seed"), salt, edge, path)


def _letter(wire: bytes, kind: type[M]) -> Letter[M] | None:
    return narrow(read_letter(wire), kind) if wire else None


def pack_sums(vectors: tuple[Vector, ...], attempt: bytes, most: int | None = None) -> Pieces:
    """Masked sums under their attempt digest, for the sealed home; their words stay where they are.

    most   words of all vectors together: so many of the first; None: all
    """
    sizes = tuple((vector.bits, vector.words.nbytes) for vector in vectors)
    words, left = [], sum(vector.words.size for vector in vectors) if most is None else most
    for vector in vectors:
        words.append(bytes_of(vector.words[:left]))
        left = max(0, left - vector.words.size)
    return codec.with_tail((attempt, sizes), *words)


def read_vectors(data: codec.Buffer, attempt: bytes) -> tuple[Vector, ...]:
    """Undo `pack_sums`: the words are views of `data`. Of another attempt's sums there are none. Raises Malformed."""
    (held, sizes), words = codec.split_tail(data, most=MOST_SUMS_HEAD, items=64)
    if held != attempt:
        return ()
    vectors = []
    for bits, size in sizes:
        vectors.append(Vector(bits, FIELDS[bits].from_bytes(words[:size])))
        words = words[size:]
    return tuple(vectors)
