"""What one peer sends, however much, takes neither the others' turn nor their room."""

from __future__ import annotations

import asyncio
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl import codec, messages
from p2pfl.clocks import SYSTEM, Clocks
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import GaveUpWaiting, MalformedMessage
from p2pfl.keys import digest
from p2pfl.mesh import Mesh
from p2pfl.mesh import events as links
from p2pfl.node import inbox, post
from p2pfl.node.hello import ECHOES, HEARD_BYTES
from p2pfl.node.inbox import IN_TURN, Breach, EpochLog, FairQueue, Inbox, UnknownRuns, Waiting, nothing_waits
from p2pfl.node.post import Post
from p2pfl.sharing import events as e
from tests.node.test_hello import PROPOSE, Site, said

PROCESS = Site("a").greets.site


def drained(turns: FairQueue) -> list[Any]:
    found = []
    while turns:
        assert turns.first() is not None
        found.append(turns.pop())
    return found


def test_things_come_out_in_the_order_in_which_they_came() -> None:
    turns = FairQueue()
    for k in range(IN_TURN):
        turns.add(("own", k))
        turns.add(("ada", k), "ada")
        turns.add(("bob", k), "bob")
    assert drained(turns) == [(who, k) for k in range(IN_TURN) for who in ("own", "ada", "bob")]


@pytest.mark.claim("NET-7")
def test_a_peer_that_sends_without_end_holds_up_nobody_but_itself_and_stays_in_order() -> None:
    turns = FairQueue()
    for k in range(10 * IN_TURN):
        turns.add(("liar", k), "liar")
    turns.add(("bob", 0), "bob")
    turns.add(("own", 0))
    found = drained(turns)
    assert found.index(("bob", 0)) <= IN_TURN
    assert found.index(("own", 0)) <= IN_TURN + 1
    assert [k for who, k in found if who == "liar"] == list(range(10 * IN_TURN))


def test_a_sender_may_go_on_only_when_what_it_sent_is_handed_out() -> None:
    turns, done = FairQueue(), []

    def finished(k: int) -> Callable[[], None]:
        return lambda: done.append(k)

    for k in range(IN_TURN + 3):
        turns.add(k, "ada", finished(k))
    assert done == []
    turns.pop()
    assert done == [0]
    drained(turns)
    assert done == list(range(IN_TURN + 3))


def test_letters_for_runs_that_have_not_begun_take_no_room_from_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "MOST_FOREIGN", 20)
    kept, run = UnknownRuns(), digest("run")
    for k in range(100):  # a liar's, under runs that it made up
        kept.hold_letter(said("b", 1, run=digest("made up", bytes([k]))))
    honest = said("c", 1, run=run)
    kept.hold_letter(honest)
    assert kept.letters_of(run) == [honest]
    assert sum(len(kept.letters_of(digest("made up", bytes([k])))) for k in range(100)) == 20
    kept.hold_letter(said("b", 1, run=run))
    assert len(kept.letters_of(run)) == 1, "there is room again"


def test_letters_for_runs_that_have_not_begun_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    letter = said("b", 1)
    monkeypatch.setattr(inbox, "FOREIGN_BYTES", 3 * letter.memory)
    kept = UnknownRuns()
    for _ in range(10):
        kept.hold_letter(letter)
    assert len(kept.letters_of(letter.envelope.run)) == 3


def test_of_letters_for_runs_that_have_not_begun_the_oldest_of_its_sender_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "MOST_FOREIGN", 3)
    kept, run = UnknownRuns(), digest("run")
    letters = [said(name, number, run=run) for number in range(1, 6) for name in ("b", "c")]
    for letter in letters:
        kept.hold_letter(letter)
    assert kept.letters_of(run) == letters[-6:], "in the order in which they came, of all senders"
    assert kept.letters_of(run) == []


def test_letters_of_many_short_values_are_held_within_the_bytes_that_are_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "FOREIGN_BYTES", 4 << 20)
    rows = tuple((f"z{k % 10}", 4, 200 + k) for k in range(800))
    wire = said("b", 1, message=messages.Want(messages.Question.WORDS, rows)).wire
    kept = UnknownRuns()
    tracemalloc.start()
    try:
        for _ in range(400):
            kept.hold_letter(messages.read_letter(wire))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 6 << 20


def delivering(*payloads: bytes) -> tuple[Inbox, Callable[[], Any]]:
    """An inbox, and what listens to a mesh that delivers these of b, and then stops."""

    async def stream() -> AsyncIterator[links.Delivered]:
        for payload in payloads:
            yield links.Delivered("b", payload)

    mesh = cast(Mesh, SimpleNamespace(links=dict, events=stream, payload_taken=lambda peer, size: None))
    held = Inbox(PROCESS, mesh, Site("a").greets, cast(EpochLog, None), lambda event: None, wait_s=None)
    return held, held.listen


def test_a_large_letter_is_opened_beside_the_loop_and_the_next_comes_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[bool] = []
    opened = messages.open_letter

    def watched(*asked: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return opened(*asked)

    monkeypatch.setattr(messages, "open_letter", watched)
    chunk = said("b", 1, message=messages.Chunk(digest("attempt"), 7, bytes(300 << 10)))
    large = said("b", 1, message=replace(PROPOSE, support=bytes(300 << 10)))
    letters = [large, said("b", 2), chunk, said("b", 3)]
    held, listen = delivering(*(one.wire for one in letters))

    async def scene() -> list[Any]:
        await listen()
        return [await held.next_event(nothing_waits) for _ in letters]

    assert [event.letter.digest for event in asyncio.run(scene())] == [one.digest for one in letters]
    assert threads == [False, True, True, True], "bulk is not signed: there is nothing to do but to look at its head"


def test_a_letter_that_is_refused_is_not_held_by_its_error() -> None:
    held, listen = delivering(b"\x93\x01" + bytes(1 << 20))

    async def scene() -> Any:
        await listen()
        return await held.next_event(nothing_waits)

    error = asyncio.run(scene()).error
    assert isinstance(error, MalformedMessage)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


@pytest.mark.parametrize("comes", [False, True])
def test_only_words_that_are_waited_for_put_off_the_end_of_waiting(comes: bool) -> None:
    """A liar sends others again and again, and this site would wait for ever for one that is away."""
    at, came, events = [100.0], 0, list[object]()
    process = replace(PROCESS, clocks=Clocks(lambda: at[0], lambda: at[0], os.urandom))
    nobody = cast(Mesh, SimpleNamespace(links=dict))
    held = Inbox(process, nobody, Site("a").greets, cast(EpochLog, None), events.append, wait_s=30.0)
    junk = said("b", 1, message=messages.Chunk(digest("attempt"), 7, bytes(8)))

    def waits() -> Waiting:
        return Waiting("gather", 1, {"c": "its words"}, came)

    async def scene() -> None:
        nonlocal came
        held.wait_from_now()
        for _ in range(20):
            at[0], came = at[0] + 6.0, came + comes
            held.add_event(e.Received(at[0], junk))
            await held.next_event(waits)

    if comes:
        asyncio.run(scene())
    else:
        with pytest.raises(GaveUpWaiting):
            asyncio.run(scene())


def test_who_would_wait_a_shorter_time_than_between_two_looks_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--wait 2` gave up after 5 s, and said so."""
    monkeypatch.setattr(inbox, "QUIET_S", 3600.0)
    nobody = cast(Mesh, SimpleNamespace(links=dict))
    process = replace(PROCESS, clocks=SYSTEM)
    held = Inbox(process, nobody, Site("a").greets, cast(EpochLog, None), lambda event: None, wait_s=0.2)

    async def scene() -> None:
        held.wait_from_now()
        async with asyncio.timeout(600):  # a hang
            await held.next_event(lambda: Waiting("gather", 1, {"c": "its words"}))

    with pytest.raises(GaveUpWaiting):
        asyncio.run(scene())


def test_what_a_liar_begins_again_and_again_puts_off_no_end_of_waiting() -> None:
    """It hands over one part of a sum or a model whenever it is asked, and no more."""
    at = [100.0]
    process = replace(PROCESS, clocks=Clocks(lambda: at[0], lambda: at[0], os.urandom))
    nobody = cast(Mesh, SimpleNamespace(links=dict))
    held = Inbox(process, nobody, Site("a").greets, cast(EpochLog, None), lambda event: None, wait_s=30.0)

    async def scene() -> None:
        held.wait_from_now()
        for turn in range(20):
            at[0] += 6.0
            held.add_event(Breach(MalformedMessage(peer="b", evidence="")))
            await held.next_event(lambda turn=turn: Waiting("unmask", 1, {"c": "its seed"}, turn % 2))

    with pytest.raises(GaveUpWaiting):
        asyncio.run(scene())


@pytest.mark.parametrize("needed", [True, False])
def test_attempts_without_end_put_off_no_end_of_waiting(needed: bool) -> None:
    """A site is away without which there is no quorum, and a liar drives the others from one attempt to the next."""
    at = [100.0]
    process = replace(PROCESS, clocks=Clocks(lambda: at[0], lambda: at[0], os.urandom))
    nobody = cast(Mesh, SimpleNamespace(links=dict))
    held = Inbox(process, nobody, Site("a").greets, cast(EpochLog, None), lambda event: None, wait_s=30.0)
    most = process.roster.quorums.a if needed else 20

    async def scene() -> None:
        held.wait_from_now()
        for turn in range(2 * most):
            for phase, number in (("share", 2), ("propose", 2), ("catching up", 1)):
                at[0] += 6.0
                held.add_event(Breach(MalformedMessage(peer="b", evidence="")))
                attempt = turn if needed else min(turn, process.roster.quorums.a - 1)
                where = number if needed else turn
                await held.next_event(lambda at=(phase, where, {"c": "its ballot"}, 0, attempt): Waiting(*at))

    if needed:
        with pytest.raises(GaveUpWaiting):
            asyncio.run(scene())
    else:
        asyncio.run(scene())  # each round has its own


def test_statements_of_runs_that_a_peer_makes_up_take_a_bounded_place() -> None:
    site = Site("a")
    for k in range(10 * ECHOES):
        site.greets.heard(said("b", 1, run=digest("made up", k.to_bytes(2, "big"))))
    held = codec.unpack(site.greets.statements(), most=1 << 28, items=4096)
    assert len(held) == ECHOES


@pytest.mark.claim("MEMBER-15")
@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_large_statements_of_made_up_runs_are_bounded(size: int) -> None:
    """The next process reads what is kept.

    32 proposals of 4 MiB of each of two liars were more than a home would read again: it did not start any more.
    """
    site, again = Site("a"), Site("a")
    large = replace(PROPOSE, support=bytes(size))
    for liar in ("b", "c", "d", "e"):
        for k in range(2 * ECHOES):
            site.greets.heard(said(liar, 1, message=large, run=digest("made up", k.to_bytes(2, "big"))))
    kept = site.greets.statements()
    assert len(kept) < 4 * (HEARD_BYTES + size)
    again.greets.remember(kept)
    assert again.greets.statements() == kept


def test_a_peer_that_takes_nothing_loses_what_waits_for_it_and_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "MOST_LETTERS", 50)
    cut: list[tuple[str, P2PFLError]] = []

    class Stuck:
        def cut(self, peer: str, error: P2PFLError) -> None:
            cut.append((peer, error))

    async def scene() -> None:
        stuck: Any = Stuck()
        letters = Post(PROCESS, stuck, cast(Inbox, None))
        for _ in range(51):
            letters.send("b", said("a", 1))
        assert not letters.queues["b"]
        assert letters.queues["b"].waiting == 0
        await letters.queues["b"].join()
        letters.send("c", said("a", 1))
        assert letters.queues["c"].waiting == len(said("a", 1).wire)

    asyncio.run(scene())
    ((peer, error),) = cut
    assert (peer, error.code) == ("b", "P2P-MESH-063")
    assert isinstance(said("a", 1).message, messages.Propose)


def test_what_a_links_owner_waits_for_is_told_whenever_the_link_takes_a_letter() -> None:
    sent: list[Any] = []
    told: list[tuple[str, int]] = []

    class Taking:
        async def send(self, peer: str, wire: codec.Pieces, *, bulk: bool) -> None:
            sent.append(wire)

    class Telling(Post):
        def letter_taken(self, peer: str) -> None:
            told.append((peer, self.waiting(peer)))

    async def scene() -> None:
        taking: Any = Taking()
        letters = Telling(PROCESS, taking, cast(Inbox, None))
        for _ in range(2):
            letters.send("b", said("a", 1))
        delivering = asyncio.ensure_future(letters.deliver("b"))
        await letters.queues["b"].join()
        delivering.cancel()

    asyncio.run(scene())
    assert told == [("b", said("a", 1).pieces.size), ("b", 0)]


def test_a_letter_waits_for_no_bulk_that_its_link_does_not_take() -> None:
    sent: list[bool] = []

    class Full:
        async def send(self, peer: str, wire: codec.Pieces, *, bulk: bool) -> None:
            if bulk:
                await asyncio.Event().wait()
            sent.append(bulk)

    async def scene() -> None:
        full: Any = Full()
        letters = Post(PROCESS, full, cast(Inbox, None))
        for message in (messages.Chunk(bytes(32), 0, b"words"), PROPOSE):
            letters.send("b", said("a", 1, message=message))
        delivering = asyncio.ensure_future(letters.deliver("b"))
        async with asyncio.timeout(300.0):
            while not sent:
                await asyncio.sleep(0)
        delivering.cancel()

    asyncio.run(scene())
    assert sent == [False]


def test_bulk_waits_for_the_letters_that_were_said_before_it() -> None:
    """Words of a sum that overtook the digest that fixes them were let go by who received them."""
    sent: list[bool] = []
    go_on = asyncio.Event()

    class Slow:
        async def send(self, peer: str, wire: codec.Pieces, *, bulk: bool) -> None:
            if not bulk:
                await go_on.wait()
            sent.append(bulk)

    async def scene() -> None:
        slow: Any = Slow()
        letters = Post(PROCESS, slow, cast(Inbox, None))
        words = messages.Chunk(bytes(32), 0, b"words")
        for message in (words, PROPOSE, words, PROPOSE, words):
            letters.send("b", said("a", 1, message=message))
        delivering = asyncio.ensure_future(letters.deliver("b"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent == [True], "the first waits for no letter"
        go_on.set()
        await letters.queues["b"].join()
        delivering.cancel()

    asyncio.run(scene())
    assert sent == [True, False, True, False, True] or sent == [True, False, False, True, True]


def test_bulk_waits_for_no_letter_that_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bool] = []

    class Taking:
        async def send(self, peer: str, wire: codec.Pieces, *, bulk: bool) -> None:
            sent.append(bulk)

        def cut(self, peer: str, error: P2PFLError) -> None:
            pass

    async def scene() -> None:
        taking: Any = Taking()
        letters = Post(PROCESS, taking, cast(Inbox, None))
        with monkeypatch.context() as patch:
            patch.setattr(post, "MOST_LETTERS", 1)
            for _ in range(2):
                letters.send("b", said("a", 1))
        letters.send("b", said("a", 1, message=messages.Chunk(bytes(32), 0, b"words")))
        delivering = asyncio.ensure_future(letters.deliver("b"))
        await letters.queues["b"].join()
        delivering.cancel()

    asyncio.run(scene())
    assert sent == [True]
