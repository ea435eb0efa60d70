"""What a node does last, beside letters."""

from __future__ import annotations

import asyncio

from p2pfl.errors import IntegrityError
from p2pfl.node.steps import Steps


async def while_taking(steps: Steps, taking: asyncio.Task[None], work: asyncio.Task[None]) -> None:
    """Return when the work is done, and take no more letters then.

    Raises what the work raises, and of what ends the taking of letters an IntegrityError alone: that this home was set
    back, or holds another ledger, says more than that its last run is over. After any other error the others are told
    what is left to tell.
    """
    try:
        await steps.between(asyncio.wait((taking, work), return_when=asyncio.FIRST_COMPLETED))
        if taking.done() and isinstance(taking.exception(), IntegrityError):
            await taking
        await steps.between(asyncio.wait((work,)))
        await work
    finally:
        await steps.end(taking)
