"""Who may look: a link that works once, and the session that it is changed for. Both are secrets of this process alone.

The one-time token travels in a URL's fragment, which no browser sends anywhere; the page's script hands it in as a
header and gets the session, which it sends as a header from then on. There is no cookie: cookies of 127.0.0.1 reach
every port of it, and come along with requests that other pages make.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Final

SECRET_BYTES: Final = 32
MOST_SESSIONS: Final = 16  # browsers at a time; the oldest is forgotten


class Doorkeeper:
    """Hands out links and sessions. draw: the system's generator. tell: shows a person the token of the next link."""

    def __init__(self, draw: Callable[[int], bytes], tell: Callable[[str], None]) -> None:
        self._draw, self._tell = draw, tell
        self._sessions: list[str] = []
        self._next = ""
        self._renew()

    def _secret(self) -> str:
        return base64.urlsafe_b64encode(self._draw(SECRET_BYTES)).decode("ascii").rstrip("=")

    def _renew(self) -> None:
        self._next = self._secret()
        self._tell(self._next)

    def enter(self, token: str) -> str | None:
        """The session for a link's token, which is spent; None where it is none, or was used."""
        if not _same(token, self._next):
            return None
        session = self._secret()
        self._sessions = [*self._sessions, session][-MOST_SESSIONS:]
        self._renew()
        return session

    def knows(self, session: str) -> bool:
        """It is a session that was handed out here."""
        return sum(_same(session, one) for one in self._sessions) > 0  # all of them, so that time tells nothing

    def __repr__(self) -> str:
        return f"Doorkeeper({len(self._sessions)} sessions)"


def _same(said: str, held: str) -> bool:
    return hmac.compare_digest(said.encode("utf-8", "replace"), held.encode("ascii"))
