"""What those wait for who queue payloads for one peer: that the queue has room again, or is empty."""

from __future__ import annotations

import asyncio

from p2pfl.mesh.events import Limits


class QueueRoom:
    """Events that hold while the bytes that the peer has not acknowledged are few enough; at first there are none.

    Letters have a quarter more room than bulk, so that they never wait for it here.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.outgoing_bytes
        self.bulk, self.letters, self.idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.update(0)

    def update(self, queued: int) -> None:
        """So many bytes are queued and not acknowledged now."""
        room, letter_room = queued < self._most, queued < self._most * 5 // 4
        # Whoever waits for room for letters goes first: what was said before bulk is queued before it.
        for event, holds in ((self.letters, letter_room), (self.bulk, room), (self.idle, queued == 0)):
            if holds:
                event.set()
            else:
                event.clear()
