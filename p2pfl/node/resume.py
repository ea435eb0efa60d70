"""What processes before this one left in the home of their runs, and a run made of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Final

from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.node.logs import Logs
from p2pfl.node.runs.sizes import check_support, sum_bytes
from p2pfl.node.site import SiteProcess
from p2pfl.node.store import Store, left_items
from p2pfl.sharing.run import Run
from p2pfl.sharing.snapshot import place_of
from p2pfl.sharing.state import ATTEMPT_ITEM, LEFT_ITEMS, Context

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
