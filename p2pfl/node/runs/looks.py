"""Looks at a model with noise: how its held-out records do, summed over whichever sites are there, and charged.

Exact counts are summed over everybody or not at all (metric.py). With `measures.noise_multiplier` each site adds its
share of a discrete Gaussian to its counts before they are masked, so a sum is private, whoever is in it and however
often the members change. The shares of the `parts` = q − `privacy.colluders` sites that are in every sum and do not
collude are together `noise_multiplier` times as wide as what one held-out unit moves: that is the promise, against
outsiders and so many sites that pool what they see; q − 2 unless the sites agreed on fewer, as the secure sum itself.
What one site puts in has only its own share around it, and is never opened; the account says ε behind that, too.

Each call for words is a look of its own, with noise of its own, charged before: to the accounts of the held-out units,
apart from those of training (`accounts/measured`). Which rounds look stands in peers.yaml alone, so all of U agree. A
site whose held-out units can afford no more puts in noise alone, and nobody can tell: its site log, whose length its
peers see, has an entry in either case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.privacy_units import LooksOverspend, MeasureNotPrivate
from p2pfl.errors.training import AccountUnreadable, PassWouldOverspend
from p2pfl.federation import Federation
from p2pfl.federation.distributed_noise import DISTRIBUTED, parts_of
from p2pfl.federation.federation import Privacy
from p2pfl.keys import KEY_BYTES, Draw, Secret
from p2pfl.ledger.site_kinds import LookEntry
from p2pfl.node.logs import Logs
from p2pfl.node.runs import set_back
from p2pfl.node.runs.accounts import StudyAccounts
from p2pfl.node.runs.metric import is_measured
from p2pfl.training.measures.measure import UNIT, Counts, Figure
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.discrete_gaussian import discrete_gaussian
from p2pfl.training.privacy.account import CHARGED, Account, Mechanism
from p2pfl.training.privacy.accounts import EVERYTHING, UNITS, marks_of
from p2pfl.training.update import FlatVector

MEASURED: Final = "accounts/measured"
NO_LOOK: Final = "this round is none of those that look"
LOOKS_SPENT: Final = "all looks that the sites agreed on are taken"
# σ of the sum in the integers is 10⁴ at least, so the discrete Gaussian is a rounding of a continuous one that is
# narrower by less than this part (lattice convolution; docs/adr/0054): it is accounted as that one.
NARROWER: Final = 1e-6


@runtime_checkable
class Looked(Protocol):
    """A trainer whose counts are bounded: `slots` as of measures/private.py, above 0; what names the held-out units."""

    @property
    def slots(self) -> int: ...
    @property
    def counts(self) -> int: ...
    def held_out_names(self) -> Iterable[bytes]: ...
    def evaluate(self, model: FlatVector) -> Counts: ...
    def figures(self, total: Counts, noise: float) -> Mapping[str, Figure]: ...


@dataclass(frozen=True, slots=True)
class Looks:
    """What the sites agreed on, and the accounts of this site's held-out units."""

    federation: Federation
    logs: Logs
    accounts: StudyAccounts
    trainer: Looked

    @classmethod
    def of(cls, federation: Federation, logs: Logs, run: bytes, trainer: object) -> Looks | None:
        """None where counts are exact. Raises MeasureNotPrivate, LooksOverspend, AccountUnreadable."""
        agreed = federation.measures
        if not agreed.noise_multiplier:
            return None
        if not isinstance(trainer, Looked) or not trainer.slots:
            raise MeasureNotPrivate(evidence=f"{type(trainer).__name__} counts without a bound", task="this trainer")
        one, delta = look_of(federation), federation.privacy.delta
        spent = Account().after(Mechanism.of_pass(replace(one, steps_per_round=agreed.looks)), delta)
        if not spent <= agreed.epsilon:
            evidence = f"{counted(agreed.looks, 'look')} with noise {agreed.noise_multiplier:g} at δ = {delta:g}"
            raise LooksOverspend(evidence=evidence, spent=f"{spent:.3f}", limit=f"{agreed.epsilon:g}")
        marks = marks_of(logs.home.records_key(), trainer.held_out_names())
        accounts = StudyAccounts(logs.home, run, federation.name, one, marks, MEASURED)
        check_noted(accounts, logs)
        accounts.admit()
        with suppress(PassWouldOverspend):  # then this site puts in noise alone; of another unit, it does not begin
            accounts.check_next_pass()
        return cls(federation, logs, accounts, trainer)

    def reason(self, trained: int, looks: int, *, ends: bool) -> str:
        """Why the round on a model of `trained` rounds does not look; empty when it does.

        looks   taken in the rounds that led to the model
        ends    the round trains no more: it only measures
        The looks are spread evenly, and the last model has one.
        """
        most, rounds = self.federation.measures.looks, self.federation.rounds
        if looks >= most:
            return LOOKS_SPENT
        due = trained * most // rounds > max(0, trained - 1) * most // rounds
        return "" if ends or due else NO_LOOK

    @property
    def facts(self) -> codec.Facts:
        """For a round's configuration: what an auditor composes."""
        agreed, parts = self.federation.measures, self.accounts.privacy.parts
        noise = {"noise_multiplier": repr(agreed.noise_multiplier), "parts": parts}
        return {**noise, "looks": agreed.looks, "slots": self.trainer.slots}

    @property
    def variance(self) -> int:
        """σ² of one site's share, in the integers."""
        noise, parts = self.federation.measures.noise_multiplier, self.accounts.privacy.parts
        return math.ceil(noise**2 * UNIT**2 * self.trainer.slots / parts)

    def figures(self, total: Counts, survivors: int) -> Mapping[str, Figure]:
        """What the sum over so many sites says, whose noise is in the intervals."""
        return self.trainer.figures(total, math.sqrt(survivors * self.variance) / UNIT)

    def charge_forgotten(self, rounds: Iterable[codec.Facts], time: int) -> None:
        """Charge the looks that the ledger holds with this site in them, behind the last one that was charged here.

        A home that was set back into the middle of a round, behind its pass and before its look, is found by nobody.
        Where no look was allowed there was noise alone, and none is charged.
        """
        name, last = self.accounts.home.name, int(self.accounts.last.get("round", 0))
        for record in rounds:
            if record["round"] > last and name in record["survivors"] and is_measured(record["outcome"]):
                with suppress(PassWouldOverspend):
                    self._charge(record["round"], time)

    def look(self, number: int, time: int, draw: Draw, model: FlatVector) -> Counts:
        """What this site puts into the sum: its counts with its share of the noise; noise alone where it must not look.

        The look is charged, and durable, before the counts are made. Raises StudiesUnheard.
        """
        set_back.check(self.accounts.home, self.federation)
        length = self.trainer.counts
        try:
            self._charge(number, time)
        except PassWouldOverspend:
            note(self.accounts, self.logs, self.accounts.uncharged(number, time), charged=False)
            counts = np.zeros(length, np.int64)
        else:
            counts = self.trainer.evaluate(model)
        stream = BitStream(Secret(draw(KEY_BYTES), "seed of a look's noise"), "training/look")
        return counts + discrete_gaussian(stream, length, self.variance)

    def _charge(self, number: int, time: int) -> None:
        """One look is charged, and noted: durable on return. Raises PassWouldOverspend."""
        with self.logs.charging:
            _, told = self.accounts.charge(number, time)
            note(self.accounts, self.logs, told)


def note(accounts: StudyAccounts, logs: Logs, told: Mapping[str, Any], *, charged: bool = True) -> None:
    """The site log says what was charged of held-out units, or that noise alone took a look's place."""
    logs.note(LookEntry(run=accounts.run, charged=charged, **told))


def check_noted(accounts: StudyAccounts, logs: Logs) -> None:
    """The site log has an entry for the study's last charge: a crash between the two is made up for.

    Raises AccountUnreadable where the accounts hold fewer than the log.
    """
    with logs.charging:
        noted, held = logs.looks(accounts.run), accounts.passes
        if held < noted:
            evidence = f"{MEASURED} holds {counted(held, 'look')} of this study, the site log {noted}"
            raise AccountUnreadable(evidence=evidence)
        if held == noted + 1:
            note(accounts, logs, accounts.last)


def look_of(federation: Federation) -> Privacy:
    """One look as the accounts know it: every held-out unit is in it, with noise in units of what one moves."""
    privacy, agreed, quorum = federation.privacy, federation.measures, federation.roster.quorums.q
    unit = privacy.unit if privacy.unit in UNITS else UNITS[0]
    # An account takes off what the grid of an update's noise costs; here the grid is finer.
    noise = agreed.noise_multiplier * (1.0 - NARROWER) / CHARGED
    once = Privacy(unit, noise, 1.0, 1.0, 1, privacy.delta, agreed.epsilon, DISTRIBUTED)
    return replace(once, parts=parts_of(quorum, privacy.colluders))


def forget(federation: Federation, logs: Logs, run: bytes) -> None:
    """Of a home that was set back: all that the study may spend of held-out units is spent. Durable on return.

    No peer holds how often it had looked since: a look has no proposal. So every unit pays for all that are allowed,
    and further looks of this study at this site are noise alone. run: of its training. Raises AccountUnreadable.
    """
    agreed = federation.measures
    if agreed.noise_multiplier:
        one = look_of(federation)
        accounts = StudyAccounts(logs.home, run, federation.name, one, EVERYTHING, MEASURED)
        check_noted(accounts, logs)
        with logs.charging:
            told = accounts.learn(agreed.epsilon, logs.final_round(run), logs.time)
            if told is not None:
                note(accounts, logs, told)
