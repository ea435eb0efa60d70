"""One run, round after round: which letter belongs to which round, what a restart takes up, who is served afterwards.

Pure like the rounds themselves. A driver (node.py, or a simulated peer) hands in events and carries out effects; on
`Finished` it makes keepsake and ledger entry durable, calls `finished`, and begins the next round when it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from p2pfl.messages import Letter
from p2pfl.sharing.events import Begin, Effect, Event, LinkUp, Received
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import ATTEMPT_ITEM, FINAL_ITEM, SUMS_ITEM, Phase, Setting

# Of a round that has not begun here. A peer that is ahead sends a few kinds of small letters and waits: in this
# version nobody gets past PROPOSE without everybody.
EARLY_LETTERS: Final = 1024  # for each peer
EARLY_BYTES: Final = 64 << 20


class Course:
    """The rounds of one run at one peer: `previous` serves those who missed it, `current` is under way."""

    def __init__(self, setting: Setting, final_round: int) -> None:
        self.setting = setting
        self.final_round = final_round
        self.previous: Round | None = None
        self.current: Round | None = None
        self._early: list[Letter] = []

    def resume(self, items: Mapping[str, bytes | None]) -> list[Effect]:
        """Take up what a process before this one left on the disk. Raises Malformed."""
        keepsake, snapshot = items.get(FINAL_ITEM), items.get(ATTEMPT_ITEM)
        if keepsake and self.previous is None:
            kept = Round.finished(self.setting, keepsake)
            # A keepsake of a round that the ledger does not hold was written just before a death.
            self.previous = kept if kept.number == self.final_round else None
        if not snapshot:
            return []
        found, effects = Round.restored(self.setting, snapshot, items.get(SUMS_ITEM))
        if found.number != self.final_round + 1:
            return []  # its round is in the ledger already
        self.current = found
        return effects

    def begin(self, now: float) -> list[Effect]:
        """Begin the next round, with the letters that came early for it; nothing when one is under way."""
        if self.current is not None:
            return []
        self.current = Round(self.setting, self.final_round + 1)
        effects = self.current.handle(Begin(now))
        held, self._early = self._early, []
        for letter in held:
            effects += self.handle(Received(now, letter))
        return effects

    @property
    def wants_update(self) -> bool:
        """The round under way may still sum an update of this peer."""
        return self.current is not None and self.current.phase in (Phase.SHARE, Phase.BALLOT)

    def handle(self, event: Event) -> list[Effect]:
        """Give the event to the round that it is for. Raises what `Round.handle` raises."""
        if isinstance(event, Received):
            return self._received(event)
        effects: list[Effect] = []
        if isinstance(event, LinkUp) and self.previous is not None:
            effects += self.previous.handle(event)
        if self.current is not None:
            effects += self.current.handle(event)
        return effects

    def _received(self, event: Received) -> list[Effect]:
        number = event.letter.envelope.round
        if self.previous is not None and number == self.previous.number:
            return self.previous.handle(event)
        if self.current is not None and number == self.current.number:
            return self.current.handle(event)
        if self.final_round < number <= self.final_round + 2:  # nobody is further ahead of a peer that takes part
            self._keep(event.letter)
        return []

    def _keep(self, letter: Letter) -> None:
        """Hold it for the round that it is of; beyond a bound of its sender's own it is dropped."""
        sizes = [len(old.body) for old in self._early if old.sender == letter.sender]
        if len(sizes) < EARLY_LETTERS and sum(sizes) + len(letter.body) <= EARLY_BYTES:
            self._early.append(letter)

    def finished(self) -> list[Effect]:
        """The round under way is in the ledger."""
        self.previous, self.current = self.current, None
        self.final_round += 1
        return self.previous.settled() if self.previous is not None else []
