"""MASK as the others see it: what leaves a peer when its words have come."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from p2pfl.messages import Ballot, Chunk, Leave, Message, Root, seal
from p2pfl.sharing import chunks, kernel, masking
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS, Words
from p2pfl.sharing.phases import mask
from p2pfl.sharing.prg import Stream
from p2pfl.sharing.state import Phase
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.stopped_rounds import ME, standing
from tests.simulate import promises


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


def go_on(effects: list[e.Effect]) -> e.Event:
    """What the round is to be told once these are carried out."""
    (found,) = [one for one in effects if isinstance(one, e.GoOn)]
    return found.event


def masked(given: Words, *, ahead: int) -> Words:
    """What ME makes of the words, with masks for so many words made ahead; 0: with none."""
    _, found = standing(Phase.MASK)
    state = found.state
    state.masking.ahead, state.masking.ahead_with = (), {}
    if ahead:
        others = frozenset(state.names) - {ME}
        state.masking.ahead_with = {name: state.proposals.bundles[name].digest for name in others}
        state.masking.ahead = mask.edges(state, others, own=True).masks(((31, ahead),))
    found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, given),)))
    assert not state.masking.ahead
    return state.masking.mine[0].words


def test_masks_made_ahead_take_the_memory_of_one_vector() -> None:
    """A site holds few vectors of its model at once: docs/benchmarks.md counts them."""
    _, found = standing(Phase.MASK)
    state, count = found.state, 1 << 20
    edges = mask.edges(state, frozenset(state.names) - {ME}, own=True)
    tracemalloc.start()
    try:
        (masks,) = edges.masks(((31, count),))
        assert tracemalloc.get_traced_memory()[1] < 1.5 * masks.words.nbytes
    finally:
        tracemalloc.stop()
    (again,) = edges.masks(((31, 1000),))
    assert np.array_equal(masks.words[:1000], again.words) and again.words.any()


@pytest.mark.parametrize("ahead", [0, 12, 20])
def test_words_are_masked_where_they_lie_unless_their_owner_keeps_them(ahead: int) -> None:
    given = np.arange(12, dtype=FIELDS[31].dtype)
    expected = masked(given.copy(), ahead=0)
    spent = given.copy()
    assert np.shares_memory(masked(spent, ahead=ahead), spent)
    assert np.array_equal(spent, expected)
    given.flags.writeable = False
    assert np.array_equal(masked(given, ahead=ahead), expected)
    assert given.tolist() == list(range(12))


class CountedStream(Stream):
    """One stream of masks that counts the bytes of AES keystream that it and the others make."""

    made = 0

    def fill(self, out: Words) -> None:
        CountedStream.made += out.nbytes
        super().fill(out)


class CountedLoops:
    """The compiled loops; what keystream they make is counted with that of the streams."""

    def __init__(self, compiled: kernel.Compiled) -> None:
        self._compiled = compiled

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._compiled, verb)

    def combine(self, out: Words, x: Words | None, plus: Sequence[bytes], minus: Sequence[bytes], *of: int) -> None:
        CountedStream.made += out.nbytes * (len(plus) + len(minus))
        self._compiled.combine(out, x, plus, minus, *of)


def words_come_first(peer: SimulatedPeer) -> None:
    """Its masks are still being expanded when its words are there, as where a sum is called and nothing is trained."""
    owed: list[e.Ahead] = []
    ahead, quantise = peer._ahead, peer._quantise

    def both(effect: e.Quantise) -> None:
        quantise(effect)
        for one in owed:
            ahead(one)
        owed.clear()

    peer._ahead = owed.append  # type: ignore[method-assign]
    peer._quantise = both  # type: ignore[method-assign]


@pytest.mark.parametrize("chunk_bytes", [chunks.CHUNK_BYTES, 64])
@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize(
    "loops",
    [
        pytest.param(kernel.COMPILED, marks=pytest.mark.skipif(kernel.COMPILED is None, reason="not built here")),
        None,
    ],
    ids=["compiled", "numpy"],
)
def test_no_mask_is_made_twice(
    loops: kernel.Compiled | None, cold: bool, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(kernel, "COMPILED", CountedLoops(loops) if loops is not None else None)
    monkeypatch.setattr(masking, "Stream", CountedStream)
    monkeypatch.setattr(CountedStream, "made", 0)
    n, m = 5, 400
    federation = SimulatedFederation(n, length=m, bits=31)
    for peer in federation.peers.values() if cold else ():
        words_come_first(peer)
    federation.run()
    for peer in federation.peers.values():
        assert peer.disk.totals[0][0].words.tolist() == federation.expected(1)
    # Each peer: n−1 edges and its own self-mask; then the self-masks of all n, which are taken out of the sum.
    assert CountedStream.made == n * (n + n) * m * FIELDS[31].word_bytes


def test_words_wait_for_masks_that_are_being_expanded() -> None:
    _, found = standing(Phase.MASK)
    state = found.state
    expected = masked(np.arange(12, dtype=FIELDS[31].dtype), ahead=12)
    state.masking.ahead, state.masking.expanding = (), True
    place = (0.0, found.number, found.attempt)
    assert found.handle(e.WordsReady(*place, (e.Vector(31, np.arange(12, dtype=FIELDS[31].dtype)),))) == []
    assert found.phase is Phase.MASK and not state.spent
    others = frozenset(state.names) - {ME}
    bundles = state.masking.ahead_with
    assert found.handle(e.MasksReady(*place, {**bundles, ME: b"of before"}, ())) == []
    effects = found.handle(e.MasksReady(*place, bundles, mask.edges(state, others, own=True).masks(((31, 12),))))
    assert [one for one in effects if isinstance(one, e.Send) and isinstance(one.letter.message, Chunk)]
    assert np.array_equal(state.masking.mine[0].words, expected)


def test_words_wait_for_no_masks_of_a_bundle_that_counts_no_more() -> None:
    _, found = standing(Phase.MASK)
    state = found.state
    state.masking.ahead, state.masking.expanding = (), True
    state.masking.ahead_with = {**state.masking.ahead_with, state.context.others[0]: b"dealt before it died"}
    found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, FIELDS[31].zeros(12)),)))
    assert state.masking.mine and found.phase is Phase.GATHER


def test_sums_lie_where_the_masks_lay_and_nothing_of_these_is_left() -> None:
    _, found = standing(Phase.MASK)
    state = found.state
    others = frozenset(state.names) - {ME}
    masks = mask.edges(state, others, own=True).masks(((31, 20),))
    state.masking.ahead = masks
    found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, FIELDS[31].zeros(12)),)))
    (gathered,) = state.laid_out.words
    assert np.shares_memory(gathered.words, masks[0].words) and gathered.words.size == 12
    owned = state.laid_out.sums
    assert not owned and not gathered.words.any()
    assert not np.shares_memory(gathered.words, state.masking.mine[0].words)


def test_the_first_chunk_for_each_owner_leaves_before_any_other_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.arange(60, dtype=FIELDS[31].dtype)
    expected = masked(words.copy(), ahead=0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    _, found = standing(Phase.MASK)
    state = found.state
    first = found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, words),)))
    sent = [one for one in first if isinstance(one, e.Send)]
    assert [one.to for one in sent] == [name for name in state.owners if name != ME]
    assert words[3 * 7 :].tolist() == list(range(3 * 7, 60))  # three owners, nine chunks: the rest is as it was
    assert found.phase is Phase.MASK and state.spent
    second = found.handle(go_on(first))
    sent += [one for one in second if isinstance(one, e.Send)]
    assert len(sent) == 4 and words[3 * 2 * 7 :].tolist() == list(range(3 * 2 * 7, 60))
    then = [one for one in found.handle(go_on(second)) if isinstance(one, e.Send)]
    assert [type(one.letter.message) for one in then] == [Root] + [Chunk] * 2
    assert found.phase is Phase.GATHER
    assert np.array_equal(state.masking.mine[0].words, expected)
    for one in (*sent, *then[1:]):
        assert isinstance(one.letter.message, Chunk)
        piece = state.laid_out.pieces[one.letter.message.index]
        assert bytes(one.letter.message.words) == expected[piece.start : piece.stop].tobytes()


def test_the_root_waits_behind_a_few_chunks_for_each_owner_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    monkeypatch.setattr(mask, "LEADING", 2)
    _, found = standing(Phase.MASK)
    words = e.Vector(31, FIELDS[31].zeros(120))
    effects, kinds = found.handle(e.WordsReady(0.0, found.number, found.attempt, (words,))), []
    while found.phase is Phase.MASK or effects:
        kinds += [type(one.letter.message) for one in effects if isinstance(one, e.Send)]
        effects = found.handle(go_on(effects)) if found.phase is Phase.MASK else []
    assert kinds == [Chunk] * 4 + [Root] + [Chunk] * 6  # fifteen chunks, of which five are its own


def test_words_are_made_as_they_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first chunks leave while the last floats are not yet rounded."""
    given = np.arange(60, dtype=FIELDS[31].dtype)
    expected = masked(given.copy(), ahead=0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    _, found = standing(Phase.MASK)
    words, asked = FIELDS[31].zeros(60), [0]

    def made(stop: int) -> None:
        words[asked[-1] : stop] = given[asked[-1] : stop]
        asked.append(stop)

    effects = found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, words, made=made),)))
    assert [one for one in effects if isinstance(one, e.Send)] and asked == [0, 7, 14, 21]
    while found.phase is Phase.MASK:
        effects = found.handle(go_on(effects))
    assert asked[-1] == 60 and np.array_equal(found.state.masking.mine[0].words, expected)


def test_who_gives_up_between_the_first_chunks_and_the_others_sends_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    _, found = standing(Phase.MASK)
    words = e.Vector(31, FIELDS[31].zeros(60))
    effects = found.handle(e.WordsReady(0.0, found.number, found.attempt, (words,)))
    found.handle(e.Tick(found.state.due["gather"] + 1.0, found.number, found.attempt))
    assert found.phase is Phase.BALLOT and found.state.voting.ballot is not None
    assert found.handle(go_on(effects)) == []
    assert found.state.masking.making is None and not found.state.masking.mine


@pytest.mark.parametrize("seed", range(4))
def test_a_long_vector_keeps_every_promise_through_deaths(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32)
    weather = Weather(0.01, 3, (0.05, 60.0), (0.0005, 5.0))
    federation = SimulatedFederation(4, rounds=2, length=60, seed=seed, weather=weather)
    federation.run()
    promises.check(federation)


def test_words_that_wait_for_masks_do_not_leave_in_a_round_that_was_left() -> None:
    """A liar's vote keeps this peer from giving up, and so in MASK: it has told its caller that nothing was sent."""
    federation, found = standing(Phase.MASK, peers=4)
    state = found.state
    state.masking.ahead, state.masking.expanding = (), True
    place = (0.0, found.number, found.attempt)
    found.handle(e.WordsReady(*place, (e.Vector(31, np.arange(12, dtype=FIELDS[31].dtype)),)))
    liar, *others = state.context.others
    readys = state.survivors[: state.context.roster.quorums.q]

    def said(name: str, message: Message) -> list[e.Effect]:
        peer = federation.peers[name]
        envelope = replace(state.envelope, sender=name, incarnation=peer.incarnation)
        return found.handle(e.Received(0.0, seal(message, envelope, peer.identity)))

    said(liar, Ballot(1, state.attempt_digest, bytes(32), readys, ()))
    effects = [one for name in (liar, *others) for one in said(name, Leave(()))]
    (left,) = [one for one in effects if isinstance(one, e.LeftBehind)]
    assert not left.sent and found.phase is Phase.MASK
    masks = mask.edges(state, frozenset(state.names) - {ME}, own=True).masks(((31, 12),))
    effects = found.handle(e.MasksReady(*place, state.masking.ahead_with, masks))
    assert not [one for one in effects if isinstance(one, e.Send)] and not state.spent
