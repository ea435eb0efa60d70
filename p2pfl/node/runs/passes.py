"""The passes over a home's records: what each costs, and the one that has begun and is not on the disk yet.

A pass is charged once, whatever dies. Its seed (of noise, samples, and torch's own numbers) is sealed in the home
before the charge, and is gone when the update is on the disk. A process that finds a seed repeats that very pass, from
the model that it began with, at no charge: the same update, bit for bit, of which nothing had left. `inputs` says
whether it is the same: the digest of all else that an update follows from. Where it differs the seed is destroyed, and
the next pass is another one with its own charge: the same noise over other gradients would cancel out. docs/adr/0034.

The account is never behind what others know of it. The federation log may say more than this home's account does, where
the home is an older one: then the passes that it forgot are charged to it. Other studies of the home may charge
the same records at any moment (accounts.py): a pass is numbered by the charges of its own study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.training import AccountUnreadable, PassNotCharged, PassWouldOverspend
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import SEED_BYTES, Draw, Secret
from p2pfl.ledger.site_kinds import BudgetEntry, ChargeEntry
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Observer, PassCharged, PassRepeated
from p2pfl.node.runs import looks, set_back
from p2pfl.node.runs.accounts import ACCOUNT, StudyAccounts, read_accounts
from p2pfl.node.studies import Elsewhere
from p2pfl.training.privacy.account import Charge, decimal_epsilon
from p2pfl.training.privacy.accounts import EVERYTHING, Marks

__all__ = ["ACCOUNT", "PASS", "PENDING", "BegunPass", "Passes", "PendingHead", "most_said", "read_begun"]
PASS, PENDING = "state/pass", "state/residual"
MOST_PASS: Final = 1 << 10  # bytes
MOST_PENDING_HEAD: Final = 8 << 20  # bytes before the residual: a nomination, of 4 MiB at most, and whose it is


@dataclass(frozen=True, slots=True)
class BegunPass:
    """A pass whose seed is on the disk.

    number           of its charge: as many passes has this study charged when it is
    before           ε that the others were told before it, as decimal text
    rounds_before    rounds of the training that are in the model that it starts from
    model            digest of that model
    inputs           digest of all that the update follows from beside the seed; empty where no process can repeat it
    at_once          most records whose gradients are in memory at the same time; 0: the trainer has no such bound
    """

    run: bytes
    round: int
    number: int
    before: str
    rounds_before: int
    model: bytes
    inputs: bytes
    seed: Secret
    at_once: int = 0

    def to_bytes(self) -> bytes:
        """For the home, which seals it."""
        fields = (self.run, self.round, self.number, self.before, self.rounds_before, self.model, self.inputs)
        return codec.pack((*fields, self.seed.reveal(), self.at_once))

    @classmethod
    def from_bytes(cls, data: bytes) -> BegunPass:
        """What `to_bytes` wrote. Raises Malformed."""
        run, number, charge, before, rounds, model, inputs, seed, at_once = codec.unpack(data, most=MOST_PASS, items=9)
        return cls(run, number, charge, before, rounds, model, inputs, Secret(seed, "seed of a pass"), at_once)


@dataclass(frozen=True, slots=True)
class PendingHead:
    """Whose update lies in `state/residual`: of which round, whether words of it left, and after which charge."""

    run: bytes
    round: int
    sent: bool
    nomination: bytes
    epoch: int
    charges: int

    def to_pieces(self, state: codec.Pieces) -> codec.Pieces:
        """The head before the compressor's state."""
        fields = (self.run, self.round, int(self.sent), self.nomination, self.epoch, self.charges)
        return codec.with_tail(fields, *state)


def read_pending(home: Home) -> tuple[PendingHead, memoryview] | None:
    """The update that this home holds; None before the first. Raises Malformed."""
    data = home.read(PENDING)
    if data is None:
        return None
    (run, number, sent, nomination, epoch, charges), state = codec.split_tail(data, most=MOST_PENDING_HEAD, items=6)
    return PendingHead(run, number, bool(sent), nomination, epoch, charges), state


def read_begun(home: Home) -> BegunPass | None:
    """The pass that began here and whose update is not on the disk; None where there is none. Raises Malformed."""
    data = home.read(PASS)
    if data is None:
        return None
    begun, pending = BegunPass.from_bytes(data), read_pending(home)
    # A process may die between the update and the removal of its seed.
    return None if pending is not None and pending[0].charges >= begun.number else begun


def most_said(home: Home, logs: Logs, run: bytes, delta: float) -> float:
    """The largest ε that this home can have proposed until now in the study of that run, as this disk has it.

    A pass is on the disk before it is proposed: a proposal that says more was made by a later state of this home.
    """
    begun, accounts = read_begun(home), read_accounts(home)
    passes = accounts.studies[run].passes if run in accounts.studies else 0
    charged = begun is not None and begun.number == passes
    mine = begun.before if begun is not None and charged else decimal_epsilon(accounts.reached(run, delta))
    return max(float(mine), logs.spent().get(home.name, 0.0))


def charge_release(federation: Federation, home: Home, logs: Logs, run: bytes, observer: Observer) -> str:
    """Charge one release of the federation's mechanism over this home's records, and return ε behind it.

    It is durable, and noted in the site log, on return. Raises PassWouldOverspend.
    """
    return Passes(federation, home, logs, run, observer).charge_release()


def charge_forgotten(
    federation: Federation, home: Home, logs: Logs, run: bytes, observer: Observer, said: float
) -> None:
    """Of a home that was set back: what its peers hold that its records had spent. Durable on return.

    Raises AccountUnreadable.
    """
    passes = Passes(federation, home, logs, run, observer)
    if passes.forgot(said):
        set_back.stop(home, federation)  # before the charge: with it, the account is no sign of an older home any more
    passes.learn(said)
    passes.forget_looks()  # it may have looked since, also where no pass is lacking


class Passes:
    """What one study spends of its records, and its pass under way. All that changes is durable on return."""

    def __init__(
        self,
        federation: Federation,
        home: Home,
        logs: Logs,
        run: bytes,
        observer: Observer,
        marks: Marks | None = EVERYTHING,
    ) -> None:
        """Raises AccountUnreadable: an account is never begun anew."""
        self._privacy, self._home, self._logs, self._run, self._observer = federation.privacy, home, logs, run, observer
        self._federation = federation
        self.begun = read_begun(home)
        if self.begun is None and home.read(PASS) is not None:
            home.remove(PASS)  # its update is on the disk: a process died between the two
        self.accounts = StudyAccounts(home, run, federation.name, federation.privacy, marks)
        with logs.charging:
            self._check_noted()
            self._known = self.accounts.passes  # charges of this study that are no surprise here
        self.accounts.admit()

    def bring(self, marks: Marks | None) -> None:
        """The passes to come are over these records."""
        self.accounts = replace(self.accounts, marks=marks)
        self.accounts.admit()

    # ── the accounts ──────────────────────────────────────────────────────────────────────────────────────────

    def _check_noted(self) -> None:
        """The site log has an entry for each charge of this study.

        A crash between the two leaves one charge more in the accounts, and its entry is made up for. Any other
        difference is no crash, and refused.
        """
        # The logs first: a study's charges stand in the accounts before they stand in its log.
        others = Elsewhere(self._home, self._logs.others).site_logs()
        elsewhere = {study: index.charges() for study, index in others}
        noted, held = self._logs.charges(self._run), read_accounts(self._home).studies
        for study, runs in elsewhere.items():
            known = sum(held[run].passes for run in runs if run in held)
            if known < runs.total():
                evidence = (
                    f"it holds {counted(known, 'pass')} of {study}, the site log of that study {runs.total()} charges"
                )
                raise AccountUnreadable(evidence=evidence)
        passes = self.accounts.passes
        if passes - noted not in (0, 1):
            raise AccountUnreadable(evidence=f"it holds {counted(passes, 'pass')}, the site log {noted} charges")
        if passes > noted:
            self._note(self.accounts.last)

    def _note(self, told: Mapping[str, Any]) -> None:
        self._logs.note(ChargeEntry(run=self._run, **told))

    def spent(self) -> str:
        """ε of this home's records, for the others: never less than the ledger says of this site, or was said before.

        What is said stands on the disk first: another release of the accountant may say less.
        """
        self.learn(self._logs.spent().get(self._home.name, 0.0))
        return decimal_epsilon(self.accounts.report())

    def forgot(self, said: float) -> bool:
        """The others know of more than this home can have told them."""
        return said > float(decimal_epsilon(self.accounts.reached()))

    def learn(self, said: float) -> None:
        """Charge what this home has forgotten, where the others know of more than it can have told them."""
        if not self.forgot(said):
            return
        set_back.learnt(self._home, self._federation)
        self.forget_looks()
        with self._logs.charging:
            self._forget_uncharged()
            told = self.accounts.learn(said, self._logs.final_round(self._run), self._logs.time)
            if told is not None:
                self._note(told)

    def forget_looks(self) -> None:
        """What a home that was set back may have spent of its held-out units is spent."""
        looks.forget(self._federation, self._logs, self._run)

    # ── one pass ──────────────────────────────────────────────────────────────────────────────────────────────

    def take_up(self) -> BegunPass | None:
        """The pass under way, as the disk has it now: what was read before may have ended since, and its words left."""
        self.begun = read_begun(self._home)
        return self.begun

    def may_repeat(self, inputs: bytes) -> bool:
        """The pass that a process before this one began is the one that `inputs` would make."""
        begun = self.begun
        if begun is None or begun.run != self._run or not inputs or inputs != begun.inputs:
            return False
        charged = self.accounts.passes - begun.number in (0, -1)  # -1: it died before it was charged
        return charged and not self._summed_since(begun.round)

    def _summed_since(self, number: int) -> bool:
        """The ledger has this site in a sum of that round or a later one: its pass was finished, by another home."""
        name = self._home.name
        return any(one["round"] >= number and name in one["survivors"] for one in self._logs.rounds(self._run))

    def begin(
        self, number: int, rounds_before: int, model: bytes, inputs: bytes, draw: Draw, at_once: int = 0
    ) -> BegunPass:
        """A new pass for round `number`: its seed is on the disk, and every older one is gone.

        rounds_before, model    of the model that it starts from: rounds of the training that are in it, its digest
        Raises PassWouldOverspend, which is noted, and StudiesUnheard; then nothing has changed.
        """
        before = self.spent()
        set_back.heard(self._home, self._federation)  # no pass begins before q−1 of its sites have said hello
        set_back.check(self._home, self._federation)
        with self._noting_refusal(number):
            self.accounts.check_next_pass()
        seed = Secret(draw(SEED_BYTES), "seed of a pass")
        place = (self._run, number, self.accounts.passes + 1, before, rounds_before)
        return self.rewrite(BegunPass(*place, model, inputs, seed, at_once))

    def rewrite(self, begun: BegunPass) -> BegunPass:
        """Make it durable as the one pass under way."""
        self._home.replace(PASS, begun.to_bytes())
        self.begun = begun
        return begun

    def charge(self, begun: BegunPass) -> Charge:
        """Charge it, unless a process before this one did.

        Raises PassWouldOverspend, which is noted; PassNotCharged where what peers knew was charged since it began.
        """
        with self._logs.charging:
            held = self.accounts.passes
            if held == begun.number != self._known:
                raise PassNotCharged(evidence=f"charge {held} is of a pass that this home had forgotten")
            if held == begun.number:
                self._observer(PassRepeated(begun.round, decimal_epsilon(self.accounts.epsilon())))
                return self.accounts.charge_again()
            with self._noting_refusal(begun.round):
                charge, told = self.accounts.charge(begun.round, self._logs.time)
            self._note(told)
            self._known = self.accounts.passes
        self._observer(PassCharged(begun.round, told["after"], repr(self._privacy.max_epsilon)))
        return charge

    @contextmanager
    def _noting_refusal(self, number: int) -> Iterator[None]:
        """A pass that would overspend is an entry of the site log."""
        try:
            yield
        except PassWouldOverspend:
            spent, after = (decimal_epsilon(one) for one in (self.accounts.epsilon(), self.accounts.after()))
            limit, now = repr(self._privacy.max_epsilon), self._logs.time
            self._logs.note(
                BudgetEntry(time=now, run=self._run, round=number, spent=spent, would_be=after, limit=limit)
            )
            raise

    def charge_release(self) -> str:
        """Charge a release that no process repeats, and return ε behind it.

        Raises PassWouldOverspend, which is noted, and StudiesUnheard.

        A pass that has begun and is charged is another one from then on; one that is not charged yet is none, since its
        number would be this charge's.
        """
        self._forget_uncharged()
        number, before = self._logs.final_round(self._run) + 1, self.spent()
        set_back.heard(self._home, self._federation)  # no round begins before q−1 of its sites have said hello
        set_back.check(self._home, self._federation)
        passes = self.accounts.passes + 1
        nobody = Secret(bytes(SEED_BYTES), "no seed")
        self.charge(BegunPass(self._run, number, passes, before, 0, b"", b"", nobody))
        return self.spent()

    def _forget_uncharged(self) -> None:
        """A pass that has begun and is not charged is none any more: its number will be another charge's."""
        if self.begun is not None and self.begun.run == self._run and self.begun.number == self.accounts.passes + 1:
            self.over()

    def over(self) -> None:
        """Its update is on the disk, or nobody can repeat it: the seed is destroyed."""
        if self.begun is not None:
            self._home.remove(PASS)
            self.begun = None
