"""The branch that this peer's model stands on: which sums it has applied past the last final round, and which wait.

Each held round rests on the one before; the *tip* is the last. A sum that rests on another round than the tip waits.
The newest round whose sum is here, with the sums of all that it rests on, says which branch goes on: q members vouched
for it, so what it ignores can be final no more (vows.py). What was applied beside it is taken back, and waits in turn.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.digests import base_digest
from p2pfl.sharing.events import Apply, Effect, Retract
from p2pfl.sharing.history import Base
from p2pfl.sharing.phases import unmask
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase
from p2pfl.sharing.vows import Vows


class Branch:
    """`rounds` are those of the run that are not final; `base` is the last final one, and the digest of its record."""

    def __init__(self, rounds: Mapping[int, Round], vows: Vows, base: Base) -> None:
        self._rounds, self._vows = rounds, vows
        self.base = base
        self.held: list[int] = []
        self._waiting: dict[int, Apply] = {}
        self._out: Apply | None = None  # the sum that the driver is applying: one at a time, since the next rests on it

    @property
    def tip(self) -> Base:
        """The last round whose sum this peer has applied, and the digest of its record."""
        return (self.held[-1], self._record(self.held[-1])) if self.held else self.base

    def _record(self, number: int) -> bytes:
        return base_digest(self._rounds[number].state.confirming.record)

    def chain_of(self, base: Base) -> set[int] | None:
        """The rounds past the final one that `base` stands on; None when this peer does not know that round."""
        number = base[0]
        if number in self._waiting:
            path = self._path(number)
            return {*path, *self._held_to(self._waiting[path[0]].base)} if path else None
        if base == self.base or (number in self.held and base == (number, self._record(number))):
            return set(self._held_to(number))
        return None

    def _held_to(self, number: int) -> list[int]:
        return [one for one in self.held if one <= number]

    # ── sums ──────────────────────────────────────────────────────────────────────────────────────────────────

    def expects(self, number: int) -> bool:
        """The driver is applying the sum of that round."""
        return self._out is not None and self._out.round == number

    def wait(self, effect: Apply) -> list[Effect]:
        """The sum of a round is here: what has to be done now, if its turn has come."""
        if not self.expects(effect.round) and effect.round not in self.held:
            self._waiting[effect.round] = effect
        return self.next_apply()

    def hold(self, number: int) -> list[Effect]:
        """The sum of that round is applied: it is the tip."""
        self._out = None
        self.held.append(number)
        return self.next_apply()

    def next_apply(self) -> list[Effect]:
        """The sum to apply now, behind what must be taken back for it; nothing while one is being applied."""
        if self._out is not None:
            return []
        for newest in sorted(self._waiting, reverse=True):
            path = self._path(newest)
            if path and newest > self.tip[0]:
                retracted = self._turn(self._waiting[path[0]].base, newest, path)
                self._out = self._waiting.pop(path[0])
                return [*retracted, self._out]
        return []

    def _path(self, number: int) -> list[int]:
        """The waiting rounds from the first that rests on a held one, or on the base, up to `number`; empty: a gap."""
        path = [number]
        while (below := self._waiting[path[0]].base) in self._waiting and below < path[0]:
            path.insert(0, below)
        if below in self.held:
            return path
        return path if self._rests_on_base(path[0]) else []

    def _rests_on_base(self, number: int) -> bool:
        members = self._rounds[number].state.members
        if members is None:
            return False
        first = next(iter(proposals(members, self._rounds[number].state.context.roster).values()))
        return (first.rests_on, first.base) == self.base

    def _turn(self, to: int, newest: int, path: list[int]) -> list[Effect]:
        """Go back to the model after round `to`, where the branch of round `newest` leaves this one."""
        if to == self.tip[0]:
            return []
        chain = {*path, *self._held_to(to)}
        self._vows.confirmed = {one for one in self._vows.confirmed if one >= newest or one in chain}
        return self._take_back([one for one in self.held if one > to], to)

    def _take_back(self, numbers: list[int], to: int) -> list[Effect]:
        """The sums of these rounds wait again: what was signed of them stays signed."""
        self.held = self._held_to(to)
        for number in numbers:
            one = self._rounds[number]
            one.phase = Phase.UNMASK
            again = unmask.apply(one.state)
            self._waiting |= {each.round: each for each in again if isinstance(each, Apply)}
        return [Retract(to)]

    def forget(self, number: int) -> None:
        """Round `number`, which is not held, is given up."""
        self._waiting.pop(number, None)
        self._out = None if self.expects(number) else self._out

    # ── what becomes final ────────────────────────────────────────────────────────────────────────────────────

    def finished(self, number: int) -> None:
        """Round `number`, which is held, is in the ledger."""
        self.base = (number, self._record(number))
        self._drop_to(number)

    def adopt(self, number: int, record: bytes) -> list[Effect]:
        """The ledger has come to hold rounds that this peer did not finish, up to `number`.

        Held rounds past it stay where they rest on this very record; what rests on anything else is taken back.
        """
        base = (number, base_digest(record))
        known = self.chain_of(base) is not None and number not in self._waiting
        over = [] if known else [one for one in self.held if one > number]
        taken_back = self._take_back(over, number) if self.held and not known else []
        if self._out is not None:
            self._waiting[self._out.round] = self._out
            self._out = None
        self.base = base
        self._drop_to(number)
        return [*taken_back, *self.next_apply()]

    def _drop_to(self, number: int) -> None:
        self.held = [one for one in self.held if one > number]
        self._waiting = {one: effect for one, effect in self._waiting.items() if one > number}
        if self._out is not None and self._out.round <= number:
            self._out = None
