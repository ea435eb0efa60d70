"""A home that a peer shows to be an older one hears the others out before it ends: they alone know what it had spent.

Its accounts are the same in all of its studies, and in those to come, which must not train on what they say now.
docs/adr/0090.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.node.node import Node
from p2pfl.node.runs import set_back
from p2pfl.node.runs.passes import charge_forgotten
from p2pfl.peer.epoch import training_run

HEAR_S: Final = 10.0  # most seconds: sites that work at that moment dial each other within a few


async def hear_out(node: Node, most_s: float) -> None:
    """All studies of the home wait; what the sites of this one know is charged, and with q−1 of them it is heard.

    What cannot be charged leaves the study unheard: then no other trains, and this one's error says why it ended.
    """
    home, federation, greetings = node.home, node.federation, node.greetings
    await asyncio.to_thread(set_back.found, home, federation)
    needed = federation.roster.quorums.q - 1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(most_s, HEAR_S)):
            await greetings.until_told(needed)
    said = max(greetings.said, node.logs.spent().get(node.name, 0.0))
    with contextlib.suppress(P2PFLError):
        charged = (federation, home, node.logs, training_run(federation), node.observer, said)
        await asyncio.to_thread(charge_forgotten, *charged)
        if len(greetings.told) >= needed:
            await asyncio.to_thread(set_back.heard, home, federation)
