"""What a node writes into its home for its runs, in the order that the promises need. Every method blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.errors.home import ItemDamaged
from p2pfl.home import Home
from p2pfl.home.sealing import EVIDENCE
from p2pfl.keys import digest
from p2pfl.messages import read_proof
from p2pfl.node.active import ActiveRun
from p2pfl.node.hello import PEERS_ITEM
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Observer, SumLost, unseen
from p2pfl.node.runs import answers
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import FINAL_ITEM, SUMS_ITEMS

RUN_BYTES: Final = 64  # a run, packed, before what this home keeps of it
KEPT: Final = (FINAL_ITEM, *SUMS_ITEMS)  # of a final round, for peers that missed it


Left = Callable[[str], tuple[bytes, memoryview] | None]  # an item's run, and what it holds


def left_items(home: Home, items: Iterable[str]) -> dict[bytes, dict[str, bytes]]:
    """By run, those of `items` that lie in the home, by name. Raises ItemDamaged."""
    return _by_run(functools.partial(_left, home), items)


def _by_run(left: Left, items: Iterable[str]) -> dict[bytes, dict[str, bytes]]:
    found: dict[bytes, dict[str, bytes]] = {}
    for item in items:
        if (held := left(item)) is not None:
            run_id, inner = held
            found.setdefault(run_id, {})[item] = bytes(inner)
    return found


def _left(home: Home, item: str) -> tuple[bytes, memoryview] | None:
    data = home.read(item)
    return codec.split_tail(data, most=RUN_BYTES, items=0) if data is not None else None


class LeftItems(Mapping[str, memoryview]):
    """What a home keeps of a final round, if it is of that run: each item is read when it is asked for, and not held.

    Whoever serves a sum needs one of the two places of masked ones, each as long as the sum.
    """

    def __init__(self, left: Left, run_id: bytes) -> None:
        self._left, self._run_id = left, run_id

    def __getitem__(self, item: str) -> memoryview:
        left = self._left(item) if item in KEPT else None
        if left is None or left[0] != self._run_id:
            raise KeyError(item)
        return left[1]

    def __iter__(self) -> Iterator[str]:
        return (item for item in KEPT if item in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _name(run_id: bytes, pieces: Sequence[codec.Buffer]) -> bytes:
    """Names masked sums: their head has the attempt digest, under which each word was fixed before it came."""
    return run_id + bytes(pieces[0])


class Heard(Protocol):
    """Peers' statements, for the next process to echo (hello.py)."""

    def statements(self) -> bytes: ...


class Store:
    """One home and its two logs."""

    def __init__(self, home: Home, logs: Logs, heard: Heard, observer: Observer = unseen) -> None:
        self.home, self.logs, self._heard, self._observer = home, logs, heard, observer
        self._damaged: set[str] = set()  # items of which that was told
        self._from_disk: dict[bytes, Run] = {}  # runs that serve their last final round from here

    def replace(self, run_id: bytes, items: tuple[tuple[str, e.Stored], ...], *, anew: bool = False) -> None:
        """Make items of a run durable, in one step where they are small; None removes one.

        anew   what they held before must not be found on the disk any more
        """
        if any(item in KEPT for item, _ in items):
            for other in self._from_disk.keys() - {run_id}:
                self._from_disk.pop(other).take_back()
        if places := [item for item, _ in items if item in SUMS_ITEMS]:
            answers.hold_words(self.home, places)
        with self.home.one_step():
            for item, data in items:
                self._damaged.discard(item)
                secret = anew and item not in SUMS_ITEMS  # masked words are none
                if data is None:
                    self.home.remove(item, anew=secret)
                else:
                    pieces = data if isinstance(data, codec.Pieces) else (data,)
                    begun = _name(run_id, pieces) if item in SUMS_ITEMS else b""
                    self.home.replace(item, codec.with_tail(run_id, *pieces), anew=secret, begun=begun)

    def begin(self, run_id: bytes, effect: e.WriteAhead) -> None:
        """Write what the item will hold first; a later `replace` of it goes on from there. Nothing is durable."""
        self.home.begin(effect.item, _name(run_id, effect.pieces), codec.with_tail(run_id, *effect.pieces))

    def finish(self, active: ActiveRun, done: Round, effect: e.Finished) -> None:
        """Durable in this order: the new model beside the old, the sum for those who missed it, the ledger entry.

        From the sum on it is one step, at whose end what the attempt held is not on the disk any more.
        """
        models = active.source_of(done.number).models
        if models is not None:
            models.write_next(done.number)
        with self.logs.one_step():
            self.replace(active.run.context.run, ((FINAL_ITEM, done.keepsake()),))
            self.logs.finish(effect.record, effect.cosignatures)
            self.home.replace(PEERS_ITEM, self._heard.statements())
            if done.state.leaving.slot is None:
                self.home.remove(done.state.item, anew=True)
        if models is not None:
            models.make_current(done.number)
        if done.state.leaving.slot is not None:
            self.home.remove(done.state.item)
            self.home.remove(done.state.sums_item)

    def reader(self, run: Run) -> Callable[[], LeftItems]:
        """Reads what lies here of the run's last final round, by item; its words need not be held from now on.

        Before another run takes the place here they are held again: a home has room for one.
        """
        run_id = run.context.run
        self._from_disk[run_id] = run
        return lambda: LeftItems(self._left, run_id)

    def left(self, items: Iterable[str]) -> dict[bytes, dict[str, bytes]]:
        """What `left_items` finds; damaged sums are told, and are as if they were not there. Raises ItemDamaged."""
        return _by_run(self._left, items)

    def _left(self, item: str) -> tuple[bytes, memoryview] | None:
        try:
            return _left(self.home, item)
        except ItemDamaged as error:
            if item not in KEPT:
                raise
            if item not in self._damaged:
                self._damaged.add(item)
                self._observer(SumLost(item, error.evidence))
            return None  # a sum is fetched from whoever has it: no reason for this site to end

    def keep_proof(self, proof: tuple[bytes, ...]) -> bytes:
        """Keep letters that convict a liar; the digest that names them."""
        data = codec.pack(proof)
        named = digest("evidence", data)
        self.home.replace(f"{EVIDENCE}/{named.hex()[:16]}", data)
        return named

    def proofs(self) -> list[tuple[bytes, ...]]:
        """The letters of every proof that this home keeps. Raises ItemDamaged, Malformed."""
        kept = [self.home.read(item) for item in self.home.items(EVIDENCE)]
        return [read_proof(data) for data in kept if data]
