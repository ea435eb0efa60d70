"""Whom a site that was away asks, and what it does with the answers: CatchUp, with a post that is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.clocks import Clocks
from p2pfl.errors.round import BulkRejected
from p2pfl.messages import Behind, Entries, Letter, ModelPart
from p2pfl.node.active import ActiveRun
from p2pfl.node.catchup import MODEL_AGAIN_S, CatchUp
from p2pfl.node.node import Node
from p2pfl.node.post import MOST_ANSWERED, Post
from p2pfl.node.progress import Progress, RoundsTakenOver
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.site import SiteProcess
from p2pfl.node.store import Store
from p2pfl.sharing import events as e
from tests.node.runs.homes import ME, OTHERS, Place, by_others, finished, places
from tests.node.runs.test_catchup import Site


class Written(Post):
    """The post of this site, written down: nothing leaves."""

    def __init__(self, site: SiteProcess, put: list[Any]) -> None:
        nothing: Any = None
        events: Any = SimpleNamespace(add_event=put.append)
        super().__init__(site, nothing, events)
        self.sent: list[tuple[str, Letter]] = []
        self.unsent = 0

    def waiting(self, peer: str) -> int:
        return self.unsent

    def send(self, peer: str, letter: Letter) -> None:
        self.sent.append((peer, letter))

    def asked_for_entries(self) -> list[str]:
        """Who was asked for entries, in order."""
        return [peer for peer, letter in self.sent if isinstance(letter.message, Behind) and not letter.message.model]

    def asked_for_model(self) -> list[str]:
        """Who was asked for a model, in order."""
        return [peer for peer, letter in self.sent if isinstance(letter.message, Behind) and letter.message.model]


@dataclass
class RunHere:
    """What a CatchUp uses of a Run."""

    number: int = 0
    final_round: int = 0
    current: None = None
    breaches: list[Any] = field(default_factory=list)

    def adopt(self, number: int, record: bytes) -> list[Any]:
        self.final_round = number
        return []

    def breach(self, error: Any) -> list[Any]:
        self.breaches.append(error)
        return []


@dataclass
class Away:
    """A site that lacks two rounds, and the site that has them."""

    source: TrainingRun
    ahead: TrainingRun
    there: Site
    place: Place

    def __post_init__(self) -> None:
        self.now = 0.0
        self.told: list[Progress] = []
        self.put: list[Any] = []
        self.came: list[ActiveRun] = []
        self.run = RunHere()
        self.active = ActiveRun(self.run, self.source, 3)  # type: ignore[arg-type]
        federation, home = self.place.federation, self.place.home
        clocks = Clocks(lambda: self.now, lambda: 0.0, bytes)
        site = SiteProcess(home.identity(), ME, federation.roster, bytes(16), federation.digest, clocks)
        self.post = Written(site, self.put)
        nothing: Any = SimpleNamespace()
        self.wakes: list[float] = []
        store = Store(home, self.source.logs, nothing)
        inbox = SimpleNamespace(add_event_at=lambda own: self.wakes.append(own.event.now))
        runs = {self.source.run: self.active}
        self.catch_up = CatchUp(site, store, self.post, inbox, self.told.append, runs)  # type: ignore[arg-type]
        self.catch_up.up |= set(OTHERS)

    def heed(self, letter: Any) -> None:
        was_lacking = self.active.lacking
        asyncio.run(self.catch_up.heed(self.active, letter))
        if was_lacking and not self.active.lacking:
            self.came.append(self.active)

    def hear(self, message: Entries | ModelPart, sender: str = OTHERS[0]) -> None:
        made = self.there.says(message)
        self.heed(SimpleNamespace(message=made.message, sender=sender))

    def hear_entries(self) -> None:
        self.catch_up.ask(OTHERS[0])
        (answer,) = self.there.answer(Behind(1, b"", 0))
        assert isinstance(answer, Entries)
        self.hear(answer)

    def wanted(self) -> bytes:
        return self.source.models.lacking

    def right(self) -> ModelPart:
        data = self.ahead.models.bytes_of(self.wanted()) or b""
        return ModelPart(self.wanted(), len(data), 0, data)

    def parts(self, size: int) -> list[ModelPart]:
        """The right model in parts of so many bytes."""
        whole = self.right()
        starts = range(0, whole.length, size)
        return [replace(whole, start=start, data=whole.data[start : start + size]) for start in starts]

    def wrong(self) -> ModelPart:
        return ModelPart(self.wanted(), 16, 0, bytes(16))


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    one, other = places(tmp_path)
    ahead = other.started()
    for number in (1, 2):
        finished(other, ahead, number, *by_others(ahead, number, number - 1, by=0.125 * number))
    source = one.started()
    yield Away(source, ahead, Site(other, ahead.logs), one)
    for place in (one, other):
        place.home.close()


def test_entries_are_taken_over_and_their_sender_asked_for_the_model(away: Away) -> None:
    away.hear_entries()
    assert away.source.logs.federation.root() == away.ahead.logs.federation.root()
    assert (away.run.final_round, away.active.lacking) == (2, True)
    assert away.post.asked_for_model() == [OTHERS[0]]
    assert away.told == [RoundsTakenOver(2, OTHERS[0])]
    assert away.catch_up.fetching(away.now)


@pytest.mark.parametrize(("rounds", "taken"), [(3, 0), (0, 1)], ids=["about to begin it", "serving only"])
def test_the_record_of_the_round_about_to_begin_is_left(away: Away, rounds: int, taken: int) -> None:
    """It is left for the sum of the site that begins that very round."""
    away.active.rounds = rounds
    away.catch_up.ask(OTHERS[0])
    (answer,) = away.there.answer(Behind(1, b"", 0))
    assert isinstance(answer, Entries)
    away.hear(replace(answer, rows=answer.rows[:1]))
    assert away.source.logs.count(away.source.run) == taken


@pytest.mark.claim("DP-13", "HOME-5")
def test_a_site_trains_only_when_enough_of_its_own_epoch_showed_what_they_hold_of_it(away: Away) -> None:
    """A home that was restored to an epoch before met its peers in the next one, which says nothing of its own
    statements: it charged a pass on the account of the backup, and counted as heard for the other studies of its home.
    """
    node: Any = Node.__new__(Node)
    node.catch_up, node._runs = away.catch_up, {}
    node.greetings = SimpleNamespace(told={OTHERS[0]}, entries={})
    node._witness = SimpleNamespace(link_up=lambda peer: None)
    for peer in OTHERS:
        asyncio.run(node._link(e.LinkUp(0.0, peer, bytes(16))))
    assert away.catch_up.met == set(OTHERS)
    assert set(away.catch_up.unmet) == {OTHERS[1]}
    node.greetings.told.add(OTHERS[1])
    asyncio.run(node._link(e.LinkUp(0.0, OTHERS[1], bytes(16))))
    assert away.catch_up.unmet == {}


@pytest.mark.parametrize("late", OTHERS)
def test_who_took_all_rounds_over_tells_a_peer_as_its_link_comes_up(away: Away, late: str) -> None:
    """It looked at its links ten times a second; a peer whose dial failed is waited for no more."""
    away.hear_entries()
    away.catch_up.up.clear()

    async def scene() -> None:
        tried, states = asyncio.Event(), dict.fromkeys(OTHERS, "down")
        links = {"links": lambda: {name: SimpleNamespace(state=state) for name, state in states.items()}}
        mesh: Any = SimpleNamespace(until_tried=tried.wait, **links)
        telling = asyncio.create_task(away.catch_up.tell_settled(away.source.run, mesh))
        await asyncio.sleep(0)
        states[late] = "up"
        tried.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not telling.done(), "the link stands, and this node has yet to take that in"
        away.catch_up.link_up(late, here=True)
        for _ in range(20):  # turns of the loop in which no timer comes due
            await asyncio.sleep(0)
        assert telling.done()

    before = len(away.post.sent)
    asyncio.run(scene())
    assert [peer for peer, _ in away.post.sent[before:]] == [late]


def test_the_model_that_came_is_the_model_and_the_round_goes_on(away: Away) -> None:
    away.hear_entries()
    wanted = away.wanted()
    away.hear(away.right())
    assert away.source.digest_of(away.source.model) == wanted
    assert away.came == [away.active]
    assert not away.catch_up.fetching(away.now)
    assert away.run.breaches == []


@pytest.mark.claim("LIVE-4")
def test_a_peer_that_sent_another_model_is_named_and_nothing_of_it_kept(away: Away) -> None:
    away.hear_entries()
    wanted = away.wanted()
    away.hear(away.wrong())
    assert [(type(error), error.fields["peer"]) for error in away.run.breaches] == [(BulkRejected, OTHERS[0])]
    assert (away.wanted(), away.came) == (wanted, [])
    assert away.catch_up.fetching(away.now)


def test_a_peer_that_sent_another_model_is_not_asked_again_before_the_others(away: Away) -> None:
    away.hear_entries()
    away.hear(away.wrong())
    assert away.post.asked_for_model() == list(OTHERS)
    away.hear(away.right(), OTHERS[1])
    assert away.came == [away.active]


def test_a_peer_that_does_not_answer_is_followed_by_the_next(away: Away) -> None:
    away.hear_entries()
    away.now += MODEL_AGAIN_S + 1
    assert away.catch_up.fetching(away.now)
    away.now += MODEL_AGAIN_S + 1
    assert away.catch_up.fetching(away.now)
    assert away.post.asked_for_model() == [*OTHERS, OTHERS[0]]


def test_who_hands_over_the_first_entries_and_no_more_is_followed_by_the_next(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All answer at once, and what the others said does not fit behind that: at the end of a run nobody says more."""
    monkeypatch.setattr("p2pfl.sharing.catchup.ROWS", 2)
    finished(away.there.place, away.ahead, 3, *by_others(away.ahead, 3, 2, by=0.375))
    for peer in OTHERS:
        away.catch_up.ask_on_link(peer, 4)
    (answer,) = away.there.answer(Behind(1, b"", 0))
    assert isinstance(answer, Entries)
    for peer in OTHERS:
        away.hear(answer, peer)
    before = away.post.asked_for_entries()
    assert before == [*OTHERS, OTHERS[0]]
    assert away.source.logs.entries < away.ahead.logs.entries
    for _ in OTHERS:
        away.now = max(away.wakes)
        away.catch_up.ask_on()
    assert set(OTHERS) <= set(away.post.asked_for_entries()[len(before) :])


def test_a_question_that_came_too_soon_behind_another_is_put_later(away: Away) -> None:
    """A peer that was as far as this one when its link came up finished two rounds within the next 5 s, and ended."""
    away.catch_up.ask_on_link(OTHERS[0], 1)
    away.now += 1
    letter: Any = SimpleNamespace(sender=OTHERS[0], envelope=SimpleNamespace(round=3))
    away.catch_up.ask_on_letter(letter, away.run)  # type: ignore[arg-type]
    assert away.post.asked_for_entries() == [OTHERS[0]]
    away.now = max(away.wakes)
    away.catch_up.ask_on()
    assert away.post.asked_for_entries() == [OTHERS[0]] * 2


def test_who_lacks_nothing_asks_on_and_is_woken_for_nothing(away: Away) -> None:
    for peer in OTHERS:
        away.catch_up.ask_on_link(peer, 1)
    away.now += 60
    away.catch_up.ask_on()
    assert away.wakes == []
    assert away.post.asked_for_entries() == list(OTHERS)


def test_a_model_that_comes_slowly_is_not_begun_anew_at_another_peer(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over less than 800 kB/s no peer had sent 8 MiB in its 10 s, and the site asked one after the other for ever."""
    monkeypatch.setattr("p2pfl.node.catchup.PART_BYTES", 4)
    away.hear_entries()
    for part in away.parts(4):
        away.now += MODEL_AGAIN_S - 2
        assert away.catch_up.fetching(away.now)
        away.hear(part)
    assert away.came == [away.active]
    assert away.post.asked_for_model() == [OTHERS[0]]


@pytest.mark.parametrize("size", [4, 1])
def test_a_peer_that_stops_or_trickles_in_mid_model_is_followed_by_the_next(
    away: Away, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The node is woken for that: at the end of a study no letter comes by which it would look."""
    monkeypatch.setattr("p2pfl.node.catchup.PART_BYTES", 4)
    away.hear_entries()
    away.now += MODEL_AGAIN_S - 2
    away.hear(away.parts(size)[0])
    (*_, woken) = away.wakes
    assert woken > away.now + (MODEL_AGAIN_S if size == 4 else 0)
    away.now = woken
    assert away.catch_up.fetching(away.now)
    assert away.post.asked_for_model() == list(OTHERS[:2])


def test_a_peer_that_was_given_up_may_answer_no_more(away: Away) -> None:
    away.hear_entries()
    part = away.right()
    away.now += MODEL_AGAIN_S + 1
    away.catch_up.fetching(away.now)
    away.hear(part, OTHERS[0])
    assert away.came == []
    away.hear(part, OTHERS[1])
    assert away.came == [away.active]


def test_entries_that_lie_are_told_and_change_nothing(away: Away) -> None:
    (answer,) = away.there.answer(Behind(1, b"", 0))
    assert isinstance(answer, Entries)
    record, signed = answer.rows[0]
    facts = codec.facts({**codec.read_facts(record), "rests_on": 7})
    away.catch_up.ask(OTHERS[0])  # only who was asked is listened to
    away.hear(Entries(1, 3, ((facts, signed), answer.rows[1])))
    assert [error.fields["peer"] for error in away.run.breaches] == [OTHERS[0]]
    assert (len(away.source.logs.federation), away.told, away.post.asked_for_model()) == (1, [], [])
    assert not away.active.lacking


@pytest.mark.claim("LEDGER-7")
@pytest.mark.parametrize("members", [[], [OTHERS[0]], None, 5, [["x"]], "all"], ids=repr)
def test_an_agreement_that_a_peer_made_up_enters_no_ledger_and_ends_no_process(away: Away, members: object) -> None:
    """Between the genesis and the first round one letter of one liar set a site's ledger apart for good."""
    record = codec.facts({"kind": "agreement", "epoch": 1, "sha256": "00" * 32, "members": members})
    signed = away.there.place.home.identity().sign("record", record)
    away.catch_up.ask(OTHERS[0])
    away.hear(Entries(1, 2, ((record, ((OTHERS[0], signed),)),)))
    assert len(away.source.logs.federation) == 1
    assert [error.fields["peer"] for error in away.run.breaches] == [OTHERS[0]]


def test_a_question_is_answered_with_what_this_site_has(away: Away) -> None:
    away.hear_entries()
    away.hear(away.right())
    away.post.sent.clear()
    model = away.source.digest_of(away.source.model)
    for question in (Behind(1, b"", 0), Behind(3, model, 0), Behind(3, bytes(32), 0)):
        letter = away.there.says(question)
        away.heed(letter)
    answers = [letter.message for _, letter in away.post.sent]
    assert [type(answer) for answer in answers] == [Entries, ModelPart]
    assert isinstance(answers[1], ModelPart)
    assert bytes(answers[1].data) == away.ahead.models.bytes_of(model)


@pytest.mark.claim("NET-9")
def test_a_peer_that_asks_faster_than_it_reads_is_answered_once(away: Away) -> None:
    """When it has read, and its last question only.

    Two hundred bytes of a question are eight mebibytes of an answer, a thousand times a second.
    """
    away.hear_entries()
    away.hear(away.right())
    away.post.sent.clear()
    model = away.source.digest_of(away.source.model)
    away.post.unsent = MOST_ANSWERED + 1
    for start in range(50):
        for question in (Behind(start, b"", 0), Behind(3, model, 4 * start)):
            away.heed(away.there.says(question))
    away.post.letter_taken(OTHERS[0])
    assert (away.post.sent, away.put) == ([], [])
    away.post.unsent = 0
    away.post.letter_taken(OTHERS[1])
    assert away.put == []
    away.post.letter_taken(OTHERS[0])
    away.post.letter_taken(OTHERS[0])
    asked = [event.letter.message for event in away.put]
    assert [(one.entries, one.start) for one in asked] == [(49, 0), (3, 4 * 49)]
