"""What a node knows of changes of membership: the next one, once enough sites have signed it.

It comes from a person of this site (`p2pfl peers adopt`, by way of the home), from a peer's hello, or as a letter. Each
way it is checked against the ledger, kept in the home, and handed to all others. When it is due, this site's proposals
say so; what follows from that is the rounds' to say (sharing/phases/confirm.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation
from p2pfl.federation.amend import settings_of
from p2pfl.federation.membership import Change, Lineage, due
from p2pfl.home import Home, notes
from p2pfl.ledger.site_kinds import ActsEntry, OperatorEntry
from p2pfl.messages import Changed, Message
from p2pfl.messages.outcome import MOST_CHANGES
from p2pfl.node.acts import acts_of, stand_in, stand_in_home
from p2pfl.node.epochs import CHANGE, held_change, keep_change
from p2pfl.node.logs import Logs
from p2pfl.node.progress import ChangeApproved, Observer
from p2pfl.node.revocations import (
    REVOKED,
    check_whole,
    decisions_of,
    is_revoked,
    refuse,
    revocation,
    revoked_keys,
)
from p2pfl.node.site_index import REVOKE

WATCH_S: Final = 1.0  # seconds between looks at the home


class EpochOver(Exception):
    """The epoch of this node has ended, or its ledger has reached a later one: it stops, and another one goes on."""


class PendingChange:
    """`pending` is the next change, checked. Each new one is told to every peer once `watch` runs.

    Raises RevocationsLost, ItemDamaged.
    """

    def __init__(self, home: Home, logs: Logs, federation: Federation, observer: Observer) -> None:
        self._home, self._logs, self._federation, self._observer = home, logs, federation, observer
        check_whole(home, federation, decisions_of(home), logs.revocations())  # before a link is up
        notes.note_list(home)  # also a damaged one: else the first round would be over before it is found
        self.pending: Change | None = None
        self.parted: set[str] = set()  # peers whose keys were revoked here; the rounds look at it
        self._choice = threading.Lock()  # from the comparison of a change with `pending` until it is `pending` itself
        self._acts_lock = threading.Lock()
        self._acts_at = logs.entries  # of the federation log, when people's acts were noted last
        self._loop: asyncio.AbstractEventLoop | None = None
        self._learnt: asyncio.Queue[Change] = asyncio.Queue()

    def lineage(self) -> Lineage | None:
        """Where this site's ledger stands."""
        return self._logs.epochs.lineage

    async def hand_on(self, say_to_all: Callable[[Message], None]) -> None:
        """For ever: tell all peers, and the observer, of each new change.

        say_to_all   sends every peer a message between nodes
        """
        await asyncio.to_thread(self._begin_telling, asyncio.get_running_loop())
        while True:
            change = await self._learnt.get()
            say_to_all(Changed(change.record, tuple(sorted(change.signatures.items()))))
            self._observer(self._approved(change))

    def _begin_telling(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._choice:
            self._loop = loop
            if self.pending is not None:  # the first hello may come before this begins
                self._tell(self.pending)

    def _tell(self, change: Change) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._learnt.put_nowait, change)

    async def watch(self, cut: Callable[[str, P2PFLError], None]) -> None:
        """For ever: take up what a person puts into the home meanwhile.

        cut   ends the link to a peer; the hello of the next one is refused (`check_key`)
        """
        seen: tuple[int, ...] = ()
        while True:
            if (now := self._stamps()) != seen or self._acts_at != self._logs.entries:
                seen = now
                await self._take_up(cut)
            await asyncio.sleep(WATCH_S)

    async def _take_up(self, cut: Callable[[str, P2PFLError], None]) -> None:
        revoked = set(await asyncio.to_thread(self._look))
        self.parted.intersection_update(revoked)  # in its place: the rounds hold this very set
        self.parted.update(revoked)
        for peer in sorted(revoked):
            cut(peer, revocation(self._federation.roster[peer]))

    def _stamps(self) -> tuple[int, ...]:
        return tuple(_stamp(self._home.place(item)) for item in (CHANGE, REVOKED))

    def _look(self) -> list[str]:
        """Take up the change; the peers whose keys are revoked. Each decision on a key is noted once in the site log.

        Raises RevocationsLost.
        """
        self.take_acts()
        with self._choice:
            held = held_change(self._home)
            if held is not None and (self.pending is None or held.digest != self.pending.digest):
                self._accept(held, keep=False)
        members, decisions, noted = self._federation.roster.members, decisions_of(self._home), self._logs.revocations()
        check_whole(self._home, self._federation, decisions, noted)
        for member in members:
            for number in range(noted.get(member.key, 0) + 1, decisions.get(member.key, 0) + 1):
                options: dict[str, str | int | bool] = {"peer": member.name, "key": member.key.hex()}
                options |= {} if is_revoked(number) else {"undo": True}
                self._logs.note(OperatorEntry(time=self._logs.time, command=REVOKE, options=options))
        return [member.name for member in members if is_revoked(decisions.get(member.key, 0))]

    def take_acts(self) -> None:
        """Note what people did meanwhile, if a round has become final since: in time, and again as a process ends.

        One entry, and it stands in the log for every round, empty too: how long the log is tells nobody what people do
        here.
        """
        with self._acts_lock:
            if self._acts_at != (entries := self._logs.entries):
                notes.hand_over(self._home, lambda: len(self._logs.site), self._note_acts, self._stand)
                self._acts_at = entries

    def _note_acts(self, held: list[notes.Note]) -> None:
        self._logs.note(ActsEntry(time=self._logs.time, acts=acts_of(held)), soon=not held)

    def _stand(self, taken: notes.Taken) -> bool:
        """A site log has what a process took up that died meanwhile: of this study, or of another one of the home."""
        if taken.study == self._home.study:
            return stand_in(self._logs.site, taken)
        return stand_in_home(self._home, taken)

    def learn_change(self, change: Change) -> None:
        """A peer shows a change: kept if it is the next one and enough have signed it, else passed over.

        In whichever thread: hellos of several peers show theirs at once.
        """
        with self._choice:
            if self.pending is None or self._outranks(change, self.pending):
                self._accept(change, keep=True)

    def _outranks(self, change: Change, held: Change) -> bool:
        """Of two changes all sites keep the one that the ledger announces, or that of the smaller digest.

        Without an order two that enough have signed would take each other's place at all sites, and be told to all each
        time, without end.
        """
        announced = self._logs.epochs.announced
        first = change.digest == announced or change.digest < held.digest
        return held.digest not in (change.digest, announced) and first

    def _accept(self, change: Change, *, keep: bool) -> None:
        """Under `_choice`."""
        lineage = self.lineage()
        if lineage is None or lineage.federation_digest != self._federation.digest:
            return
        try:
            lineage.after(change)
        except codec.Malformed:
            return  # of another epoch, or not signed by enough of this one
        change = lineage.counted(change)
        if settings_of(change.federation()) != settings_of(self._federation):
            return
        if keep:
            keep_change(self._home, change)
        self.pending = change
        self._tell(change)

    def _approved(self, change: Change) -> ChangeApproved:
        held = change.facts
        told = {key: held[key] for key in ("epoch", "from_round", "added", "removed", "rotated")}
        hub = change.federation().hub
        return ChangeApproved(
            **told, hub=hub if hub != self._federation.hub else None, recovered=tuple(held.get("recovered", ()))
        )

    def changes_to_offer(self) -> list[Change]:
        """For a hello: the newest changes that are in force, and the next one."""
        pending = [self.pending] if self.pending is not None else []
        return [*self._logs.changes(MOST_CHANGES - 1), *pending]

    def to_announce(self, run_id: bytes, number: int) -> bytes:
        """For this site's proposal in a round: the digest of the change, when the round may be the last before it."""
        lineage = self.lineage()
        if self.pending is None or lineage is None or not due(self.pending, lineage, run_id, number):
            return b""
        return self.pending.digest

    def check_over(self) -> None:
        """Raises EpochOver when the ledger is past this epoch, or at its end with the change at hand."""
        epochs = self._logs.epochs
        if epochs.lineage is None:
            return
        if epochs.lineage.roster.epoch > self._federation.roster.epoch:
            raise EpochOver
        if epochs.announced and self.pending is not None and self.pending.digest == epochs.announced:
            raise EpochOver

    def check_key(self, peer: str) -> None:
        """Raises Revoked when this site accepts nothing of that peer's key any more."""
        refuse(self._federation.roster[peer], revoked_keys(self._home))


def _stamp(path: Path) -> int:
    """When the file was written; 0 where there is none: another study of this home may take it away at any time."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
