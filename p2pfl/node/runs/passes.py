"""The passes over a home's records: what each costs, and the one that has begun and is not on the disk yet.

A pass is charged once, whatever dies. Its seed (of noise, samples, and torch's own numbers) is sealed in the home
before the charge, and is gone when the update is on the disk. A process that finds a seed repeats that very pass, from
the model that it began with, at no charge: the same update, bit for bit, of which nothing had left. `inputs` says
whether it is the same: the digest of all else that an update follows from. Where it differs the seed is destroyed, and
the next pass is another one with its own charge: the same noise over other gradients would cancel out. docs/adr/0034.

The account is never behind what others know of it. The federation log may say more than this home's account does, where
the home is an older one: then the passes that it forgot are charged to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl import codec
from p2pfl.errors.training import AccountUnreadable, PassWouldOverspend
from p2pfl.federation.federation import Privacy
from p2pfl.home import Home
from p2pfl.keys import SEED_BYTES, Draw, Secret
from p2pfl.ledger.site_kinds import BudgetEntry, ChargeEntry
from p2pfl.node.logs import Logs
from p2pfl.node.progress import Observer, PassCharged, PassRepeated
from p2pfl.training.privacy import Account, Charge, Mechanism, decimal_epsilon

ACCOUNT, PASS, PENDING = "state/account", "state/pass", "state/residual"
MOST_PASS: Final = 1 << 10  # bytes
MOST_PENDING_HEAD: Final = 8 << 20  # bytes before the residual: a nomination, of 4 MiB at most, and whose it is


@dataclass(frozen=True, slots=True)
class BegunPass:
    """A pass whose seed is on the disk.

    number           of its charge: as many passes are charged when it is
    before           ε before it, as decimal text
    rounds_before    rounds of the training that are in the model that it starts from
    model            digest of that model
    inputs           digest of all that the update follows from beside the seed; empty where no process can repeat it
    """

    run: bytes
    round: int
    number: int
    before: str
    rounds_before: int
    model: bytes
    inputs: bytes
    seed: Secret

    def to_bytes(self) -> bytes:
        """For the home, which seals it."""
        fields = (self.run, self.round, self.number, self.before, self.rounds_before, self.model, self.inputs)
        return codec.pack((*fields, self.seed.reveal()))

    @classmethod
    def from_bytes(cls, data: bytes) -> BegunPass:
        """What `to_bytes` wrote. Raises Malformed."""
        run, number, charge, before, rounds, model, inputs, seed = codec.unpack(data, most=MOST_PASS, items=8)
        return cls(run, number, charge, before, rounds, model, inputs, Secret(seed, "seed of a pass"))


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


def read_account(home: Home) -> Account:
    """The account of this home; an empty one before the first charge. Raises AccountUnreadable."""
    data = home.read(ACCOUNT)
    return Account.from_bytes(data) if data is not None else Account()


def most_said(home: Home, logs: Logs, delta: float) -> float:
    """The largest ε that this home can have proposed until now, as this disk has it.

    A pass is on the disk before it is proposed: a proposal that says more was made by a later state of this home.
    """
    begun, account = read_begun(home), read_account(home)
    charged = begun is not None and begun.number == account.passes
    mine = begun.before if begun is not None and charged else decimal_epsilon(account.largest(delta))
    return max(float(mine), logs.spent().get(home.name, 0.0))


class Passes:
    """The account of one home during one run, and its pass under way. All that changes is durable on return."""

    def __init__(self, privacy: Privacy, home: Home, logs: Logs, run: bytes, observer: Observer) -> None:
        """Raises AccountUnreadable: an account is never begun anew."""
        self._privacy, self._home, self._logs, self._run, self._observer = privacy, home, logs, run, observer
        self.begun = read_begun(home)
        if self.begun is None and home.read(PASS) is not None:
            home.remove(PASS)  # its update is on the disk: a process died between the two
        self.account = self._read_account()

    # ── the account ───────────────────────────────────────────────────────────────────────────────────────────

    def _read_account(self) -> Account:
        """The account, and the site log with an entry for each of its charges.

        A crash between the two leaves one charge more in the account, and its entry is made up for. Any other
        difference is no crash, and refused.
        """
        account = read_account(self._home)
        records = (codec.read_facts(one.record) for one in self._logs.site.records())
        charges = [facts for facts in records if facts.get("kind") == "charge"]
        if account.passes - len(charges) not in (0, 1):
            raise AccountUnreadable(evidence=f"it holds {account.passes} passes, the site log {len(charges)} charges")
        if account.passes > len(charges):
            noted = sum(facts["mechanism"]["steps"] for facts in charges)
            last = account.history[-1]
            lacking = sum(one.steps for one in account.history) - noted
            before = charges[-1]["after"] if charges else decimal_epsilon(0.0)
            after = decimal_epsilon(account.epsilon(self._privacy.delta))
            number = self.begun.round if self.begun is not None else self._logs.final_round(self._run) + 1
            self._note(number, Mechanism(last.noise_multiplier, last.sample_rate, lacking), before, after)
        return account

    def _note(self, number: int, mechanism: Mechanism, before: str, after: str) -> None:
        self._logs.note(
            ChargeEntry(
                time=self._logs.time,
                run=self._run,
                round=number,
                mechanism=mechanism.facts(),
                before=before,
                after=after,
                delta=repr(self._privacy.delta),
                limit=repr(self._privacy.max_epsilon),
            )
        )

    def spent(self) -> str:
        """ε of this home's records, for the others: never less than the ledger says of this site, or was said before.

        What is said stands on the disk first: another release of the accountant may say less.
        """
        self._learn(self._logs.spent().get(self._home.name, 0.0))
        delta = self._privacy.delta
        if self.account.report(delta):
            self._home.replace(ACCOUNT, self.account.to_bytes())
        return decimal_epsilon(self.account.largest(delta))

    def _learn(self, said: float) -> None:
        """Charge what this home has forgotten, where the others know of more than its account does."""
        delta = self._privacy.delta
        before = decimal_epsilon(self.account.epsilon(delta))
        if said <= float(before):
            return
        forgotten = self.account.learn(self._privacy, said)
        self._home.replace(ACCOUNT, self.account.to_bytes())
        if forgotten is not None:
            number, after = self._logs.final_round(self._run), decimal_epsilon(self.account.epsilon(delta))
            self._note(number, forgotten, before, after)

    # ── one pass ──────────────────────────────────────────────────────────────────────────────────────────────

    def may_repeat(self, inputs: bytes) -> bool:
        """The pass that a process before this one began is the one that `inputs` would make."""
        begun = self.begun
        if begun is None or begun.run != self._run or not inputs or inputs != begun.inputs:
            return False
        charged = self.account.passes - begun.number in (0, -1)  # -1: it died before it was charged
        return charged and not self._summed_since(begun.round)

    def _summed_since(self, number: int) -> bool:
        """The ledger has this site in a sum of that round or a later one: its pass was finished, by another home."""
        name = self._home.name
        return any(one["round"] >= number and name in one["survivors"] for one in self._logs.rounds(self._run))

    def begin(self, number: int, rounds_before: int, model: bytes, inputs: bytes, draw: Draw) -> BegunPass:
        """A new pass for round `number`: its seed is on the disk, and every older one is gone.

        rounds_before, model    of the model that it starts from: rounds of the training that are in it, its digest
        Raises PassWouldOverspend, which is noted; then nothing has changed.
        """
        before = self.spent()
        self._refuse_overspending(number)
        seed = Secret(draw(SEED_BYTES), "seed of a pass")
        self.begun = BegunPass(self._run, number, self.account.passes + 1, before, rounds_before, model, inputs, seed)
        self._home.replace(PASS, self.begun.to_bytes())
        return self.begun

    def charge(self, begun: BegunPass) -> Charge:
        """Charge it, unless a process before this one did. Raises PassWouldOverspend, which is noted."""
        privacy = self._privacy
        if self.account.passes == begun.number:
            self._observer(PassRepeated(begun.round, decimal_epsilon(self.account.epsilon(privacy.delta))))
            return self.account.charge_again(privacy)
        self._refuse_overspending(begun.round)
        charge = self.account.charge(privacy)
        self._home.replace(ACCOUNT, self.account.to_bytes())
        after = decimal_epsilon(self.account.epsilon(privacy.delta))
        self._note(begun.round, charge.mechanism, begun.before, after)
        self._observer(PassCharged(begun.round, after, repr(privacy.max_epsilon)))
        return charge

    def _refuse_overspending(self, number: int) -> None:
        try:
            self.account.check_next_pass(self._privacy)
        except PassWouldOverspend:
            privacy, now = self._privacy, self._logs.time
            spent = decimal_epsilon(self.account.epsilon(privacy.delta))
            after = decimal_epsilon(self.account.after(Mechanism.of_pass(privacy), privacy.delta))
            limit = repr(privacy.max_epsilon)
            self._logs.note(
                BudgetEntry(time=now, run=self._run, round=number, spent=spent, would_be=after, limit=limit)
            )
            raise

    def over(self) -> None:
        """Its update is on the disk, or nobody can repeat it: the seed is destroyed."""
        if self.begun is not None:
            self._home.remove(PASS)
            self.begun = None
