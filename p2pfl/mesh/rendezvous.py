"""Appointments at a third site: two members that cannot dial each other, and hold no link, ask it to carry a call.

A relay finds both ends of a call on its standing links. A doctor has none: so each end asks, again and again over a
probe, for the calls that it would make and take. When both have asked for one lately, both are given a ticket, and go
on as with any call (relay.py). Whoever asks names members alone, and is carried to nobody that did not ask for it.

    MEET   for each call:  role (1): 0 I call, 1 I am called ‖ length (1) ‖ the other's name
    MET    for each given: role (1) ‖ ticket (16) ‖ length (1) ‖ the other's name
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl.errors.mesh import MalformedStream
from p2pfl.mesh.probe import MOST_WISHES
from p2pfl.mesh.relay import TICKET_BYTES, YOU_ARE_CALLED, YOU_CALLED, Exchange
from p2pfl.roster import NAME

WISH_S: Final = 3.0  # so long a wish counts; whoever has it asks much more often
GIVEN_S: Final = 8.0  # so long the second end has to ask for its ticket


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call with `name`, in which this site has that role; with a ticket, one that may be made now."""

    name: str
    role: int
    ticket: bytes = b""

    def call(self, asker: str) -> tuple[str, str]:
        """Who calls whom."""
        return (asker, self.name) if self.role == YOU_CALLED else (self.name, asker)


def wishes(asked: Sequence[CallRequest]) -> bytes:
    """The body of MEET, or of MET where each has its ticket."""
    return b"".join(bytes([one.role]) + one.ticket + bytes([len(one.name)]) + one.name.encode() for one in asked)


def read_wishes(peer: str, body: bytes, ticket_bytes: int = 0) -> list[CallRequest]:
    """The wishes of MEET; those of MET with ticket_bytes=TICKET_BYTES. Raises MalformedStream."""
    found: list[CallRequest] = []
    at, head = 0, ticket_bytes + 2
    while at < len(body):
        size = body[at + head - 1] if at + head <= len(body) else 0
        name = body[at + head : at + head + size].decode("ascii", "replace")
        role = body[at]
        if len(name) != size or not NAME.fullmatch(name) or role not in (YOU_CALLED, YOU_ARE_CALLED):
            raise MalformedStream(peer=peer, evidence=f"what it says of calls is malformed at byte {at}")
        found.append(CallRequest(name, role, body[at + 1 : at + 1 + ticket_bytes]))
        at += head + size
    if len(found) > MOST_WISHES:
        raise MalformedStream(peer=peer, evidence=f"{len(found)} calls in one question")
    return found


def read_met(peer: str, body: bytes) -> list[CallRequest]:
    """The tickets of MET. Raises MalformedStream."""
    return read_wishes(peer, body, TICKET_BYTES)


class Rendezvous:
    """The calls that members ask this site to carry without links. At most two wishes for each pair are held."""

    def __init__(self, exchange: Exchange, members: Collection[str], now: Callable[[], float]) -> None:
        self._exchange, self._members, self._now = exchange, members, now
        self._wished: dict[tuple[tuple[str, str], str], float] = {}  # by call and who asked: when, the last time
        self._given: dict[tuple[tuple[str, str], str], tuple[bytes, float]] = {}  # a ticket, for whoever asked first

    @property
    def awaited(self) -> bool:
        """Somebody has asked lately for a call that has not come about, or has not fetched its ticket yet."""
        now = self._now()
        wished = any(now - at < WISH_S for at in self._wished.values())
        return wished or any(now - at < GIVEN_S for _, at in self._given.values())

    def asked(self, peer: str, asked: Sequence[CallRequest]) -> list[CallRequest]:
        """Of the calls that `peer` asks for, those that it may make or take now."""
        found = []
        for wish in asked:
            if wish.name in self._members and wish.name != peer:
                ticket = self._ticket(wish.call(peer), peer, wish.name)
                if ticket is not None:
                    found.append(CallRequest(wish.name, wish.role, ticket))
        return found

    def _ticket(self, call: tuple[str, str], peer: str, other: str) -> bytes | None:
        now = self._now()
        ticket, at = self._given.pop((call, peer), (b"", 0.0))
        if ticket and now - at < GIVEN_S:
            self._wished.pop((call, peer), None)
            return ticket
        self._wished[(call, peer)] = now
        if now - self._wished.get((call, other), -WISH_S) >= WISH_S:
            return None
        made = self._exchange.appoint(*call)
        if made is not None:
            self._given[(call, other)] = (made, now)
            for who in (peer, other):
                self._wished.pop((call, who), None)
        return made
