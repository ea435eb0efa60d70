"""What leaves this node: queues for each peer, so that a slow one slows nobody else, and letters overtake bulk.

A peer that takes nothing loses what waits for it and its link; one that asks for more than it takes is answered when it
has taken what came before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import TakesNothing
from p2pfl.messages import Behind, Letter, Message, seal
from p2pfl.node.site import SiteProcess
from p2pfl.sharing import events as e
from p2pfl.sharing.catchup import PART_BYTES, PARTS

MOST_WAITING: Final = 1 << 30  # bytes for one peer, most of them views of the vector: a round of a large model …
MOST_LETTERS: Final = 1 << 16  # … and letters
MOST_ANSWERED: Final = 2 * PARTS * PART_BYTES  # bytes that wait for a peer, above which its questions wait too
PARTING_S: Final = 2.0  # most seconds for the last letters to reach the mesh


class LinkQueues(Protocol):
    """What is used of the mesh here."""

    async def send(self, peer: str, payload: codec.Pieces, *, bulk: bool) -> None:
        """Return when the link has taken it. Letters overtake bulk."""

    def cut(self, peer: str, error: P2PFLError) -> None:
        """End the link."""


class Events(Protocol):
    """Where an event of this node goes: the inbox."""

    def add_event(self, event: e.Received) -> None: ...


class Outbox:
    """What waits for one peer, and how many bytes that is: letters in their order, and bulk in its order.

    Letters may overtake bulk, and bulk no letter: words of a sum come behind the digest that fixes them.
    """

    def __init__(self) -> None:
        self.waiting = 0
        # Each with how many letters the link must have before it: a letter waits for its own queue alone.
        self._letters: asyncio.Queue[tuple[codec.Pieces, int]] = asyncio.Queue()
        self._bulk: asyncio.Queue[tuple[codec.Pieces, int]] = asyncio.Queue()
        self._put = 0  # letters so far
        self._gone = 0  # of these the link has, or were dropped
        self._letter_went = asyncio.Event()

    def __len__(self) -> int:
        return self._letters.qsize() + self._bulk.qsize()

    def put(self, pieces: codec.Pieces, *, bulk: bool) -> None:
        """One more waits."""
        self.waiting += pieces.size
        self._queue(bulk).put_nowait((pieces, self._put if bulk else 0))
        self._put += not bulk

    async def take(self, *, bulk: bool) -> codec.Pieces:
        """The next of its class, once there is one and the link has the letters that it waits for.

        `taken` is due when the link has it.
        """
        pieces, letters = await self._queue(bulk).get()
        self.waiting -= pieces.size
        while self._gone < letters:
            self._letter_went.clear()
            await self._letter_went.wait()
        return pieces

    def taken(self, *, bulk: bool) -> None:
        """The link has what `take` gave."""
        self._queue(bulk).task_done()
        if not bulk:
            self._gone += 1
            self._letter_went.set()

    async def join(self) -> None:
        """Wait until the link has all of it."""
        await asyncio.gather(self._letters.join(), self._bulk.join())

    def drop(self) -> None:
        """Nothing waits any more."""
        self.waiting = 0
        for bulk in (False, True):
            while not self._queue(bulk).empty():
                self._queue(bulk).get_nowait()
                self.taken(bulk=bulk)

    def _queue(self, bulk: bool) -> asyncio.Queue[tuple[codec.Pieces, int]]:
        return self._bulk if bulk else self._letters


class Post:
    """The queues of one node, and the questions of peers that wait until these have taken more."""

    def __init__(self, site: SiteProcess, links: LinkQueues, events: Events) -> None:
        self._site, self._links, self._events = site, links, events
        self.queues = {peer: Outbox() for peer in site.others}
        self._deferred: dict[tuple[str, bool], Letter[Message]] = {}  # each peer's newest: for entries, for a model

    async def deliver(self, peer: str) -> None:
        """Hand what waits for one peer to its link, as fast as that takes it, until cancelled."""
        await asyncio.gather(self._hand_over(peer, bulk=False), self._hand_over(peer, bulk=True))

    async def _hand_over(self, peer: str, *, bulk: bool) -> None:
        outbox = self.queues[peer]
        while True:
            await self._links.send(peer, await outbox.take(bulk=bulk), bulk=bulk)
            outbox.taken(bulk=bulk)
            self.letter_taken(peer)

    def letter_taken(self, peer: str) -> None:
        """Its link has taken one more: what the peer asked last may be answered now."""
        if self._deferred and not self.is_backed_up(peer):
            for kind in (False, True):
                if (letter := self._deferred.pop((peer, kind), None)) is not None:
                    self._events.add_event(e.Received(self._site.clocks.now(), letter))

    def is_backed_up(self, peer: str) -> bool:
        """More waits for the peer than a question of it may add to."""
        return self.waiting(peer) > MOST_ANSWERED

    def defer(self, letter: Letter[Message], question: Behind) -> None:
        """Answer this question when its sender has taken more; an earlier one of its kind is dropped."""
        self._deferred[(letter.sender, bool(question.model))] = letter

    def waiting(self, peer: str) -> int:
        """Bytes of letters that the peer's link has not taken."""
        return self.queues[peer].waiting

    def send(self, peer: str, letter: Letter[Message]) -> None:
        """One letter to one peer; from a queue that is full all is dropped, as if its link had never come up."""
        outbox = self.queues[peer]
        outbox.put(letter.pieces, bulk=not letter.message.signed)
        if outbox.waiting > MOST_WAITING or len(outbox) > MOST_LETTERS:
            evidence = f"{len(outbox)} letters of {outbox.waiting} bytes in all waited"
            outbox.drop()
            self._links.cut(peer, TakesNothing(peer=peer, evidence=evidence))

    def say(self, peer: str, message: Message) -> None:
        """A message between nodes, of no round, to one peer."""
        self.send(peer, seal(message, self._site.envelope, self._site.identity))

    def say_to_all(self, message: Message) -> None:
        """The same to every peer."""
        letter = seal(message, self._site.envelope, self._site.identity)
        for peer in self.queues:
            self.send(peer, letter)

    @property
    def is_empty(self) -> bool:
        """The links have taken all letters."""
        return not any(map(len, self.queues.values()))

    async def wait_until_taken(self, peers: Iterable[str]) -> None:
        """Wait until the links to these have taken all that was said."""
        await asyncio.gather(*(self.queues[peer].join() for peer in peers))

    async def part(self) -> None:
        """Wait until the links have taken what was said last: at most PARTING_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING_S):
                await self.wait_until_taken(self.queues)
