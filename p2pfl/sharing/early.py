"""Letters that came before their turn: held in the order in which they came, within a bound for each sender."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final

from p2pfl.messages import Letter, Message

NOTHING: Final = (0, 0, 0)


@dataclass
class EarlyLetters:
    """What is held of all senders, and how much of each.

    A letter is looked at once when it is held and once when it goes, however many there are: liars that fill their
    room would else cost this site the square of it.
    """

    most_letters: int  # of each sender
    most_bytes: int  # of memory, of each sender
    _held: dict[tuple[str, Hashable], Letter[Message]] = field(default_factory=dict)  # by sender and place
    _of: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # by sender: letters, their bytes, and memory

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes of all that is held."""
        return sum(size for _, size, _ in self._of.values())

    def __iter__(self) -> Iterator[Letter[Message]]:
        return iter(self._held.values())

    def held_of(self, sender: str) -> tuple[int, int]:
        """Letters of `sender` that are held, and their bytes."""
        return self._of.get(sender, NOTHING)[:2]

    def hold(self, letter: Letter[Message], place: Hashable, more: int = 0) -> bool:
        """Hold it in the stead of any that its sender has in `place`; False where its sender's room is full.

        more   bytes of memory that the sender may have beside the bound
        """
        sender = letter.sender
        before = self._held.get((sender, place))
        count, size, memory = self._of.get(sender, NOTHING)
        count, size, memory = count + 1, size + letter.size, memory + letter.memory
        if before is not None:
            count, size, memory = count - 1, size - before.size, memory - before.memory
        if count > self.most_letters or memory > self.most_bytes + more:
            return False
        self._held[sender, place], self._of[sender] = letter, (count, size, memory)
        return True

    def take_all(self) -> list[Letter[Message]]:
        """All that is held, the oldest first; nothing is held then."""
        taken = list(self._held.values())
        self._held, self._of = {}, {}
        return taken
