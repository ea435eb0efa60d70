"""What sites of different epochs tell one another when a link comes up: who is behind learns what it missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.errors.home import DiskFull
from p2pfl.errors.membership import Revoked
from p2pfl.errors.round import PeersFileDiffers
from p2pfl.federation import Federation
from p2pfl.federation.membership import Change, Lineage
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.messages import Envelope, seal
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.progress import unseen
from tests.federation import changes as membership
from tests.federation.test_membership import of_everybody
from tests.node.test_hello import PROPOSE, RUN, Members, Site

OLD = membership.federation()
HERE = membership.lineage(OLD)
MADE = membership.all_three()
SECOND = MADE.federation()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.create(tmp_path / "ada", "ada", [KeyFile(tmp_path / "ada.key")]) as made:
        yield made


def of_epoch(name: str, federation: Federation, lineage: Lineage | None, *offers: Change) -> tuple[Site, list[Change]]:
    """A site of the federation of five under one of its files, and what it learns from others."""
    learnt: list[Change] = []
    by_key = {one.key: one for one in membership.IDENTITIES.values()}
    site = Site(
        "a",
        name=name,
        identity=by_key[federation.roster[name].key],
        roster=federation.roster,
        federation_digest=federation.digest,
        membership=Members(lineage, offers, learnt.append),
    )
    return site, learnt


def test_a_site_an_epoch_behind_learns_the_change_from_one_ahead() -> None:
    """The two speak with one another."""
    behind, learnt = of_epoch("ada", OLD, HERE)
    ahead, taught = of_epoch("dot", SECOND, HERE.after(MADE), MADE)
    behind.hears(ahead)
    ahead.hears(behind)
    assert [one.record for one in learnt] == [MADE.record]
    assert taught == []
    assert behind.greets.entries == {"dot": 3}
    assert behind.greets.told == set(), "nobody has shown this site what is held of it"


def test_a_change_that_is_to_come_is_learnt_from_a_site_of_the_same_epoch() -> None:
    one, learnt = of_epoch("ada", OLD, HERE)
    other, _ = of_epoch("dot", OLD, HERE, MADE)
    one.hears(other)
    assert [each.digest for each in learnt] == [MADE.digest]
    assert one.greets.told == {"dot"}


@pytest.mark.parametrize(
    "offered",
    [
        (),
        (membership.all_three(membership.NAMES[:3]),),
        (membership.change(OLD, HERE, remove=["eve"]),),
    ],
)
def test_an_epoch_to_which_no_approved_change_leads_is_another_federation(offered: tuple[Change, ...]) -> None:
    behind, learnt = of_epoch("ada", OLD, HERE)
    ahead, _ = of_epoch("dot", SECOND, HERE.after(MADE), *offered)
    with pytest.raises(PeersFileDiffers):
        behind.hears(ahead)
    assert learnt == []


@pytest.mark.parametrize("federation", [OLD, SECOND], ids=["of this epoch", "of the one that it leads to"])
def test_no_hello_brings_a_change_to_a_key_for_which_everybody_can_sign(home: Home, federation: Federation) -> None:
    """Though all sites had signed it: it is passed over, and who lives by it is of another federation."""
    logs: Any = SimpleNamespace(epochs=SimpleNamespace(lineage=HERE, announced=b""), revocations=dict, entries=0)
    behind, _ = of_epoch("ada", OLD, HERE)
    behind.greets.membership = known = PendingChange(home, logs, OLD, unseen)
    other, _ = of_epoch("dot", federation, HERE, of_everybody("fay"))
    with nullcontext() if federation is OLD else pytest.raises(PeersFileDiffers):
        behind.hears(other)
    assert known.pending is None


@pytest.mark.claim("MEMBER-15")
def test_no_file_is_read_of_changes_that_cannot_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of those in a hello that no quorum signed, or that are in force.

    Reading a file that is as large as it may be takes a second or two: of the loop on which all links live.
    """
    few, taken = membership.all_three(membership.NAMES[:3]), HERE.after(MADE)
    epochs = [(HERE, OLD, (few, membership.change(OLD, HERE, (), remove=["eve"]))), (taken, SECOND, (MADE,))]

    def read(*_: object) -> Federation:
        raise AssertionError("a file of a change was read")

    for here, federation, offered in epochs:
        one, _ = of_epoch("ada", federation, here)
        one.greets.membership = Members(here, (), lambda change, here=here: here.after(change) and None)  # type: ignore[misc]
        other, _ = of_epoch("dot", federation, here, *offered)
        with monkeypatch.context() as patched:
            patched.setattr(Federation, "parse", read)
            with pytest.raises(codec.Malformed):
                one.hears(other)


@pytest.mark.claim("NET-10")
def test_a_disk_that_cannot_keep_a_change_ends_this_process_and_refuses_nobody() -> None:
    def full(change: Change) -> None:
        raise DiskFull(evidence="write", path="/srv/ada")

    one, _ = of_epoch("ada", OLD, HERE)
    one.greets.membership = Members(HERE, (), full)
    other, _ = of_epoch("dot", OLD, HERE, MADE)
    one.hears(other)
    assert [type(error) for error in one.failed] == [DiskFull]


def test_a_revoked_peer_is_refused_before_its_hello_is_read() -> None:
    def refuse(peer: str) -> None:
        raise Revoked(peer=peer, evidence="its key")

    a = Site("a", membership=Members(revoked=refuse))
    with pytest.raises(Revoked, match="The key of b was revoked"):
        a.judges("b", b"no hello at all")


def test_statements_of_an_earlier_epoch_are_not_taken_up_from_the_disk() -> None:
    site, _ = of_epoch("ada", SECOND, HERE.after(MADE))
    theirs = [
        seal(PROPOSE, Envelope(RUN, epoch, 3, 0, "dot", bytes(16)), membership.IDENTITIES["dot"]).wire
        for epoch in (1, 2)
    ]
    left = seal(PROPOSE, Envelope(RUN, 1, 3, 0, "eve", bytes(16)), membership.IDENTITIES["eve"]).wire
    site.greets.remember(codec.pack([*theirs, left]))
    assert codec.unpack(site.greets.statements(), most=1 << 20, items=8) == (theirs[1],)
