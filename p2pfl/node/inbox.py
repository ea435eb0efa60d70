"""What comes in to a node: letters and links from the mesh, timers, failures; one queue, in the order of arrival.

While nothing comes, the observer is told which peers are waited for: nothing waits in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from p2pfl import codec, messages
from p2pfl.errors import RemoteProtocolError, bare
from p2pfl.errors.membership import NoLongerListed
from p2pfl.errors.mesh import LinkFlooded, MalformedStream, OpensTooOften, OurKeyNotListed, RefusedThere, TakesNothing
from p2pfl.errors.round import GaveUpWaiting, MalformedMessage, PeersFileDiffers, PeersHoldAnotherFile, WrongSender
from p2pfl.keys import derive, digest
from p2pfl.mesh import events as links
from p2pfl.mesh.mesh import Mesh
from p2pfl.messages import Letter, Message
from p2pfl.node.hello import Greetings
from p2pfl.node.progress import LinkCameUp, LinkRefused, LinkWentDown, Observer, StillWaiting
from p2pfl.node.site import SiteProcess
from p2pfl.node.threads import LARGE_LETTER
from p2pfl.sharing import events as e

QUIET_S: Final = 5.0  # seconds without a step forward, after which the observer is told what is waited for
LEAST_LOOK_S: Final = 0.05
BULK: Final = (messages.Chunk, messages.SumChunk, messages.Total, messages.ModelPart)
IN_TURN: Final = 64  # events of one peer that wait among the others'; what it sends beyond that waits behind them
MOST_FOREIGN: Final = 4096  # letters of one peer for runs that this node has not begun …
FOREIGN_BYTES: Final = 64 << 20  # … and bytes of memory for them
# Faults of a member's link rather than of a letter: the link is dropped, the fault noted, and no run ends.
OF_A_LINK: Final = (MalformedStream, LinkFlooded, OpensTooOften, TakesNothing)


@dataclass(frozen=True, slots=True)
class LocalEvent:
    """An event of this node's own, for one run: its update, its timer."""

    run_id: bytes
    event: e.Event


@dataclass(frozen=True, slots=True)
class Breach:
    """Something came over a link that is no letter of its peer."""

    error: RemoteProtocolError

    def __post_init__(self) -> None:
        bare(self.error)

    @property
    def of_link(self) -> bool:
        """The link's own bytes broke a rule, and no letter did."""
        return isinstance(self.error, OF_A_LINK)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is missing, by peer, in which phase of which round.

    came   parts of it that have come: over a slow link one step takes long, and goes forward with each of them that is
           more than there were before: what a liar begins again and again is no step
    attempt  of the round. What happens in more of them than sites that are away and liars can cost is no step either:
           where one that is away is needed, a liar can have the others begin anew for ever
    """

    phase: str
    round: int
    missing: dict[str, str]
    came: int = 0
    attempt: int = 0


def nothing_waits() -> Waiting:
    """Of a node that runs nothing yet."""
    return Waiting("", 0, {})


class FairQueue:
    """A queue in the order of arrival, in which a peer that sends more than its turn delays itself alone.

    `peer` None: this node's own. `done`, called when the thing is handed out: its sender may send more.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[str | None, Any, Callable[[], None]]] = deque()
        self._count: dict[str, int] = {}  # by peer: how many of them are its own
        self._behind: dict[str, deque[tuple[str, Any, Callable[[], None]]]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, one: Any, peer: str | None = None, done: Callable[[], None] = lambda: None) -> None:
        if peer is None:
            self._held.append((None, one, done))
        elif self._count.get(peer, 0) >= IN_TURN:
            self._behind.setdefault(peer, deque()).append((peer, one, done))
        else:
            self._count[peer] = self._count.get(peer, 0) + 1
            self._held.append((peer, one, done))

    def first(self) -> Any:
        """What `pop` would return."""
        return self._held[0][1]

    def pop(self) -> Any:
        peer, one, done = self._held.popleft()
        if peer is not None:
            if behind := self._behind.get(peer):
                self._held.append(behind.popleft())
            else:
                self._count[peer] -= 1
        done()
        return one


class UnknownRuns:
    """Letters of runs that this node has not begun. Each peer has room of its own for them: its oldest gives way."""

    def __init__(self) -> None:
        self._came = 0  # letters held so far
        self._held: dict[str, dict[int, Letter[Message]]] = {}  # by sender, in their order
        self._memory: dict[str, int] = {}  # by sender

    def hold_letter(self, letter: Letter[Message]) -> None:
        """Hold it if it is signed: bulk comes much later."""
        if not letter.message.signed:
            return
        sender, self._came = letter.sender, self._came + 1
        held = self._held.setdefault(sender, {})
        held[self._came] = letter
        self._memory[sender] = self._memory.get(sender, 0) + letter.memory
        while len(held) > MOST_FOREIGN or self._memory[sender] > FOREIGN_BYTES:
            self._drop(sender, next(iter(held)))

    def letters_of(self, run_id: bytes) -> list[Letter[Message]]:
        """The letters of that run, in the order in which they came; they are held no longer."""
        found = [
            (came, sender)
            for sender, held in self._held.items()
            for came, letter in held.items()
            if letter.envelope.run == run_id
        ]
        return [self._drop(sender, came) for came, sender in sorted(found)]

    def _drop(self, sender: str, came: int) -> Letter[Message]:
        letter = self._held[sender].pop(came)
        self._memory[sender] -= letter.memory
        return letter


class EpochLog(Protocol):
    """The federation log, as far as it says whether the others know this site."""

    @property
    def in_an_epoch(self) -> bool:
        """The others have finished rounds of this epoch with this site."""


class Inbox:
    """Turns what the mesh says into events, and hands them out one by one."""

    def __init__(
        self,
        site: SiteProcess,
        mesh: Mesh,
        greetings: Greetings,
        ledger: EpochLog,
        observer: Observer,
        wait_s: float | None,
    ) -> None:
        self._mesh, self._greetings, self._roster, self._ledger = mesh, greetings, site.roster, ledger
        self._clocks, self._observer, self._wait_s = site.clocks, observer, wait_s
        # Who gives up sooner looks sooner.
        self._look_s = QUIET_S if wait_s is None else min(QUIET_S, max(wait_s, LEAST_LOOK_S))
        self._held = FairQueue()
        self._news = asyncio.Event()
        self._nonces: dict[str, bytes] = {}
        self._differing: set[str] = set()  # peers that hold another peers.yaml
        self._unlisting: set[str] = set()  # peers that do not list this site's key
        self._waits: Waiting | None = None
        self._round, self._attempts = 0, set[int]()  # the latest that was waited for, and which attempts of it were
        self.waits: Callable[[], Waiting] = nothing_waits  # what is waited for at this moment
        now = site.clocks.now()
        self._looked, self._heard, self._since = -math.inf, now, 0.0  # last look, last event, last step
        self.tls: links.TlsFacts | None = None

    # ── what comes in ─────────────────────────────────────────────────────────────────────────────────────────

    def add_event(self, event: e.Event | LocalEvent | Breach) -> None:
        """An event comes in."""
        self._add(event)

    def add_event_at(self, own: LocalEvent) -> None:
        """It comes in at its event's time."""
        delay = max(0.0, own.event.now - self._clocks.now())
        asyncio.get_running_loop().call_later(delay, self._add, own)

    def fail(self, error: BaseException) -> None:
        """`next_event` raises this error."""
        self._add(error)

    def _add(self, one: Any, peer: str | None = None, done: Callable[[], None] = lambda: None) -> None:
        self._held.add(one, peer, done)
        self._news.set()

    async def listen(self) -> None:
        """Turn what the mesh brings into events, until it stops."""
        async for news in self._mesh.events():
            if isinstance(news, links.Delivered):
                # What comes behind a large letter waits for it, so all stay in the order in which they came.
                done = partial(self._mesh.payload_taken, news.peer, len(news.payload))
                self._add(await self._taken(news), news.peer, done)
            elif isinstance(news, links.LinkOpened):
                self._up(news)
            elif isinstance(news, links.LinkClosed):
                self._observer(LinkWentDown(news.peer, news.reason))
                if isinstance(news.error, RemoteProtocolError):
                    self._add(Breach(news.error), news.peer)
                self._add(e.LinkDown(self._clocks.now(), news.peer), news.peer)
            else:
                self._refused(news)

    def _up(self, news: links.LinkOpened) -> None:
        self.tls = facts = news.facts
        self._nonces[news.peer] = news.nonce
        self._differing.discard(news.peer)
        self._unlisting.discard(news.peer)
        tls = (facts.version, facts.cipher, facts.group)
        self._observer(LinkCameUp(news.peer, *tls, path=news.path.kind, via=news.path.via))
        self._add(e.LinkUp(self._clocks.now(), news.peer, news.incarnation), news.peer)

    async def _taken(self, news: links.Delivered) -> e.Received | Breach:
        """What was delivered, opened: in a worker's thread where that takes a while, since links stand still for it."""
        large = len(news.payload) > LARGE_LETTER and news.payload[:1] != messages.BULK_BEGINS
        try:
            letter = await asyncio.to_thread(self._open, news) if large else self._open(news)
        except RemoteProtocolError as error:
            return Breach(error)
        self._greetings.heard(letter)
        return e.Received(self._clocks.now(), letter)

    def _open(self, news: links.Delivered) -> Letter[Message]:
        try:
            letter = messages.open_letter(news.payload, self._roster, Message)
        except codec.Malformed as error:
            raise MalformedMessage(peer=news.peer, evidence=str(error)) from None
        if letter.sender != news.peer:
            raise WrongSender(peer=news.peer, evidence=f"a {type(letter.message).__name__} of {letter.sender}")
        return letter

    def _refused(self, news: links.Refused) -> None:
        """Count refusals that end this process once more than c peers, by the keys that they showed, say them."""
        self._observer(LinkRefused(news.peer, news.error))
        if news.peer is None or not news.known:
            return
        if isinstance(news.error, OF_A_LINK):
            self._add(Breach(news.error), news.peer)
        if isinstance(news.error, OurKeyNotListed):
            self._unlisting.add(news.peer)
            if len(self._unlisting) > self._roster.quorums.c and self._ledger.in_an_epoch:
                evidence = ", ".join(sorted(self._unlisting))
                self.fail(NoLongerListed(count=len(self._unlisting), evidence=evidence))
        there = news.error.fields["their_code"] if isinstance(news.error, RefusedThere) else news.error.code
        if there != PeersFileDiffers.code:
            return
        self._differing.add(news.peer)
        if len(self._differing) > self._roster.quorums.c:
            # Up to c sites may hold another file and be at fault; of more, the odd one out is this site.
            evidence = f"{', '.join(sorted(self._differing))}; {news.error.evidence}"
            self.fail(PeersHoldAnotherFile(count=len(self._differing), evidence=evidence))

    # ── what goes out ─────────────────────────────────────────────────────────────────────────────────────────

    async def next_event(self, waits: Callable[[], Waiting]) -> e.Event | LocalEvent | Breach:
        """The next event. Raises what failed elsewhere; GaveUpWaiting after `wait_s` seconds without a step forward."""
        self.waits = waits
        while True:
            if self._clocks.now() - self._looked >= self._look_s:
                self._look(waits())
            if not self._held:
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_s):
                        await self._news.wait()
                continue
            found = self._held.pop()
            if isinstance(found, BaseException):
                raise found
            self._heard = self._clocks.now()
            event: e.Event | LocalEvent | Breach = found
            return event

    def wait_from_now(self) -> None:
        """A run begins: the time until then was no waiting for anybody."""
        self._looked = self._heard = self._since = self._clocks.now()
        self._waits = None

    def more_bulk(self, run_id: bytes, most: int) -> list[e.Event]:
        """At most `most` events of bulk of the same run that came right after it: together they cost less."""
        found: list[e.Event] = []
        while self._held and len(found) < most and _is_bulk(self._held.first(), run_id):
            found.append(self._held.pop())
        return found

    def _look(self, waits: Waiting) -> None:
        """Tell the observer when nothing has moved for QUIET_S. A link that comes and goes moves nothing, nor do words
        that nobody waits for: a liar that sends such ones would have this site wait for ever.
        """
        now = self._looked = self._clocks.now()
        if self._is_step(waits):
            self._waits, self._since = waits, self._heard
        if now - self._since >= self._look_s:
            self._still(waits, now - self._since)

    def _is_step(self, waits: Waiting) -> bool:
        """It is another thing that is waited for than at the last look, or more of it has come."""
        before = self._waits
        if before is None or waits.round > self._round:
            self._round, self._attempts = waits.round, set()
        self._attempts.add(waits.attempt)
        if before is None:
            return True
        if len(self._attempts) > self._roster.quorums.a:
            return False
        return waits.came > before.came or replace(waits, came=before.came) != before

    def _still(self, waits: Waiting, quiet_s: float) -> None:
        status, now = self._mesh.links(), self._clocks.now()
        # A site that is away is named although it owes nothing at this step: the next one needs every site.
        away = [name for name, link in status.items() if link.state != "up" and waits.phase != "final"]
        seen = {name: status[name].last_seen for name in [*waits.missing, *away] if name in status}
        silent = {name: None if last is None else now - last for name, last in seen.items()}
        self._observer(StillWaiting(waits.round, waits.phase, waits.missing, silent))
        if self._wait_s is not None and quiet_s >= self._wait_s and waits.missing:
            evidence = "; ".join(f"{name}: {what}" for name, what in waits.missing.items())
            raise GaveUpWaiting(seconds=round(quiet_s), peers=", ".join(waits.missing), evidence=evidence)

    @property
    def bytes_sent(self) -> int:
        """Bytes sent on the wire, to all peers, since this process began."""
        return sum(status.bytes_sent for status in self._mesh.links().values())

    def draw_bound(self, count: int) -> bytes:
        """Fresh secret bytes: the system's, bound to the nonces of the latest hellos, so that no clone repeats them."""
        seen = b"".join(self._nonces[peer] for peer in sorted(self._nonces))
        return derive(self._clocks.draw(64), "secret", digest("nonces", seen), length=count)


def _is_bulk(one: Any, run_id: bytes) -> bool:
    return isinstance(one, e.Received) and isinstance(one.letter.message, BULK) and one.letter.envelope.run == run_id
