"""A home that is set back behind a round that it had called settled: the others hold the words of its sum no more.

Behind its own bundle such a home stops by itself (P2P-ROUND-032). Later in the round it holds all that it signed, and
what it had said last of all, that it lacks nothing, is what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest

from p2pfl import messages as m
from p2pfl.errors.round import RolledBack
from p2pfl.messages import Letter
from p2pfl.sharing.catchup import wanted_round
from p2pfl.sharing.phases import fetch
from p2pfl.sharing.round import Round
from p2pfl.simulate.peer import SimulatedPeer, VirtualDisk
from tests.simulate import promises
from tests.simulate.manual_rounds import ByHand
from tests.simulate.test_returns import copied

BACK = "site-2"
MOMENTS = [m.Ready, m.Ballot, m.Reveal]


def has_let_go(peer: SimulatedPeer) -> bool:
    previous = peer.run.previous if peer.run is not None else None
    return previous is not None and not previous.state.sum.here


def set_back(peers: int, rounds: int, moment: type[m.Message] | None) -> ByHand:
    """Round 1 is in all ledgers, and all know it; then BACK is what it was when it first said `moment`, or new."""
    world = ByHand(peers, rounds)
    back, older = world.peers[BACK], VirtualDisk()
    world.start_all()
    if moment is not None:
        world.until(lambda: any(one.sender == BACK and isinstance(one.message, moment) for _, one in world.log))
        older = copied(back.disk)
    assert not older.ledger
    world.until(lambda: all(map(has_let_go, world.peers.values())))
    back.kill()
    back.disk = older
    back.disk.items.pop("state/sums/1", None)  # the words of its round, without which it asks in any case
    world.start(back)
    return world


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("peers", [3, 4, 7])
def test_a_home_set_back_behind_a_settled_round_takes_over_its_record(peers: int, moment: type[m.Message]) -> None:
    """Of three, nobody would ever end a round again without it."""
    world = set_back(peers, 2, moment)
    world.settle()
    promises.check(world, beside=[BACK])
    promises.everything_is_final(world)
    assert world.peers[BACK].disk.ledger == world.peers["site-0"].disk.ledger
    assert [accused for peer in world.peers.values() for accused in peer.accused] == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_if_nobody_said_that_the_words_are_gone_it_would_wait_for_ever(
    moment: type[m.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Round, "sum_is_gone", False)
    world = set_back(3, 2, moment)
    world.settle()
    assert {peer.final_round for name, peer in world.peers.items() if name != BACK} == {1}
    assert world.peers[BACK].final_round == 0


def test_a_home_set_back_behind_its_own_bundle_stops() -> None:
    world = set_back(3, 1, None)
    world.until(lambda: world.peers[BACK].error is not None)
    assert isinstance(world.peers[BACK].error, RolledBack)


def says(said: m.Total, liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    """Whoever asks the liar for the sum is told that its words are gone, or not here."""
    if isinstance(letter.message, m.Total):
        return (m.seal(said, letter.envelope, liar.identity),)
    return (letter,)


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("said", [fetch.GONE, fetch.NONE], ids=["gone", "not here"])
def test_liars_that_say_that_the_words_are_gone_keep_nobody_from_a_sum(said: m.Total) -> None:
    """c of seven, and who was away asks them first: what honest sites hold comes from these."""
    liars, away = ("site-0", "site-1"), "site-6"
    world = ByHand(7)
    world.lies = dict.fromkeys(liars, partial(says, said))
    for name, peer in world.peers.items():
        if name != away:
            world.start(peer)
    world.until(lambda: all(peer.final_round == 1 for name, peer in world.peers.items() if name != away))
    world.start(world.peers[away])
    late = world.peers[away]

    def asked() -> bool:
        return late.round is not None and bool(late.round.state.sum.wanted)

    world.until(asked)
    assert late.round is not None
    for liar in liars:
        late.round.state.sum.wanted = liar
        peer = world.peers[liar]
        place = m.Envelope(peer.run_id, 1, 1, late.round.attempt, liar, peer.incarnation)
        world._deliver(liar, late, m.seal(said, place, peer.identity).wire)
        assert late.round.state.sum.wanted not in ("", liar), "another one is asked at once"
    found = late.round.state.sum
    assert (found.gone, found.without) == ((set(liars), set()) if said == fetch.GONE else (set(), set(liars)))
    world.settle()
    promises.check(world, beside=liars)
    assert late.disk.totals[0], "it has the sum, and not its record alone"


def test_a_sum_that_came_after_all_is_no_sum_that_is_gone() -> None:
    """More than c hold its words no more, one that is asked later does: its record is not taken over without it."""
    world = set_back(4, 2, m.Reveal)
    back = world.peers[BACK]
    world.until(lambda: back.round is not None and back.round.sum_is_gone)
    found = back.round
    assert back.run is not None and found is not None and wanted_round(back.run, more=True) == 0
    found.state.sum.total = world.peers["site-0"].disk.totals[0]
    assert wanted_round(back.run, more=True) == found.number


def is_final_elsewhere(world: ByHand) -> bool:
    return all(peer.final_round == 1 for name, peer in world.peers.items() if name != BACK)


def set_back_while_others_hold_the_words(moment: type[m.Message]) -> ByHand:
    """Of three the others are final, by its own confirmation too, and have not heard that it is: they send Σx."""
    world = ByHand(3, 2)
    back = world.peers[BACK]
    world.start_all()
    world.until(lambda: any(one.sender == BACK and isinstance(one.message, moment) for _, one in world.log))
    older = copied(back.disk)
    world.until(lambda: is_final_elsewhere(world))
    assert not older.ledger and not any(map(has_let_go, world.peers.values()))
    back.kill()
    back.disk = older
    back.disk.items.pop("state/sums/1", None)
    world.start(back)
    return world


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_it_confirmed_itself_counts_for_a_home_that_was_set_back(moment: type[m.Message]) -> None:
    """Without its own signature it has one less than q, and whoever sends the sum that q signed looked like a liar."""
    world = set_back_while_others_hold_the_words(moment)
    world.settle()
    promises.check(world, beside=[BACK])
    promises.everything_is_final(world)
    assert [accused for peer in world.peers.values() for accused in peer.accused] == []
    assert all(world.peers[BACK].disk.totals), "it has the sums, and not their records alone"


def test_a_sum_without_the_signatures_under_it_accuses_nobody() -> None:
    """The queue of a slow link was given up, and with it the letters by which the asker would know that q signed."""
    world = set_back_while_others_hold_the_words(m.Reveal)
    world.lies = dict.fromkeys(("site-0", "site-1"), without_signatures)
    back = world.peers[BACK]
    world.until(lambda: back.round is not None and back.round.state.sum.asked == 2)
    assert not back.accused
    world.lies = {}
    world.settle()
    promises.check(world, beside=[BACK])
    promises.everything_is_final(world)


def without_signatures(peer: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    return () if to == BACK and isinstance(letter.message, (m.Handed, m.Confirm)) else (letter,)
