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
        self._said = (False, False, False)  # as the three events are now
        self.update(0)

    def update(self, queued: int) -> None:
        """So many bytes are queued and not acknowledged now."""
        room, letter_room = queued < self._most, queued < self._most * 5 // 4
        holding = letter_room, room, queued == 0
        if holding == self._said:
            return  # after most frames
        self._said = holding
        # Whoever waits for room for letters goes first: what was said before bulk is queued before it.
        for event, holds in zip((self.letters, self.bulk, self.idle), holding, strict=True):
            if holds:
                event.set()
            else:
                event.clear()
