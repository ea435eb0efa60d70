"""Heads of site logs between this node and its peers: it shows its own, cosigns theirs, and holds them to that.

After each final round a site sends every peer its newest signed head, with the proof that it extends the one which
that peer cosigned last. The peer writes it down and answers with its cosignature, and each of its hellos shows its
receiver the last head of it that it cosigned. So a site log that was cut or rewritten, by whomever, is found at the
next contact: by its own process, which stops (P2P-ROUND-032), and by its witnesses, who go on and say so
(P2P-ROUND-051). Of what is shown of this site's log only what this site signed counts, so that a liar stops nobody.
docs/adr/0032.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors import P2PFLError, RemoteProtocolError
from p2pfl.errors.counts import counted
from p2pfl.errors.ledger import LedgerRewritten
from p2pfl.errors.round import MalformedMessage, RolledBack, SiteLogBroken
from p2pfl.home import Home
from p2pfl.home.rekey import keys_of
from p2pfl.keys import digest
from p2pfl.ledger import note
from p2pfl.ledger.note import Head
from p2pfl.ledger.site_kinds import BreachEntry
from p2pfl.ledger.witness import HeldNotes, Reason, cosigned_by, head_of, may_cosign
from p2pfl.messages import Cosigned, Letter, Message, SiteHead, carries
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Observer, RuleBroken
from p2pfl.node.runs.set_back import STOPPED
from p2pfl.node.site import SiteProcess
from p2pfl.node.studies import Elsewhere

HEADS_ITEM: Final = "state/heads"
OF_HEADS: Final = (SiteHead, Cosigned)
TOGETHER_S: Final = 0.05  # that the first head waits for those of the others: each write is an fsync
TWICE: Final = 2  # a head is shown again once, to a peer that has cosigned a later one than this site knew of


class Says(Protocol):
    """What is used of the post."""

    def say(self, peer: str, message: Message) -> None:
        """Send a message between nodes."""


def held_notes(home: Home) -> HeldNotes:
    """The heads that a home holds. Raises ItemDamaged."""
    data = home.read(HEADS_ITEM)
    return HeldNotes.from_bytes(data) if data else HeldNotes()


class SiteHeads:
    """The notes that this home holds of site logs, its own and its peers', and what they say of them.

    Raises LedgerRewritten when its own log does not begin as a peer has cosigned it.
    """

    def __init__(self, site: SiteProcess, home: Home, logs: Logs) -> None:
        self._site, self._home, self._logs, self._keys = site, home, logs, keys_of(home)
        self._elsewhere = Elsewhere(home, logs.others)
        self._stopped = home.read(STOPPED) == site.federation_digest
        self._notes = held_notes(home)
        for peer in list(self._notes.ours):
            head = self.ours(peer)
            if head is None:
                del self._notes.ours[peer]  # of a home before this one
            elif not logs.site_extends(head):
                evidence = f"{peer} cosigned it over {_over(head)}; here it has other ones"
                raise LedgerRewritten(evidence=evidence, log="site", home=home.path)

    def shown(self, peer: str) -> bytes:
        """The last head of the peer's log that this site cosigned, as a hello shows it; empty before the first."""
        return self._notes.cosigned.get(peer, b"")

    async def check(self, peer: str, shown: bytes) -> None:
        """A peer shows the last head of this site's log that it cosigned; what it says of privacy spent counts here.

        Raises RolledBack when this site signed it and its log is another one, or when the home was stopped before this
        process: behind what is read, since each peer may know of more. MalformedMessage when it is no such head.
        """
        await self._read_shown(peer, shown)
        if self._stopped:
            evidence = "it was shown so before, and no new epoch has let it go on since; what it had spent is charged"
            raise RolledBack(peer=peer, site=self._site.name, evidence=evidence)

    async def _read_shown(self, peer: str, shown: bytes) -> None:
        if not shown:
            return
        try:
            head = head_of(shown, self._site.name, self._keys)
            if head is None:
                return  # of this site's log only what this site signed counts
            extends = self._logs.site_extends(head)
            if not extends and await asyncio.to_thread(self._elsewhere.has_head, head):
                return  # of another study, in which that peer takes part too: it says nothing of this one
            if self._logs.same_account(self._site.name, head):
                await asyncio.to_thread(self._logs.learn_spent, note.epsilon_of(head))
            if not self._logs.counts(self._site.name, head):
                return  # it is of the home before the one from which this site goes on
            cosigned = cosigned_by(shown, peer, self._site.roster[peer].key)
        except ValueError as error:
            raise MalformedMessage(peer=peer, evidence=str(error)) from None
        if not self._logs.site_extends(head):
            what = f"a head of this site's log over {_over(head)}, signed by this site"
            raise RolledBack(peer=peer, site=self._site.name, evidence=f"{what}; the log in this home has other ones")
        before = self.ours(peer)
        if cosigned and (before is None or head.size > before.size):
            self._notes.ours[peer] = shown

    async def of_another_study(self, run: bytes) -> bool:
        """The run is of another study of this home."""
        return await asyncio.to_thread(self._elsewhere.has_run, run)

    def ours(self, peer: str) -> Head | None:
        """The newest head of this site's log that the peer has cosigned."""
        return self._read(self._site.name, self._notes.ours.get(peer))

    def theirs(self, peer: str) -> Head | None:
        """The newest head of the peer's log that this site has cosigned."""
        return self._read(peer, self._notes.cosigned.get(peer))

    def spent(self, peer: str) -> float:
        """What the peer's records had spent by the last head of its log that this site cosigned, at the least."""
        data = self._notes.cosigned.get(peer)
        head = note.parse_note(data.decode())[0] if data is not None else None
        return note.epsilon_of(head) if head is not None and self._logs.same_account(peer, head) else 0.0

    def _read(self, name: str, data: bytes | None) -> Head | None:
        head = note.parse_note(data.decode())[0] if data is not None else None
        # Of a site that left and joined anew, or goes on from an older home, the log before binds nobody.
        return head if head is not None and self._logs.counts(name, head) else None

    async def write(self, cosigned: dict[str, bytes], refused: dict[str, bytes]) -> None:
        """The heads of peers' logs are durable; then they are shown."""
        held = self._notes
        made = HeldNotes(held.cosigned | cosigned, held.refused | refused, held.ours)
        await asyncio.to_thread(self._home.replace, HEADS_ITEM, made.to_bytes())
        self._notes = made

    def save(self) -> None:
        """Also what was cosigned of this site's log since the last `write` is durable: an export shows it."""
        if self._notes.ours:
            self._home.replace(HEADS_ITEM, self._notes.to_bytes())


@dataclass
class _Shown:
    """A head of this site's log that a peer was shown and has not answered yet."""

    size: int
    times: int


@dataclass(frozen=True, slots=True)
class _Judged:
    """What one SiteHead leads to. `cosigned` is empty where nothing is to be written down."""

    answer: bytes = b""
    cosigned: bytes = b""
    error: RemoteProtocolError | None = None
    refused: bytes = b""


class Witness:
    """One node's letters about heads. `work` runs beside the rounds, which wait for none of it.

    end_node   ends this process with an error that no refusal of one peer answers
    """

    def __init__(
        self,
        site: SiteProcess,
        heads: SiteHeads,
        logs: Logs,
        post: Says,
        observer: Observer,
        end_node: Callable[[P2PFLError], None],
    ) -> None:
        self._site, self._heads, self._logs, self._post = site, heads, logs, post
        self._observer, self._end = observer, end_node
        self._shown: dict[str, _Shown] = {}
        self._turns: dict[str, int] = {}  # by peer whose link stands: how many of its heads may be judged now
        # Of each peer the newest alone: it may send more of them than a disk can take.
        self._to_judge: dict[str, Letter[SiteHead]] = {}
        self._judging: list[Letter[SiteHead]] = []
        self._answers: dict[str, Letter[Cosigned]] = {}  # of each peer the newest, still to be read
        self._woken, self._moved = asyncio.Event(), asyncio.Event()
        self._entries = 0  # of the federation log when heads were shown last

    def link_up(self, peer: str) -> None:
        """The link to `peer` stands: it is shown this site's newest head, and one head of its own may be judged."""
        self._shown.pop(peer, None)
        self._give_turn(peer)
        self._show(peer)

    def link_down(self, peer: str) -> None:
        """No answer of the peer will come any more."""
        self._shown.pop(peer, None)
        self._turns.pop(peer, None)
        self._moved.set()

    def offer(self) -> None:
        """Where the federation log has grown since the last time, every peer is shown the newest head."""
        if self._entries == self._logs.entries:
            return
        self._entries = self._logs.entries
        for peer in list(self._turns):
            self._give_turn(peer)
            self._show(peer)

    def heed(self, letter: Letter[Message]) -> None:
        """A peer shows a head of its log, or answers one of this site's; in another epoch it may have another key."""
        if letter.envelope.epoch != self._site.roster.epoch:
            return
        if carries(letter, SiteHead):
            self._to_judge[letter.sender] = letter
            self._woken.set()
        elif carries(letter, Cosigned):
            self._answers[letter.sender] = letter
            self._woken.set()

    async def until_settled(self) -> None:
        """Return when every peer whose link stands has answered, and has been answered."""
        while self._shown or self._answers or self._judging or self._due:
            self._moved.clear()
            await self._moved.wait()

    async def work(self) -> None:
        """For ever: judge what has come."""
        while True:
            await self._woken.wait()
            await self._read_answers()
            await self._gather()
            self._woken.clear()
            await self.judge_due()

    @property
    def _due(self) -> list[str]:
        """Peers of which a head has come that has its turn."""
        return [peer for peer in self._to_judge if self._turns.get(peer, 0)]

    async def _gather(self) -> None:
        """Heads over one round come at about the same time: they are written down together."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOGETHER_S):
                while 0 < len(self._due) < sum(1 for turns in self._turns.values() if turns):
                    self._woken.clear()
                    await self._woken.wait()

    async def judge_due(self) -> None:
        """Judge what has come and has its turn, write it down with one fsync, and answer."""
        await self._read_answers()
        self._judging = [self._to_judge.pop(peer) for peer in self._due]
        await self._settle({letter.sender: self._judge(letter) for letter in self._judging})
        self._judging = []
        self._moved.set()

    def _give_turn(self, peer: str) -> None:
        """A peer has one head a round written down here, and not each that it makes up: that would be an fsync each."""
        self._turns[peer] = min(self._turns.get(peer, 0) + 1, TWICE)
        self._woken.set()

    # ── this site's own log ───────────────────────────────────────────────────────────────────────────────────

    def _show(self, peer: str, times: int = 1) -> None:
        text, before = self._logs.site_head(), self._heads.ours(peer)
        if text is None or peer in self._shown:
            return
        head, held = note.parse_note(text)[0], before.size if before is not None else 0
        if held < head.size:
            self._shown[peer] = _Shown(head.size, times)
            self._post.say(peer, SiteHead(text.encode(), held, self._logs.site_proof(held, head.size)))

    async def _read_answers(self) -> None:
        for peer, letter in list(self._answers.items()):
            await self._read_answer(letter)
            if self._answers[peer] is letter:  # else a newer one has come: it is read in the next turn
                del self._answers[peer]
            self._moved.set()

    async def _read_answer(self, letter: Letter[Cosigned]) -> None:
        peer = letter.sender
        shown, is_note = self._shown.get(peer), False
        try:
            await self._heads.check(peer, letter.message.note)
            is_note = True
        except RolledBack as error:
            self._end(error)
        except MalformedMessage as error:
            self._observer(RuleBroken(peer, error, proof=""))
        if shown is None or self._shown.get(peer) is not shown:
            return  # its link went down meanwhile: what it was shown on the next one is still to be answered
        del self._shown[peer]
        if not is_note:
            return
        ours = self._heads.ours(peer)
        if ours is not None and ours.size >= shown.size:
            self._show(peer)  # what became final meanwhile
        elif shown.times < TWICE:
            self._show(peer, shown.times + 1)

    # ── the logs of others ────────────────────────────────────────────────────────────────────────────────────

    async def _settle(self, judged: dict[str, _Judged]) -> None:
        """Durable before it is seen: heads are written down, then their signers get the cosignatures."""
        cosigned = {peer: one.cosigned for peer, one in judged.items() if one.cosigned}
        refused = {peer: one.refused for peer, one in judged.items() if one.refused}
        if cosigned or refused:
            await self._heads.write(cosigned, refused)
        for peer, one in judged.items():
            if one.answer:
                self._post.say(peer, Cosigned(one.answer))
            if one.error is not None:
                await self._accuse(peer, one.error, one.refused)

    async def _accuse(self, peer: str, error: RemoteProtocolError, refused: bytes) -> None:
        at = self._site.envelope
        entry = BreachEntry(
            time=self._logs.time,
            run=at.run,
            epoch=at.epoch,
            round=at.round,
            attempt=at.attempt,
            peer=peer,
            code=error.code,
            proof=digest("evidence", codec.pack((self._heads.shown(peer), refused))) if refused else None,
        )
        await asyncio.to_thread(self._logs.note, entry)
        self._observer(RuleBroken(peer, error, proof=""))

    def _judge(self, letter: Letter[SiteHead]) -> _Judged:
        message, peer = letter.message, letter.sender
        try:
            head = head_of(message.note, peer, (self._site.roster[peer].key,))
            if head is None or len(note.parse_note(message.note.decode())[1]) != 1:
                raise Malformed("its head does not bear its signature alone")
            counts, spent = self._logs.counts(peer, head), note.epsilon_of(head)
        except ValueError as error:
            self._turns[peer] -= 1
            return _Judged(error=MalformedMessage(peer=peer, evidence=str(error)))
        held = self._heads.theirs(peer)
        reason = may_cosign(held, head, message.proof).reason
        unaware = reason is Reason.UNPROVEN and held is not None and message.held != held.size
        if reason is Reason.SAME or unaware or not counts:
            return _Judged(answer=self._heads.shown(peer))  # unaware: a word of this site was lost, and now it knows
        self._turns[peer] -= 1
        before = self._heads.spent(peer)
        if spent < before:
            less = SiteLogBroken(peer=peer, evidence=f"its head says that epsilon is {spent:g}, and said {before:g}")
            return _Judged(answer=self._heads.shown(peer), error=less, refused=message.note)
        if held is None or reason is Reason.EXTENDS:
            cosigned = note.cosign(message.note.decode(), self._site.name, self._site.identity).encode()
            # How far a log had come that its site has lost is known to its witnesses alone.
            lost = self._heads.shown(peer) if held is None else b""
            return _Judged(answer=cosigned, cosigned=cosigned, refused=lost)
        cut = SiteLogBroken(
            peer=peer, evidence=f"cosigned over {_over(held)}; shown over {_over(head)}: {reason.value}"
        )
        return _Judged(answer=self._heads.shown(peer), error=cut, refused=message.note)


def _over(head: Head) -> str:
    return f"{counted(head.size, 'entry')}, root {head.root.hex()[:16]}"
