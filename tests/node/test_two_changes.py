"""Two changes to one epoch that enough sites have signed: all keep one of them, and the talk about it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl.federation.membership import Change
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.messages import Changed, Message
from p2pfl.node.epochs import held_change
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.progress import unseen
from tests.federation import changes

OLD = changes.federation()
HERE = changes.lineage(OLD)
FIRST, LATER = sorted(
    [changes.change(OLD, HERE, remove=["eve"]), changes.change(OLD, HERE, add=[changes.member("fay")])],
    key=lambda change: change.digest,
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.create(tmp_path / "ada", "ada", [KeyFile(tmp_path / "ada.key")]) as made:
        yield made


def site(home: Home, announced: bytes = b"") -> PendingChange:
    logs: Any = SimpleNamespace(epochs=SimpleNamespace(lineage=HERE, announced=announced), revocations=dict, entries=0)
    return PendingChange(home, logs, OLD, unseen)


@pytest.mark.parametrize("shown", [(FIRST, LATER), (LATER, FIRST), (LATER, FIRST, LATER, FIRST, LATER)])
def test_all_sites_keep_the_change_of_the_smaller_digest_in_whatever_order(
    home: Home, shown: tuple[Change, ...]
) -> None:
    """They took each other's place at every site, and each told all the others each time."""
    found = site(home)
    for change in shown:
        found.learn_change(change)
    assert found.pending is not None
    assert found.pending.digest == FIRST.digest


@pytest.mark.parametrize("shown", [(FIRST, LATER), (LATER, FIRST)])
def test_the_change_that_the_ledger_announces_is_kept_before_any_other(home: Home, shown: tuple[Change, ...]) -> None:
    found = site(home, announced=LATER.digest)
    for change in shown:
        found.learn_change(change)
    assert found.pending is not None
    assert found.pending.digest == LATER.digest


async def shown_at_once(found: PendingChange, *shown: Change) -> None:
    """Each in a thread of its own, as hellos are judged."""
    together = threading.Barrier(len(shown))

    def learn(change: Change) -> None:
        together.wait(60.0)
        found.learn_change(change)

    await asyncio.gather(*(asyncio.to_thread(learn, change) for change in shown))


def test_a_change_that_several_hellos_show_at_once_is_told_to_all_once(home: Home) -> None:
    """Each had been compared before any was kept, and each was told to every peer."""

    async def told() -> list[Message]:
        found, said = site(home), list[Message]()
        telling = asyncio.create_task(found.hand_on(said.append))
        await shown_at_once(found, *[FIRST] * 3)
        async with asyncio.timeout(60):
            while not said or not found._learnt.empty():
                await asyncio.sleep(0)
        telling.cancel()
        return said

    for _ in range(10):
        assert [one.record for one in asyncio.run(told()) if isinstance(one, Changed)] == [FIRST.record]


def test_of_two_changes_that_are_shown_at_once_the_smaller_is_kept_and_on_the_disk(home: Home) -> None:
    for _ in range(20):
        found = site(home)
        asyncio.run(shown_at_once(found, FIRST, LATER))
        assert found.pending is not None
        held = held_change(home)
        assert held is not None
        assert (found.pending.digest, held.digest) == (FIRST.digest, FIRST.digest)
