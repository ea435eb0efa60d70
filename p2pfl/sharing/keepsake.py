"""What a final round keeps for peers that missed it: certificate, record, confirmations, and where its sum is from.

The source of the sum is the masked sums that are on the disk already with the seeds of U, which all have; or the sum
itself. Once that is durable a process holds no word of the sum: whoever asks for it is given what the disk has.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from p2pfl.codec import Buffer, Malformed, Pieces, split_tail, with_tail
from p2pfl.errors import RemoteProtocolError
from p2pfl.keys import Secret
from p2pfl.messages import Certificate, Members, narrow, read_letter
from p2pfl.sharing.events import Effect, Forgotten, Persist, Vector, Words
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases import unmask
from p2pfl.sharing.snapshot import pack_sums, read_vectors
from p2pfl.sharing.state import FINAL_ITEM, Context, State, sums_item

MOST_HEAD: Final = 1 << 26  # bytes before the words of the sum: a certificate and a CONFIRM of each peer
NO_SUMS: Final = b"\x92\xc4\x00\x90"  # no vectors, under no attempt digest

Items = Mapping[str, Buffer | None]


def pack_keepsake(state: State) -> Pieces:
    """What is kept of a round that has its record."""
    certificate = state.certificate.wire if state.certificate else b""
    confirms = tuple(letter.wire for letter in state.confirming.confirm_letters.values())
    masked = state.sum.stored and state.leaving.slot is None and set(state.survivors) <= state.sum.reveals.keys()
    seeds = tuple((name, seed.reveal()) for name, seed in state.sum.reveals.items()) if masked else ()
    sums = () if masked else pack_sums(state.sum.total, b"")
    return with_tail(
        (state.round, state.attempt, state.base, certificate, state.confirming.record, confirms, seeds), *sums
    )


def read_keepsake(context: Context, peers: PeerView, keepsake: Buffer, items: Items) -> tuple[State, tuple[bytes, ...]]:
    """The state that `pack_keepsake` was given, with its sum, as far as serving it needs that; and the confirmations.

    items   the masked sums of the round are among them, where it kept seeds
    Raises Malformed.
    """
    head, total = split_tail(keepsake, most=MOST_HEAD, items=256)
    number, attempt, base, certificate, record, confirms, seeds = head
    state = State(context, peers, number, base=tuple(base))
    state.attempt, state.confirming.record, state.confirming.signed = attempt, record, True
    if certificate:
        decided = narrow(read_letter(certificate), Certificate).message
        state.certificate = state.seal(decided)
        state.members = narrow(read_letter(decided.members), Members) if decided.members else None
    state.sum.total = read_vectors(total, b"") if total else ()
    if seeds:
        state.sum.reveals = {name: Secret(seed, f"self-mask seed of {name}") for name, seed in seeds}
        state.sum.masked = read_vectors(items.get(sums_item(number)) or NO_SUMS, state.attempt_digest)
        state.sum.stored = True
        unmask.compute(state)
    state.sum.reveals = {}
    return state, confirms


def spared(state: State, effects: list[Effect]) -> list[Effect]:
    """`effects`; before one that takes the place of a final round's masked sums, its sum is held, and kept instead.

    The round after the next lies there, and may be begun while the next one is not final. Raises as reading does.
    """
    places = {item for effect in effects if isinstance(effect, Persist) for item, _ in effect.items}
    if not state.sum.stored or state.leaving.slot is not None or state.sums_item not in places:
        return effects
    state.sum.take_back()
    state.sum.stored = False
    if not state.sum.total:
        return effects
    kept = (FINAL_ITEM, pack_keepsake(state))
    return [Persist((kept,), Forgotten, state.round, state.attempt), *effects]


class KeptSum:
    """The sum of a final round, on the disk alone. Letters that wait for slow peers share what was read for the first.

    items   reads what the disk holds of the run, by item
    """

    def __init__(self, context: Context, peers: PeerView, number: int, items: Callable[[], Items]) -> None:
        self._context, self._peers, self._number, self._items = context, peers, number, items
        self._read: list[tuple[int, weakref.ref[Words]]] = []

    def vectors(self) -> tuple[Vector, ...]:
        """The words; none where the disk holds another round by now, or no round. Raises what reading a home does."""
        held = [(bits, words()) for bits, words in self._read]
        alive = tuple(Vector(bits, words) for bits, words in held if words is not None)
        if alive and len(alive) == len(held):
            return alive
        items = self._items()
        keepsake = items.get(FINAL_ITEM)
        if not keepsake:
            return ()
        try:
            state, _ = read_keepsake(self._context, self._peers, keepsake, items)
        except (Malformed, RemoteProtocolError):  # no fault of the peer whose question is being answered
            return ()
        total: Any = state.sum.total if state.round == self._number else ()
        self._read = [(vector.bits, weakref.ref(vector.words)) for vector in total]
        return tuple(total)
