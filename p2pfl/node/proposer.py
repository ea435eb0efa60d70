"""What this site proposes in a round, made beside everything else: a training's pass takes minutes, or hours.

One at a time in each run: a round may be settled without this site's update while its pass is under way, and the next
round's begins behind that. An error is for the call that asked, and for no other (`ActiveRun.check_proposal`): who
calls next would be told of a question that somebody else had.
"""

from __future__ import annotations

import asyncio
from functools import partial

from p2pfl import codec
from p2pfl.clocks import Clocks
from p2pfl.mesh.mesh import Mesh
from p2pfl.node.active import ActiveRun
from p2pfl.node.inbox import Inbox, LocalEvent
from p2pfl.node.logs import Logs
from p2pfl.node.pending_change import PendingChange
from p2pfl.sharing import events as e
from p2pfl.sharing.history import Base


class Proposer:
    """Makes proposals of one node.

    epsilon   that this site proposed last, as decimal text; empty before
    tasks     of proposals that are being made
    """

    def __init__(self, clocks: Clocks, logs: Logs, mesh: Mesh, inbox: Inbox, changes: PendingChange) -> None:
        self._clocks, self._logs, self._mesh, self._inbox, self._changes = clocks, logs, mesh, inbox, changes
        self.epsilon = ""
        self.tasks = set[asyncio.Task[bool]]()

    def begin(self, active: ActiveRun, number: int, base: Base) -> None:
        """Begin to make the proposal for round `number`, which rests on `base`."""
        active.proposed = (number, base)
        active.proposing = asyncio.create_task(self._propose(active, number, base, active.proposing))
        self.tasks.add(active.proposing)
        active.proposing.add_done_callback(partial(self._ended, active.run.context.run))

    def _ended(self, run_id: bytes, task: asyncio.Task[bool]) -> None:
        """Wake whoever waits for it."""
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not print one that nobody waits for
        self._inbox.add_event(LocalEvent(run_id, e.Tick(self._clocks.now(), 0, 0)))

    async def _propose(self, active: ActiveRun, number: int, base: Base, before: asyncio.Task[bool] | None) -> bool:
        """Whether there is a proposal. A training that was left has none: what its pass came to lies on the disk, where
        the next call finds it. Of a sum that was left the numbers may be charged by now, and they are summed."""
        if before is not None:
            await asyncio.wait([before])
        if active.is_left():
            return False
        begun, run_id = self._clocks.now(), active.run.context.run
        offer = await asyncio.to_thread(active.source_of(number).propose, number, base[0])
        if active.is_left() and active.models is not None:
            return False
        self.epsilon, took_s = offer.epsilon, self._clocks.now() - begun
        proposal = e.Proposal(
            model=offer.model,
            configuration=codec.facts(offer.configuration),
            support=offer.support,
            deadline_ms=offer.deadline_ms(await self._mesh.speeds(offer.measure_s), took_s),
            clock_ms=int(self._clocks.wall() * 1000),
            epsilon=offer.epsilon,
            site_head=self._logs.site_root(),
            change=self._changes.to_announce(run_id, number),
        )
        self._inbox.add_event(LocalEvent(run_id, e.UpdateReady(self._clocks.now(), number, proposal)))
        return True
