"""The privacy accounts of a home, as one study uses them: read afresh each time, changed under their lock.

Several processes of a home may train at the same time, each in a study of its own, and all charge the same accounts.
So nothing of them is kept in memory from one question to the next, and what is asked before a charge is asked under the
lock under which it is charged: two passes that fit the budget one by one and not together are not both begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from p2pfl.federation.federation import Privacy
from p2pfl.home import Home
from p2pfl.keys import derive
from p2pfl.training.privacy.account import Account, Charge, Mechanism, decimal_epsilon
from p2pfl.training.privacy.accounts import EVERYTHING, Accounts, Marks, StudyCharges, marks_of

ACCOUNT: Final = "accounts/spent"


@runtime_checkable
class Names(Protocol):
    """A trainer that says which records it brings. Of one that does not, any of the home's may be among them."""

    def names(self) -> Iterable[bytes]: ...


def brought(home: Home, trainer: object) -> Marks | None:
    """The marks of the records that a trainer brings; EVERYTHING where it does not say."""
    return marks_of(home.records_key(), trainer.names()) if isinstance(trainer, Names) else EVERYTHING


def read_accounts(home: Home, item: str = ACCOUNT) -> Accounts:
    """The accounts of this home; empty ones before the first charge. Raises AccountUnreadable."""
    data = home.read(item)
    return Accounts.from_bytes(data) if data is not None else Accounts()


@dataclass(frozen=True, slots=True)
class StudyAccounts:
    """What one study spends of the records that it is brought. What changes is durable on return.

    run     of its training: it names the study
    study   what its people call it: told to this site's operator alone
    marks   of its records
    item    of the home, which accounts: those of passes, or those of looks at held-out records (looks.py)
    """

    home: Home
    run: bytes
    study: str
    privacy: Privacy
    marks: Marks | None
    item: str = ACCOUNT

    @property
    def data(self) -> str | None:
        """Names the data set in the study's site log; in another study it has another name."""
        if self.marks is EVERYTHING:
            return None
        key = self.home.records_key().reveal()
        return derive(key, "home/records", self.run + self.marks.tobytes()).hex()[:16]

    def admit(self) -> None:
        """The accounts know these records from now on."""
        if self.marks is EVERYTHING:
            return
        with self._changing() as accounts:
            accounts.admit(self.marks)

    @property
    def account(self) -> Account:
        """Of the accounts that a pass would charge, the one of the largest ε."""
        return read_accounts(self.home, self.item).deepest(self.marks, self.privacy.delta).account

    @property
    def passes(self) -> int:
        """How many this study has charged."""
        return self._held(read_accounts(self.home, self.item)).passes

    @property
    def last(self) -> Mapping[str, Any]:
        """The facts of its last charge."""
        return self._held(read_accounts(self.home, self.item)).last

    def _held(self, accounts: Accounts) -> StudyCharges:
        return accounts.studies.get(self.run, StudyCharges())

    def epsilon(self) -> float:
        """ε that was spent of these records, by all studies."""
        return read_accounts(self.home, self.item).epsilon(self.marks, self.privacy.delta)

    def alone(self) -> float | None:
        """The same against all other sites together; None where each site's noise was always enough by itself."""
        return read_accounts(self.home, self.item).alone(self.marks, self.privacy.delta)

    def after(self) -> float:
        """ε after one more pass."""
        return read_accounts(self.home, self.item).after(
            self.marks, Mechanism.of_pass(self.privacy), self.privacy.delta
        )

    def reached(self) -> float:
        """The largest ε that this study can have told its sites."""
        return read_accounts(self.home, self.item).reached(self.run, self.privacy.delta)

    def report(self) -> float:
        """ε for its sites: never less than was told before, and durable before it is told."""
        with self._changing() as accounts:
            delta = self.privacy.delta
            accounts.reach(self.run, delta, accounts.epsilon(self.marks, delta))
            return accounts.reached(self.run, delta)

    def check_next_pass(self) -> None:
        """Raises PassWouldOverspend."""
        read_accounts(self.home, self.item).check_next_pass(self.marks, self.privacy)

    def charge(self, number: int, time: int) -> tuple[Charge, Mapping[str, Any]]:
        """Charge the pass of round `number`; and what the site log is to say of it. Raises PassWouldOverspend."""
        with self._changing() as accounts:
            charge = accounts.charge(self.marks, self.privacy, self.run, self.study, self._facts(number, time))
            return charge, self._held(accounts).last

    def uncharged(self, number: int, time: int) -> Mapping[str, Any]:
        """What the site log is to say where a charge of round `number` was refused: nothing was spent."""
        spent, alone = decimal_epsilon(self.epsilon()), self.alone()
        other = {} if alone is None else {"alone": decimal_epsilon(alone)}
        limits = {"delta": repr(self.privacy.delta), "limit": repr(self.privacy.max_epsilon)}
        mechanism = Mechanism.of_pass(self.privacy).facts()
        return {**self._facts(number, time), **limits, **other, "before": spent, "after": spent, "mechanism": mechanism}

    def charge_again(self) -> Charge:
        """Permission to repeat the last pass. Raises PassNotCharged."""
        return read_accounts(self.home, self.item).charge_again(self.privacy, self.run)

    def learn(self, said: float, number: int, time: int) -> Mapping[str, Any] | None:
        """Its sites know that `said` was spent: what is forgotten is charged. Returns what the site log is to say."""
        with self._changing() as accounts:
            facts = self._facts(number, time)
            found = accounts.learn(self.marks, self.privacy, self.run, self.study, said, facts)
            return self._held(accounts).last if found is not None else None

    def _facts(self, number: int, time: int) -> dict[str, Any]:
        named = {} if self.data is None else {"data": self.data}
        return {"round": number, "time": time, **named}

    @contextmanager
    def _changing(self) -> Iterator[Accounts]:
        """The accounts as they are, and durable as the block leaves them; as they were, where it raises."""
        with self.home.charging():
            accounts = read_accounts(self.home, self.item)
            before = b"".join(accounts.to_bytes())
            yield accounts
            if b"".join(after := accounts.to_bytes()) != before:
                self.home.replace(self.item, after)
