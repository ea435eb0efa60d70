"""MASK as the others see it: what leaves a peer when its words have come."""

from __future__ import annotations

from p2pfl.messages import Chunk, Root
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.state import Phase
from tests.sharing.standing import ME, standing


def test_the_hashes_of_the_chunks_leave_before_the_first_chunk() -> None:
    _, found = standing(Phase.MASK)
    words = (e.Vector(31, FIELDS[31].zeros(12)),)
    effects = found.handle(e.WordsReady(0.0, found.number, found.attempt, words))
    sent = [one for one in effects if isinstance(one, e.Send)]
    kinds = [type(one.letter.message) for one in sent]
    assert kinds == [Root] + [Chunk] * (len(kinds) - 1)
    assert len(kinds) > 1
    assert sent[0].to is None
    assert ME not in {one.to for one in sent}
