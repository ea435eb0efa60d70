"""Heads of site logs between two sites: each cosigns the other's, holds it to that, and is stopped by its own alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2pfl.clocks import Clocks
from p2pfl.errors import P2PFLError
from p2pfl.errors.ledger import LedgerRewritten
from p2pfl.errors.round import MalformedMessage, RolledBack, SiteLogBroken
from p2pfl.ledger import note
from p2pfl.ledger.log import Log
from p2pfl.ledger.note import Head
from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.ledger.witness import HeldNotes, cosigned_by
from p2pfl.messages import Cosigned, Message, SiteHead, seal
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Progress, RuleBroken
from p2pfl.node.runs.set_back import STOPPED
from p2pfl.node.site import SiteProcess
from p2pfl.node.witness import HEADS_ITEM, SiteHeads, Witness
from tests.ledger.sample import charge
from tests.node.runs.homes import NAMES, Place, places

ONE, OTHER, ABSENT = NAMES
STILL = Clocks(lambda: 0.0, lambda: 1_700_000_000.0, bytes)


@dataclass
class Seat:
    """One process at a home: its logs, what it holds of heads, and what it says and tells."""

    place: Place
    told: list[Progress] = field(default_factory=list)
    ended: list[P2PFLError] = field(default_factory=list)
    said: list[tuple[str, Message]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.place.home.name
        home, roster = self.place.home, self.place.federation.roster
        self.logs: Logs = self.place.logs()
        self.process = SiteProcess(home.identity(), self.name, roster, bytes(16), bytes(32), STILL)
        self.heads = SiteHeads(self.process, home, self.logs)
        self.witness = Witness(self.process, self.heads, self.logs, self, self.told.append, self.ended.append)

    def say(self, peer: str, message: Message) -> None:
        self.said.append((peer, message))

    def does(self, count: int = 1) -> None:
        """Entries of its site log, under a signed head."""
        for _ in range(count):
            self.logs.note(OperatorEntry(time=self.logs.time, command="look", options={}))
        with self.logs.writing():
            self.logs._sign_site()

    def cuts(self, entries: int) -> None:
        """Its administrator makes the site log one of its first entries alone, signed with the site's own key.

        What others cosigned of it goes too.
        """
        self.place.home.remove(HEADS_ITEM)
        self.logs.close()
        log = Log.open(self.place.home, "site")
        kept = [(one.record, dict(one.signatures)) for one in list(log.records())[:entries]]
        log.close()
        self.place.home.settle()
        for file in (self.place.home.path / "ledger" / "site").iterdir():
            file.unlink()
        made = Log.open(self.place.home, "site")
        made.extend(kept)
        made.sign_head(self.place.home.identity(), Log.open(self.place.home, "federation"))
        made.close()

    def hears(self, sender: Seat, message: Message) -> None:
        self.witness.heed(seal(message, sender.process.envelope, sender.process.identity))

    def breaches(self) -> list[str]:
        return [one.error.code for one in self.told if isinstance(one, RuleBroken)]


def exchange(*seats: Seat) -> None:
    """Letters go to and fro until nobody says anything."""

    async def all_of_it() -> None:
        moved = True
        while moved:
            moved = False
            for sender in seats:
                said, sender.said = sender.said, []
                for peer, message in said:
                    for seat in seats:
                        if seat.name == peer:
                            seat.hears(sender, message)
                            moved = True
            for seat in seats:
                await seat.witness.judge_due()
                moved = moved or bool(seat.said)

    asyncio.run(all_of_it())


def meet(*seats: Seat) -> None:
    """The links between them come up; each hello shows what its sender cosigned."""
    for seat in seats:
        for other in seats:
            if other is not seat:
                asyncio.run(seat.heads.check(other.name, other.heads.shown(seat.name)))
    for seat in seats:
        for other in seats:
            if other is not seat:
                seat.witness.link_up(other.name)
    exchange(*seats)


def round_over(*seats: Seat) -> None:
    for seat in seats:
        seat.does(3)
        seat.witness._entries = -1  # stands for a round that is final here
        seat.witness.offer()
    exchange(*seats)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    made = places(tmp_path)
    yield made
    for place in made:
        place.home.close()


def size_of(head: Head | None) -> int:
    return head.size if head is not None else 0


@pytest.mark.claim("LEDGER-11")
def test_after_each_round_both_hold_the_others_cosignature_over_their_newest_head(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    for _ in range(3):
        round_over(a, b)
        for seat, other in ((a, b), (b, a)):
            assert size_of(seat.heads.ours(other.name)) == len(seat.logs.site)
            assert size_of(other.heads.theirs(seat.name)) == len(seat.logs.site)
    held = HeldNotes.from_bytes(pair[0].home.read(HEADS_ITEM) or b"")
    assert cosigned_by(held.cosigned[OTHER], ONE, pair[0].home.identity().key)
    assert (a.breaches(), b.breaches(), a.ended, b.ended) == ([], [], [], [])


def test_a_cosignature_is_on_the_disk_before_it_is_sent(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    a.does()
    a.witness._entries = -1
    b.witness._give_turn(ONE)
    a.witness.offer()
    b.hears(a, a.said.pop()[1])
    held: list[HeldNotes] = []
    b.say = lambda peer, message: held.append(  # type: ignore[method-assign]
        HeldNotes.from_bytes(b.place.home.read(HEADS_ITEM) or b"")
    )
    asyncio.run(b.witness.judge_due())
    assert [note.parse_note(one.cosigned[ONE].decode())[0].size for one in held] == [len(a.logs.site)]


@pytest.mark.claim("LEDGER-11")
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_site_log_that_its_own_administrator_cut_is_found_at_the_next_hello(
    pair: tuple[Place, Place], kept: int
) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    round_over(a, b)
    a.cuts(kept)
    again = Seat(a.place)
    with pytest.raises(RolledBack) as caught:
        asyncio.run(again.heads.check(OTHER, b.heads.shown(ONE)))
    assert caught.value.exit_status == 5
    assert "signed by this site" in caught.value.evidence


def test_a_cut_log_beside_what_others_cosigned_of_it_is_found_at_the_start(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    round_over(a, b)
    a.heads.save()
    kept = a.place.home.read(HEADS_ITEM) or b""
    a.cuts(2)
    a.place.home.replace(HEADS_ITEM, kept)
    with pytest.raises(LedgerRewritten) as caught:
        Seat(a.place)
    assert OTHER in caught.value.evidence


def test_without_the_head_in_the_hello_the_cut_log_would_go_on(pair: tuple[Place, Place]) -> None:
    """Nothing on its own machine tells it: both of its logs and their heads fit together."""
    a, b = map(Seat, pair)
    meet(a, b)
    round_over(a, b)
    a.cuts(2)
    again = Seat(a.place)
    again.logs.close()
    assert len(Log.open(a.place.home, "site")) < size_of(b.heads.theirs(ONE))


@pytest.mark.claim("LEDGER-11")
def test_a_site_that_goes_on_with_a_cut_log_gets_no_cosignature_and_is_told_of(
    pair: tuple[Place, Place],
) -> None:
    """Its program was altered: it looks at no hello. The witness goes on, and keeps both heads."""
    a, b = map(Seat, pair)
    meet(a, b)
    round_over(a, b)
    before = size_of(b.heads.theirs(ONE))
    a.cuts(2)
    altered = Seat(a.place)

    async def blind(peer: str, shown: bytes) -> None:
        pass

    altered.heads.check = blind  # type: ignore[method-assign]
    altered.witness.link_up(OTHER)
    exchange(altered, b)
    altered.does(9)
    altered.witness._entries = b.witness._entries = -1
    b.witness.offer()
    altered.witness.offer()
    exchange(altered, b)
    assert set(b.breaches()) == {SiteLogBroken.code}
    assert size_of(b.heads.theirs(ONE)) == before
    assert b.ended == []
    held = HeldNotes.from_bytes(b.place.home.read(HEADS_ITEM) or b"")
    for kept in (held.cosigned[ONE], held.refused[ONE]):
        assert note.signed_by(kept.decode(), ONE, a.process.identity.key)
    noted = [one.record for one in b.logs.site.records() if SiteLogBroken.code.encode() in one.record]
    assert noted
    assert b'"proof":"' in noted[0]


def test_a_site_that_meets_its_own_head_in_an_answer_stops(pair: tuple[Place, Place]) -> None:
    """Its log was cut between the hello and the first round."""
    a, b = map(Seat, pair)
    meet(a, b)
    round_over(a, b)
    a.cuts(2)
    again = Seat(a.place)
    b.witness.link_up(ONE)
    again.witness.link_up(OTHER)
    exchange(again, b)
    assert [type(one) for one in again.ended] == [RolledBack]


@pytest.mark.claim("LEDGER-11")
def test_of_a_sites_own_log_only_what_it_signed_itself_counts(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    head = Head(note.site_origin(ONE), 10**6, bytes(32), ("federation 1 " + "A" * 43 + "=",))
    made_up = note.sign(head, OTHER, b.process.identity).encode()
    asyncio.run(a.heads.check(OTHER, made_up))
    forged = note.sign(head, ONE, b.process.identity).encode()
    asyncio.run(a.heads.check(OTHER, forged))
    assert a.heads.ours(OTHER) is None
    for nonsense in (b"\xff", b"no note", note.sign(Head("x", 1, bytes(32)), ONE, a.process.identity).encode()):
        with pytest.raises(MalformedMessage):
            asyncio.run(a.heads.check(OTHER, nonsense))
    a.witness.link_up(OTHER)
    a.said.clear()
    a.hears(b, Cosigned(b"no note"))
    asyncio.run(a.witness.judge_due())
    assert (a.ended, a.breaches()) == ([], [MalformedMessage.code])


def test_a_head_in_anothers_name_or_with_a_second_signature_is_no_head(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    b.witness.link_up(ONE)
    b.witness._give_turn(ONE)
    text = a.logs.site_head() or ""
    for wrong in (
        note.cosign(text, ONE, a.process.identity),
        text.replace(f"site/{ONE}", f"site/{OTHER}"),
        text.replace("\n1\n", "\n2\n"),
        b.logs.site_head() or "",
    ):
        b.witness._turns[ONE] = 1
        b.hears(a, SiteHead(wrong.encode(), 0, ()))
        asyncio.run(b.witness.judge_due())
        assert b.heads.theirs(ONE) is None
    assert b.breaches() == [MalformedMessage.code] * 4


def test_a_lost_answer_is_made_good_with_the_next_head(pair: tuple[Place, Place]) -> None:
    """The signer proves from an older head than its witness holds: it is told which one that is, and proves again."""
    a, b = map(Seat, pair)
    meet(a, b)
    a.does(2)
    a.witness._entries = -1
    b.witness._give_turn(ONE)
    a.witness.offer()
    b.hears(a, a.said.pop()[1])
    asyncio.run(b.witness.judge_due())
    b.said.clear()  # the answer, which never comes
    a.witness._shown.clear()
    round_over(a, b)
    assert size_of(b.heads.theirs(ONE)) == size_of(a.heads.ours(OTHER)) == len(a.logs.site)
    assert (b.breaches(), a.ended) == ([], [])


def test_a_peer_that_answers_with_an_old_head_is_shown_the_new_one_twice(
    pair: tuple[Place, Place],
) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    old = b.heads.shown(ONE)
    a.does()
    a.witness._entries = -1
    a.witness.offer()
    for _ in range(9):
        a.hears(b, Cosigned(old))
        asyncio.run(a.witness.judge_due())
    assert len(a.said) == 2


@pytest.mark.parametrize("under_way", [True, False])
def test_all_answers_are_read_before_a_site_has_settled(
    pair: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch, under_way: bool
) -> None:
    """The last of a study was half read when the node closed: an export lacked that cosignature."""
    a, b = map(Seat, pair)
    meet(a, b)
    a.does()
    real, begun = a.heads.check, asyncio.Event()

    async def slowly(peer: str, shown: bytes) -> None:
        begun.set()
        await asyncio.to_thread(lambda: None)  # what was spent is learnt there
        await real(peer, shown)

    monkeypatch.setattr(a.heads, "check", slowly)

    async def scene() -> None:
        work = asyncio.create_task(a.witness.work())
        for seat in (a, b):
            seat.witness._entries = -1  # stands for a round that is final here
            seat.witness.offer()
        (_, head), *_ = a.said
        b.hears(a, head)
        await b.witness.judge_due()
        (_, answer), *_ = b.said
        a.hears(b, answer)
        if under_way:
            await begun.wait()
        else:
            a.witness._shown.clear()  # it is one to a head of an earlier link
        await asyncio.wait_for(a.witness.until_settled(), 60.0)
        work.cancel()

    asyncio.run(scene())
    assert size_of(a.heads.ours(OTHER)) == len(a.logs.site)


def test_a_peer_has_one_head_a_round_written_down(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    b.witness._turns[ONE] = 1
    for _ in range(5):
        held = size_of(b.heads.theirs(ONE))
        a.does()
        text = a.logs.site_head() or ""
        b.hears(a, SiteHead(text.encode(), held, a.logs.site_proof(held, len(a.logs.site))))
        asyncio.run(b.witness.judge_due())
    assert size_of(b.heads.theirs(ONE)) == len(a.logs.site) - 4
    b.witness._give_turn(ONE)
    asyncio.run(b.witness.judge_due())
    assert size_of(b.heads.theirs(ONE)) == len(a.logs.site)  # the newest alone had waited
    assert b.breaches() == []


def test_what_is_held_survives_the_process(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    round_over(a, b)
    b.heads.save()
    b.logs.close()
    again = Seat(b.place)
    assert again.heads.shown(ONE) == b.heads.shown(ONE)
    assert again.heads.ours(ONE) == b.heads.ours(ONE)


def spend(seat: Seat, after: str) -> None:
    """A pass is charged there, and its head says so."""
    seat.logs.note(charge("0", after))
    with seat.logs.writing():
        seat.logs._sign_site()


def test_of_a_site_that_joined_anew_the_log_before_binds_nobody(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    spend(a, "1.5")
    meet(a, b)
    round_over(a, b)
    b.logs.epochs.added[ONE] = 10  # it left, and a later entry than its heads speak of added it
    assert (b.heads.theirs(ONE), b.heads.spent(ONE)) == (None, 0.0)
    a.cuts(2)
    again = Seat(a.place)
    again.logs.epochs.added[ONE] = 10
    asyncio.run(again.heads.check(OTHER, b.heads.shown(ONE)))


@pytest.mark.claim("HOME-9")
def test_a_site_on_an_older_home_takes_over_what_its_peers_saw_it_spend(
    pair: tuple[Place, Place],
) -> None:
    """Its log before binds nobody any more. What its head said of its budget does, at the peer as at the site."""
    a, b = map(Seat, pair)
    meet(a, b)
    spend(a, "1.500000")
    round_over(a, b)
    a.cuts(1)
    again = Seat(a.place)
    again.logs.epochs.recovered[ONE] = b.logs.epochs.recovered[ONE] = 10
    assert again.logs.spent().get(ONE, 0.0) == 0.0
    asyncio.run(again.heads.check(OTHER, b.heads.shown(ONE)))
    assert again.logs.spent()[ONE] == 1.5
    assert note.epsilon_of(note.parse_note(again.logs.site_head() or "")[0]) == 1.5
    assert (b.heads.theirs(ONE), b.heads.spent(ONE)) == (None, 1.5)
    lost = b.heads.shown(ONE)
    again.logs.counts = b.logs.counts = lambda name, head: head.size < 4  # type: ignore[method-assign]
    meet(again, b)
    held = HeldNotes.from_bytes(b.place.home.read(HEADS_ITEM) or b"")
    assert (held.refused, b.breaches()) == ({ONE: lost}, [])
    assert size_of(b.heads.theirs(ONE)) == len(again.logs.site)


@pytest.mark.claim("DP-13")
def test_a_home_that_was_stopped_before_still_reads_what_each_peer_saw_it_spend(pair: tuple[Place, Place]) -> None:
    """Its process may have died before that was charged, or have heard too few of them."""
    a, b = map(Seat, pair)
    meet(a, b)
    spend(a, "1.500000")
    round_over(a, b)
    a.cuts(1)
    a.place.home.replace(STOPPED, a.process.federation_digest)
    again = Seat(a.place)
    with pytest.raises(RolledBack):
        asyncio.run(again.heads.check(OTHER, b.heads.shown(ONE)))
    assert again.logs.spent()[ONE] == 1.5


def test_a_head_that_says_less_of_what_was_spent_is_not_cosigned(pair: tuple[Place, Place]) -> None:
    a, b = map(Seat, pair)
    meet(a, b)
    spend(a, "1.500000")
    round_over(a, b)
    a.logs._index._charged = 0.5  # its account was replaced by an older one
    round_over(a, b)
    assert set(b.breaches()) == {SiteLogBroken.code}
    assert b.heads.spent(ONE) == 1.5
