"""The node of the epoch that a peer is in, and the way into the next one. What a peer does together builds on this."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pfl.errors.membership import NoLongerListed
from p2pfl.federation import Federation
from p2pfl.federation.membership import run_of
from p2pfl.node.epochs import leap
from p2pfl.node.logs import Logs
from p2pfl.node.node import Node
from p2pfl.node.progress import EpochBegan, Observer


def training_run(federation: Federation) -> bytes:
    """Names the training that peers.yaml agrees on; it goes on through changes of membership."""
    return run_of(federation.first, federation.digest, "training")


def sums_run(federation: Federation) -> bytes:
    """Names the sequence of sums under a peers.yaml: each epoch has its own."""
    return run_of(federation.first, federation.digest, "sums")


class InEpoch:
    """A site on the node of one epoch.

    node       of the epoch that it is: when membership changes, `make` gives the one that goes on
    watchers   observers of every event of the node, added and removed while it runs
    """

    def __init__(self, node: Node, make: Callable[[Federation], Node], watchers: list[Observer] | None = None) -> None:
        self.node, self._make = node, make
        self.watchers = watchers if watchers is not None else []
        self.name = node.name
        self.between = False  # the node of an epoch that is over has ended, and the next one has not begun

    @property
    def federation(self) -> Federation:
        """The peers.yaml of the current epoch, read."""
        return self.node.federation

    @property
    def logs(self) -> Logs:
        """This home's two logs."""
        return self.node.logs

    async def _next_epoch(self, ended: Exception) -> None:
        """Leave the node of an epoch that has ended, links and all, for that of the next.

        Raises what `enter` raises: NotAMember when this site is not in it; NoLongerListed when no change explains that.
        """
        before = self.node
        await before.part()
        self.between = True
        await before.abort()
        if isinstance(ended, NoLongerListed) and not await asyncio.to_thread(leap, before.home, before.federation):
            raise ended
        self.node = await asyncio.to_thread(self._make, before.federation)
        self.node.catch_up.known = before.catch_up.known | before.catch_up.met
        roster = self.federation.roster
        self.node.observer(EpochBegan(roster.epoch, roster.names, roster))
        await self.node.start()
        self.between = False
