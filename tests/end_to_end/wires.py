"""Between a real site's node and its links: what a test makes of its letters, and of its clock.

Four sites, of which ben lies and coordinates attempt 0 of the first round; dot is its victim. A plan (lies.py,
undefended.py) acts at `Post`, where a letter leaves the node, and sees what the run is handed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, Final

from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.node.post import Post
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import ballot
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import State

LIAR: Final = "ben"
VICTIM: Final = "dot"
FIRST: Final = (1, 0)
SEND: Final = Post.send


def place_of(letter: Letter) -> tuple[int, int]:
    return letter.envelope.round, letter.envelope.attempt


class Wires:
    """Between a node and its links: what it would send is sent, changed, dropped, or kept until `release`.

    Deadlines of these tests are minutes away, so that no slow machine changes what happens; a site whose time has come
    by what it has heard says so (`hurries`).
    """

    def __init__(self) -> None:
        self.run: Run | None = None
        self.post: Post | None = None
        self._kept: list[tuple[str, Letter]] = []
        Post.send = lambda post, peer, letter: self._send(post, peer, letter)  # type: ignore[method-assign]
        handle = Run.handle

        def handed(run: Run, event: e.Event) -> list[e.Effect]:
            self.run = run
            if not isinstance(event, e.Received):
                return handle(run, event) + self._hurry(run, event.now)
            self.hears(event.letter)
            read = [replace(event, letter=letter) for letter in self.reads(event.letter)]
            return [effect for one in read for effect in handle(run, one)] + self._hurry(run, event.now)

        def hurry(run: Run, now: float) -> list[e.Effect]:
            effects: list[e.Effect] = []
            for held in list(run.rounds.values()):
                state = held.state
                if ahead := [what for what in self.hurries(state) if what in state.due and not state.past(what)]:
                    state.due.update(dict.fromkeys(ahead, now))
                    effects += handle(run, e.Tick(now, held.number, held.attempt))
            return effects

        self._hurry = hurry

        Run.handle = handed  # type: ignore[method-assign]

    def hears(self, letter: Letter) -> None:
        """A letter has come."""

    def reads(self, letter: Letter) -> Iterable[Letter]:
        """What this site's run is handed in the place of a letter that has come."""
        return (letter,)

    def hurries(self, state: State) -> Iterable[str]:
        """Which of a round's times have come, whatever the clock says: all that is waited for now comes never."""
        return ()

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        """What leaves in the place of this letter."""
        return (letter,)

    def keeps(self, peer: str, letter: Letter) -> bool:
        """From this letter on the link to `peer` is silent."""
        return False

    def _send(self, post: Post, peer: str, letter: Letter) -> None:
        self.post = post
        if any(to == peer for to, _ in self._kept) or self.keeps(peer, letter):
            self._kept.append((peer, letter))
            return
        for one in self.says(peer, letter):
            SEND(post, peer, one)

    def release(self) -> None:
        """What was kept goes, in order."""
        kept, self._kept = self._kept, []
        self.keeps = lambda peer, letter: False  # type: ignore[method-assign]
        for peer, letter in kept:
            if self.post is not None:
                SEND(self.post, peer, letter)

    @property
    def state(self) -> State | None:
        """The first round, where it stands in its first attempt."""
        first = self.run.rounds.get(FIRST[0]) if self.run is not None else None
        return first.state if first is not None and first.attempt == FIRST[1] else None

    def sealed(self, message: m.Message, at: Letter) -> Letter:
        """A letter of this site at the place of another."""
        assert self.run is not None
        context = self.run.context
        envelope = replace(at.envelope, sender=context.me, incarnation=context.incarnation)
        return seal(message, envelope, context.identity)


NAMES: Final = ("ada", "ben", "cyd", "dot")
HONEST: Final = tuple(name for name in NAMES if name != LIAR)


def heard(state: State, names: Collection[str], lacking: Mapping[str, Collection[str]] = MappingProxyType({})) -> bool:
    """All proposals of these have come, and their acknowledgements of one another.

    lacking   by peer: of whom it acknowledges nothing
    """
    acks, proposes = state.proposals.acks, state.proposals.proposes

    def whole(name: str) -> bool:
        held = {row[0] for row in acks[name].message.held} if name in acks else set()
        return name in proposes and held >= set(names) - set(lacking.get(name, ()))

    return all(map(whole, names))


class Hurried(Wires):
    """A site that sees at once when it is only the liar that is waited for: it goes on as it would at its deadline."""

    awaited: ClassVar[Collection[str]] = NAMES  # whom a coordinator waits for
    lacking: ClassVar[Mapping[str, Collection[str]]] = {}  # by peer: of whom it acknowledges nothing

    def __init__(self) -> None:
        super().__init__()
        ballot.LEAVE_S = 1e6  # type: ignore[misc]

    def hears(self, letter: Letter) -> None:
        held = self.run.rounds.get(letter.envelope.round) if self.run is not None else None
        if isinstance(letter.message, m.Members) and held is not None:
            held.state.due["half"] = held.state.now  # a coordinator that hurries does not leave anybody out early

    def hurries(self, state: State) -> Iterable[str]:
        gone = ("backup",) if LIAR in state.peers.down else ()  # it opens no seed any more
        return (*gone, "choose") if heard(state, self.awaited, self.lacking) else gone
