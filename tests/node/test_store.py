"""What a home keeps of a final round is one run's: whose place is taken holds its words again first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl.errors.home import ItemDamaged
from p2pfl.home.journal import SMALL_BYTES
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Progress, SumLost
from p2pfl.node.store import Store
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, SUMS_ITEMS
from tests.home.home_fixtures import make

FIRST, SECOND = b"\x01" * 32, b"\x02" * 32


class Serving:
    """A run whose last round lies on the disk alone."""

    def __init__(self, run_id: bytes) -> None:
        self.context = SimpleNamespace(run=run_id)
        self.items: Any = None
        self.held: dict[str, bytes] = {}

    def take_back(self) -> None:
        self.held = dict(self.items())


def test_a_run_reads_its_own_items_until_another_one_takes_their_place(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        store = Store(home, cast(Logs, None), SimpleNamespace(statements=lambda: b""))
        first = Serving(FIRST)
        store.replace(FIRST, ((SUMS_ITEMS[1], b"masked"), (FINAL_ITEM, b"the sum of the first")))
        first.items = store.reader(cast(Run, first))
        kept = {FINAL_ITEM: b"the sum of the first", SUMS_ITEMS[1]: b"masked"}
        assert first.items() == kept
        store.replace(FIRST, ((ATTEMPT_ITEM, b"the next round of the same run"), (SUMS_ITEMS[0], b"masked too")))
        store.replace(SECOND, ((ATTEMPT_ITEM, b"an attempt takes nobody's place"),))
        assert not first.held
        store.replace(SECOND, ((SUMS_ITEMS[1], b"masked words of another run"),))
        assert first.held == {**kept, SUMS_ITEMS[0]: b"masked too"}, "read before they were gone"
        store.replace(SECOND, ((FINAL_ITEM, b"the sum of the second"),))
        assert FINAL_ITEM not in first.items()


def test_a_run_that_goes_back_to_memory_does_so_once(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        store = Store(home, cast(Logs, None), SimpleNamespace(statements=lambda: b""))
        first = Serving(FIRST)
        store.replace(FIRST, ((FINAL_ITEM, b"the sum of the first"),))
        first.items = store.reader(cast(Run, first))
        store.replace(SECOND, ((FINAL_ITEM, b"the sum of the second"),))
        first.held.clear()
        store.replace(SECOND, ((FINAL_ITEM, None),))
        assert not first.held


def test_of_two_rounds_masked_sums_those_that_are_asked_for_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    with make(tmp_path) as home:
        store = Store(home, cast(Logs, None), SimpleNamespace(statements=lambda: b""))
        store.replace(FIRST, ((SUMS_ITEMS[0], b"the next round's"), (SUMS_ITEMS[1], b"masked"), (FINAL_ITEM, b"sum")))
        items = store.reader(cast(Run, Serving(FIRST)))()
        read: list[str] = []
        plain = home.read
        monkeypatch.setattr(home, "read", lambda item: read.append(item) or plain(item))
        assert items[SUMS_ITEMS[1]] == b"masked"
        assert items.get(ATTEMPT_ITEM) is None
        assert read == [SUMS_ITEMS[1]]
        assert len(items) == 3


def damage(path: Path) -> None:
    *held, last = path.read_bytes()
    path.write_bytes(bytes([*held, last ^ 1]))


def test_a_damaged_sum_is_told_once_and_ends_no_site(tmp_path: Path) -> None:
    """Whoever asks for it is not served from here; the attempt beside it, in which this site voted, must be whole."""
    told: list[Progress] = []
    large = bytes(SMALL_BYTES + 1)  # a file, and not in the journal
    with make(tmp_path) as home:
        store = Store(home, cast(Logs, None), SimpleNamespace(statements=lambda: b""), told.append)
        store.replace(FIRST, ((SUMS_ITEMS[1], large), (FINAL_ITEM, b"sum"), (ATTEMPT_ITEM, large)))
        items = store.reader(cast(Run, Serving(FIRST)))()
        damage(home.path / SUMS_ITEMS[1])
        for _ in range(2):
            assert items.get(SUMS_ITEMS[1]) is None
            assert store.left((FINAL_ITEM, *SUMS_ITEMS)) == {FIRST: {FINAL_ITEM: b"sum"}}
        assert [(type(one), cast(SumLost, one).item) for one in told] == [(SumLost, SUMS_ITEMS[1])]
        store.replace(FIRST, ((SUMS_ITEMS[1], large),))
        assert items[SUMS_ITEMS[1]] == large
        damage(home.path / SUMS_ITEMS[1])
        assert items.get(SUMS_ITEMS[1]) is None
        assert len(told) == 2, "another one is damaged"
        damage(home.path / ATTEMPT_ITEM)
        with pytest.raises(ItemDamaged):
            store.left((ATTEMPT_ITEM,))
