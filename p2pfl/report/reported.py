"""What a report says, as types: figures, rounds, questions, sites, changes, notes, and all that a ledger says.

Every value is plain (text, numbers, truth values, lists, maps), so that `--json` prints the same object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TRAINING: Final = "training"
EVALUATION: Final = "evaluation"
ROLL_CALL: Final = "roll call"


@dataclass(frozen=True, slots=True)
class ReportedFigure:
    """A figure and its 95 % interval, where the ledger has one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ReportedRound:
    """A final round of any purpose. `entry`: its number in the federation log.

    figures    of the model before the round, by name; `metric` names the one that the training is judged by
    unmeasured why there is none; empty where there is, or where nothing is measured
    private    the counts behind the figures had noise
    epsilon    by site, after it; None: unbounded
    absent     sites of its epoch that are not in the sum
    name       what a question was called
    what       what was summed, in a few words
    part       of a statistic, which is several sums: roll call, guard N, sum N; empty for other sums
    noise      on it, in a few words; empty where the sum is exact
    """

    entry: int
    run: str
    round: int
    attempt: int
    epoch: int
    at: str
    purpose: str
    survivors: tuple[str, ...]
    absent: tuple[str, ...]
    left_out: tuple[str, ...]
    metric: str
    figures: Mapping[str, ReportedFigure]
    unmeasured: str
    refused: str
    epsilon: Mapping[str, float | None]
    model_before: str
    model_after: str
    parameters: int
    name: str
    what: str
    part: str
    signed_by: tuple[str, ...]
    private: bool = False
    noise: str = ""

    @property
    def trains(self) -> bool:
        """It moved a model."""
        return self.purpose == TRAINING

    @property
    def of_a_training(self) -> bool:
        """It moved a model, or measured the last one."""
        return self.purpose in (TRAINING, EVALUATION)


@dataclass(frozen=True, slots=True)
class ReportedQuestion:
    """What was asked once: a sum, or the parts of a statistic one behind the other.

    answered   a sum of its own was opened; else it ended at its roll call or at a guard, and nothing of it was
    """

    parts: tuple[ReportedRound, ...]

    @property
    def first(self) -> ReportedRound:
        """The part with which it began."""
        return self.parts[0]

    @property
    def last(self) -> ReportedRound:
        """The part with which it ended."""
        return self.parts[-1]

    @property
    def answered(self) -> bool:
        return not self.first.part or any(one.part.startswith("sum") for one in self.parts)


@dataclass(frozen=True, slots=True)
class ReportedSite:
    """A site that takes part, or did. in_rounds: of training. epsilon: the largest that a round names; None: unbounded.

    charged   some round names an ε of it
    member    it is in the newest epoch
    since     the epoch in which it came
    """

    name: str
    key: str
    fingerprint: str
    member: bool
    since: int
    in_rounds: int
    charged: bool
    epsilon: float | None


@dataclass(frozen=True, slots=True)
class ReportedChange:
    """A change of membership, or the agreement, by its entry in the federation log."""

    entry: int
    what: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportedNote:
    """One entry of the site's own log: its number, kind, time and line."""

    entry: int
    kind: str
    at: str
    line: str


@dataclass(frozen=True, slots=True)
class ReportedHeldOut:
    """What looks with noise have spent of this site's held-out records, as its own log has it.

    looks          that were charged
    epsilon_alone  against all other sites together; None where that is no more
    """

    looks: int
    epsilon: float | None
    epsilon_alone: float | None
    delta: float | None
    max_epsilon: float | None


@dataclass(frozen=True, slots=True)
class ReportedPrivacy:
    """What the sites agreed on, and what was spent. unit none: nothing bounds what the model tells.

    parts   sites whose parts make up the noise of a sum; None: each site's own is whole
    """

    unit: str
    epsilon: float | None
    delta: float | None
    max_epsilon: float | None
    noise_multiplier: float | None
    max_grad_norm: float | None
    sample_rate: float | None
    steps_per_round: int | None
    parts: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What both logs of a home say. An empty log gives empty facts.

    sites       in the order of the newest roster, those that left behind them
    epochs      by epoch, its members
    rounds      every final round, in the log's order
    agreed      the settings that the first entry states
    kinds       by log and kind, the numbers of the entries
    versions    p2pfl and Python of each process that began, where they changed
    """

    federation: str = ""
    epoch: int = 0
    federation_digest: str = ""
    began: str = ""
    sites: tuple[ReportedSite, ...] = ()
    epochs: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    rounds: tuple[ReportedRound, ...] = ()
    changes: tuple[ReportedChange, ...] = ()
    agreement: str | None = None
    privacy: ReportedPrivacy | None = None
    held_out: ReportedHeldOut | None = None
    agreed: Mapping[str, Any] = field(default_factory=dict)
    incidents: tuple[ReportedNote, ...] = ()
    versions: tuple[ReportedNote, ...] = ()
    kinds: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)

    @property
    def trained(self) -> tuple[ReportedRound, ...]:
        """Rounds that moved a model or measured it."""
        return tuple(one for one in self.rounds if one.of_a_training)

    @property
    def measured(self) -> tuple[tuple[int, ReportedRound], ...]:
        """Rounds that measured a model, each behind the number of rounds of training that are in that model."""
        found, trained = list[tuple[int, ReportedRound]](), 0
        for one in self.trained:
            if one.figures:
                found.append((trained, one))
            trained += one.trains
        return tuple(found)

    @property
    def last_measured(self) -> ReportedRound | None:
        """The last round that measured a model."""
        return self.measured[-1][1] if self.measured else None

    @property
    def metric_by_rounds(self) -> list[tuple[int, ReportedFigure]]:
        """The figure that the training is judged by, by rounds of training in the model."""
        return [(at, one.figures[one.metric]) for at, one in self.measured if one.metric in one.figures]

    @property
    def metric(self) -> str:
        """The name of that figure, as the last round that measured it says; empty where none did."""
        return next((one.metric for _, one in reversed(self.measured) if one.metric in one.figures), "")

    @property
    def epsilon_by_rounds(self) -> list[tuple[int, float, float]]:
        """After each round of training the largest ε of a site, and the smallest; of none once one is unbounded."""
        found = list[tuple[int, float, float]]()
        trainings = [one for one in self.trained if one.trains]
        for number, one in enumerate(trainings, start=1):
            known = [value for value in one.epsilon.values() if value is not None]
            if len(known) < len(one.epsilon):
                return []
            if known:
                found.append((number, max(known), min(known)))
        return found

    @property
    def questions(self) -> tuple[ReportedQuestion, ...]:
        """Sums and statistics. A statistic goes on while parts of its name follow that are no roll call."""
        found: list[list[ReportedRound]] = []
        for one in self.rounds:
            if one.of_a_training:
                continue
            goes_on = one.part not in ("", ROLL_CALL) and found and found[-1][0].part and found[-1][0].name == one.name
            found[-1].append(one) if goes_on else found.append([one])
        return tuple(ReportedQuestion(tuple(parts)) for parts in found)

    @property
    def count_trained(self) -> int:
        """Rounds that moved a model."""
        return sum(one.trains for one in self.rounds)
