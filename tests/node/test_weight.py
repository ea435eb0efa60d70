"""Which steps of a round run in the loop's own thread: small ones, and no others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from p2pfl import messages as m
from p2pfl.federation import draft
from p2pfl.node import effects, weight
from p2pfl.node.weight import MOST_EARLY, OF_ANY, OF_SMALL, SMALL_BYTES, SMALL_WORDS
from p2pfl.sharing import events as e
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import EVENTS
from tests.peer.sites import NAMES, Sites
from tests.sharing.stopped_rounds import ME, standing

# Each brings many letters or signatures, combines shares, asks, masks a long vector, or comes with no round.
NEVER = {
    m.Members, m.Ballot, m.Certificate, m.BackupShare, m.Total, m.Opened, m.Want, m.Leave,
    e.Begin, e.UpdateReady, e.Tick, e.LinkUp, e.LinkDown, e.LeaveStored, e.Moved, e.Forgotten, e.FirstSent,
}  # fmt: skip


def test_every_kind_of_the_table_is_weighed() -> None:
    """A kind that the table gains is in one list: what it can lead to was thought of."""
    kinds = {kind for _, kind in EVENTS}
    assert set(OF_ANY) | set(OF_SMALL) | NEVER == kinds
    assert not set(OF_ANY) & set(OF_SMALL) and not NEVER & {*OF_ANY, *OF_SMALL}


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
    assert {m.Ready, m.Confirm, e.BallotStored, m.Tags, e.WordsReady} <= few["loop"]
    assert not few["loop"] & NEVER
    many = summed("many", SMALL_WORDS + 1)
    assert {m.Ready, m.Confirm, e.BallotStored} <= many["loop"] <= set(OF_ANY)
    monkeypatch.setattr(weight, "SMALL_BYTES", -1)
    assert not summed("again", 10)["loop"]


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


def _place() -> str:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "thread"
    return "loop"
