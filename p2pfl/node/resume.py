"""What processes before this one left in the home of their runs, and a run made of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Final

from p2pfl.errors.round import RunUnderWay
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.node.active import ActiveRun
from p2pfl.node.logs import Logs
from p2pfl.node.runs.sizes import check_support, sum_bytes
from p2pfl.node.site import SiteProcess
from p2pfl.node.source import Source
from p2pfl.node.store import Store, left_items
from p2pfl.sharing.run import Run
from p2pfl.sharing.snapshot import place_of
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, ITEMS, LEFT_ITEMS, Context

ANY_ATTEMPT: Final = (1 << 53) - 1


def begun_before(home: Home, logs: Logs) -> dict[bytes, tuple[int, int]]:
    """By run, the highest (round, attempt) that this home has begun."""
    begun = {run_id: (number, ANY_ATTEMPT) for run_id, number in logs.final_rounds().items()}
    for run_id, items in left_items(home, (ATTEMPT_ITEM, *(attempt for attempt, _ in LEFT_ITEMS))).items():
        begun[run_id] = max([begun.get(run_id, (0, 0)), *(place_of(snapshot) for snapshot in items.values())])
    return begun


class RunMaker:
    """Makes a run as this home's ledger and proofs have it.

    draw     fresh secret bytes, bound to the links of this process (`Inbox.draw_bound`)
    parted   peers whose keys were revoked here; it may grow while the run goes on
    """

    def __init__(
        self, site: SiteProcess, federation: Federation, store: Store, draw: Callable[[int], bytes], parted: set[str]
    ) -> None:
        self._site, self._federation, self._store, self._draw, self._parted = site, federation, store, draw, parted

    def make(self, run_id: bytes, up: Iterable[str]) -> Run:
        """The run behind its last final round; the links to `up` stand."""
        site, logs = self._site, self._store.logs
        context = Context(
            run=run_id,
            roster=site.roster,
            me=site.name,
            identity=site.identity,
            incarnation=site.incarnation,
            federation_digest=site.federation_digest,
            draw=self._draw,
            spent=logs.spent,
            left_out=functools.partial(logs.left_out, run_id),
            verify=self._federation.sharing.verify,
            hub=self._federation.hub,
            sum_bytes=sum_bytes,
            check_support=check_support,
        )
        now = site.clocks.now()
        run = Run(context, logs.final_round(run_id), logs.base(run_id), now)
        run.peers.parted, run.peers.missed = self._parted, logs.missed(run_id)
        run.recall(self._store.proofs())
        for peer in up:
            run.peers.link_up(peer, now)
        return run

    def left_on_disk(
        self, run_id: bytes, source: Source, runs: dict[bytes, ActiveRun], up: Iterable[str]
    ) -> dict[str, bytes]:
        """What a process before this one left of the run. Raises RunUnderWay where another run would be overwritten.

        runs   of this node; a run that is to be served goes there
        """
        known = runs.get(run_id)
        resumed = known is not None and known.rounds > 0  # else it was only served here
        found = self._store.left((ATTEMPT_ITEM,) if resumed else ITEMS)
        for of, held in found.items():
            attempt = held.get(ATTEMPT_ITEM)
            if of == run_id:
                continue
            if attempt is not None and place_of(attempt)[0] > self._store.logs.final_round(of):
                raise RunUnderWay(what="run", evidence=f"run {of.hex()[:16]}, not {run_id.hex()[:16]}")
            if FINAL_ITEM in held and of not in runs:
                # A peer may still lack the last round of that run. It is served; no round of it begins here.
                served = self.make(of, up)
                served.resume({item: data for item, data in held.items() if item != ATTEMPT_ITEM})
                runs[of] = ActiveRun(served, source, 0)
        return {} if resumed else found.get(run_id, {})
