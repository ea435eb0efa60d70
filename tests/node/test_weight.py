"""Which steps of a round run in the loop's own thread: small ones, and no others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from p2pfl import messages as m
from p2pfl.federation import draft
from p2pfl.node import effects, weight
from p2pfl.node.weight import (
    FEW_EARLY,
    FEW_SITES,
    MOST_EARLY,
    OF_ANY,
    OF_ONE_CHUNK,
    OF_SMALL,
    SET_BYTES,
    SMALL_BYTES,
    SMALL_WORDS,
    SUMMED_BYTES,
)
from p2pfl.sharing import chunks
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import gather
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import EVENTS
from tests.peer.sites import NAMES, Sites
from tests.sharing.owners import EACH
from tests.sharing.stopped_rounds import ME, standing
from tests.simulate.attackers import Attacked

# Each brings many letters or signatures, combines shares, or comes with no round.
NEVER = {
    m.Certificate, m.BackupShare, m.Total, m.Opened, m.Leave,
    e.LinkUp, e.LinkDown, e.LeaveStored, e.Moved, e.Forgotten,
}  # fmt: skip
# By what is asked, when, how much is nominated, how long a set is, and how much came early.
BY_MORE = {m.Want, e.Tick, e.UpdateReady, m.Members, e.Begin}


def test_every_kind_of_the_table_is_weighed() -> None:
    """A kind that the table gains is in one list: what it can lead to was thought of."""
    kinds = {kind for _, kind in EVENTS}
    lists = (set(OF_ANY), set(OF_SMALL), NEVER, BY_MORE)
    assert set().union(*lists) == kinds
    assert sum(map(len, lists)) == len(kinds)


def test_small_steps_run_in_the_loop_and_those_over_many_words_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three real sites sum few numbers, then many, then few again where every proposal counts as large."""
    handled, begun = Run.handle, Run.begin
    seen: dict[str, set[type]] = {"loop": set(), "thread": set()}

    def noted(run: Run, event: e.Event) -> list[e.Effect]:
        kind: type = type(event.letter.message) if isinstance(event, e.Received) else type(event)
        seen[_place()].add(kind)
        return handled(run, event)

    def began(run: Run, now: float) -> list[e.Effect]:
        seen[_place()].add(e.Begin)
        return begun(run, now)

    monkeypatch.setattr(Run, "handle", noted)
    monkeypatch.setattr(Run, "begin", began)  # with all letters that came early: a peer may send many, and long ones
    sites = Sites(tmp_path, draft.python_lines("own"))

    def summed(name: str, words: int) -> dict[str, set[type]]:
        for held in seen.values():
            held.clear()
        found = sites.all({one: lambda peer: peer.sum(np.ones(words), limit=1.0, name=name) for one in NAMES})
        assert all(np.allclose(one.total, 3.0) for one in found.values()), found
        return {place: set(held) for place, held in seen.items()}

    few = summed("few", 10)
    assert few["loop"] & set(OF_ANY) and few["loop"] & set(OF_SMALL)
    assert {m.Ready, m.Ballot, m.Confirm, e.BallotStored, m.Tags, e.WordsReady, e.UpdateReady} <= few["loop"]
    assert {m.Members, e.Begin} <= few["loop"]
    assert not few["loop"] & NEVER
    many = summed("many", SMALL_WORDS + 1)
    assert {m.Ready, m.Confirm, e.BallotStored} <= many["loop"] <= {*OF_ANY, *OF_ONE_CHUNK, *BY_MORE, m.Root, m.Reveal}
    monkeypatch.setattr(weight, "SMALL_BYTES", -1)
    assert summed("again", 10)["loop"] <= {m.Confirm, m.Want, e.Tick}  # of the round before


def test_links_have_their_turn_between_two_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many letters wait: thousands may, of one peer alone."""
    weighed, waiting, crowded = effects.is_light, set[int](), 0

    def noted(run: Run, event: e.Event) -> bool:
        nonlocal crowded
        found = weighed(run, event)
        if found:
            loop = asyncio.get_running_loop()
            crowded += id(loop) in waiting
            waiting.add(id(loop))
            loop.call_soon(waiting.discard, id(loop))
        return found

    monkeypatch.setattr(effects, "is_light", noted)
    sites = Sites(tmp_path, draft.python_lines("own"))
    found = sites.all({one: lambda peer: peer.sum(np.ones(10), limit=1.0, name="few") for one in NAMES})
    assert all(np.allclose(one.total, 3.0) for one in found.values())
    assert not crowded


@pytest.mark.parametrize(("count", "size"), [(MOST_EARLY + 1, 1), (1, SMALL_BYTES + 1)])
def test_nothing_is_light_while_much_waits_for_its_turn(count: int, size: int) -> None:
    """Whatever moves the phase hands all of that in: a peer alone could hold up the loop for seconds."""
    federation, _ = standing(Phase.SHARE, peers=4)
    peer, run = federation.peers["site-0"], federation.peers[ME].run
    assert run is not None

    def letter(attempt: int, body: bytes) -> e.Received:
        place = m.Envelope(peer.run_id, 1, 1, attempt, peer.name, bytes(16))
        return e.Received(0.0, m.Letter(place, m.Ready(bytes(32), bytes(32)), body, b""))

    due = letter(0, b"x")
    assert weight.is_light(run, due)
    for attempt in range(1, count):
        run.handle(letter(attempt, b"x"))
    assert weight.is_light(run, due)
    run.handle(letter(count, bytes(size)))
    assert not weight.is_light(run, due)


def test_a_timer_of_a_round_that_is_over_is_light_and_one_of_a_long_round_is_not() -> None:
    federation, current = standing(Phase.GATHER)
    run = federation.peers[ME].run
    assert run is not None and run.current is not None
    assert weight.is_light(run, e.Tick(0.0, current.number, 0))
    run.current.state.laid_out.segments = ((31, SMALL_WORDS + 1),)
    assert not weight.is_light(run, e.Tick(0.0, current.number, 0))
    over = e.Tick(0.0, current.number + 1, 0)
    assert weight.is_light(run, over) and run.handle(over) == []


def test_before_there_are_words_a_timer_is_light_among_few_sites_alone() -> None:
    for peers, light in ((FEW_SITES, True), (FEW_SITES + 1, False)):
        federation, current = standing(Phase.SHARE, peers=peers)
        run = federation.peers[ME].run
        assert run is not None
        assert weight.is_light(run, e.Tick(0.0, current.number, 0)) == light


def test_a_set_is_light_by_its_size() -> None:
    federation, current = standing(Phase.SHARE, peers=4)
    run = federation.peers[ME].run
    assert run is not None
    place = m.Envelope(run.context.run, 1, current.number, 0, "site-0", bytes(16))
    members = m.Members((), (), (), (), (), 1000, ())

    def named(size: int) -> e.Received:
        return e.Received(0.0, m.Letter(place, members, bytes(size), b""))

    small = next(size for size in range(SET_BYTES, 0, -1) if named(size).letter.size <= SET_BYTES)
    assert weight.is_light(run, named(small))
    assert not weight.is_light(run, named(small + 1))


@pytest.mark.parametrize(("count", "size"), [(FEW_EARLY + 1, 1), (1, SMALL_BYTES + 1)])
def test_a_round_for_which_much_came_early_does_not_begin_in_the_loop(count: int, size: int) -> None:
    federation, final = standing(Phase.FINAL, peers=4)
    peer, run = federation.peers["site-0"], federation.peers[ME].run
    assert run is not None and run.current is None
    assert weight.begins_light(run)
    for attempt in range(count):
        place = m.Envelope(peer.run_id, 1, final.number + 1, attempt, peer.name, bytes(16))
        run.handle(e.Received(0.0, m.Letter(place, m.Ready(bytes(32), bytes(32)), bytes(size), b"")))
    assert not weight.begins_light(run)


@pytest.mark.parametrize("what", m.Question)
def test_of_a_final_round_only_that_nothing_of_it_is_needed_is_light(what: m.Question) -> None:
    """Everything else is answered, with a whole sum even; and the words of a long one are given back."""
    federation, final = standing(Phase.FINAL)
    run = federation.peers[ME].run
    assert run is not None and run.previous is not None and run.previous.number == final.number
    place = m.Envelope(run.context.run, 1, final.number, final.attempt, "site-0", bytes(16))
    want = e.Received(0.0, m.Letter(place, m.Want(what, ()), b"x", b""))
    assert weight.is_light(run, want) == (what == m.Question.NOTHING)
    gathering = run.previous.state.gathering
    assert gathering is not None
    gathering.segments = ((31, SMALL_WORDS + 1),)
    assert not weight.is_light(run, want)


def test_an_update_that_nominates_much_is_not_light() -> None:
    federation, current = standing(Phase.SHARE)
    run = federation.peers[ME].run
    assert run is not None

    def ready(support: bytes) -> e.UpdateReady:
        return e.UpdateReady(0.0, current.number, e.Proposal(bytes(32), b"", support, 1000, 0, "", bytes(32)))

    assert weight.is_light(run, ready(bytes(SMALL_BYTES)))
    assert not weight.is_light(run, ready(bytes(SMALL_BYTES + 1)))


ONE_CHUNK = (
    m.Chunk(bytes(32), 0, bytes(8)), m.SumChunk(bytes(32), 0, bytes(8)),
    m.SumDigest(bytes(32), 0, bytes(32), bytes(32)), m.Nonce(bytes(32), bytes(32)),
)  # fmt: skip


@pytest.mark.parametrize("message", ONE_CHUNK, ids=lambda message: type(message).__name__)
def test_a_chunk_of_a_long_round_is_light_until_it_may_be_what_tags_wait_for(
    message: m.Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "LEAST_BYTES", EACH)
    federation, current = standing(Phase.GATHER, peers=4)
    run = federation.peers[ME].run
    assert run is not None
    run.rounds[current.number] = current
    gathering, size = current.state.gathering, SUMMED_BYTES // len(current.state.survivors)
    assert gathering is not None and len(current.state.survivors) == 4
    gathering.segments, gathering.nonces = ((31, SMALL_WORDS + 1),), {}
    place = m.Envelope(run.context.run, 1, current.number, current.attempt, "site-0", bytes(16))

    def letter(size: int) -> e.Received:
        return e.Received(0.0, m.Letter(place, message, bytes(size), b""))

    assert weight.is_light(run, letter(size))
    assert not weight.is_light(run, letter(size + 1))
    others = [name for name in current.state.survivors if name != ME]
    nonce: m.Letter[m.Nonce] = m.Letter(place, m.Nonce(bytes(32), bytes(32)), b"", b"")
    gathering.nonces = dict.fromkeys([ME, *others[:-1]], nonce)
    assert weight.is_light(run, letter(size)) != isinstance(message, m.Nonce)  # that would be the last one
    gathering.nonces = dict.fromkeys(others, nonce)
    assert not weight.is_light(run, letter(size))
    words = gathering.words[0].words[:0]
    gathering.challenge, gathering.sums = bytes(32), dict.fromkeys(range(len(gathering.pieces) - 2), words)
    assert weight.is_light(run, letter(size)) == isinstance(message, m.SumChunk)  # one more is lacking
    gathering.sums[len(gathering.pieces) - 2] = words
    assert not weight.is_light(run, letter(size))


def test_a_root_of_a_long_round_is_light_unless_it_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one sets off the sums of all chunks whose words came before it."""
    monkeypatch.setattr(chunks, "LEAST_BYTES", EACH)
    world = Attacked(lies={}, takes=lambda sender, to, letter: to == ME and m.carries(letter, m.Root))
    world.begin()
    world.until(lambda: world.stands(ME, Phase.GATHER) and len(arrived(world, m.Root)) == len(world.peers) - 1)
    assert light_but_the_last(world, arrived(world, m.Root))


def test_a_seed_of_a_long_round_is_light_unless_it_is_the_last() -> None:
    """The last one sets off the masks of all words, which are taken out of their sum."""
    world = Attacked(lies={}, takes=lambda sender, to, letter: to == ME and m.carries(letter, m.Reveal))
    world.begin()
    world.until(lambda: world.stands(ME, Phase.UNMASK) and len(arrived(world, m.Reveal)) == len(world.peers) - 1)
    assert light_but_the_last(world, arrived(world, m.Reveal))


def arrived(world: Attacked, kind: type[m.Message]) -> list[m.Letter[m.Message]]:
    """Those that wait before ME."""
    return [one for _, to, one in world.carried if to == ME and m.carries(one, kind)]


def light_but_the_last(world: Attacked, letters: list[m.Letter[m.Message]]) -> bool:
    """Each but the last is light, and leads to no word, even where all other words are there."""
    run, current = world.peers[ME].run, world.round_of(ME)
    assert run is not None and current.state.gathering is not None
    shape = current.state.gathering.segments
    *most, last = letters
    for one in most:
        current.state.gathering.segments = ((31, SMALL_WORDS + 1),)
        assert weight.is_light(run, e.Received(world.now, one))
        current.state.gathering.segments = shape
        effects = run.handle(e.Received(world.now, one))
        assert not [found for found in effects if isinstance(found, e.Apply | e.Persist | e.Send)]
    current.state.gathering.segments = ((31, SMALL_WORDS + 1),)
    return not weight.is_light(run, e.Received(world.now, last))


def test_words_that_come_once_tags_are_told_are_tagged_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are light in a long round too, and most of its sums may have come before the challenge was known."""
    monkeypatch.setattr(chunks, "LEAST_BYTES", EACH)
    world = Attacked(lies={}, takes=lambda sender, to, letter: to == ME and isinstance(letter.message, m.SumChunk))
    world.begin()
    world.until(lambda: world.stands(ME, Phase.GATHER) and world.round_of(ME).state.laid_out.challenge)
    state = world.round_of(ME).state
    assert state.laid_out.sums, "its own"
    late = next(one for _, to, one in world.carried if to == ME and m.carries(one, m.SumChunk))
    gather.accept_sum(state, late)
    assert set(state.laid_out.sum_tags) == {late.message.index}


def _place() -> str:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "thread"
    return "loop"
