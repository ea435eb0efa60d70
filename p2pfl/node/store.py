"""What a node writes into its home for its runs, in the order that the promises need. Every method blocks."""

from __future__ import annotations

from typing import Protocol

from p2pfl import codec
from p2pfl.home import Home
from p2pfl.home.sealing import EVIDENCE
from p2pfl.keys import digest
from p2pfl.messages import read_proof
from p2pfl.node.hello import PEERS_ITEM
from p2pfl.node.logs import Logs
from p2pfl.node.source import ActiveRun
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import FINAL_ITEM


class Heard(Protocol):
    """Peers' statements, for the next process to echo (hello.py)."""

    def statements(self) -> bytes: ...


class Store:
    """One home and its two logs."""

    def __init__(self, home: Home, logs: Logs, heard: Heard) -> None:
        self.home, self.logs, self._heard = home, logs, heard

    def replace(self, run_id: bytes, items: tuple[tuple[str, e.Stored], ...]) -> None:
        """Make items of a run durable; None removes one."""
        for item, data in items:
            if data is None:
                self.home.remove(item)
            else:
                self.home.replace(item, codec.with_tail(run_id, *(data if isinstance(data, codec.Pieces) else (data,))))

    def finish(self, active: ActiveRun, done: Round, effect: e.Finished) -> None:
        """Durable in this order: the new model beside the old, the sum for those who missed it, the ledger entry."""
        models = active.source_of(done.number).models
        if models is not None:
            models.write_next(done.number)
        self.replace(active.run.context.run, ((FINAL_ITEM, done.keepsake()),))
        self.logs.finish(effect.record, effect.cosignatures)
        if models is not None:
            models.make_current(done.number)
        self.home.replace(PEERS_ITEM, self._heard.statements())
        self.home.remove(done.state.item)
        if done.state.leaving.slot is not None:
            self.home.remove(done.state.sums_item)

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
