"""How a pass ends before its end. Loads no torch: who drives a training knows these without it."""

from __future__ import annotations

from typing import Final

AT_ONCE: Final = 64  # most records whose gradients are in memory at the same time


class PassStopped(Exception):
    """`Trainer.stopping` was set in the middle of a pass: nobody waits for it. Its seed is kept, to repeat it."""


class PassCut(Exception):
    """The process that made the pass is gone, and nothing of the pass was seen: it can be made once more.

    how              what became of it, for people
    out_of_memory    the system ended it for want of memory
    """

    def __init__(self, how: str, *, out_of_memory: bool = False) -> None:
        super().__init__(how)
        self.how, self.out_of_memory = how, out_of_memory
