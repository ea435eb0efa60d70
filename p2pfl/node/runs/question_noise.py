"""Noise on a question's sums, of which each site adds a part; what it costs, and that it is charged before it is sent.

With `statistics.noise_multiplier` above 0 nothing exact of a site's records leaves: the roll call says what peers.yaml
says, no guard is asked, and every sum has noise for as many sites as a quorum holds beside those that pool what they
know (`privacy.colluders`, as in distributed_noise.py). A question is charged as a whole, as many sums as it may open,
to the accounts that training charges. The noise is drawn anew whenever a question is asked, so each asking is a charge:
the same noise beside a table that changed at one site would leave that site's part alone. docs/adr/0061.

A charge of which no noised word has left is kept (`state/question`): a process that died between the two takes it up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.statistics import NoiseUnbounded
from p2pfl.federation import Federation
from p2pfl.federation.distributed_noise import DISTRIBUTED, exceeds_sum, parts_of
from p2pfl.federation.federation import Privacy
from p2pfl.keys import KEY_BYTES, Draw, Secret, digest
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Observer
from p2pfl.node.runs import set_back
from p2pfl.node.runs.accounts import StudyAccounts
from p2pfl.node.runs.passes import Passes
from p2pfl.statistics.noise import DrawNoise, NoisedTotal, SumNoise, noise_errors
from p2pfl.statistics.question import Ask, Facts, Statistic
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.discrete_gaussian import discrete_gaussian
from p2pfl.training.privacy.account import Mechanism
from p2pfl.training.privacy.accounts import EVERYTHING

ITEM: Final = "state/question"
MOST_KEPT: Final = 1 << 10  # bytes


@dataclass(frozen=True, slots=True)
class QuestionNoise:
    """What the sites agreed on. parts: how many honest sites' noise is in every sum.

    exceeds_sum   more colluders were agreed on than a sum holds out
    """

    multiplier: float
    parts: int
    privacy: Privacy
    patient: str
    exceeds_sum: bool = False

    @classmethod
    def of(cls, federation: Federation) -> QuestionNoise | None:
        """None where sums are exact."""
        multiplier, schema = federation.statistics.noise_multiplier, federation.task.table
        if not multiplier:
            return None
        parts = parts_of(federation.roster.quorums.q, federation.privacy.colluders)
        patient = schema.patient if schema is not None else ""
        return cls(multiplier, parts, federation.privacy, patient, exceeds_sum(federation))

    @property
    def one_each(self) -> bool:
        """A patient is protected: of each one record is taken."""
        return self.privacy.unit == "patient"

    def check(self, statistic: Statistic, called: str) -> None:
        """Raises NoiseUnbounded for a question of which no noise is enough."""
        why = statistic.unbounded
        if self.privacy.is_none:
            why = "the sites agreed on `privacy: none`, which has no account and no limit"
        elif self.one_each and not self.patient:
            why = "`privacy.unit` is patient, and the table names no column of patients"
        elif self.exceeds_sum:
            why = "`privacy.colluders` leaves fewer than two honest sites in a quorum"
        if why:
            raise NoiseUnbounded(evidence=f"noise_multiplier {self.multiplier:g}", query=called, why=why)

    def charged_as(self, sums: int) -> Privacy:
        """A question of so many sums, as the accounts know it: every record is in each of them."""
        once = replace(self.privacy, noise=DISTRIBUTED, parts=self.parts, steps_per_round=sums, sample_rate=1.0)
        return replace(once, noise_multiplier=self.multiplier)

    @property
    def facts(self) -> Facts:
        """For the configuration of each of its sums: what an auditor composes."""
        return {"noise_multiplier": repr(self.multiplier), "parts": self.parts, "unit": self.privacy.unit}

    def on(self, ask: Ask) -> SumNoise:
        return SumNoise.on(ask, self.multiplier, self.parts)


def over_digest(sites: Sequence[str]) -> str:
    """Names the sites that a part of a question is over."""
    return digest("question", *(name.encode() for name in sites)).hex()


def aside_fact(sites: Sequence[str]) -> dict[str, list[str]]:
    """What a part says of the sites that are not counted in it, whether they are there or not."""
    return {"aside": list(sites)} if sites else {}


def over_facts(sites: Sequence[str], aside: Sequence[str]) -> dict[str, Any]:
    """What a part says of the sites that it is over, and of those that are not counted in it."""
    return {"over": over_digest(sites), **aside_fact(aside)}


def noise_of(draw: Draw) -> DrawNoise:
    """A source of the discrete Gaussian for one question, of a key that is drawn for it and kept nowhere."""
    key = Secret(draw(KEY_BYTES), "seed of a question's noise")
    return partial(discrete_gaussian, BitStream(key, "statistics/noise"))


class QuestionCharge:
    """The charge of one question at this site."""

    def __init__(
        self, noise: QuestionNoise, sums: int, federation: Federation, logs: Logs, run: bytes, asked: bytes
    ) -> None:
        """run: of the study's training, among whose charges this one stands. asked: the run of its sums."""
        home, self._asked = logs.home, asked
        self._privacy, self._home, self._logs, self._run = noise.charged_as(sums), home, logs, run
        self._federation, self._spent = replace(federation, privacy=self._privacy), ""
        self._named = {"run": run.hex(), "mechanism": Mechanism.of_pass(self._privacy).facts()}
        self._named |= {"unit": self._privacy.unit, "asked": asked.hex()}

    @property
    def epsilon(self) -> str:
        """ε of this site's records behind it, as it was told; empty before the charge."""
        return self._spent

    def check(self) -> None:
        """Raises PassWouldOverspend, or UnitsMixed, where it is more than the budget holds; nothing is charged.

        Raises StudiesUnheard where nothing may be charged in this home yet: before the others wait for an answer.
        """
        if not self._kept():
            set_back.check(self._home, self._federation)
            StudyAccounts(self._home, self._run, self._federation.name, self._privacy, EVERYTHING).check_next_pass()

    def charge(self, observer: Observer) -> str:
        """Charge it, durably, once; ε behind it. Raises PassWouldOverspend, which is noted, and StudiesUnheard."""
        if not self._spent:
            passes = Passes(self._federation, self._home, self._logs, self._run, observer)
            if self._kept():
                self._spent = passes.spent()
            else:
                self._spent = passes.charge_release()
                held = {**self._named, "after": self._logs.final_round(self._asked)}
                self._home.replace(ITEM, codec.facts(held))
        return self._spent

    def _kept(self) -> bool:
        """A charge as this one is kept here, and the ledger has no noised sum of this site's since it was made.

        A home that was restored from a backup may keep one that was used since. Raises Malformed.
        """
        data = self._home.read(ITEM)
        if data is None:
            return False
        held = dict(codec.read_facts(data, MOST_KEPT))
        after = held.pop("after", None)
        if held != self._named or type(after) is not int:
            return False
        return not any(record["round"] > after and self._is_in(record) for record in self._logs.rounds(self._asked))

    def _is_in(self, record: Mapping[str, Any]) -> bool:
        """Noised words of this site are in the sum of that round; of one over other sites than asked zeros are."""
        part = record["configuration"].get("statistic", {})
        there = [name for name in record["survivors"] if name not in part.get("aside", ())]
        return "noise" in part and self._home.name in there and part["over"] == over_digest(there)

    def leaves(self) -> None:
        """The first noised word is about to leave: no other process takes the charge up."""
        if self._home.read(ITEM) is not None:
            self._home.remove(ITEM)


@dataclass(frozen=True, slots=True)
class AnswerNoise:
    """The noise in an answer.

    epsilon, delta   of this site's records, all that they have spent so far; this question is in it
    deviations       by sum and number, the standard deviation of its noise, in people or in the sum's own units
    errors           `result`: the answer's keys, with the standard error that the noise gives each number; `tables`:
                     the same for the cells of its tables
    held, not_held   keys of the answer whose intervals, standard errors and p hold the noise, and do not
    """

    multiplier: float
    parts: int
    unit: str
    sums: int
    epsilon: str
    delta: float
    deviations: Mapping[str, float]
    errors: Mapping[str, Any]
    held: tuple[str, ...]
    not_held: tuple[str, ...]

    def as_json(self) -> Facts:
        """Keys are those of the specification."""
        return {
            "noise_multiplier": self.multiplier,
            "parts": self.parts,
            "unit": self.unit,
            "sums": self.sums,
            "epsilon": None if math.isinf(float(self.epsilon)) else float(self.epsilon),
            "delta": self.delta,
            "deviations": dict(self.deviations),
            "standard_errors": self.errors.get("result"),
            "held": list(self.held),
            "not_held": list(self.not_held),
        }


def answer_noise(
    noise: QuestionNoise, epsilon: str, statistic: Statistic, sums: Sequence[NoisedTotal], sites: int
) -> AnswerNoise:
    """What is told of the noise; the same at every site but for ε."""
    named = digest("noised sums", *(one.total.astype("<i8").tobytes() for one in sums))
    public = BitStream(Secret(named, "public: an answer's errors"), "statistics/errors")
    errors = noise_errors(statistic, sums, sites, partial(discrete_gaussian, public))
    deviations: dict[str, float] = {}
    for one in sums:
        spread = one.noise.deviations(one.ask, sites)
        for label, value in zip(one.ask.labels, spread.tolist(), strict=True):
            deviations[f"{one.ask.name}: {label}"] = float(f"{value:.6g}")
    how = (noise.multiplier, noise.parts, noise.privacy.unit, len(sums), epsilon, noise.privacy.delta)
    return AnswerNoise(*how, deviations, errors, statistic.held, statistic.not_held)
