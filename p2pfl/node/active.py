"""A run as a call of this node drives it: what it sums, in which round it has proposed, and what waits for a model.

A call may be left in mid-round, by its caller or an error. The run stays, and so does what this site owes the others in
that round; the next call of the run goes on behind it (`ActiveRun.after`). No two calls propose in one run at a time:
the second waits until the proposal of the first is made, or has come to nothing (`Node.until_free`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from p2pfl.errors.round import RunUnderWay
from p2pfl.node.source import ModelStore, Source
from p2pfl.sharing import events as e
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import Phase


@dataclass(frozen=True, slots=True)
class Since:
    """From when on the seconds and bytes of a round count: its beginning, or where this process took it up."""

    at: float
    bytes_before: int
    taken_up: bool


@dataclass
class ActiveRun:
    """A run of this node, and what it needs of the node.

    rounds      that have to be final; 0 of a run that is only served, whose source is that of another run
    proposing   makes this site's last proposal; its result says whether there is one
    proposed    the round, and the base, of that proposal
    resumed     when this call began to go on with the run
    begun       when the rounds began that began in this call
    lacking     the model that the ledger names is being fetched
    delayed     sums to apply to it
    older       by round of an earlier call: whose vector it sums
    """

    run: Run
    source: Source
    rounds: int
    proposing: asyncio.Task[bool] | None = None
    proposed: tuple[int, tuple[int, bytes]] = (0, (0, b""))
    resumed: Since = Since(0.0, 0, True)
    begun: dict[int, Since] = field(default_factory=dict)
    lacking: bool = False
    delayed: list[e.Apply] = field(default_factory=list)
    older: dict[int, Source] = field(default_factory=dict)
    _is_left: bool = False

    @classmethod
    def after(cls, known: ActiveRun | None, run: Run, source: Source, rounds: int) -> ActiveRun:
        """The run of a call, behind an earlier one that is over, or was left in mid-round.

        What that proposed for a sum stays what this site sums in the round. Raises RunUnderWay where it was a training:
        its model goes on from a proposal, or from sums, that another process alone can take up. Where it had proposed
        nothing, a training begins as another process would: from the disk.
        """
        if known is None or not known.rounds:
            return cls(run, source, rounds)
        owes = run.current is not None and known.has_proposed_in(run.number)
        if source.models is not None:
            if owes or run.held:
                raise RunUnderWay(what="round", evidence=f"round {run.number}, of a call that has ended")
            return cls(run, source, rounds, delayed=known.delayed)
        if not owes:
            return cls(run, source, rounds, older=known.older)
        older = {**known.older, run.number: known.source_of(run.number)}
        return cls(run, source, rounds, known.proposing, known.proposed, older=older)

    def leave(self) -> None:
        """The call has ended: nobody waits for what it would propose from now on."""
        self._is_left = True

    def is_left(self) -> bool:
        """Nobody waits for what it would propose."""
        return self._is_left

    @property
    def is_proposing(self) -> bool:
        """This site's proposal is being made."""
        return self.proposing is not None and not self.proposing.done()

    def has_proposed_in(self, number: int) -> bool:
        """There is a proposal of this site for that round."""
        made = self.proposing
        came = made is not None and made.done() and not made.cancelled() and made.exception() is None and made.result()
        return bool(came) and self.proposed[0] == number

    def check_proposal(self) -> None:
        """Raises what the proposal raised. The call that asked for it looks here, and no other does."""
        if self.proposing is not None and self.proposing.done():
            self.proposing.result()

    def source_of(self, number: int) -> Source:
        """Whose vector round `number` sums."""
        return self.older.get(number, self.source)

    @property
    def length(self) -> int:
        """How many final rounds end the run, as far as is known; 0 of one that is only served."""
        return self.source.length(self.rounds) if self.rounds else 0

    @property
    def models(self) -> ModelStore | None:
        """Where the sums of this very run become models."""
        return self.source.models if self.rounds else None

    @property
    def under_certificate(self) -> bool:
        """Others may need this site's seed, or its word, to finish a round of this run."""
        current = self.run.current
        return bool(self.run.held) or (current is not None and current.phase in (Phase.UNMASK, Phase.CONFIRM))

    def model_is_here(self) -> list[e.Effect]:
        """The model that the ledger names is here: the sums that waited for it, to be applied."""
        self.lacking, delayed, self.delayed = False, self.delayed, []
        return list(delayed)
