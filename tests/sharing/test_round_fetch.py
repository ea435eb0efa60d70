"""A peer that came back without the masked sums takes the sum from one that holds it, and believes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from p2pfl import messages as m
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import BulkRejected
from p2pfl.errors.sharing import WordOutOfRange, WordsMissized
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import total_digest
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.phases import fetch, unmask
from p2pfl.sharing.phases.fetch import parts_of
from p2pfl.sharing.round import Round
from p2pfl.sharing.snapshot import read_vectors
from p2pfl.sharing.state import Phase, sums_item
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import MOST_SUM, SimulatedPeer
from tests.sharing.stopped_rounds import ME, picture
from tests.simulate import promises

LENGTH = 70_000  # words of 8 bytes: three parts of 256 KiB
KINDS = pytest.mark.parametrize("masked", [True, False], ids=["masked", "final"])


def begun(length: int = LENGTH) -> tuple[SimulatedFederation, SimulatedPeer]:
    """A federation in which ME has just died under the certificate, and lost the masked sums."""
    federation = SimulatedFederation(4, length=length, seed=5)
    me = federation.peers[ME]
    federation.begin()
    while me.round is None or me.round.phase is not Phase.UNMASK:
        assert federation.clock.step()
    me.kill()
    me.disk.items.pop(sums_item(1))
    return federation, me


def asking(masked: bool) -> tuple[SimulatedFederation, Round, str, list[m.Total]]:
    """ME has come back and asked a holder for the sum; what that one answers, before all is final or after.

    ME holds everything that the answer is checked against.
    """
    federation, me = begun()
    others = [peer for peer in federation.peers.values() if peer is not me]
    while not all(done(peer).state.sum.here and (masked or peer.final_round == 1) for peer in others):
        assert federation.clock.step()
    federation.start(me)
    while not (me.round and me.round.state.sum.wanted):
        assert federation.clock.step()
    found = me.round
    holder = federation.peers[found.state.sum.wanted]
    state = done(holder).state
    if masked:
        seeds = tuple((peer.name, opened(peer)) for peer in others)
        told(federation, found, holder.name, m.Reveal(seeds))
        return federation, found, holder.name, parts_of(unmask.masked_again(state) or state.sum.masked, masked=True)
    told(federation, found, holder.name, m.Handed(tuple(one.wire for one in state.confirming.confirm_letters.values())))
    assert state.sum.kept is not None
    return federation, found, holder.name, parts_of(state.sum.kept(), masked=False)


def done(peer: SimulatedPeer) -> Round:
    assert peer.run is not None
    held = peer.run.rounds.get(1) or peer.run.previous
    assert held is not None
    return held


def opened(peer: SimulatedPeer) -> bytes:
    """The self-mask seed that `peer` has revealed, in clear."""
    letters = [one.message for _, one in peer.world.log if one.sender == peer.name]  # type: ignore[attr-defined]
    return next(seed for one in letters if isinstance(one, m.Reveal) for name, seed in one.seeds if name == peer.name)


def told(federation: SimulatedFederation, found: Round, holder: str, message: Message) -> list[e.Effect]:
    peer = federation.peers[holder]
    place = m.Envelope(peer.run_id, 1, found.number, found.attempt, holder, peer.incarnation)
    return found.handle(e.Received(found.state.now, m.seal(message, place, peer.identity)))


def applied(effects: Iterable[e.Effect]) -> e.Apply:
    (apply,) = [one for one in effects if isinstance(one, e.Apply)]
    return apply


@pytest.mark.parametrize("length", [5, LENGTH])
def test_a_peer_without_the_masked_sums_gets_the_sum_and_signs_the_same_record(length: int) -> None:
    federation, me = begun(length)
    federation.clock.at(federation.now + 20.0, lambda: federation.start(me))
    while federation.clock.step():
        pass
    promises.check(federation)
    promises.everything_is_final(federation)


def test_a_peer_that_was_not_in_the_set_gets_the_sum_too() -> None:
    """It was away from the beginning: the others sum without it, and it comes back when all is over."""
    federation = SimulatedFederation(4, length=LENGTH, seed=5)
    absent = federation.peers["site-3"]
    start = federation.start
    federation.start = lambda peer: start(peer) if peer is not absent else None  # type: ignore[method-assign]
    federation.clock.at(100.0, lambda: start(absent))
    federation.run()
    promises.check(federation)
    promises.everything_is_final(federation)
    (vector,) = federation.peers["site-0"].disk.totals[0]
    assert vector.words.tolist() == federation.expected(1, ("site-0", "site-1", ME))


def test_a_peer_whose_sum_all_have_let_go_asks_for_it_no_more() -> None:
    """A new link to the one that gave it the sum costs nothing."""
    federation, me = begun(5)
    federation.clock.at(federation.now + 20.0, lambda: federation.start(me))
    while federation.clock.step():
        pass
    found, asked = done(me), sums_asked(federation, ME)
    assert asked and not found.state.sum.here
    for holder in asked:
        again = found.handle(e.LinkUp(found.state.now, holder, federation.peers[holder].incarnation))
        assert not any(isinstance(one, e.Send) and wants_sum(one.letter) for one in again)


def sums_asked(federation: SimulatedFederation, name: str) -> set[str]:
    """Whom `name` asked for the sum."""
    return {to for to, one in federation.log if one.sender == name and wants_sum(one)}  # type: ignore[attr-defined]


def wants_sum(letter: Letter[Message]) -> bool:
    return isinstance(letter.message, m.Want) and letter.message.what == m.Question.SUM


@KINDS
def test_the_parts_of_an_answer_come_to_the_sum_that_is_applied(masked: bool) -> None:
    federation, found, holder, parts = asking(masked)
    assert len(parts) == 3
    for part in parts[:-1]:
        assert all(isinstance(one, e.SetTimer) for one in told(federation, found, holder, part))
    apply = applied(told(federation, found, holder, parts[-1]))
    assert apply.vectors[0].words.tolist() == federation.expected(1)


@KINDS
def test_a_new_link_in_the_middle_of_an_answer_costs_one_more(masked: bool) -> None:
    """Only a second answer."""
    federation, found, holder, parts = asking(masked)
    told(federation, found, holder, parts[0])
    again = found.handle(e.LinkUp(found.state.now, holder, federation.peers[holder].incarnation))
    assert any(isinstance(one, e.Send) and isinstance(one.letter.message, m.Want) for one in again)
    for part in parts[1:]:  # the rest of the first answer
        told(federation, found, holder, part)
    assert not found.state.sum.parts
    told(federation, found, holder, parts[0])
    told(federation, found, holder, parts[0])  # an older part again tells nothing
    told(federation, found, holder, parts[1])
    assert applied(told(federation, found, holder, parts[2])).vectors[0].words.tolist() == federation.expected(1)


def test_a_holder_that_became_final_in_the_middle_of_its_answer_is_no_liar() -> None:
    """Asked again on a new link, with the rest of the first answer still under way: what is masked gives way to Σx."""
    federation, found, holder, parts = asking(False)
    first = [replace(part, masked=1) for part in parts]
    told(federation, found, holder, first[0])
    for part in parts:
        effects = told(federation, found, holder, part)
        assert not any(isinstance(one, e.Accuse) for one in effects)
    assert applied(effects).vectors[0].words.tolist() == federation.expected(1)


def test_a_liar_that_changes_its_mind_gains_no_time() -> None:
    """From Σx nobody goes back to masked words."""
    federation, found, holder, (part, *_) = asking(False)
    told(federation, found, holder, replace(part, masked=1))
    told(federation, found, holder, part)
    effects = told(federation, found, holder, replace(part, masked=1))
    assert [one.peer for one in effects if isinstance(one, e.Accuse)] == [holder]


def shifted(part: m.Total) -> m.Total:
    words = np.frombuffer(part.words, np.uint64) ^ np.uint64(1)
    return replace(part, words=words.tobytes())


PARTS: dict[str, tuple[type[P2PFLError], Callable[[list[m.Total]], list[m.Total]]]] = {
    "another sum": (BulkRejected, lambda parts: [shifted(parts[0]), *parts[1:]]),
    "another length": (BulkRejected, lambda parts: [parts[0], replace(parts[1], length=LENGTH + 1)]),
    "another field": (BulkRejected, lambda parts: [parts[0], replace(parts[1], bits=31)]),
    "half of it masked": (BulkRejected, lambda parts: [parts[0], replace(parts[1], masked=1 - parts[1].masked)]),
    "no field": (BulkRejected, lambda parts: [replace(parts[0], bits=32)]),
    "more segments than before": (BulkRejected, lambda parts: [parts[0], replace(parts[1], segments=2)]),
    "fewer segments than were begun": (
        BulkRejected,
        lambda parts: [
            m.Total(parts[0].masked, 0, 61, 1, 0, bytes(8), 6),
            m.Total(parts[0].masked, 1, 61, 1, 0, bytes(8), 2),
        ],
    ),
    "too many segments": (BulkRejected, lambda parts: [replace(parts[0], segments=65)]),
    "a segment beyond the last": (BulkRejected, lambda parts: [replace(parts[0], segment=1)]),
    "a length that no memory holds": (BulkRejected, lambda parts: [replace(parts[0], length=(1 << 53) - 1)]),
    "more words than the length": (BulkRejected, lambda parts: [replace(parts[0], length=1)]),
    "no segment, and a field": (BulkRejected, lambda parts: [replace(fetch.GONE, bits=61)]),
    "no segment, and words": (BulkRejected, lambda parts: [replace(fetch.GONE, words=bytes(8))]),
    "no words": (BulkRejected, lambda parts: [replace(parts[0], words=b"")]),
    "a word at a time": (BulkRejected, lambda parts: [replace(parts[0], words=parts[0].words[:8])]),
    "half a word": (WordsMissized, lambda parts: [replace(parts[0], words=bytes(12))]),
    "a word of p": (WordOutOfRange, lambda parts: [replace(parts[0], words=FIELDS[61].p.to_bytes(8, "little"))]),
}


@KINDS
@pytest.mark.parametrize("name", PARTS)
def test_a_false_answer_is_refused_under_its_senders_name_and_nothing_of_it_is_kept(name: str, masked: bool) -> None:
    federation, found, holder, parts = asking(masked)
    error, change = PARTS[name]
    *good, last = change(parts)
    for part in good:
        assert not any(isinstance(one, e.Accuse) for one in told(federation, found, holder, part))
    effects = told(federation, found, holder, last)
    (accused,) = [one for one in effects if isinstance(one, e.Accuse)]
    assert (accused.peer, type(accused.error)) == (holder, error)
    assert not found.state.sum.total
    assert not found.state.sum.masked


def test_a_sum_that_is_called_masked_is_not_the_one_of_the_certificate() -> None:
    federation, found, holder, parts = asking(False)
    effects = [one for part in parts for one in told(federation, found, holder, replace(part, masked=1))]
    assert [(one.peer, type(one.error)) for one in effects if isinstance(one, e.Accuse)] == [(holder, BulkRejected)]
    assert not found.state.sum.masked


@pytest.mark.parametrize("signed", [False, True])
def test_a_sum_under_no_signature_is_false_where_its_sender_signed_another(signed: bool) -> None:
    """Of one that signed nothing that came here nobody can say so: a queue with its letters may have been given up."""
    federation, found, holder, parts = asking(True)
    if signed:
        found.state.confirming.confirms[holder] = (b'{"total":"00"}', b"")
    effects = [one for part in parts for one in told(federation, found, holder, replace(part, masked=0))]
    assert [one.peer for one in effects if isinstance(one, e.Accuse)] == [holder] * signed
    assert not found.state.sum.total
    assert found.state.sum.wanted not in ("", holder), "another one is asked at once"


GAPS: dict[str, Callable[[list[m.Total]], list[m.Total]]] = {
    "a part left out": lambda parts: [parts[0], parts[2]],
    "a segment left out": lambda parts: [replace(parts[0], segments=6), replace(parts[0], segment=5, segments=6)],
}


@KINDS
@pytest.mark.parametrize("name", GAPS)
def test_a_gap_in_an_answer_accuses_nobody_and_another_holder_is_asked(name: str, masked: bool) -> None:
    """What lies between may be lost with a queue that was full."""
    federation, found, holder, parts = asking(masked)
    first, behind = GAPS[name](parts)
    told(federation, found, holder, first)
    effects = told(federation, found, holder, behind)
    assert not any(isinstance(one, e.Accuse) for one in effects)
    assert not found.state.sum.parts
    (asked,) = wants(effects)
    assert asked != holder


def wants(effects: Iterable[e.Effect]) -> list[str]:
    """Who is asked for the sum."""
    return [one.to for one in effects if isinstance(one, e.Send) and isinstance(one.letter.message, m.Want)]  # type: ignore[misc]


def all_without(federation: SimulatedFederation, found: Round, holder: str) -> list[str]:
    """Who was asked, `holder` first, until each has said that it has no words."""
    asked = [holder]
    while more := wants(told(federation, found, asked[-1], fetch.NONE)):
        asked += more
    return asked


@KINDS
def test_after_a_false_answer_another_holder_is_asked_and_the_sum_comes(masked: bool) -> None:
    """One holder answers with another sum; everyone else is final, and nobody says anything of its own accord."""
    federation, found, holder, parts = asking(masked)
    effects: list[e.Effect] = []
    for part in (shifted(parts[0]), *parts[1:]):
        found.state.now += 1.0
        effects += told(federation, found, holder, part)
    asked = wants(effects)
    if not asked:  # not at once: then when its time has come
        asked = wants([more for one in effects if isinstance(one, e.SetTimer) for more in found.handle(one.event)])
    assert len(asked) == 1
    assert asked[0] not in (holder, ME)
    answered = [one for part in parts for one in told(federation, found, asked[0], part)]
    assert applied(answered).vectors[0].words.tolist() == federation.expected(1)


@KINDS
def test_a_holder_that_is_back_may_have_the_words_that_it_had_let_go(masked: bool) -> None:
    """After more of them than may lie the record is taken over; a new link to one counts them anew."""
    federation, found, holder, _ = asking(masked)
    (other,) = wants(told(federation, found, holder, fetch.GONE))
    assert found.state.sum.gone == {holder}
    assert not found.sum_is_gone
    assert wants(told(federation, found, other, fetch.GONE)) == [], "the next question has its time"
    assert found.sum_is_gone
    found.handle(e.LinkUp(found.state.now, holder, federation.peers[holder].incarnation))
    assert not found.sum_is_gone


@KINDS
def test_a_holder_that_has_no_words_costs_no_time_and_is_asked_again_later(masked: bool) -> None:
    """Nobody takes the record over for that, however many say so; and one that lies silences no honest one for good."""
    federation, found, holder, parts = asking(masked)
    asked = all_without(federation, found, holder)
    assert len(asked) == len(set(asked)) > 1, "each once; then the next question has its time"
    assert not found.sum_is_gone
    (again,) = wants(found.handle(e.Tick(found.state.now + fetch.AGAIN_S, found.number, found.attempt)))
    assert again in asked
    answered = [one for part in parts for one in told(federation, found, again, part)]
    assert applied(answered).vectors[0].words.tolist() == federation.expected(1)


@KINDS
def test_questions_for_words_that_nobody_has_never_wait_for_hours(masked: bool) -> None:
    """Nor do those to whom has none make the first waits longer: one pass over all counts as one question."""
    federation, found, holder, _ = asking(masked)
    waits = []
    for _ in range(100):
        all_without(federation, found, holder)
        due = found.state.due["again"]
        waits.append(due - found.state.now)
        (holder,) = wants(found.handle(e.Tick(due, found.number, found.attempt)))
    assert waits[: len(federation.peers)] == pytest.approx([fetch.AGAIN_S] * len(federation.peers))
    assert max(waits) == pytest.approx(fetch.LONGEST_S)


def test_who_is_asked_for_a_sum_that_is_damaged_on_its_disk_says_so_at_once() -> None:
    federation, _, holder, _ = asking(False)
    state = done(federation.peers[holder]).state
    state.sum.kept = tuple
    state.confirming.served.clear()
    (question,) = [
        one
        for to, one in federation.log
        if to == holder and one.sender == ME and wants_sum(one)  # type: ignore[attr-defined]
    ][:1]
    effects = done(federation.peers[holder]).handle(e.Received(state.now, question))
    totals = [
        one.letter.message for one in effects if isinstance(one, e.Send) and isinstance(one.letter.message, m.Total)
    ]
    assert totals == [fetch.NONE]


@KINDS
def test_an_answer_that_nobody_asked_for_tells_nothing(masked: bool) -> None:
    federation, found, holder, parts = asking(masked)
    other = next(name for name in found.state.context.others if name != holder)
    before = picture(found)
    assert told(federation, found, other, shifted(parts[0])) == []
    assert picture(found) == before


@KINDS
def test_a_claimed_length_takes_no_memory(masked: bool) -> None:
    federation, found, holder, parts = asking(masked)
    claimed = replace(parts[0], length=MOST_SUM // 8)
    told(federation, found, holder, claimed)
    assert sum(words.nbytes for _, words in found.state.sum.parts) == len(parts[0].words)


@KINDS
@pytest.mark.parametrize("what", ["longer", "endless", "more segments"])
def test_a_sum_larger_than_configured_is_refused_before_it_is_held(masked: bool, what: str) -> None:
    """However much a liar announces and sends: another holder is asked, and what came of it is forgotten."""
    federation, found, holder, parts = asking(masked)
    found.state.context = replace(found.state.context, sum_bytes=lambda configuration: 8 * LENGTH)
    if what == "more segments":
        parts = [replace(part, segments=2) for part in parts]
        for part in parts:
            told(federation, found, holder, part)
        lie = replace(parts[0], segment=1, start=0)
    else:
        lie = replace(parts[0], length=LENGTH + 1 if what == "longer" else 1 << 50)
    accused = [one for one in told(federation, found, holder, lie) if isinstance(one, e.Accuse)]
    assert [(one.peer, type(one.error)) for one in accused] == [(holder, BulkRejected)]
    assert not found.state.sum.parts
    assert found.state.sum.wanted != holder


@KINDS
def test_a_sum_asked_for_again_and_again_is_given_once_in_a_while(masked: bool) -> None:
    """And once anew on a new link, however often links come up."""
    federation, _, holder, _ = asking(masked)
    served, want = done(federation.peers[holder]), m.Want("sum", ())
    assert told(federation, served, ME, want)
    for _ in range(50):
        assert told(federation, served, ME, want) == []
    up = e.LinkUp(served.state.now, ME, federation.peers[ME].incarnation)
    served.handle(up)
    assert told(federation, served, ME, want)
    for _ in range(50):
        assert told(federation, served, ME, want) == []
        served.handle(up)
    served.state.now += fetch.AGAIN_S
    assert told(federation, served, ME, want)


def test_the_words_of_a_sum_go_when_every_ledger_has_its_round() -> None:
    """And not before: whoever was away still asks for them."""
    federation, *_ = asking(masked=False)
    others = [peer for peer in federation.peers.values() if peer.name != ME]
    assert all(kept()[0].words.size == LENGTH for peer in others if (kept := done(peer).state.sum.kept))
    assert all(done(peer).state.sum.here for peer in others)
    while not all(peer.final_round == 1 for peer in federation.peers.values()):
        assert federation.clock.step()
    federation.settle()
    assert not any(done(peer).state.sum.here for peer in (*others, federation.peers[ME]))


def test_a_new_process_may_ask_another_holder() -> None:
    _, found, *_ = asking(masked=False)
    found.state.peers.down.clear()
    asked = set()
    for first in range(3):
        found.state.sum.asked = 0
        found.state.context = replace(found.state.context, incarnation=bytes([0, 0, 0, first]) + bytes(12))
        fetch.want(found.state)
        asked.add(found.state.sum.wanted)
    assert asked == {"site-0", "site-1", "site-3"}


def test_who_does_not_answer_is_asked_no_more_while_another_can_be() -> None:
    _, found, holder, _ = asking(masked=True)
    (asked,) = wants(found.handle(e.Tick(found.state.now + fetch.AGAIN_S, 1, 0)))
    assert asked != holder


@KINDS
def test_what_is_asked_for_is_given_with_all_that_it_is_checked_against(masked: bool) -> None:
    """The certificate, q confirmations or the seeds, then the words: so the asker needs nobody else."""
    federation, _, holder, parts = asking(masked)
    served = done(federation.peers[holder])
    assert (served.phase is Phase.FINAL) is not masked
    effects = told(federation, served, ME, m.Want("sum", ()))
    assert all(isinstance(one, e.Send) and one.to == ME for one in effects)
    letters: list[Letter] = [one.letter for one in effects]
    kinds = [type(one.message) for one in letters]
    assert kinds[0] is m.Certificate
    assert kinds[-3:] == [m.Total] * 3
    assert [one.message for one in letters[-3:]] == parts
    assert (m.Reveal in kinds) is masked
    if not masked:
        assert len(letters[1].message.letters) >= 3  # type: ignore[attr-defined]


def test_parts_put_together_are_the_sum() -> None:
    """Also with segments of many fields, and without words."""
    vectors = tuple(e.Vector(bits, FIELDS[bits].zeros(size)) for bits, size in ((16, 200_000), (61, 0), (31, 1)))
    parts = parts_of(vectors, masked=False)
    assert [part.segment for part in parts] == [0, 0, 1, 2]
    assert sum(len(part.words) for part in parts) == sum(vector.words.nbytes for vector in vectors)
    assert total_digest(vectors) != total_digest(vectors[:2])
    assert read_vectors(b"\x92\xc4\x00\x90", b"") == ()


@KINDS
def test_a_holder_that_had_no_words_is_asked_again_on_a_new_link(masked: bool) -> None:
    """Nobody is waited for: all that were asked have answered. It came back, and may have the words by now."""
    federation, found, holder, _ = asking(masked)
    asked = all_without(federation, found, holder)
    back = asked[0]
    assert wants(found.handle(e.LinkUp(found.state.now, back, federation.peers[back].incarnation))) == [back]
