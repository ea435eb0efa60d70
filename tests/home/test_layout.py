"""The layout table holds every item that a run writes, and no other name; a home of before is brought up to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli.peers.changes import SIGNED
from p2pfl.errors.home import ItemDamaged, NotInLayout
from p2pfl.home import Home
from p2pfl.home.home import KEPT
from p2pfl.home.rekey import FORMER
from p2pfl.home.rekey import NEXT as NEXT_KEY
from p2pfl.home.sealing import DIRECTORIES
from p2pfl.node.epochs import AGREED, CHANGE
from p2pfl.node.hello import PEERS_ITEM
from p2pfl.node.revocations import REVOKED
from p2pfl.node.runs.models import BEGUN, MODEL, NEXT
from p2pfl.node.runs.passes import ACCOUNT, PASS, PENDING
from p2pfl.node.witness import HEADS_ITEM
from p2pfl.sharing.state import ITEMS
from tests.home.home_fixtures import BY_NUMBER, PARTS, make


@pytest.mark.parametrize(
    "stranger",
    [
        "state/sums",
        "state/sums/2",
        "state/left",
        "state/left/",
        "state/left/10",
        "state/left/0/1",
        "state/left-sums/a",
        "state/evidence",
        "state/evidence/0123",
        "state/evidence/0123456789ABCDEF",
        "state/evidence/0123456789abcdef0",
        "state/evidence/../../identity",
    ],
)
def test_a_round_left_behind_and_a_proof_lie_under_names_of_one_form(tmp_path: Path, stranger: str) -> None:
    with make(tmp_path) as home:
        for item in BY_NUMBER:
            home.replace(item, item.encode())
        assert [home.read(item) for item in BY_NUMBER] == [item.encode() for item in BY_NUMBER]
        with pytest.raises(NotInLayout):
            home.replace(stranger, b"")


def test_there_is_an_item_for_each_that_rounds_and_runs_write(tmp_path: Path) -> None:
    written = {*ITEMS, MODEL, NEXT, BEGUN, ACCOUNT, PASS, PENDING}
    written |= {HEADS_ITEM, PEERS_ITEM, AGREED, CHANGE, REVOKED, SIGNED, FORMER, KEPT}
    written.add(NEXT_KEY)
    with make(tmp_path) as home, home.charging():
        for item in written:
            home.replace(item, item.encode())
        folders = [folder for folder in (*DIRECTORIES, "accounts") if not folder.startswith("ledger")]
        held = {item for folder in folders for item in home.items(folder)}
        assert held == written


@pytest.mark.claim("HOME-10")
def test_an_item_of_a_study_opens_in_no_other_and_what_is_shared_lies_in_none(tmp_path: Path) -> None:
    with make(tmp_path) as home, home.enter_study("lungs") as lungs, lungs.charging():
        for item in ("state/pass", "checkpoints/model"):
            lungs.replace(item, item.encode())
            assert (lungs.read(item), home.read(item)) == (item.encode(), None)
            home.place(item).write_bytes(lungs.place(item).read_bytes())
            with pytest.raises(ItemDamaged):
                home.read(item)
        lungs.replace(ACCOUNT, b"spent")
        assert (home.read(ACCOUNT), lungs.identity().key) == (b"spent", home.identity().key)
        assert [one.study for one in home.studies()] == ["", "lungs"]
        for stranger in ("studies/lungs/identity", "studies/lungs/accounts/spent", "studies/../state/pass"):
            with pytest.raises(NotInLayout):
                home.read(stranger)


def test_a_home_of_an_earlier_version_gets_the_folders_that_this_one_needs(tmp_path: Path) -> None:
    make(tmp_path).close()
    for folder in PARTS:
        (tmp_path / "charite" / folder).rmdir()
    with Home.open(tmp_path / "charite") as home:
        for item in BY_NUMBER:
            home.replace(item, item.encode())
        assert all((tmp_path / "charite" / folder).is_dir() for folder in PARTS)
        assert [home.read(item) for item in BY_NUMBER] == [item.encode() for item in BY_NUMBER]
