"""A site that was away asks, is answered, and takes over what a quorum signed: real logs at both ends, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from p2pfl import codec
from p2pfl.errors.round import BulkRejected, MalformedMessage
from p2pfl.keys import SignedRecord, digest
from p2pfl.ledger.verify import check_federation
from p2pfl.messages import Behind, Entries, Envelope, Letter, Message, ModelPart, open_letter, seal
from p2pfl.node.catchup import take_over
from p2pfl.node.logs import Logs
from p2pfl.sharing import catchup
from p2pfl.sharing.catchup import AGAIN_S, PART_BYTES, PARTS, CatchUpRules, ModelFetch
from tests.node.runs.homes import NAMES, OTHERS, Place, by_others, finished, places, row

RUN = digest("run", b"between nodes")
MODEL = digest("model", b"large")
LARGE = bytes(range(256)) * ((3 * PARTS * PART_BYTES // 2 + 999) // 256)  # more than one question's worth


@dataclass
class Site:
    """One site's logs and its end of the talk."""

    place: Place
    logs: Logs
    now: float = 0.0
    models: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roster = self.place.federation.roster
        self.rules, self.fetch = CatchUpRules(self.logs, self.roster, b""), ModelFetch(self.logs)

    def ask(self, peer: str) -> Behind | None:
        return self.rules.ask(peer, self.now)

    def answer(self, question: Behind) -> list[Message]:
        return self.rules.answer(question, self.models.get)  # type: ignore[arg-type]

    def says(self, message: Behind | Entries | ModelPart) -> Letter:
        """As it comes out at the far end of a link."""
        name = self.place.home.name
        letter = seal(message, Envelope(RUN, 1, 0, 0, name, bytes(16)), self.place.identities[name])
        return open_letter(letter.wire, self.roster, Message)

    def take(self, letter: Letter, current: dict[bytes, int] | None = None) -> dict[bytes, tuple[int, bytes]]:
        assert isinstance(letter.message, Entries)
        self.rules.ask_on_link(letter.sender, self.logs.entries, self.now)  # only who was asked is listened to
        rows = self.rules.rows_that_count(letter.sender, letter.message, current or {})
        return take_over(self.logs, rows)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """One that was away from the beginning, and one that finished three rounds."""
    behind, ahead = places(tmp_path)
    run = ahead.started()
    for number in (1, 2, 3):
        finished(ahead, run, number, *by_others(run, number, number - 1, by=0.125 * number))
    yield Site(behind, behind.logs()), Site(ahead, run.logs)
    for one in (behind, ahead):
        one.home.close()


def asked(away: Site, there: Site) -> list[Letter]:
    """What the site that is ahead answers to the other's question, which is a moment away from the last one."""
    away.now += AGAIN_S
    question = away.ask(there.place.home.name)
    assert isinstance(question, Behind)
    told = away.says(question).message
    assert isinstance(told, Behind)
    return [there.says(answer) for answer in there.answer(told)]  # type: ignore[arg-type]


# ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_peer_is_asked_again_only_after_a_while(sites: tuple[Site, Site]) -> None:
    away, _ = sites
    assert away.ask("st-olav") == Behind(1, b"", 0)
    assert away.ask("st-olav") is None
    assert away.ask("uppsala") == Behind(1, b"", 0)
    away.now = AGAIN_S
    assert away.ask("st-olav") == Behind(1, b"", 0)


@pytest.mark.claim("LIVE-4")
def test_a_site_that_was_away_has_the_same_log_afterwards_and_it_verifies(sites: tuple[Site, Site]) -> None:
    away, there = sites
    (letter,) = asked(away, there)
    found = away.take(letter)
    assert away.logs.federation.root() == there.logs.federation.root()
    assert check_federation(list(away.logs.federation.records())) == []
    last = there.logs.federation[3].record
    run = bytes.fromhex(codec.read_facts(last)["run"])
    assert found == {run: (3, last)}
    assert (away.logs.base(run), away.logs.count(run)) == (there.logs.base(run), 3)
    assert asked(away, there) == []


def test_a_long_log_comes_in_as_many_answers_as_it_needs(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    away, there = sites
    monkeypatch.setattr(catchup, "ROWS", 2)
    first = asked(away, there)[0]
    away.take(first)
    assert len(away.logs.federation) == 3
    assert away.ask("st-olav") is not None  # at once: there may be more
    monkeypatch.setattr(catchup, "ROWS_BYTES", 1)  # however large an entry is, one is sent
    away.take(asked(away, there)[0])
    assert away.logs.federation.root() == there.logs.federation.root()


def test_an_answer_to_an_earlier_question_changes_nothing(sites: tuple[Site, Site]) -> None:
    away, there = sites
    (letter,) = asked(away, there)
    away.take(letter)
    assert away.take(letter) == {}
    ahead_of_it = there.says(Entries(9, 9, letter.message.rows))  # type: ignore[attr-defined]
    assert away.take(ahead_of_it) == {}
    assert len(away.logs.federation) == 4


def test_the_last_round_is_not_taken_over_while_its_sum_may_still_be_had(sites: tuple[Site, Site]) -> None:
    away, there = sites
    (letter,) = asked(away, there)
    run = bytes.fromhex(codec.read_facts(there.logs.federation[3].record)["run"])
    found = away.take(letter, {run: 3})
    assert found == {run: (2, there.logs.federation[2].record)}
    assert len(away.logs.federation) == 3
    (letter,) = asked(away, there)
    assert away.take(letter, {run: 3}) == {}
    assert away.take(letter, {run: 4})[run][0] == 3


def rows_of(there: Site) -> list[SignedRecord]:
    return there.logs.rows(1, 128, 1 << 20)


def entries(there: Site, rows: list[SignedRecord]) -> Letter:
    """The rows as a peer would send them."""
    listed = tuple((record, tuple(sorted(signed.items()))) for record, signed in rows)
    return there.says(Entries(1, 1 + len(rows), listed))


def few(row_: SignedRecord, count: int) -> SignedRecord:
    record, signed = row_
    return record, dict(sorted(signed.items())[:count])


def test_a_round_that_few_signed_is_taken_over_with_one_that_rests_on_it(sites: tuple[Site, Site]) -> None:
    away, there = sites
    one, two, three = rows_of(there)
    away.take(entries(there, [few(one, 1), few(two, 0), three]))
    assert [len(entry.signatures) for entry in away.logs.federation.records()][1:] == [1, 0, 3]
    assert check_federation(list(away.logs.federation.records())) == []


@pytest.mark.claim("LIVE-4")
@pytest.mark.parametrize("signers", [0, 2])
def test_rounds_at_the_end_that_no_quorum_signed_are_not_taken_over(sites: tuple[Site, Site], signers: int) -> None:
    away, there = sites
    one, two, three = rows_of(there)
    away.take(entries(there, [one, few(two, signers), few(three, signers)]))
    assert len(away.logs.federation) == 2


def test_a_signature_that_is_not_one_is_not_counted_and_not_kept(sites: tuple[Site, Site]) -> None:
    away, there = sites
    record, signed = rows_of(there)[0]
    away.take(entries(there, [(record, {**signed, "uppsala": signed["charite"]})]))
    assert len(away.logs.federation) == 1
    stranger = {**signed, "mallory": signed["charite"]}
    away.take(entries(there, [(record, stranger)]))
    assert set(away.logs.federation[1].signatures) == set(NAMES)


def other_base(there: Site, rows: list[SignedRecord]) -> list[SignedRecord]:
    del rows[1]
    return rows


def backwards(there: Site, rows: list[SignedRecord]) -> list[SignedRecord]:
    return [rows[1], rows[0], rows[2]]


def changed(there: Site, rows: list[SignedRecord], **to: object) -> list[SignedRecord]:
    record = codec.facts({**codec.read_facts(rows[0][0]), **to})
    return [(record, {name: one.sign("record", record) for name, one in there.place.identities.items()}), *rows[1:]]


FALSE: dict[str, Callable[[Site, list[SignedRecord]], list[SignedRecord]]] = {
    "one is left out": other_base,
    "two change places": backwards,
    "one comes twice": lambda there, rows: [rows[0], *rows],
    "another run's beginning": lambda there, rows: changed(there, rows, run="ab" * 32),
    "of another epoch": lambda there, rows: changed(there, rows, epoch=2),
    "no round": lambda there, rows: [there.logs.rows(0, 1, 1 << 20)[0], *rows],
    "no number": lambda there, rows: changed(there, rows, round="1"),
    "no run": lambda there, rows: changed(there, rows, run="a run"),
    "no facts": lambda there, rows: [(b"{", {}), *rows],
    "facts in another spelling": lambda there, rows: [(rows[0][0] + b" ", rows[0][1]), *rows[1:]],
    "changed by one digit": lambda there, rows: [
        (rows[0][0].replace(b'"attempt":0', b'"attempt":1'), rows[0][1]),
        *rows[1:],
    ],
}


@pytest.mark.claim("LEDGER-7", "LIVE-4")
@pytest.mark.parametrize("what", FALSE)
def test_entries_that_do_not_follow_are_refused_and_their_sender_named(sites: tuple[Site, Site], what: str) -> None:
    away, there = sites
    with pytest.raises(MalformedMessage) as caught:
        away.take(entries(there, FALSE[what](there, rows_of(there))))
    assert caught.value.fields["peer"] == "st-olav"
    assert len(away.logs.federation) == 1


def test_a_liars_record_is_not_taken_over_by_its_own_signature(
    sites: tuple[Site, Site],
) -> None:
    """Among three, its signature alone does not suffice."""
    away, there = sites
    run = there.place.started()
    record, signed = row(run, there.place.identities, 4, bytes(32), {})
    assert away.take(entries(there, [*rows_of(there), (record, {"st-olav": signed["st-olav"]})])) != {}
    assert len(away.logs.federation) == 4


def test_who_was_not_away_answers_only_what_it_has(sites: tuple[Site, Site]) -> None:
    away, there = sites
    assert away.answer(Behind(1, b"", 0)) == []
    assert there.answer(Behind(4, b"", 0)) == []
    assert there.answer(Behind(400, b"", 0)) == []
    assert there.answer(Behind(1, MODEL, 0)) == []


# ── a model ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_large_model_comes_in_parts_question_after_question(sites: tuple[Site, Site]) -> None:
    away, there = sites
    there.models[MODEL] = LARGE
    questions = [away.fetch.ask_for(MODEL, "st-olav", len(LARGE))]
    data = None
    for question in questions:
        answers = there.answer(question)
        assert 0 < len(answers) <= PARTS
        for answer in answers:
            assert isinstance(answer, ModelPart)
            part = there.says(answer).message
            assert isinstance(part, ModelPart)
            more, data = away.fetch.add("st-olav", part)
            questions += [more] if more is not None else []
    assert data == LARGE
    assert [question.start for question in questions] == [0, PARTS * PART_BYTES]
    assert away.fetch.wanted is None


def test_a_model_is_asked_for_in_one_more_question_only_while_something_is_lacking(sites: tuple[Site, Site]) -> None:
    away, there = sites
    there.models[MODEL] = LARGE[: PARTS * PART_BYTES]  # exactly one question's worth
    answers = there.answer(away.fetch.ask_for(MODEL, "st-olav", PARTS * PART_BYTES))
    told = [away.fetch.add("st-olav", answer) for answer in answers if isinstance(answer, ModelPart)]
    assert [more for more, _ in told] == [None] * PARTS
    assert told[-1][1] == there.models[MODEL]


PART = ModelPart(MODEL, 12, 0, b"four")
WRONG = {
    "a part of another length": replace(PART, start=4, length=16),
    "a part that is too long": replace(PART, start=4, data=bytes(9)),
    "no words": replace(PART, start=4, data=b""),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_part_that_is_of_no_model_is_refused_and_its_sender_named(sites: tuple[Site, Site], what: str) -> None:
    away, _ = sites
    away.fetch.ask_for(MODEL, "st-olav", PART.length)
    assert away.fetch.add("st-olav", PART) == (None, None)
    with pytest.raises(BulkRejected) as caught:
        away.fetch.add("st-olav", WRONG[what])
    assert caught.value.fields["peer"] == "st-olav"


def test_a_part_behind_a_gap_is_let_go_and_accuses_nobody(sites: tuple[Site, Site]) -> None:
    """What lies between may be lost with a queue that was full; the next holder is asked in its time."""
    away, _ = sites
    away.fetch.ask_for(MODEL, "st-olav", PART.length)
    assert away.fetch.add("st-olav", PART) == (None, None)
    assert away.fetch.add("st-olav", replace(PART, start=8)) == (None, None)
    assert away.fetch.wanted is not None
    assert bytes(away.fetch.wanted.data) == PART.data


@pytest.mark.parametrize("length", [0, 3, PART.length - 4, PART.length + 4, 8 << 30, 1 << 50])
def test_a_model_of_another_size_than_the_tasks_is_refused_with_its_first_part(
    sites: tuple[Site, Site], length: int
) -> None:
    """Whatever a liar announces, no more is held of it than a model of this task has."""
    away, _ = sites
    away.fetch.ask_for(MODEL, "st-olav", PART.length)
    with pytest.raises(BulkRejected):
        away.fetch.add("st-olav", replace(PART, length=length))
    assert away.fetch.wanted is not None
    assert not away.fetch.wanted.data


def test_a_part_that_nobody_asked_its_sender_for_changes_nothing(sites: tuple[Site, Site]) -> None:
    away, _ = sites
    assert away.fetch.add("st-olav", PART) == (None, None)
    away.fetch.ask_for(MODEL, "st-olav", PART.length)
    for sender, part in ((OTHERS[1], PART), ("st-olav", replace(PART, model=bytes(32)))):
        assert away.fetch.add(sender, part) == (None, None)
    away.fetch.add("st-olav", PART)
    assert away.fetch.add("st-olav", PART) == (None, None)  # once more, as the answer to an earlier question
    assert away.fetch.add("st-olav", replace(PART, start=4, data=b"and four")) == (None, b"fourand four")


def test_a_model_that_is_asked_of_another_peer_begins_anew(sites: tuple[Site, Site]) -> None:
    away, _ = sites
    away.fetch.ask_for(MODEL, "st-olav", PART.length)
    away.fetch.add("st-olav", PART)
    assert away.fetch.ask_for(MODEL, "uppsala", PART.length).start == 0
    assert away.fetch.add("st-olav", replace(PART, start=4, data=b"and four")) == (None, None)
    assert away.fetch.add("uppsala", replace(PART, data=b"all of it...")) == (None, b"all of it...")
