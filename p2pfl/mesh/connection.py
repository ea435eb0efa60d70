"""One tunnel, while it is a pair's link: what is known of its way through ZeroMQ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.mesh.framing import MalformedFrame
from p2pfl.mesh.tunnel import Tunnel

STALE_FRAMES: Final = 64  # most frames of the previous connection that may still lie in ZeroMQ's pipes


@dataclass(frozen=True, slots=True)
class Chosen:
    """A connection that this end chose as the pair's link, and that is not up yet."""

    tunnel: Tunnel
    incarnation: bytes  # of the far end


@dataclass(slots=True)
class Connection:
    """`tag` marks the frames of this connection. Times are on the mesh's clock."""

    tunnel: Tunnel
    tag: bytes
    sent_at: float  # when the last frame left
    blocked: bool = False  # ZeroMQ had no room for the next frame
    handed_bytes: int = 0  # given to ZeroMQ, and not taken by the tunnel yet
    own_frame_seen: bool = False
    stale_frames: int = 0

    def is_own(self, tag: bytes) -> bool:
        """A frame with `tag` belongs to this connection; False for one of the connection before.

        Raises MalformedFrame when such a frame comes after this connection's first, or too often.
        """
        if tag == self.tag:
            self.own_frame_seen = True
            return True
        self.stale_frames += 1
        if self.own_frame_seen or self.stale_frames > STALE_FRAMES:
            raise MalformedFrame("a frame of another link")
        return False
