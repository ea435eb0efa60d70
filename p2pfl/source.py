"""What a node sums: the five questions that it asks of a training, or of a statistic, in every round."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.sharing import events as e
from p2pfl.sharing.course import Course

LEAST_DEADLINE_S: Final = 20.0
SLACK: Final = 6.0  # a deadline allows this many times the transfer that the slowest link would need
SLOWEST: Final = 64e3  # bytes per second assumed of a link that was never measured


@dataclass(frozen=True, slots=True)
class Offer:
    """What this site would sum in a round."""

    model: bytes
    configuration: codec.Facts
    support: bytes
    epsilon: str
    payload_bytes: int  # of the words, to derive a deadline from

    def deadline_ms(self, speeds: Iterable[float | None]) -> int:
        """What to allow for a phase, from the measured speeds of the links in bytes per second (None: not measured)."""
        slowest = max(min(filter(None, speeds), default=SLOWEST), SLOWEST / 8)
        return int(1000 * (LEAST_DEADLINE_S + SLACK * 2 * self.payload_bytes / slowest))


class Source(Protocol):
    """What is summed in a run: a training, or one statistic. Its methods run in worker threads."""

    def propose(self, number: int) -> Offer: ...
    def words(self, attempt_digest: bytes, supports: dict[str, bytes]) -> tuple[e.Vector, ...]: ...
    def apply(self, effect: e.Apply, number: int) -> tuple[bytes, codec.Facts]: ...
    def keep(self, number: int) -> None:
        """Make what `apply` computed durable beside what stands, before the ledger names it."""

    def adopt(self, number: int) -> None:
        """The ledger names it: it is what stands now."""


@dataclass
class Run:
    """One course and what it needs."""

    course: Course
    source: Source
    last_round: int
    proposing: asyncio.Task[None] | None = None
    proposed_round: int = 0
    began: float = 0.0
    bytes_before: int = 0
