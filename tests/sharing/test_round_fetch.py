"""A peer that came back without the masked sums takes the checked sum from one that holds it, and believes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from p2pfl import messages as m
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import BulkRejected
from p2pfl.errors.sharing import WordOutOfRange, WordsMissized
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.phases import confirm
from p2pfl.sharing.phases.confirm import MOST_BYTES, parts_of
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase, read_vectors, total_digest
from p2pfl.simulate import SimulatedFederation
from tests.sharing.standing import ME, picture
from tests.simulate import promises

LENGTH = 70_000  # words of 8 bytes: three parts of 256 KiB


def asking() -> tuple[SimulatedFederation, Round, str, list[m.Total]]:
    """A federation in which ME, a new process without the masked sums, has asked a holder for the sum; its answer."""
    federation = SimulatedFederation(4, length=LENGTH, seed=5)
    me = federation.peers[ME]
    federation.begin()
    while me.course is None or me.course.current is None or me.course.current.phase is not Phase.UNMASK:
        assert federation.clock.step()
    me.kill()
    me.disk.items.pop("state/sums")
    others = [peer for peer in federation.peers.values() if peer is not me]
    while not all(peer.final_round == 1 or (peer.round and peer.round.phase is Phase.CONFIRM) for peer in others):
        assert federation.clock.step()
    federation.start(me)
    while not (me.round and me.round.state.wanted_from):
        assert federation.clock.step()
    assert me.round is not None
    holder = federation.peers[me.round.state.wanted_from]
    assert holder.course is not None
    done = holder.course.current or holder.course.previous
    assert done is not None
    return federation, me.round, holder.name, parts_of(done.state.total)


def told(federation: SimulatedFederation, found: Round, holder: str, message: Message) -> list[e.Effect]:
    peer = federation.peers[holder]
    place = m.Envelope(peer.run, 1, found.number, found.attempt, holder, peer.incarnation)
    return found.handle(e.Received(0.0, Letter(place, message, b"", b"")))


def test_a_peer_without_the_masked_sums_gets_the_sum_and_signs_the_same_record() -> None:
    federation, *_ = asking()
    while federation.clock.step():
        pass
    promises.check(federation)
    promises.everything_is_final(federation)


def test_a_link_that_comes_up_anew_in_the_middle_of_an_answer_costs_only_a_second_answer() -> None:
    federation, found, holder, parts = asking()
    assert len(parts) == 3
    told(federation, found, holder, parts[0])
    again = found.handle(e.LinkUp(0.0, holder, federation.peers[holder].incarnation))
    assert any(isinstance(one, e.Send) and isinstance(one.letter.message, m.Want) for one in again)
    for part in parts[1:]:  # the rest of the first answer
        assert told(federation, found, holder, part) == []
    told(federation, found, holder, parts[0])
    assert told(federation, found, holder, parts[0]) == []  # an older part again tells nothing
    told(federation, found, holder, parts[1])
    (apply,) = told(federation, found, holder, parts[2])
    assert isinstance(apply, e.Apply)
    assert apply.vectors[0].words.tolist() == federation.expected(1)


def shifted(part: m.Total) -> m.Total:
    words = np.frombuffer(part.words, np.uint64) ^ np.uint64(1)
    return replace(part, words=words.tobytes())


PARTS: dict[str, tuple[type[P2PFLError], Callable[[list[m.Total]], list[m.Total]]]] = {
    "another sum": (BulkRejected, lambda parts: [shifted(parts[0]), *parts[1:]]),
    "a part left out": (BulkRejected, lambda parts: [parts[0], parts[2]]),
    "another length": (BulkRejected, lambda parts: [parts[0], replace(parts[1], length=LENGTH + 1)]),
    "another field": (BulkRejected, lambda parts: [parts[0], replace(parts[1], bits=31)]),
    "no field": (BulkRejected, lambda parts: [replace(parts[0], bits=32)]),
    "more segments than before": (BulkRejected, lambda parts: [parts[0], replace(parts[1], segments=2)]),
    "a later segment before its time": (BulkRejected, lambda parts: [
        replace(parts[0], segments=6), replace(parts[0], segment=5, segments=6)]),
    "fewer segments than were begun": (BulkRejected, lambda parts: [
        m.Total(0, 61, 1, 0, bytes(8), 6), m.Total(1, 61, 1, 0, bytes(8), 2)]),
    "too many segments": (BulkRejected, lambda parts: [replace(parts[0], segments=65)]),
    "a segment beyond the last": (BulkRejected, lambda parts: [replace(parts[0], segment=1)]),
    "a length that no memory holds": (BulkRejected, lambda parts: [replace(parts[0], length=(1 << 53) - 1)]),
    "more words than the length": (BulkRejected, lambda parts: [replace(parts[0], length=1)]),
    "no words": (BulkRejected, lambda parts: [replace(parts[0], words=b"")]),
    "half a word": (WordsMissized, lambda parts: [replace(parts[0], words=bytes(12))]),
    "a word of p": (WordOutOfRange, lambda parts: [
        replace(parts[0], words=FIELDS[61].p.to_bytes(8, "little"))]),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_false_answer_is_refused_under_its_senders_name_and_changes_nothing(name: str) -> None:
    federation, found, holder, parts = asking()
    error, change = PARTS[name]
    *good, last = change(parts)
    for part in good:
        assert told(federation, found, holder, part) == []
    before = picture(found)
    with pytest.raises(error) as refused:
        told(federation, found, holder, last)
    assert refused.value.fields["peer"] == holder
    assert picture(found) == before


def test_an_answer_that_nobody_asked_for_tells_nothing() -> None:
    federation, found, holder, parts = asking()
    other = next(name for name in found.state.setting.others if name != holder)
    before = picture(found)
    assert told(federation, found, other, shifted(parts[0])) == []
    assert picture(found) == before


def test_a_claimed_length_takes_no_memory() -> None:
    federation, found, holder, parts = asking()
    claimed = replace(parts[0], length=MOST_BYTES // 8)
    assert told(federation, found, holder, claimed) == []
    assert sum(words.nbytes for _, words in found.state.parts) == len(parts[0].words)


def test_a_new_process_may_ask_another_holder() -> None:
    _, found, *_ = asking()
    asked = set()
    for first in range(3):
        found.state.setting = replace(found.state.setting, incarnation=bytes([0, 0, 0, first]) + bytes(12))
        confirm.want(found.state)
        asked.add(found.state.wanted_from)
    assert asked == {"site-0", "site-1", "site-3"}


def test_parts_put_together_are_the_sum_also_with_segments_of_many_fields_and_without_words() -> None:
    vectors = tuple(e.Vector(bits, FIELDS[bits].zeros(size)) for bits, size in ((16, 200_000), (61, 0), (31, 1)))
    parts = parts_of(vectors)
    assert [part.segment for part in parts] == [0, 0, 1, 2]
    assert sum(len(part.words) for part in parts) == sum(vector.words.nbytes for vector in vectors)
    assert total_digest(vectors) != total_digest(vectors[:2])
    assert read_vectors(b"\x92\xc4\x00\x90", b"") == ()
