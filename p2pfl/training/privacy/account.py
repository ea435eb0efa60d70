"""A privacy account: what was done to some records, as facts; ε from those; no pass that would overspend.

**Charge first, release after.** A whole pass is charged before its first step, the caller makes that durable, and
only then does the pass run. Nothing is ever refunded; a crash costs nothing where the same pass is repeated, bit for
bit (node/runs/passes.py). One account serves all runs on the same records: histories are concatenated and composed as
one. Which records are the same, accounts.py says.

An account is facts (noise multiplier, sample rate, steps), never an ε: ε follows from them and δ, by Opacus' PRV
accountant, which returns an upper bound (Gopi et al. 2021), or by Rényi composition where that fails
(accountant.py). Opacus' GDP accountant understates and is not used.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from p2pfl.codec import Malformed, facts, read_facts
from p2pfl.errors.counts import counted
from p2pfl.errors.training import AccountUnreadable, PassNotCharged, PassWouldOverspend
from p2pfl.federation.federation import Privacy

VERSION: Final = 1
MOST_STEPS: Final = 1 << 40  # of one mechanism
MOST_FORGOTTEN: Final = 1 << 20  # passes that are looked for to explain what others know of this account


# Of distributed noise so much is charged: what the grid costs it is taken off (sharing/noise_grid.py checks it).
CHARGED: Final = 0.99


@dataclass(frozen=True, slots=True)
class Mechanism:
    """`steps` Poisson-subsampled Gaussian steps; sensitivity 1, noise of standard deviation `noise_multiplier`.

    parts    so many sites' noise makes up that deviation, for a sum that all of them are in; 1: a site's own
    Without noise it is the mechanism `none`, whatever was done to the records: ε is infinite.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    parts: int = 1

    def __post_init__(self) -> None:
        if not (0.0 <= self.noise_multiplier < math.inf and 0.0 < self.sample_rate <= 1.0):
            raise ValueError(f"noise {self.noise_multiplier}, sample rate {self.sample_rate}")
        if not (1 <= self.steps <= MOST_STEPS and self.parts >= 1):
            raise ValueError(f"{self.steps} steps, {self.parts} parts")

    @classmethod
    def of_pass(cls, privacy: Privacy) -> Mechanism:
        """The mechanism of one round's pass."""
        steps = privacy.sample_rate, privacy.steps_per_round
        if privacy.is_distributed:
            return cls(CHARGED * privacy.noise_multiplier, *steps, privacy.parts)
        return cls(privacy.noise_multiplier, *steps)

    @property
    def alone(self) -> Mechanism:
        """What is left of it where all other sites pool what they know: this site's own noise."""
        return Mechanism(self.noise_multiplier / math.sqrt(self.parts), self.sample_rate, self.steps)

    @property
    def name(self) -> str:
        """What a ledger calls it."""
        if not self.noise_multiplier:
            return "none"
        return "poisson-gaussian" if self.parts == 1 else "poisson-gaussian-of-parts"

    def facts(self) -> dict[str, object]:
        """For a ledger entry: reals as decimal strings that read back as the same float."""
        return {
            "mechanism": self.name,
            "noise_multiplier": repr(self.noise_multiplier),
            "sample_rate": repr(self.sample_rate),
            "steps": self.steps,
            **({"parts": self.parts} if self.parts > 1 else {}),
        }

    @classmethod
    def from_facts(cls, row: dict[str, object]) -> Mechanism:
        """The inverse of `facts`. Raises ValueError, also for an unknown mechanism, whose ε cannot be computed."""
        parts = row.get("parts", 1)
        if set(row) - {"parts"} != {"mechanism", "noise_multiplier", "sample_rate", "steps"} or row.get("parts") == 1:
            raise ValueError(f"keys {sorted(row)}")
        if not isinstance(row["steps"], int) or not isinstance(parts, int):
            raise ValueError(f"{row['steps']!r} steps, {parts!r} parts")
        found = cls(float(str(row["noise_multiplier"])), float(str(row["sample_rate"])), row["steps"], parts)
        if row["mechanism"] != found.name:
            raise ValueError(f"unsupported mechanism {row['mechanism']!r}")
        return found


History = tuple[Mechanism, ...]


class Charge:
    """Permission for one pass: made by `charge` or Accounts.charge_again, used up by Trainer.train."""

    __slots__ = ("_used", "mechanism", "number")

    def __init__(self, mechanism: Mechanism, number: int) -> None:
        self.mechanism = mechanism
        self.number = number  # 1 for the account's first pass
        self._used = False

    def use(self, mechanism: Mechanism) -> None:
        """Use up this charge. Raises PassNotCharged if it was made for another pass, or is used already."""
        if self._used or mechanism != self.mechanism:
            raise PassNotCharged(evidence=f"charge {self.number} is {'used' if self._used else 'for another pass'}")
        self._used = True


class Account:
    """All passes that were charged to one home's records, and the largest ε reported of them at each δ.

    An accountant's bound may sink with an additional pass (PRV: .011327 at four, .011314 at five), or in another
    release of the accountant. A reported ε stands in ledgers and is never taken back: the largest figure counts.
    """

    def __init__(
        self, history: Iterable[Mechanism] = (), passes: int = 0, largest: Mapping[float, float] | None = None
    ) -> None:
        self._history: History = _joined(history)
        self._passes = passes
        self._largest = dict(largest or {})  # by δ

    @property
    def history(self) -> History:
        """The mechanisms charged, in order, with equal neighbours merged."""
        return self._history

    @property
    def passes(self) -> int:
        """The number of charges."""
        return self._passes

    def largest(self, delta: float) -> float:
        """The largest ε at `delta` that a charge has come to, without composing anything anew; 0 before the first."""
        return self._largest.get(delta, 0.0)

    def epsilon(self, delta: float) -> float:
        """ε spent so far at `delta`; 0 for an empty history, inf where a step had no noise."""
        return max(_epsilon(self._history, delta), self.largest(delta))

    def alone(self, delta: float) -> float | None:
        """ε at `delta` against all other sites together; None where each site's noise was always enough by itself."""
        if all(one.parts == 1 for one in self._history):
            return None
        return max(_epsilon(tuple(one.alone for one in self._history), delta), self.epsilon(delta))

    def report(self, delta: float) -> bool:
        """`largest` is ε spent so far at `delta` from now on; True when it was not, and has to be made durable."""
        spent = self.epsilon(delta)
        if spent == self.largest(delta):
            return False
        self._largest[delta] = spent
        return True

    def after(self, mechanism: Mechanism, delta: float) -> float:
        """ε if `mechanism` were charged too."""
        return max(_epsilon(_joined((*self._history, mechanism)), delta), self.epsilon(delta))

    def check_next_pass(self, privacy: Privacy) -> float:
        """Return ε after one more pass, charging nothing. Raises PassWouldOverspend (exit 4)."""
        after = self.after(Mechanism.of_pass(privacy), privacy.delta)
        if not after <= privacy.max_epsilon:  # written so that NaN is refused
            spent = self.epsilon(privacy.delta)
            evidence = f"{counted(self._passes, 'pass')} charged, ε = {spent:.3f} at δ = {privacy.delta:g}"
            raise PassWouldOverspend(evidence=evidence, after=f"{after:.3f}", limit=f"{privacy.max_epsilon:g}")
        return after

    def charge(self, privacy: Privacy) -> Charge:
        """Charge one whole pass before it runs. The caller makes `to_bytes()` durable before it uses the charge.

        Raises PassWouldOverspend, having charged nothing.
        """
        after = self.check_next_pass(privacy)
        mechanism = Mechanism.of_pass(privacy)
        self._history = _joined((*self._history, mechanism))
        self._passes += 1
        self._largest[privacy.delta] = after
        return Charge(mechanism, self._passes)

    def add(self, mechanism: Mechanism) -> None:
        """`mechanism` was charged, as one pass; whether that was allowed is another's matter (accounts.py)."""
        self._history = _joined((*self._history, mechanism))
        self._passes += 1

    def raise_to(self, delta: float, epsilon: float) -> None:
        """At least `epsilon` is reported as spent at `delta` from now on."""
        self._largest[delta] = max(epsilon, self.largest(delta))

    def learn(self, privacy: Privacy, said: float) -> Mechanism | None:
        """Others hold that ε = `said` was spent here, more than this account knows: charge what it has forgotten.

        As many passes are charged, as one, as it takes to come to `said`; never more than the limit allows, since the
        figure itself counts from now on. Returns what was charged, if anything was.
        """
        one, delta = Mechanism.of_pass(privacy), privacy.delta
        if math.isinf(said):  # no number of noised passes comes to that: one without noise does
            one = replace(one, noise_multiplier=0.0)

        def after(passes: int) -> float:
            return self.after(replace(one, steps=passes * one.steps), delta) if passes else self.epsilon(delta)

        def reaches(passes: int) -> bool:
            return float(decimal_epsilon(after(passes))) >= said

        least, most = 0, 1
        while not reaches(most) and most < MOST_FORGOTTEN:
            least, most = most, 2 * most
        while most - least > 1:
            half = (least + most) // 2
            least, most = (least, half) if reaches(half) else (half, most)
        passes = most if after(most) <= privacy.max_epsilon or math.isinf(said) else least
        self._largest[delta] = max(said, after(passes))
        if not passes:
            return None
        forgotten = replace(one, steps=passes * one.steps)
        self._history = _joined((*self._history, forgotten))
        self._passes += 1
        return forgotten

    def facts(self) -> dict[str, object]:
        """The account as it is written."""
        rows = [mechanism.facts() for mechanism in self._history]
        largest = {repr(delta): repr(epsilon) for delta, epsilon in self._largest.items()}
        return {"version": VERSION, "passes": self._passes, "history": rows, "largest": largest}

    @classmethod
    def from_facts(cls, row: Mapping[str, Any]) -> Account:
        """The inverse of `facts`. Raises ValueError, TypeError."""
        if set(row) != {"version", "passes", "history", "largest"} or row["version"] != VERSION:
            raise ValueError(f"not version {VERSION}")
        if type(row["passes"]) is not int or row["passes"] < 0 or not isinstance(row["history"], list):
            raise ValueError("passes or history")
        largest = {float(delta): float(epsilon) for delta, epsilon in dict(row["largest"]).items()}
        if not all(0.0 < delta < 1.0 and epsilon >= 0.0 for delta, epsilon in largest.items()):
            raise ValueError("largest")
        return cls([Mechanism.from_facts(dict(one)) for one in row["history"]], row["passes"], largest)

    def to_bytes(self) -> bytes:
        """Canonical JSON; home seals it."""
        return facts(self.facts())

    @classmethod
    def from_bytes(cls, data: bytes) -> Account:
        """The account that `to_bytes` wrote. Raises AccountUnreadable; an empty account never takes its place."""
        try:
            found = cls.from_facts(read_facts(data))
            if found.to_bytes() != data:
                raise ValueError("it is not spelled as this program writes it")
            return found
        except (Malformed, ValueError, TypeError) as error:
            raise AccountUnreadable(evidence=f"{len(data)} bytes: {error}") from None


def delta_notices(privacy: Privacy, units: int) -> tuple[str, ...]:
    """What this site's own people are told where δ is no promise to `units` records or patients; it stays at the site.

    With probability δ the promise may fail, and at δ = 1 / units a mechanism that publishes one of them keeps it.
    """
    if privacy.is_none or privacy.delta * units < 1.0:
        return ()
    told = f"privacy.delta {privacy.delta:g} must be below 1 / {units}, the number of {privacy.unit}s that train here"
    return (f"{told}: ask the other sites for a smaller one; this notice stays at this site",)


def alone_after(mechanism: Mechanism, epsilon: float, delta: float) -> float:
    """ε against all other sites together, of the fewest passes of `mechanism` that come to `epsilon` at `delta`."""
    if math.isinf(epsilon):
        return math.inf

    def after(passes: int) -> float:
        return _epsilon((replace(mechanism, steps=passes * mechanism.steps),), delta) if passes else 0.0

    least, most = -1, 1
    while after(most) < epsilon and most < MOST_FORGOTTEN:
        least, most = most, 2 * most
    while most - least > 1:
        half = (least + most) // 2
        least, most = (least, half) if after(half) >= epsilon else (half, most)
    return _epsilon((replace(mechanism, steps=most * mechanism.steps).alone,), delta) if most else 0.0


def decimal_epsilon(epsilon: float) -> str:
    """ε as text for a record: six decimals, rounded up, so that it is never less than what was spent."""
    return "inf" if math.isinf(epsilon) else str(Decimal(math.ceil(epsilon * 1e6)).scaleb(-6))


def _joined(history: Iterable[Mechanism]) -> History:
    """`history` with equal neighbours merged: the composition is the same, and the accountant runs faster."""
    joined: list[Mechanism] = []
    for one in history:
        last = joined[-1] if joined else None
        if last and replace(last, steps=one.steps) == one:
            joined[-1] = replace(one, steps=last.steps + one.steps)
        else:
            joined.append(one)
    return tuple(joined)


def _epsilon(history: History, delta: float) -> float:
    """ε of all of it. In which order steps were made is no matter: those of a kind are composed as one, so that two
    studies that charge the same records by turns cost no longer history than one behind the other."""
    steps: dict[tuple[float, float], int] = {}
    for one in history:
        kind = one.noise_multiplier, one.sample_rate
        steps[kind] = steps.get(kind, 0) + one.steps
    return _composed(tuple((*kind, steps[kind]) for kind in sorted(steps)), delta)


@functools.lru_cache(maxsize=256)  # one composition for each history and δ: a pass asks for it several times
def _composed(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """ε of (noise multiplier, sample rate, steps) of each kind."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"δ = {delta}")
    if not history:
        return 0.0  # the PRV accountant raises on an empty history
    if any(noise_multiplier == 0.0 for noise_multiplier, _, _ in history):
        return math.inf  # and on a step without noise
    from p2pfl.training.privacy.accountant import upper_bound  # loads numpy's and scipy's transforms

    return upper_bound([*history], delta)
