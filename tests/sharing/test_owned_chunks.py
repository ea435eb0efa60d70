"""An owner of several chunks sums each that is complete, whatever comes of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl import merkle
from p2pfl.errors.round import BulkRejected
from p2pfl.messages import Chunk, Message, Root, SumDigest, seal
from p2pfl.sharing import chunks
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import chunk_leaf
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.state import Phase
from tests.sharing.stopped_rounds import standing


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_words_that_are_not_those_of_their_root_keep_no_other_chunk_unsummed(
    wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They came before it. The owner would else be the one that owes the others their sums."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    federation, found = standing(Phase.MASK)
    state = found.state
    effects = found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, FIELDS[31].zeros(60)),)))
    while follow := [one.event for one in effects if isinstance(one, e.GoOn)]:
        effects = found.handle(*follow)
    d, pieces = state.attempt_digest, state.laid_out.pieces
    data = {piece.index: bytes(piece.count * FIELDS[31].word_bytes) for piece in pieces}
    hashes = b"".join(merkle.leaf_hash(chunk_leaf(d, index, words)) for index, words in data.items())
    owned = sorted(state.masking.contributed)
    assert len(owned) == 3

    def said(name: str, message: Message) -> list[e.Effect]:
        place = replace(state.envelope, sender=name, incarnation=federation.peers[name].incarnation)
        return found.handle(e.Received(0.0, seal(message, place, federation.peers[name].identity)))

    def summed(effects: list[e.Effect]) -> list[int]:
        letters = [one.letter.message for one in effects if isinstance(one, e.Send)]
        return [one.index for one in letters if isinstance(one, SumDigest)]

    honest, liar = state.context.others
    for index in owned:
        said(honest, Chunk(d, index, data[index]))
        said(liar, Chunk(d, index, b"\1" + data[index][1:] if index == owned[wrong] else data[index]))
    assert summed(said(honest, Root(d, state.laid_out.segments, hashes))) == []
    effects = said(liar, Root(d, state.laid_out.segments, hashes))
    (accused,) = [one for one in effects if isinstance(one, e.Accuse)]
    assert accused.peer == liar and isinstance(accused.error, BulkRejected)
    assert summed(effects) == [index for index in owned if index != owned[wrong]]
    assert summed(said(liar, Chunk(d, owned[wrong], data[owned[wrong]]))) == [owned[wrong]]
