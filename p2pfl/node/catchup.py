"""A node's end of catching up: puts the questions to its peers, and brings the answers to its runs.

What is asked, answered and believed is for sharing/catchup.py to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import BulkRejected
from p2pfl.keys import SignedRecord
from p2pfl.mesh.events import LinkStatus
from p2pfl.messages import Behind, Entries, Letter, Message, ModelPart, Question, Want, seal
from p2pfl.node.active import ActiveRun
from p2pfl.node.inbox import Inbox, LocalEvent
from p2pfl.node.logs import Logs
from p2pfl.node.post import Post
from p2pfl.node.progress import Observer, RoundsTakenOver
from p2pfl.node.site import SiteProcess
from p2pfl.node.source import ModelStore
from p2pfl.node.store import Store
from p2pfl.sharing import events as e
from p2pfl.sharing.catchup import AGAIN_S, PART_BYTES, CatchUpRules, ModelFetch, newest_rounds, wanted_round
from p2pfl.sharing.run import Run

MODEL_AGAIN_S: Final = 10.0  # seconds without a part of a model, after which another peer is asked
TELL_S: Final = 10.0  # most seconds that links may take to come up at the end of a site that took all rounds over
HISTORY: Final = (Behind, Entries, ModelPart)


def take_over(logs: Logs, rows: Sequence[SignedRecord]) -> dict[bytes, tuple[int, bytes]]:
    """Write rows that count into the ledger; by run, the newest round among them and its record. Blocks."""
    if rows:
        logs.adopt(rows)
    return newest_rounds(rows)


RunEffects = list[tuple[ActiveRun, list[e.Effect]]]  # effects to carry out, each list for its run


class Dialled(Protocol):
    """The links of this site (mesh/mesh.py)."""

    def links(self) -> Mapping[str, LinkStatus]: ...
    async def until_tried(self) -> None: ...


class CatchUp:
    """Puts the questions to the peers whose links stand (`up`), and says what the answers lead to in the runs."""

    def __init__(
        self,
        site: SiteProcess,
        store: Store,
        post: Post,
        inbox: Inbox,
        observer: Observer,
        runs: Mapping[bytes, ActiveRun],
    ) -> None:
        self._site, self._store, self._post, self._inbox = site, store, post, inbox
        self._observer, self._runs, self._logs, self._now = observer, runs, store.logs, site.clocks.now
        self._rules = CatchUpRules(store.logs, site.roster, store.logs.genesis)
        self._fetch = ModelFetch(store.logs)
        self._model_asked = self._now()
        self._wakes = 0.0  # when the node looks whether entries are still lacking
        self.up: set[str] = set()
        self.met: set[str] = set()  # peers that have said hello to this node …
        self.told: set[str] = set()  # … in its own epoch: these showed what they hold of this site
        self.known: frozenset[str] = frozenset()  # and to this process in the epochs before
        self._settled: Letter[Message] | None = None  # said to each peer at the end
        self._came = asyncio.Event()  # a link stands

    def link_up(self, peer: str, *, here: bool) -> None:
        """The link to `peer` stands: it has said hello. here: in this epoch, and so what it holds of this site."""
        self.up.add(peer)
        self.met.add(peer)
        if here:
            self.told.add(peer)
        self._came.set()
        if self._settled is not None:
            self._post.send(peer, self._settled)

    async def tell_settled(self, run_id: bytes, mesh: Dialled) -> None:
        """Tell the others that `run_id`'s last round is in this ledger, which took it over whole: none need wait here.

        The first peer whose link stood may have handed all of it over before the next link came up: so this waits for
        the links to peers that may be there, which a peer is not whose link failed. Events must be taken meanwhile.
        Whoever was in that round says so as it becomes final. To peers of another epoch it is no round of theirs.
        """
        last = self._logs.last_round(run_id)
        if last is None or last["epoch"] != self._site.roster.epoch:
            return
        place = replace(self._site.envelope, run=run_id, round=last["round"], attempt=last["attempt"])
        self._settled = seal(Want(Question.NOTHING, ()), place, self._site.identity)
        for peer in self.up:
            self._post.send(peer, self._settled)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TELL_S):
                await mesh.until_tried()
                while any(link.state == "up" and peer not in self.up for peer, link in mesh.links().items()):
                    self._came.clear()
                    await self._came.wait()
        await self._post.wait_until_taken(self.up)

    @property
    def unmet(self) -> dict[str, str]:
        """Whose hello this node has yet to hear before it begins a round or trains; nobody's, from q−1 on.

        What it draws is bound to the nonces of those links, so that no copy of this machine draws the same; and they
        would have told a home that was set back that it is.
        """
        if len(self.told) >= self._site.roster.quorums.q - 1:
            return {}
        return dict.fromkeys((name for name in self._site.others if name not in self.told), "its first hello")

    @property
    def wanted(self) -> str:
        """Who is asked for a model; empty when none is lacking."""
        return self._fetch.wanted.peer if self._fetch.wanted is not None else ""

    @property
    def came(self) -> int:
        """Whole parts of that model that have come: a liar would else keep this site for ever with a byte at a time."""
        return len(self._fetch.wanted.data) // PART_BYTES if self._fetch.wanted is not None else 0

    def ask(self, peer: str) -> None:
        """Ask `peer` for entries that this ledger lacks, unless it was asked a moment ago."""
        self._put(peer, lambda: self._rules.ask(peer, self._now()))

    def ask_on_link(self, peer: str, entries: int) -> None:
        """The link to `peer` stands, whose log holds that many entries: ask for those that this one lacks."""
        self._put(peer, lambda: self._rules.ask_on_link(peer, entries, self._now()))

    def ask_on_letter(self, letter: Letter[Message], run: Run) -> None:
        """Ask the sender of a letter that shows that it is further on than this site."""
        self._put(letter.sender, lambda: self._rules.ask_on_letter(letter, run, self._now()))

    def ask_on_sending(self, effect: e.Send) -> None:
        """Ask a peer that is asked for a sum, since it may be further on than its round."""
        if effect.to is not None:
            self._put(effect.to, lambda: self._rules.ask_on_sending(effect, self._now()))

    def _put(self, peer: str, question: Callable[[], Behind | None]) -> None:
        """Before the genesis is signed there is nothing to ask for."""
        begun = self._logs.entries or self._site.roster.epoch > 1
        if begun and peer in self._post.queues and (asked := question()) is not None:
            self._post.say(peer, asked)
        if begun:
            self._wake_if_behind()

    def ask_on(self) -> None:
        """Ask another peer for entries that are lacking, if no more came from whoever was asked before."""
        now = self._now()
        if self._wakes <= now and (found := self._rules.ask_on(self.up & self._post.queues.keys(), now)) is not None:
            self._post.say(*found)
        self._wake_if_behind()

    def _wake_if_behind(self) -> None:
        if self._wakes <= (now := self._now()) and self._rules.is_behind:
            self._wakes = now + AGAIN_S
            self._wake_at(self._wakes)

    def _wake_at(self, time: float) -> None:
        """The node looks again then, whether anything comes or not."""
        if self._runs:
            self._inbox.add_event_at(LocalEvent(next(iter(self._runs)), e.Tick(time, 0, 0)))

    def ask_model(self, wanted: bytes, after: str = "") -> None:
        """Ask one peer after another for the model, behind `after`, and each whether there is a newer one."""
        peers = sorted(self.up) or sorted(self._post.queues)
        peer = next((name for name in peers if name > (after or self.wanted)), peers[0])
        self._ask_model(wanted, peer)
        self.ask(peer)

    def _ask_model(self, wanted: bytes, peer: str) -> None:
        length = max(models.model_bytes for models in self._models())
        self._post.say(peer, self._fetch.ask_for(wanted, peer, length))
        self._wait_for_part()

    def _wait_for_part(self) -> None:
        """The peer that is asked for a model has its time from now on; the node is woken behind that."""
        self._model_asked = self._now()
        self._wake_at(self._model_asked + MODEL_AGAIN_S + 1.0)

    def fetching(self, now: float) -> bool:
        """A model is lacking; one of which no part comes is asked of the next peer, and so are entries."""
        self.ask_on()
        if self._fetch.wanted is None:
            return False
        if now - self._model_asked > MODEL_AGAIN_S:
            self.ask_model(self._fetch.wanted.digest)
        return True

    def _wanted(self, run_id: bytes, active: ActiveRun) -> int:
        return wanted_round(active.run, self._logs.count(run_id) < active.length)

    async def heed(self, active: ActiveRun, letter: Letter[Message]) -> RunEffects:
        """A peer asks for what it missed, or answers what this one asked: the effects that follow."""
        message, sender = letter.message, letter.sender
        if isinstance(message, Behind):
            await self._answer(letter, message)
            return []
        try:
            if isinstance(message, Entries):
                return await self._entries(sender, message)
            if isinstance(message, ModelPart):
                return await self._part(active, sender, message)
        except RemoteProtocolError as error:  # the peer's part in it broke the protocol
            return [(active, active.run.breach(error))]
        return []

    async def _answer(self, letter: Letter[Message], question: Behind) -> None:
        if self._post.is_backed_up(letter.sender):
            # It asks more than it takes: two hundred bytes of a question are eight mebibytes of an answer.
            self._post.defer(letter, question)
            return
        if not question.model and question.entries >= self._logs.entries:
            return  # it asks as each of its runs begins, and mostly lacks nothing
        for answer in await asyncio.to_thread(self._rules.answer, question, self._model_of):
            self._post.say(letter.sender, answer)

    async def _entries(self, sender: str, message: Entries) -> RunEffects:
        current = {run_id: self._wanted(run_id, each) for run_id, each in self._runs.items()}
        found = await asyncio.to_thread(self._take_over, sender, message, current)
        carried: RunEffects = []
        for run_id, (number, record) in found.items():
            self._observer(RoundsTakenOver(number, sender))
            if run_id in self._runs:
                carried.append(await self._adopt(self._runs[run_id], number, record, sender))
        if found:
            self.ask(sender)
        return carried

    async def _part(self, active: ActiveRun, sender: str, message: ModelPart) -> RunEffects:
        before = self.came
        more, data = await asyncio.to_thread(self._fetch.add, sender, message)
        if self.came > before:
            self._wait_for_part()
        if more is not None:
            self._post.say(sender, more)
        if data is None:
            return []
        return await self._model(next((each for each in self._runs.values() if each.lacking), active), sender, data)

    def _take_over(self, sender: str, message: Entries, current: Mapping[bytes, int]) -> dict[bytes, tuple[int, bytes]]:
        return take_over(self._logs, self._rules.rows_that_count(sender, message, current))

    async def _adopt(
        self, active: ActiveRun, number: int, record: bytes, peer: str
    ) -> tuple[ActiveRun, list[e.Effect]]:
        models = active.models
        if models is not None and (wanted := await asyncio.to_thread(models.skip_to, number, record)):
            active.lacking = True
            self._ask_model(wanted, peer)
        active.delayed.clear()  # the run says anew which sum goes onto the model of this ledger
        return active, active.run.adopt(number, record)

    async def _model(self, active: ActiveRun, peer: str, data: bytes) -> RunEffects:
        """A whole model came: it is the one that is lacking, or another peer is asked."""
        models, carried = active.models, []
        if models is not None:
            try:
                await asyncio.to_thread(models.accept_fetched, data, active.run.final_round, peer)
            except BulkRejected as error:
                carried = [(active, active.run.breach(error))]
        if models is not None and models.lacking:
            self.ask_model(models.lacking, after=peer)
            return carried
        return [*carried, (active, active.model_is_here())]

    def _models(self) -> list[ModelStore]:
        return [each.models for each in self._runs.values() if each.models is not None]

    def _model_of(self, wanted: bytes) -> memoryview | None:
        found = (models.bytes_of(wanted) for models in self._models())
        return next((data for data in found if data is not None), None)
