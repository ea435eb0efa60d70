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
from p2pfl.sharing.state import FINAL_ITEM, SUMS_ITEMS


class Heard(Protocol):
    """Peers' statements, for the next process to echo (hello.py)."""

    def statements(self) -> bytes: ...


class Store:
    """One home and its two logs."""

    def __init__(self, home: Home, logs: Logs, heard: Heard) -> None:
        self.home, self.logs, self._heard = home, logs, heard

    def replace(self, run_id: bytes, items: tuple[tuple[str, e.Stored], ...], *, anew: bool = False) -> None:
        """Make items of a run durable, in one step where they are small; None removes one.

        anew   what they held before must not be found on the disk any more
        """
        with self.home.one_step():
            for item, data in items:
                secret = anew and item not in SUMS_ITEMS  # masked words are none
                if data is None:
                    self.home.remove(item, anew=secret)
                else:
                    pieces = data if isinstance(data, codec.Pieces) else (data,)
                    self.home.replace(item, codec.with_tail(run_id, *pieces), anew=secret)

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
