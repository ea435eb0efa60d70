"""What a node sums: the questions that it asks of a training, or of a statistic, in every round."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.sharing import events as e

PATIENCE_S: Final = 5.0
SLACK: Final = 6.0  # a deadline allows this many times the transfer that the slowest link would need
SLOWER: Final = 4.0  # … and this many times the time that this site took for its update
FASTEST: Final = 12.5e6  # bytes per second: what buffers take at once says little about what a link carries
SLOWEST: Final = 64e3  # bytes per second assumed of a link that was never measured
LARGE_BYTES: Final = 1 << 20  # from which on links are asked for their speed before: minutes depend on it
MEASURE_S: Final = 3.0  # seconds for their answers; who speaks and is slower needs the time of one as slow as that


@dataclass(frozen=True, slots=True)
class Offer:
    """What this site would sum in a round."""

    model: bytes
    configuration: codec.Facts
    support: bytes
    epsilon: str
    payload_bytes: int  # of the words, to derive a deadline from
    patience_s: float = PATIENCE_S  # seconds to wait for a site that is not there

    @property
    def measure_s(self) -> float:
        """Seconds to ask links for their speed, before a deadline is derived from it; 0: it matters little."""
        return MEASURE_S if self.payload_bytes >= LARGE_BYTES else 0.0

    def deadline_ms(self, speeds: Iterable[float | None], took_s: float = 0.0) -> int:
        """What to allow for a phase.

        speeds   measured, of the links, in bytes per second (None: not measured)
        took_s   seconds that the offer took to make: slower sites may need a few times as long. All sites read the
                 deadline, so it holds a power of two of at least a second: the time itself grows with the records.
        """
        measured = min(filter(None, speeds), default=SLOWEST)
        slowest = min(max(measured, SLOWEST / 8), FASTEST)
        # After a quarter of its deadline a phase goes on without the sites that are away (sharing/phases/members.py).
        return int(1000 * (4 * self.patience_s + SLACK * 2 * self.payload_bytes / slowest + SLOWER * coarse_s(took_s)))


def coarse_s(took_s: float) -> float:
    """So many seconds, rounded up to a power of two; none of less than one."""
    return 2.0 ** math.ceil(math.log2(took_s)) if took_s >= 1.0 else 0.0


class ModelStore(Protocol):
    """The models of a training at this site (node/runs/models.py). Methods that write run in worker threads."""

    lacking: bytes  # digest of the model that the ledger names and this site has yet to fetch; empty: none
    why_lacking: str  # why it was not on the disk when this process began; empty: it was

    @property
    def model_bytes(self) -> int:
        """Size of one model in bytes."""

    def write_next(self, number: int) -> None:
        """Make the model after round `number` durable beside the current one, before the ledger names it."""

    def make_current(self, number: int) -> None:
        """The ledger names the model after round `number`: it is the current one."""

    def retract(self, to: int) -> None:
        """Drop the models after rounds past `to`."""

    def skip_to(self, number: int, record: bytes) -> bytes:
        """Rounds up to `number` were taken over as records, `record` the last: return what is `lacking` now."""

    def accept_fetched(self, data: bytes, number: int, peer: str) -> None:
        """Make the model that was fetched the current one. Raises BulkRejected naming `peer` when it is another one."""

    def bytes_of(self, wanted: bytes) -> memoryview | None:
        """The model of that digest, for a site that was away; None when this site has another."""


class Source(Protocol):
    """What is summed in a run: a training, or one statistic.

    Its methods run in worker threads; `apply` of few words, without models, in the loop.
    """

    @property
    def models(self) -> ModelStore | None:
        """Where the sums become models; None where they are applied to nothing."""

    def propose(self, number: int, base: int) -> Offer:
        """What this site would sum in round `number`, on the model after round `base`."""

    def shape(self, number: int) -> tuple[tuple[int, int], ...]:
        """(bits, most words) of each segment that round `number` will sum; nothing where that cannot be known yet."""

    def words(self, effect: e.Quantise) -> tuple[e.Vector, ...]:
        """The words that this site sums in the attempt, one vector for each segment of `shape`."""

    def apply(self, effect: e.Apply) -> tuple[bytes, codec.Facts]:
        """Apply the sum: digest of the model after it, and the outcome for the round's record."""

    def length(self, asked: int) -> int:
        """How many final rounds end the run: `asked`, or fewer where the sums so far say so. Quick; any thread."""

    def left(self, effect: e.LeftBehind) -> None:
        """The round goes on without a sum, for now. Raises what the caller who waits for it should be told."""
