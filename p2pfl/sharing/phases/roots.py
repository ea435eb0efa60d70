"""Roots, a step of GATHER: all sum under the same ones, or the member that signed two of them is convicted.

docs/spec/sharing.md §6. An owner's SumDigest names the Roots that it summed under. Where they are not those that a peer
holds, a member has signed two, and an honest owner would look like a liar to all who were shown the other one: so each
shows its own to all, and the two are the proof. Who says what it was given of a member shows that member's Root, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pfl.messages import LARGE, SMALL, Handed, Letter, Root
from p2pfl.sharing.digests import roots_digest
from p2pfl.sharing.events import Effect, Send
from p2pfl.sharing.state import State, two_statements

TWO_ROOTS: Final = "two lists of chunks under one attempt digest"


def compare(state: State, letter: Letter[Root]) -> list[Effect]:
    """Hold it against the one that is held of its author. Raises TwoStatements: also after this peer's vote."""
    held = state.gathering.roots.get(letter.sender) if state.gathering is not None else None
    if held is not None and held.message != letter.message:
        raise two_statements(held, letter, TWO_ROOTS)
    return []


def own_digest(state: State) -> bytes:
    """Names the Roots of all of U as this peer holds them; empty while one is lacking."""
    gathering = state.laid_out
    if not gathering.roots_digest and len(gathering.roots) == len(state.survivors):
        gathering.roots_digest = roots_digest([gathering.roots[name] for name in state.survivors])
    return gathering.roots_digest


def note(state: State) -> None:
    """A Root or a SumDigest has come: find the chunks that were summed under other Roots than this peer holds.

    Either a member has signed two, or the owner names some that nobody signed: it could not be held to its sum then.
    """
    gathering, mine = state.laid_out, own_digest(state)
    if mine:
        signed = gathering.sum_digests.items()
        gathering.under_others = {index for index, letter in signed if letter.message.roots != mine}


def are_the_same(state: State, index: int) -> bool:
    """The owner of the chunk summed it under the very Roots that this peer holds: what it opens must be under them."""
    signed = state.laid_out.sum_digests.get(index)
    return signed is not None and signed.message.roots == own_digest(state)


def differ(state: State) -> bool:
    """Some chunk was summed under other Roots, and this peer has not shown its own yet."""
    return "roots shown" not in state.due and bool(state.laid_out.under_others)


def show(state: State, names: Iterable[str] = ()) -> list[Effect]:
    """Hand on to all, once, the Roots that this peer holds: of these members, or of all where none is named."""
    if "roots shown" in state.due:
        return []
    chosen = frozenset(names)
    if not chosen:
        state.due["roots shown"] = state.now
    wires = [letter.wire for name, letter in state.laid_out.roots.items() if not chosen or name in chosen]
    return [Send(None, state.seal(Handed(group))) for group in groups(wires)]


def groups(wires: list[bytes]) -> list[tuple[bytes, ...]]:
    """In their order, as many together as fit into one `Handed`."""
    groups: list[tuple[bytes, ...]] = []
    room = 0
    for wire in wires:
        if len(wire) + SMALL > room:
            groups, room = [*groups, ()], LARGE - SMALL
        groups[-1] += (wire,)
        room -= len(wire) + SMALL
    return groups
