"""A cloned machine: a site's process is killed and its machine set back, random generator and all, within one attempt.

Both processes mask another update of the victim under one attempt, with secrets that they drew themselves. If they drew
the same ones, the difference of the two masked vectors is that of the two updates: and an owner has both.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.clocks import Clocks
from p2pfl.codec import Malformed
from p2pfl.keys import digest
from p2pfl.messages import Letter
from p2pfl.node.inbox import Inbox
from p2pfl.node.site import SiteProcess
from p2pfl.sharing import events as e
from p2pfl.sharing.certificate import compose
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.prg import expand
from p2pfl.simulate.peer import VirtualDisk
from tests.sharing.algebra import BITS
from tests.simulate.attackers import Attacked, chooses_by_hand

LIAR, VICTIM = "site-1", "site-3"  # the liar coordinates attempt 0 of round 1, and tells its sets to the victim alone
FIELD = FIELDS[BITS]


class Cloned(Attacked):
    """Each process of the victim begins with the same generator; it has said hello to the others before it draws."""

    def __init__(self, *, bound: bool) -> None:
        super().__init__(liars=[LIAR])
        victim, context = self.peers[VICTIM], self.peers[VICTIM].context

        def started() -> Any:
            draw = self._bound() if bound else random.Random(7).randbytes
            return replace(context(), draw=draw)

        victim.context = started  # type: ignore[method-assign]
        self.processes = 0

    def _bound(self) -> Any:
        """What inbox.py makes of a generator, once the links are up."""
        none: Any = None
        clocks = Clocks(lambda: self.now, lambda: self.now, random.Random(7).randbytes)
        victim = self.peers[VICTIM]
        process = SiteProcess(victim.identity, VICTIM, self.roster, victim.incarnation, bytes(32), clocks)
        inbox = Inbox(process, none, none, none, none, None)
        inbox._nonces = {name: self.draw(32) for name in self.peers if name != VICTIM}  # fresh for each link
        return inbox.draw_bound

    def update(self, name: str, number: int) -> tuple[e.Vector, ...]:
        """The victim trains anew in each process."""
        key = digest("update", name.encode(), bytes([self.processes if name == VICTIM else 0]))
        return (e.Vector(BITS, expand(key, FIELD, 0, self.length)),)

    def chunk(self) -> Any:
        """The words that the victim's last process sent to the liar; None before."""
        process = self.peers[VICTIM].incarnation
        found = [
            one.message
            for sender, to, one in self.carried
            if (sender, to) == (VICTIM, LIAR)
            and isinstance(one.message, m.Chunk)
            and one.envelope.incarnation == process
        ]
        return FIELD.from_bytes(bytes(found[0].words)) if found else None

    def set_for_the_victim(self) -> Letter | None:
        """A set of all that holds together, as soon as there is one."""
        if not self.heard_all(LIAR):
            return None
        letter = self.sealed(LIAR, self.set_of(LIAR, self.roster.names))
        state = self.round_of(LIAR).state
        if state.proposals.bundles[VICTIM].envelope.incarnation != self.peers[VICTIM].incarnation:
            return None
        try:
            compose(letter, self.roster)
        except Malformed:
            return None
        return letter

    def masks(self) -> Any:
        """The victim's process masks its update under a set that the liar tells to it alone."""
        self.until(lambda: self.set_for_the_victim() is not None)
        letter = self.set_for_the_victim()
        assert letter is not None
        self._carry(LIAR, VICTIM, letter)
        self.until(lambda: self.chunk() is not None)
        return self.chunk()


def clone(patch: pytest.MonkeyPatch, *, bound: bool) -> tuple[Any, Any]:
    """The difference of what the liar has of two processes of the victim, and that of their updates."""
    chooses_by_hand(patch, LIAR)
    world = Cloned(bound=bound)
    world.begin()
    masked, updates = [], []
    place = world.pieces(world.roster.names)[world.roster.index(LIAR)]
    for _ in range(2):
        masked.append(world.masks())
        updates.append(world.update(VICTIM, 1)[0].words[place.start : place.stop])
        world.peers[VICTIM].kill()
        world.peers[VICTIM].disk = VirtualDisk()  # as it was before the attempt
        world.processes += 1
        world.start(world.peers[VICTIM])
    assert not (updates[0] == updates[1]).any()
    return FIELD.subtract(masked[0], masked[1]).tolist(), FIELD.subtract(updates[0], updates[1]).tolist()


@pytest.mark.claim("HOME-6")
def test_a_cloned_machine_draws_other_secrets_once_it_has_said_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, true = clone(monkeypatch, bound=True)
    assert seen != true


def test_were_secrets_not_bound_to_nonces_an_owner_would_subtract(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the links' nonces: an owner would have the difference of two updates."""
    seen, true = clone(monkeypatch, bound=False)
    assert seen == true
