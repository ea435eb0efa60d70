"""What two nodes tell each other when a link comes up, and why one refuses it.

A hello shows the federation digest, the sender's place in the run, the size and root of its federation log, its
signature over the genesis, and, back to its receiver, the receiver's *own* latest signed statements and the last head
of its site log that the sender cosigned. So any site that it talks to tells a site that its home was rolled back or
cloned, and a liar cannot freeze it with statements that it never made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.errors import LocalFault, P2PFLError
from p2pfl.errors.counts import counted
from p2pfl.errors.round import (
    LedgersDiffer,
    MalformedMessage,
    PeersFileDiffers,
    RolledBack,
    SignatureMissing,
    WrongSender,
)
from p2pfl.federation.membership import Change, Lineage
from p2pfl.keys import verify
from p2pfl.messages import (
    Ack,
    Ballot,
    Confirm,
    Hello,
    Leave,
    Letter,
    Message,
    Propose,
    Ready,
    Root,
    authentic,
    carries,
    kind_said,
    narrow,
    open_letter,
    read_letter,
    seal,
)
from p2pfl.messages.outcome import MOST_CHANGES
from p2pfl.node.pledge import Pledge
from p2pfl.node.site import SiteProcess
from p2pfl.node.threads import LARGE_LETTER
from p2pfl.roster import MOST_PEERS

PEERS_ITEM: Final = "state/peers"
# Kinds that say how far their signer got. All are signed, and no peer chooses the place at which this site signs one.
STATEMENTS: Final = (Ack, Propose, Root, Ready, Ballot, Leave, Confirm)
ECHOES: Final = 32  # statements in one hello: seven kinds, in a few runs
ECHO_BYTES: Final = 1 << 20  # of one statement; a larger one is not kept, since it would be in no hello
HEARD_BYTES: Final = 8 << 20  # of all statements of one peer


@dataclass(frozen=True, slots=True)
class Standing:
    """How far this node is now."""

    entries: int  # of the federation log
    root: bytes
    root_at: Callable[[int], bytes]
    epsilon: str
    # By run: the highest (round, attempt) that this home had begun when this process started.
    reached: Callable[[bytes], tuple[int, int]]
    most_said: float  # the largest ε that this home can have proposed until this process started


class Witnesses(Protocol):
    """Heads of site logs (witness.py)."""

    def shown(self, peer: str) -> bytes:
        """The last head of the peer's site log that this site cosigned."""

    async def check(self, peer: str, shown: bytes) -> None:
        """A peer shows the last head of this site's log that it cosigned. Raises RolledBack, MalformedMessage."""

    async def of_another_study(self, run: bytes) -> bool:
        """The run is of another study of this site: what it signed there says nothing of this one."""


class Membership(Protocol):
    """What this site knows of who takes part, now and next (pending_change.py)."""

    def lineage(self) -> Lineage | None:
        """Where this site's ledger stands; None before it begins."""

    def changes_to_offer(self) -> Sequence[Change]:
        """The newest changes of membership, in force or to come."""

    def learn_change(self, change: Change) -> None:
        """A peer shows a change of membership. Raises a LocalFault where this home cannot keep it."""

    def check_key(self, peer: str) -> None:
        """Raise Revoked when this site revoked that peer's key."""


@dataclass
class Greetings:
    """Makes and judges hellos, as the mesh's `Greeter`; holds what peers pledged, and their statements to echo.

    end_node   ends this process with an error that no refusal of one peer answers
    """

    site: SiteProcess
    pledge: Pledge
    standing: Callable[[], Standing]
    membership: Membership
    heads: Witnesses
    end_node: Callable[[P2PFLError], None]
    pledged: dict[str, tuple[bytes, bytes]] = field(default_factory=dict, init=False)
    entries: dict[str, int] = field(default_factory=dict, init=False)  # by peer: of its log, at its last hello
    told: set[str] = field(default_factory=set, init=False)  # peers that showed what they hold of this site
    said: float = field(default=0.0, init=False)  # the largest ε in what they showed that this site had proposed
    _told_more: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _heard: dict[str, dict[str, Letter[Message]]] = field(default_factory=dict, init=False)
    _against: set[str] = field(default_factory=set, init=False)  # peers whose ledger is no prefix or continuation
    # By peer: one of its large hellos is read at a time, however many connections it opens.
    _reading: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock), init=False)

    def heard(self, letter: Letter[Message]) -> None:
        """Keep a peer's highest statement of each kind, in each run, that says how far it got."""
        if not isinstance(letter.message, STATEMENTS):
            return
        if letter.size >= ECHO_BYTES:
            return
        kept, at = self._heard.setdefault(letter.sender, {}), letter.envelope
        name = f"{type(letter.message).__name__} {at.run.hex()}"
        held = kept.get(name)
        if held is None or (held.envelope.round, held.envelope.attempt) <= (at.round, at.attempt):
            kept[name] = letter
        while len(kept) > ECHOES or sum(one.size for one in kept.values()) > HEARD_BYTES:
            del kept[
                next(iter(kept))
            ]  # the oldest: a peer that makes up runs makes this site forget its own statements alone

    def statements(self) -> bytes:
        """The statements that were heard, for the disk."""
        # Copied first: letters are heard on the loop's thread while this runs in a worker's.
        kept = [letter for kinds in list(self._heard.values()) for letter in list(kinds.values())]
        return codec.pack([letter.wire for letter in kept])

    def remember(self, data: bytes) -> None:
        """Read what `statements` wrote, as far as it is of this epoch. Raises Malformed."""
        wires = codec.unpack(data, most=len(data), items=ECHOES * MOST_PEERS)  # this home has sealed it itself
        if not isinstance(wires, tuple) or not all(isinstance(wire, bytes) for wire in wires):
            raise codec.Malformed("it is no list of letters")
        for wire in wires:
            if read_letter(wire).envelope.epoch == self.site.roster.epoch:
                self.heard(open_letter(wire, self.site.roster, Message))

    def greeting(self, peer: str, nonce: bytes) -> bytes:
        """Our hello to `peer` on the link with this nonce."""
        stands = self.standing()
        genesis, agreement = self.pledge.sign(self.site.identity)
        echo = tuple(letter.wire for letter in self._heard.get(peer, {}).values())[-ECHOES:]
        changes = tuple(
            (one.record, tuple(sorted(one.signatures.items()))) for one in self.membership.changes_to_offer()
        )[-MOST_CHANGES:]
        message = Hello(
            nonce,
            self.site.federation_digest,
            genesis,
            agreement,
            0,
            stands.entries,
            stands.root,
            stands.epsilon,
            self.heads.shown(peer),
            echo,
            changes,
        )
        return seal(message, self.site.envelope, self.site.identity).wire

    def admit(self, peer: str) -> None:
        """Raise Revoked when this site revoked the peer's key."""
        self.membership.check_key(peer)

    async def check_greeting(self, peer: str, greeting: bytes, nonce: bytes) -> None:
        """Refuse a hello that does not fit ours, by raising the error that says why.

        A peer of another epoch of this federation is spoken with, so that the one that is behind learns what it missed.
        What asks the disk, or the logs of other studies, does so in a thread: the loop goes on.
        """
        self.membership.check_key(peer)
        if len(greeting) <= LARGE_LETTER:
            await self._judge(peer, *self._read(peer, greeting, nonce))
            return
        async with self._reading[peer]:
            found = await asyncio.to_thread(self._read, peer, greeting, nonce)
        self.membership.check_key(peer)  # somebody may have revoked it meanwhile: nothing that it shows is kept
        await self._judge(peer, *found)

    def _read(self, peer: str, greeting: bytes, nonce: bytes) -> tuple[Hello, list[Letter[Message]]]:
        """The hello of that peer, and what it shows that this site said before this process. In whichever thread.

        Raises MalformedMessage, WrongSender.
        """
        hello = self._hello(peer, greeting, nonce)
        if hello.federation_digest != self.site.federation_digest:
            return hello, []  # of another epoch, in which this site's key may be another
        try:
            return hello, [letter for wire in hello.echo if (letter := self._said_before(wire)) is not None]
        except codec.Malformed as error:
            raise MalformedMessage(peer=peer, evidence=f"in its echo: {error}") from None

    def _said_before(self, wire: bytes) -> Letter[Message] | None:
        """A statement of this site that another process of its made. Raises Malformed."""
        if kind_said(wire) not in STATEMENTS:
            return None  # bulk is not signed at all, and other kinds may take long to read
        letter = read_letter(wire)
        if letter.sender != self.site.name or letter.envelope.incarnation == self.site.incarnation:
            return None  # of statements about this site only what it signed itself counts: no other is looked into
        if not authentic(letter, self.site.roster):
            raise codec.Malformed(f"{type(letter.message).__name__}: not signed by {letter.sender!r}")
        return letter

    async def _judge(self, peer: str, hello: Hello, said: Sequence[Letter[Message]]) -> None:
        offered = [Change(record, dict(signed)) for record, signed in hello.changes]
        if hello.federation_digest == self.site.federation_digest:
            self._check_pledge(peer, hello)
            try:
                await self._check_what_it_holds(peer, hello, said)
            except RolledBack as error:
                # Shown under this site's own signature: this home must not go on, whatever the link.
                self.end_node(error)
                raise
        elif not self._akin(hello.federation_digest, offered):
            evidence = f"yours {self.site.federation_digest.hex()[:16]}, theirs {hello.federation_digest.hex()[:16]}"
            raise PeersFileDiffers(peer=peer, evidence=evidence)
        try:
            self._check_ledger(peer, hello)
        except LedgersDiffer as error:
            self._against.add(peer)
            if len(self._against) > self.site.roster.quorums.c:
                # c liars can claim another ledger; more than that, and it is this one that differs.
                self.end_node(error)
            raise
        self._against.discard(peer)
        self.entries[peer] = hello.entries
        for change in offered:
            try:
                await asyncio.to_thread(self.membership.learn_change, change)
            except LocalFault as error:
                self.end_node(error)  # this disk's fault, and no reason to refuse the peer
        self.membership.check_key(peer)  # each hello waits in here too

    def _akin(self, federation_digest: bytes, offered: Sequence[Change]) -> bool:
        """It is the peers.yaml of an epoch before this one, or of one to which changes lead that q sites signed."""
        here = self.membership.lineage()
        if here is None:
            return False
        for change in offered:
            with contextlib.suppress(codec.Malformed):  # of an epoch before, or it leads nowhere
                here = here.after(change)
        return federation_digest in here.digests

    def _hello(self, peer: str, greeting: bytes, nonce: bytes) -> Hello:
        try:
            letter = narrow(read_letter(greeting), Hello)
        except codec.Malformed as error:
            raise MalformedMessage(peer=peer, evidence=str(error)) from None
        if letter.sender != peer:
            raise WrongSender(peer=peer, evidence=f"a hello in the name of {letter.sender!r}")
        if not authentic(letter, self.site.roster):
            raise MalformedMessage(peer=peer, evidence=f"Hello: not signed by {peer!r}")
        if letter.message.link != nonce:
            raise MalformedMessage(peer=peer, evidence="its hello was made for another link")
        return letter.message

    def _check_pledge(self, peer: str, hello: Hello) -> None:
        key = self.site.roster[peer].key
        if not verify(key, "record", self.pledge.genesis, hello.genesis):
            raise SignatureMissing(peer=peer, what="genesis", evidence="its signature is not over this genesis")
        if self.pledge.agreement and not verify(key, "record", self.pledge.agreement, hello.agreement):
            evidence = "peers.yaml names an agreement, and its hello holds no signature over it"
            raise SignatureMissing(peer=peer, what="business associate agreement", evidence=evidence)
        self.pledged[peer] = (hello.genesis, hello.agreement)

    async def _check_what_it_holds(self, peer: str, hello: Hello, said: Sequence[Letter[Message]]) -> None:
        """Of this site, under its own signature. All of it is read before a home that is older is stopped: what that
        had spent since is known to the others alone.
        """
        found: RolledBack | MalformedMessage | None = await self._set_back(peer, said)
        try:
            await self.heads.check(peer, hello.cosigned)
        except (RolledBack, MalformedMessage) as error:
            found = found or error
        if not isinstance(found, MalformedMessage):
            self.told.add(peer)
            self._told_more.set()
        if found is not None:
            raise found

    async def until_told(self, number: int) -> None:
        """So many peers have shown what they hold of this site."""
        while len(self.told) < number:
            self._told_more.clear()
            await self._told_more.wait()

    async def _set_back(self, peer: str, said: Sequence[Letter[Message]]) -> RolledBack | None:
        """Whether one of this site's own statements was made by a later state of its home."""
        stands = self.standing()
        found: RolledBack | None = None
        for letter in said:
            if self._is_later(letter, stands) and await self.heads.of_another_study(letter.envelope.run):
                continue  # the peer takes part there too
            beyond = self._beyond_account(peer, letter, stands.most_said)
            found = found or beyond
            if letter.envelope.epoch < self.site.roster.epoch:
                continue  # its rounds ended with it: this home keeps none of them, and the ledger has gone on
            place = (letter.envelope.round, letter.envelope.attempt)
            if place > stands.reached(letter.envelope.run):
                # Made by a process after the one that left this home as this process found it: a later state of the
                # home, which was then rolled back, or a second copy of it that runs now.
                shown = f"{type(letter.message).__name__} of round {place[0]}, attempt {place[1]}, signed by this site"
                evidence = f"{shown}; not made by this process, nor before it in this home"
                found = found or RolledBack(peer=peer, site=self.site.name, evidence=evidence)
        return found

    def _is_later(self, letter: Letter[Message], stands: Standing) -> bool:
        """It would be a sign that this home was set back."""
        place = (letter.envelope.round, letter.envelope.attempt)
        said = float(letter.message.epsilon or 0.0) if carries(letter, Propose) else 0.0
        return place > stands.reached(letter.envelope.run) or said > stands.most_said

    def _beyond_account(self, peer: str, letter: Letter[Message], most_said: float) -> RolledBack | None:
        """A pass is charged and on the disk before it is proposed: this home said no more than its account holds.

        One that was set back into the middle of a round, behind its secrets and before its charge, is found by this
        alone: its place in the run is the same.
        """
        said = float(letter.message.epsilon or 0.0) if carries(letter, Propose) else 0.0
        self.said = max(self.said, said)
        if said <= most_said:
            return None
        shown = f"a proposal of round {letter.envelope.round}, signed by this site, says ε = {said:g}"
        return RolledBack(
            peer=peer, site=self.site.name, evidence=f"{shown}; when this process started its home held {most_said:g}"
        )

    def _check_ledger(self, peer: str, hello: Hello) -> None:
        stands = self.standing()
        if 0 < hello.entries <= stands.entries and stands.root_at(hello.entries) != hello.root:
            evidence = f"root over {counted(hello.entries, 'entry')}: theirs {hello.root.hex()[:16]}, "
            raise LedgersDiffer(peer=peer, evidence=evidence + f"yours {stands.root_at(hello.entries).hex()[:16]}")

    def signatures(self, names: Mapping[str, object]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """All pledges that are held, and this site's own: over the genesis, over the agreement."""
        pledged = {**self.pledged, self.site.name: self.pledge.sign(self.site.identity)}
        ordered = {name: pledged[name] for name in names if name in pledged}
        return {name: pair[0] for name, pair in ordered.items()}, {name: pair[1] for name, pair in ordered.items()}
