"""Rendezvous at a third site: two members without links that cannot dial each other ask it to carry a call.

A relay finds both ends of a call on its standing links. A doctor has none, so each end asks again and again, over a
probe, for the calls that it would make and take. Once both have asked for one lately, each gets a ticket and goes on as
with any call (relay.py). A member can name members alone, and is carried to none that did not ask for it.

    MEET   for each call:  role (1): 0 I call, 1 I am called ‖ length (1) ‖ the other's name
    MET    for each given: role (1) ‖ ticket (16) ‖ length (1) ‖ the other's name
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl.errors.mesh import MalformedStream
from p2pfl.mesh.probe.wire import MOST_REQUESTS
from p2pfl.mesh.relay import TICKET_BYTES, YOU_ARE_CALLED, YOU_CALLED, RelayServer
from p2pfl.roster import NAME

REQUEST_S: Final = 3.0  # lifetime of a request; its asker repeats it much more often
TICKET_S: Final = 8.0  # lifetime of a ticket that the second end has not fetched


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call with `name` in which the asking site has this role; with a ticket, one that may be made now."""

    name: str
    role: int
    ticket: bytes = b""

    def pair(self, asker: str) -> tuple[str, str]:
        """(caller, callee)."""
        return (asker, self.name) if self.role == YOU_CALLED else (self.name, asker)


def encode_requests(requests: Sequence[CallRequest]) -> bytes:
    """The body of MEET, or of MET where each has its ticket."""
    return b"".join(bytes([one.role]) + one.ticket + bytes([len(one.name)]) + one.name.encode() for one in requests)


def decode_requests(peer: str, body: bytes, ticket_bytes: int = 0) -> list[CallRequest]:
    """The requests of MEET; those of MET with ticket_bytes=TICKET_BYTES. Raises MalformedStream."""
    requests: list[CallRequest] = []
    at, head = 0, ticket_bytes + 2
    while at < len(body):
        size = body[at + head - 1] if at + head <= len(body) else 0
        name = body[at + head : at + head + size].decode("ascii", "replace")
        role = body[at]
        if len(name) != size or not NAME.fullmatch(name) or role not in (YOU_CALLED, YOU_ARE_CALLED):
            raise MalformedStream(peer=peer, evidence=f"what it says of calls is malformed at byte {at}")
        requests.append(CallRequest(name, role, body[at + 1 : at + 1 + ticket_bytes]))
        at += head + size
    if len(requests) > MOST_REQUESTS:
        raise MalformedStream(peer=peer, evidence=f"{len(requests)} calls in one question")
    return requests


def decode_granted(peer: str, body: bytes) -> list[CallRequest]:
    """The granted requests of MET, each with its ticket. Raises MalformedStream."""
    return decode_requests(peer, body, TICKET_BYTES)


class Rendezvous:
    """The calls that members ask this site to carry without links. Holds at most two requests for each pair."""

    def __init__(self, relay: RelayServer, members: Collection[str], now: Callable[[], float]) -> None:
        self._relay, self._members, self._now = relay, members, now
        self._requested: dict[tuple[tuple[str, str], str], float] = {}  # by call and asker: when, the last time
        self._issued: dict[tuple[tuple[str, str], str], tuple[bytes, float]] = {}  # for the end that asked first
        self._asked = -math.inf  # when a member asked last, though for no call that is due

    @property
    def pending(self) -> bool:
        """A member asked lately, and so has a way that is untried, or it has not fetched its ticket yet."""
        now = self._now()
        return now - self._asked < REQUEST_S or any(now - at < TICKET_S for _, at in self._issued.values())

    def grant(self, peer: str, requests: Sequence[CallRequest]) -> list[CallRequest]:
        """Those of the requests of `peer` for which it gets a ticket now."""
        granted, self._asked = [], self._now()
        for request in requests:
            if request.name in self._members and request.name != peer:
                ticket = self._ticket(request.pair(peer), peer, request.name)
                if ticket is not None:
                    granted.append(CallRequest(request.name, request.role, ticket))
        return granted

    def _ticket(self, call: tuple[str, str], peer: str, other: str) -> bytes | None:
        now = self._now()
        ticket, at = self._issued.pop((call, peer), (b"", 0.0))
        if ticket and now - at < TICKET_S:
            self._requested.pop((call, peer), None)
            return ticket
        self._requested[(call, peer)] = now
        if now - self._requested.get((call, other), -REQUEST_S) >= REQUEST_S:
            return None
        issued = self._relay.issue_probe_ticket(*call)
        if issued is not None:
            self._issued[(call, other)] = (issued, now)
            for end in (peer, other):
                self._requested.pop((call, end), None)
        return issued
