"""Of a final round a process holds no word: whoever asks for the sum is given what the disk has."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import total_digest
from p2pfl.sharing.keepsake import read_keepsake
from p2pfl.sharing.parts import Sum
from p2pfl.sharing.phases.fetch import NONE
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import FINAL_ITEM, sums_item
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises
from tests.simulate.manual_rounds import ByHand

LENGTH = 70_000


def stopped() -> tuple[SimulatedFederation, SimulatedPeer, Round]:
    """A federation whose round is final at site-0, while site-3 has not said that it has it."""
    federation = SimulatedFederation(4, length=LENGTH, seed=5)
    federation.begin()
    peer, silent = federation.peers["site-0"], federation.peers["site-3"]
    while peer.final_round == 0:
        if silent.round is not None and silent.round.state.certificate is not None:
            silent.kill()
        assert federation.clock.step()
    assert peer.run is not None and peer.run.previous is not None
    return federation, peer, peer.run.previous


def kept(of: Sum) -> tuple[e.Vector, ...]:
    assert of.kept is not None
    return of.kept()


def asked(federation: SimulatedFederation, found: Round, by: str) -> list[m.Total]:
    """What `by` is sent when it asks for the sum."""
    peer = federation.peers[by]
    place = m.Envelope(peer.run_id, 1, found.number, found.attempt, by, peer.incarnation)
    letter = m.seal(m.Want(m.Question.SUM, ()), place, peer.identity)
    sent = found.handle(e.Received(found.state.now, letter))
    return [one.letter.message for one in sent if isinstance(one, e.Send) and isinstance(one.letter.message, m.Total)]


def test_a_process_holds_no_word_of_a_round_that_is_final() -> None:
    federation, peer, found = stopped()
    assert found.state.sum.total == found.state.sum.masked == ()
    peer.disk.totals.clear()  # the simulation's own record of it
    words = b"".join(bytes(part.words) for part in asked(federation, found, "site-3"))
    expected = b"".join(number.to_bytes(8, "little") for number in federation.expected(1))
    assert words == expected


def test_letters_that_wait_share_what_was_read_once() -> None:
    _, _, found = stopped()
    first, again = kept(found.state.sum), kept(found.state.sum)
    assert [one.words is two.words for one, two in zip(first, again, strict=True)] == [True]
    gone = weakref.ref(first[0].words)
    del first, again
    gc.collect()
    assert gone() is None
    assert kept(found.state.sum)[0].words.size == LENGTH


def test_nothing_is_made_up_of_what_the_disk_lacks() -> None:
    federation, peer, found = stopped()
    del peer.disk.items[sums_item(1)]
    assert kept(found.state.sum) == (), "it held seeds, and what they open is lacking"
    assert asked(federation, found, "site-3") == [NONE]


@pytest.mark.parametrize("item", [FINAL_ITEM, sums_item(1)])
def test_whoever_asks_is_not_to_blame_for_what_lies_on_the_disk(item: str) -> None:
    federation, peer, found = stopped()
    peer.disk.items[item] = b"\xc1"
    assert asked(federation, found, "site-3") == [NONE]
    assert peer.accused == [] and "site-3" not in found.state.peers.breaches


def test_before_another_run_takes_its_place_the_words_are_held_again() -> None:
    federation, peer, found = stopped()
    assert peer.run is not None
    peer.run.take_back()
    peer.disk.items[FINAL_ITEM] = b""
    assert found.state.sum.kept is None
    assert found.state.sum.total[0].words.tolist() == federation.expected(1)
    assert asked(federation, found, "site-3")


@pytest.mark.parametrize("words", ["held", "on the disk"])
def test_once_all_have_the_round_they_are_neither_held_nor_read(words: str) -> None:
    federation, _, found = stopped()
    if words == "held":
        found.state.sum.take_back()
    found.state.confirming.settled |= set(found.state.context.others)
    assert asked(federation, found, "site-1")  # is given them: only a Settled lets go of them
    place = m.Envelope(
        federation.peers["site-3"].run_id,
        1,
        found.number,
        found.attempt,
        "site-3",
        federation.peers["site-3"].incarnation,
    )
    letter = m.seal(m.Want(m.Question.NOTHING, ()), place, federation.peers["site-3"].identity)
    found.handle(e.Received(found.state.now, letter))
    assert not found.state.sum.here


# ── the round after the next ──────────────────────────────────────────────────────────────────────────────────

HONEST, LIAR, LATE = ("site-0", "site-1"), "site-2", "site-3"


def keeps_back(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    """What makes a round final past the first, and all of it from the one that comes late."""
    late = letter.envelope.round > 1 and isinstance(letter.message, (m.Confirm, m.Handed))
    return () if to == LATE or late or isinstance(letter.message, m.Entries) else (letter,)


def in_the_same_place() -> ByHand:
    """Round 1 is final at two, which hold round 2 and have the sums of round 3 on the disk where those of 1 lay."""
    world = ByHand(4, 3)
    world.lies = {LIAR: keeps_back}
    world.start_all()
    late, honest = world.peers[LATE], [world.peers[name] for name in HONEST]
    world.until(lambda: late.round is not None and late.round.state.certificate is not None)
    late.kill()
    late.disk.items.pop(sums_item(1), None)

    def third(peer: SimulatedPeer) -> bool:
        return peer.round is not None and peer.round.number == 3 and peer.round.state.sum.stored

    world.until(lambda: all(map(third, honest)))
    assert all(peer.final_round == 1 and peer.run and peer.run.held == [2] for peer in honest)
    return world


def all_get_on(world: ByHand) -> None:
    world.settle()
    promises.check(world, beside=[LIAR])
    for name in (*HONEST, LATE):
        assert world.peers[name].final_round == 3, name
    assert world.peers[LATE].disk.totals[0], "it was given the sum"


def test_one_that_lacks_a_final_sum_is_given_it_when_two_rounds_lie_behind_it() -> None:
    """With a liar that confirms to nobody the others need the one that comes late, and it needs their sum."""
    world = in_the_same_place()
    world.start(world.peers[LATE])
    all_get_on(world)


def test_so_it_is_by_processes_that_came_after() -> None:
    world = in_the_same_place()
    for name in HONEST:
        world.peers[name].kill()
        world.start(world.peers[name])
    world.start(world.peers[LATE])
    world.settle()
    promises.check(world, beside=[LIAR])
    assert world.peers[LATE].disk.totals[0], "it was given the sum"


def test_what_the_disk_did_not_take_is_kept_whole_and_named_as_no_sum_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was full when READY was to be written; the others go on without this site's, and it has room again by then."""
    applied: list[e.Apply] = []
    plain = SimulatedPeer._carry_out_one

    def full(peer: SimulatedPeer, effect: e.Effect) -> None:
        if peer.name == "site-0" and isinstance(effect, e.Persist) and effect.then is e.SumsStored:
            return
        if peer.name == "site-0" and isinstance(effect, e.Apply):
            applied.append(effect)
        plain(peer, effect)

    monkeypatch.setattr(SimulatedPeer, "_carry_out_one", full)
    federation = SimulatedFederation(4, seed=5)
    federation.run()
    promises.check(federation)
    assert [one.masked for one in applied] == [None]
    peer = federation.peers["site-0"]
    assert peer.run is not None
    found, _ = read_keepsake(peer.run.context, peer.run.peers, peer.disk.items[FINAL_ITEM] or b"", {})
    assert total_digest(found.sum.total) == total_digest(peer.disk.totals[0])
