"""A home goes from one epoch to the next whole, wherever its process dies, and once only."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from p2pfl.errors.ledger import MembershipBroken, PeersFileUnknown
from p2pfl.errors.membership import NewKeyMissing, NotAMember
from p2pfl.federation import Federation
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.rekey import FORMER, NEXT, keys_of
from p2pfl.ledger.log import Log
from p2pfl.ledger.verify import verify
from p2pfl.node.epochs import AGREED, enter, keep_change, leap
from p2pfl.node.hello import PEERS_ITEM
from p2pfl.sharing.state import ITEMS
from tests.federation.changes import IDENTITIES, all_three, federation, two_epochs
from tests.home.home_fixtures import Crash, Strike, make
from tests.home.test_journal import file_of, held_by

OLD, MADE = federation(), all_three()
NEW = MADE.federation()
ROWS = two_epochs(MADE, after=0)
LEFT = (ITEMS[0], ITEMS[1], ITEMS[-1], PEERS_ITEM)


def at_the_end(folder: Path, name: str, entries: int = len(ROWS) - 1) -> Home:
    """A home of that site whose ledger ends with the round that announces the change, and which holds it."""
    home = make(folder, name)
    home.replace("identity", IDENTITIES[name].reveal())
    log = Log.open(home, "federation")
    log.extend(ROWS[:entries])
    log.sign_head(home.identity())
    log.close()
    home.replace(AGREED, OLD.raw)
    for item in LEFT:
        home.replace(item, b"of the epoch before")
    keep_change(home, MADE)
    return home


def records(home: Home) -> list[bytes]:
    return [one.record for one in Log.open(home, "federation").records()]


def everything_is_new(home: Home) -> None:
    assert records(home) == [record for record, _ in ROWS]
    assert home.read(AGREED) == NEW.raw
    assert all(home.read(item) is None for item in (*ITEMS, PEERS_ITEM))
    assert home.identity().key == NEW.roster[home.name].key
    if home.name == "ben":  # nothing of the change of key is left half done: the next one makes another key again
        assert keys_of(home) == (IDENTITIES["ben again"].key, IDENTITIES["ben"].key)
        assert Card.load(home.path / "ben.card").member.key == home.identity().key
        assert home.read(NEXT) is None


def deaths(folder: Path, name: str, go: Callable[[Home, Federation], object]) -> Iterator[Home]:
    """The home of that site in `folder`, as the next process opens it after one that died at each step of `go`."""
    key = KeyFile(folder / "keys" / f"{name}.key")
    for step in itertools.count():
        place = folder / str(step)
        shutil.copytree(folder / name, place)
        fault = Strike(Crash, step)
        with suppress(Crash), Home.open(place, unlock=[key]) as home:  # it may die while it closes its home, too
            home.disk.fault = fault
            try:
                go(home, OLD)
            except Crash:
                home.disk.fail("the process is dead")
                raise
        with Home.open(place, unlock=[key]) as again:
            yield again
        if fault.seen <= step:
            break
        shutil.rmtree(place)
    assert step > 12


@pytest.mark.claim("MEMBER-10")
@pytest.mark.parametrize("name", ["ada", "ben"])
def test_a_death_anywhere_leaves_one_epoch_whole(tmp_path: Path, name: str) -> None:
    """The next process finds the old one or the new one."""
    with at_the_end(tmp_path, name) as home:
        if name == "ben":
            with home.beside():
                home.replace(NEXT, IDENTITIES["ben again"].reveal())
    for again in deaths(tmp_path, name, enter):
        assert enter(again, OLD).digest == NEW.digest
        everything_is_new(again)


@pytest.mark.claim("MEMBER-10")
def test_a_site_that_dies_while_it_follows_the_others_can_follow_them_still(tmp_path: Path) -> None:
    """With its new key, which no ledger of its own leads to yet. While it has not gone it keeps what it signed."""
    with at_the_end(tmp_path, "ben", len(ROWS) - 2) as home, home.beside():
        home.replace(NEXT, IDENTITIES["ben again"].reveal())
    stayed = 0
    for again in deaths(tmp_path, "ben", leap):
        if enter(again, OLD).digest == OLD.digest:
            stayed += 1
            assert again.identity().key == OLD.roster["ben"].key
            assert all(again.read(item) == b"of the epoch before" for item in LEFT)
            assert leap(again, OLD)
        assert enter(again, OLD).digest == NEW.digest
        Log.open(again, "federation").extend(ROWS[-2:])
        everything_is_new(again)
    assert stayed


@pytest.fixture
def ben(tmp_path: Path) -> Iterator[Home]:
    with at_the_end(tmp_path, "ben") as home:
        yield home


def test_a_key_that_was_given_up_still_vouches_for_the_heads_that_it_signed(ben: Home) -> None:
    with ben.beside():
        ben.replace(NEXT, IDENTITIES["ben again"].reveal())
    enter(ben, OLD)
    assert keys_of(ben) == (IDENTITIES["ben again"].key, IDENTITIES["ben"].key)
    assert (ben.read(NEXT), ben.read(FORMER)) == (None, IDENTITIES["ben"].key)
    assert not [one for one in verify(ben).findings if one.fault and one.log == "federation"]


def test_a_home_without_the_key_that_its_epoch_lists_does_not_enter_it(ben: Home) -> None:
    with pytest.raises(NewKeyMissing):
        enter(ben, OLD)


def test_a_site_that_leaves_keeps_its_ledger_and_enters_nothing(tmp_path: Path) -> None:
    with at_the_end(tmp_path, "eve") as eve:
        with pytest.raises(NotAMember):
            enter(eve, OLD)
        assert records(eve)[-1] == MADE.record


def test_a_change_that_too_few_signed_is_not_written(tmp_path: Path) -> None:
    """Not behind the round that announces it either."""
    with at_the_end(tmp_path, "ada") as ada:
        keep_change(ada, all_three(("ada", "ben", "cyd")))
        with pytest.raises((MembershipBroken, ValueError)):
            enter(ada, OLD)
        assert len(records(ada)) == len(ROWS) - 1


def test_the_file_of_an_epoch_that_has_not_begun_leads_to_the_one_that_it_is(tmp_path: Path) -> None:
    with make(tmp_path, "ada") as ada:
        ada.replace("identity", IDENTITIES["ada"].reveal())
        Log.open(ada, "federation").extend(ROWS[:2])
        with pytest.raises(PeersFileUnknown):
            enter(ada, NEW)  # this home was never given the file that its ledger began with
        assert enter(ada, OLD).digest == OLD.digest
        assert enter(ada, NEW).digest == OLD.digest


def test_a_site_with_a_new_key_follows_the_others_into_an_epoch(ben: Home) -> None:
    """Its own ledger has not reached that epoch."""
    with ben.beside():
        ben.replace(NEXT, IDENTITIES["ben again"].reveal())
    assert leap(ben, OLD)
    found: Federation = enter(ben, OLD)
    assert found.digest == NEW.digest
    assert ben.identity().key == IDENTITIES["ben again"].key


@pytest.mark.parametrize("go", [leap, enter], ids=["leap", "enter"])
def test_no_secret_of_the_epoch_before_stays_in_the_journal(
    ben: Home, go: Callable[[Home, Federation], object]
) -> None:
    """What it wrote lies there as it is, while that process works."""
    with ben.beside():
        ben.replace(NEXT, IDENTITIES["ben again"].reveal())
    ben.replace(ITEMS[0], b"seeds of an attempt")
    assert b"seeds of an attempt" in b"".join(held_by(ben, file_of(ben)))
    go(ben, OLD)
    assert ben.read(ITEMS[0]) is None
    assert b"seeds of an attempt" not in b"".join(held_by(ben, file_of(ben)))


def test_a_site_whose_key_stays_does_not_leap(tmp_path: Path) -> None:
    with at_the_end(tmp_path, "ada") as ada:
        assert not leap(ada, OLD)
        assert ada.read(AGREED) == OLD.raw
