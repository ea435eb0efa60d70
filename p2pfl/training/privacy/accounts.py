"""The privacy accounts of a home: one for each group of records that had the same done to them, over all studies.

A record's ε is the composition of the passes in which it could have been drawn, whichever study made them; a pass over
other records costs it nothing (parallel composition). So records are known by marks, 64 bits of a keyed digest of what
names each, and accounts part the marks among them. A data set that comes is compared with them: a group of which it
holds only a part is cut in two with the same history, and what no account names becomes a group of its own. A pass
charges every group that the data set touches, and its ε is the largest of theirs. So a new file with old records
spends what those have spent, and one that shares none begins at nothing.

`unseen` is what may have been spent of records that no account names. It is empty until others know of more than these
accounts do: which records that was nobody can say then, so it is charged to all, those to come included.

An account is of records or of patients, as its first pass was. What was spent of records bounds nothing of a patient
who has several; and the other way round, one record more changes a patient's gradient by up to twice the clip. So a
study of another unit is refused on these records, and neither promise is broken.

A mark that two records share by chance (a million records beside a million: about one in 10⁷) joins them, which only
charges more. docs/adr/0046.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors.counts import counted
from p2pfl.errors.privacy_units import UnitsMixed
from p2pfl.errors.training import AccountUnreadable, PassNotCharged, PassWouldOverspend
from p2pfl.federation.federation import Privacy
from p2pfl.keys import Secret
from p2pfl.training.privacy.account import Account, Charge, History, Mechanism, decimal_epsilon

VERSION: Final = 1
MARK_BYTES: Final = 8
UNITS: Final = ("record", "patient")
MOST_HEAD: Final = 64 << 20  # bytes of everything but the marks

Marks = NDArray[np.uint64]  # ascending, each once
EVERYTHING: Final = None  # in place of marks: records of which nobody says which they are


def marks_of(key: Secret, names: Iterable[bytes]) -> Marks:
    """The marks of records by what names them, under this home's key: without it none can be found by trying."""
    return np.unique(mark_of_each(key, names))


def mark_of_each(key: Secret, names: Iterable[bytes]) -> NDArray[np.uint64]:
    """The same in the order of `names`, as often as a name comes."""
    return np.frombuffer(b"".join(mark_of(key, name) for name in names), "<u8").astype(np.uint64)


def mark_of(key: Secret, name: bytes) -> bytes:
    """The mark of one, as it lies in a home."""
    return hmac.digest(key.reveal(), name, "sha256")[:MARK_BYTES]


@dataclass(frozen=True, slots=True)
class Spender:
    """A study that charged an account: as its people call it, how often, and when last, in Unix seconds."""

    study: str
    passes: int
    last: int

    @property
    def said(self) -> str:
        """For this site's own people."""
        return f"{self.passes} by {self.study}, the last on {datetime.fromtimestamp(self.last, UTC):%Y-%m-%d %H:%M}Z"


@dataclass(slots=True)
class Group:
    """Records with one history.

    by     what each study charged, by its run
    unit   that of what was charged, record or patient; empty before the first charge of either
    """

    marks: Marks
    account: Account = field(default_factory=Account)
    by: dict[bytes, Spender] = field(default_factory=dict)
    unit: str = ""

    def part(self, marks: Marks) -> Group:
        """Some of its records, with the history of all."""
        return Group(marks, Account.from_bytes(self.account.to_bytes()), dict(self.by), self.unit)

    def add(self, mechanism: Mechanism, unit: str, run: bytes, study: str, when: int) -> None:
        """A pass over these records is charged."""
        self.account.add(mechanism)
        self.spent_by(unit, run, study, when)

    def spent_by(self, unit: str, run: bytes, study: str, when: int) -> None:
        """It was that study's charge."""
        if unit in UNITS and not self.unit:  # what was forgotten is charged to all, also to those of the other unit
            self.unit = unit
        before = self.by.get(run)
        self.by[run] = Spender(study, before.passes + 1 if before else 1, when)


@dataclass(frozen=True, slots=True)
class StudyCharges:
    """What one study has charged in this home.

    passes    its charges
    last      the facts of the last one, from which its entry in the study's site log can be written again
    reached   by δ, the largest ε that it can have told its sites
    """

    passes: int = 0
    last: Mapping[str, Any] = field(default_factory=dict)
    reached: Mapping[float, float] = field(default_factory=dict)


class Accounts:
    """All accounts of one home. Pure: whoever changes them makes them durable before it acts on them."""

    def __init__(self) -> None:
        self.unseen = Group(np.array([], np.uint64))
        self.groups: list[Group] = []
        self.studies: dict[bytes, StudyCharges] = {}  # by run

    # ── which records ─────────────────────────────────────────────────────────────────────────────────────────

    def admit(self, marks: Marks) -> bool:
        """Make every group lie within these records or outside of them; True when that changed anything."""
        before, new, parted = len(self.groups), marks, list[Group]()
        for group in self.groups:
            inside = np.isin(group.marks, marks, assume_unique=True)
            new = np.setdiff1d(new, group.marks[inside], assume_unique=True)
            if inside.any() and not inside.all():
                parted += [group.part(group.marks[inside]), group.part(group.marks[~inside])]
            else:
                parted.append(group)
        if len(new):
            parted.append(self.unseen.part(np.sort(new)))
        self.groups = parted
        return len(parted) != before

    def touched(self, marks: Marks | None) -> list[Group]:
        """The groups that a pass over these records would charge; all there are, for EVERYTHING."""
        if marks is EVERYTHING:
            return [self.unseen, *self.groups]
        found = [group for group in self.groups if len(np.intersect1d(group.marks, marks, assume_unique=True))]
        return found or [self.unseen]

    # ── what is spent ─────────────────────────────────────────────────────────────────────────────────────────

    def deepest(self, marks: Marks | None, delta: float) -> Group:
        """Of the groups that are touched, one of the largest ε."""
        return max(_undominated(self.touched(marks)), key=lambda group: group.account.epsilon(delta))

    def epsilon(self, marks: Marks | None, delta: float) -> float:
        """ε that was spent of these records, of whichever of them the most was."""
        largest = max(group.account.largest(delta) for group in self.touched(marks))
        return max(self.deepest(marks, delta).account.epsilon(delta), largest)

    def alone(self, marks: Marks | None, delta: float) -> float | None:
        """The same against all other sites together; None where each site's noise was always enough by itself."""
        return max(
            (spent for one in self.touched(marks) if (spent := one.account.alone(delta)) is not None), default=None
        )

    def after(self, marks: Marks | None, mechanism: Mechanism, delta: float) -> float:
        """ε if `mechanism` were charged too."""
        touched = _undominated(self.touched(marks))
        return max(self.epsilon(marks, delta), *(group.account.after(mechanism, delta) for group in touched))

    def check_next_pass(self, marks: Marks | None, privacy: Privacy) -> float:
        """Return ε after one more pass, charging nothing. Raises PassWouldOverspend (exit 4), UnitsMixed."""
        self._check_unit(marks, privacy.unit)
        after = self.after(marks, Mechanism.of_pass(privacy), privacy.delta)
        if not after <= privacy.max_epsilon:  # written so that NaN is refused
            deepest = self.deepest(marks, privacy.delta)
            spent = self.epsilon(marks, privacy.delta)
            evidence = f"{counted(deepest.account.passes, 'pass')} charged, ε = {spent:.3f} at δ = {privacy.delta:g}"
            evidence += "".join(f"; {one.said}" for one in sorted(deepest.by.values(), key=lambda one: one.last))
            raise PassWouldOverspend(evidence=evidence, after=f"{after:.3f}", limit=f"{privacy.max_epsilon:g}")
        return after

    def _check_unit(self, marks: Marks | None, unit: str) -> None:
        """Raises UnitsMixed where records or patients were spent, and now the others are to be protected."""
        odd = [group for group in self.touched(marks) if unit in UNITS and group.unit not in ("", unit)]
        if odd:
            by = sorted((one for group in odd for one in group.by.values()), key=lambda one: one.last)
            raise UnitsMixed(evidence="; ".join(one.said for one in by), before=odd[0].unit, unit=unit)

    def charge(self, marks: Marks | None, privacy: Privacy, run: bytes, study: str, facts: Mapping[str, Any]) -> Charge:
        """Charge one pass of `study` to every group that it touches. The caller makes `to_bytes()` durable first.

        facts   more that the study's site log is to say of it; its `time` is that of the charge
        Raises PassWouldOverspend or UnitsMixed, having charged nothing.
        """
        delta, mechanism = privacy.delta, Mechanism.of_pass(privacy)
        before, after = self.epsilon(marks, delta), self.check_next_pass(marks, privacy)
        for group in self.touched(marks):
            group.add(mechanism, privacy.unit, run, study, int(facts["time"]))
        self.deepest(marks, delta).account.raise_to(delta, after)
        self._note(run, privacy, {**facts, **self._alone_fact(marks, delta)}, mechanism, before, after)
        return Charge(mechanism, self.studies[run].passes)

    def _alone_fact(self, marks: Marks | None, delta: float) -> dict[str, str]:
        """What a charge's entry says of a home whose records stand behind noise that sites add parts of."""
        spent = self.alone(marks, delta)
        return {} if spent is None else {"alone": decimal_epsilon(spent)}

    def _note(
        self, run: bytes, privacy: Privacy, facts: Mapping[str, Any], mechanism: Mechanism, before: float, after: float
    ) -> None:
        """One more charge of the study stands in these accounts."""
        held = self.studies.get(run, StudyCharges())
        spent = {"before": decimal_epsilon(before), "after": decimal_epsilon(after), "mechanism": mechanism.facts()}
        noted = {**facts, **spent, "delta": repr(privacy.delta), "limit": repr(privacy.max_epsilon)}
        self.studies[run] = StudyCharges(held.passes + 1, noted, held.reached)
        self.reach(run, privacy.delta, after)

    def charge_again(self, privacy: Privacy, run: bytes) -> Charge:
        """Permission to repeat the study's last pass, which is charged already and of which nothing has left.

        Raises PassNotCharged when its last charge was for another kind of pass.
        """
        held, mechanism = self.studies.get(run, StudyCharges()), Mechanism.of_pass(privacy)
        if not held.passes or Mechanism.from_facts(dict(held.last["mechanism"])) != mechanism:
            raise PassNotCharged(evidence=f"charge {held.passes} was for another pass")
        return Charge(mechanism, held.passes)

    def reached(self, run: bytes, delta: float) -> float:
        """The largest ε at `delta` that the study can have told its sites; 0 before the first."""
        return self.studies.get(run, StudyCharges()).reached.get(delta, 0.0)

    def reach(self, run: bytes, delta: float, epsilon: float) -> bool:
        """The study may tell its sites so much from now on; True when that has to be made durable."""
        held = self.studies.get(run, StudyCharges())
        if epsilon <= held.reached.get(delta, 0.0):
            return False
        self.studies[run] = StudyCharges(held.passes, held.last, {**held.reached, delta: epsilon})
        return True

    def learn(
        self, marks: Marks | None, privacy: Privacy, run: bytes, study: str, said: float, facts: Mapping[str, Any]
    ) -> Mechanism | None:
        """The sites of a study hold that ε = `said` was spent here, more than these accounts know: it is charged.

        To all: of which records it was is what has been forgotten. Returns what was charged to these, if anything was.
        """
        delta, found = privacy.delta, None
        before, deepest = self.epsilon(marks, delta), self.deepest(marks, delta)
        for group in (self.unseen, *self.groups):
            forgotten = group.account.learn(privacy, said)
            if forgotten is not None:
                group.spent_by(privacy.unit, run, study, int(facts["time"]))
            if group is deepest:
                found = forgotten
        self.reach(run, delta, said)
        if found is not None:
            told = {**facts, **self._alone_fact(marks, delta)}
            self._note(run, privacy, told, found, before, self.epsilon(marks, delta))
        return found

    # ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def to_bytes(self) -> codec.Pieces:
        """For the home, which seals it: canonical JSON, then the marks of each group."""
        head = {
            "version": VERSION,
            "unseen": _row(self.unseen),
            "groups": [{**_row(group), "records": len(group.marks)} for group in self.groups],
            "studies": {run.hex(): _study_row(held) for run, held in self.studies.items()},
        }
        return codec.with_tail(codec.facts(head), *(group.marks.astype("<u8").tobytes() for group in self.groups))

    @classmethod
    def from_bytes(cls, data: bytes) -> Accounts:
        """The accounts that `to_bytes` wrote. Raises AccountUnreadable; empty ones never take their place."""
        try:
            head, tail = codec.split_tail(data, most=MOST_HEAD, items=0)
            row = codec.read_facts(head, MOST_HEAD) if isinstance(head, bytes) else {}
            if set(row) != {"version", "unseen", "groups", "studies"} or row["version"] != VERSION:
                raise ValueError(f"not version {VERSION}")
            found = cls()
            found.unseen = _group(row["unseen"], np.array([], np.uint64))
            for one in row["groups"]:
                size = MARK_BYTES * int(one.pop("records"))
                marks = np.frombuffer(tail[:size], "<u8").astype(np.uint64)
                tail = tail[size:]
                found.groups.append(_group(one, marks))
            found.studies = {bytes.fromhex(run): _study(held) for run, held in row["studies"].items()}
            everything = np.concatenate([group.marks for group in (found.unseen, *found.groups)])
            if len(np.unique(everything)) != len(everything) or not all(_ascending(one.marks) for one in found.groups):
                raise ValueError("a record in two accounts")
            if b"".join(found.to_bytes()) != data:
                raise ValueError("it is not spelled as this program writes it")
            return found
        except (Malformed, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AccountUnreadable(evidence=f"{len(data)} bytes: {error}") from None


def _undominated(groups: list[Group]) -> list[Group]:
    """Those of which no other holds all that was done to them: theirs is the largest ε, and few are composed."""
    kept: list[tuple[Group, dict[Mechanism, int]]] = []
    for group in sorted(groups, key=lambda one: -sum(part.steps for part in one.account.history)):
        steps = _steps(group.account.history)
        if not any(all(more.get(kind, 0) >= count for kind, count in steps.items()) for _, more in kept):
            kept.append((group, steps))
    return [group for group, _ in kept]


def _steps(history: History) -> dict[Mechanism, int]:
    total: dict[Mechanism, int] = {}
    for one in history:
        kind = replace(one, steps=1)
        total[kind] = total.get(kind, 0) + one.steps
    return total


def _ascending(marks: Marks) -> bool:
    return bool(np.all(marks[1:] > marks[:-1]))


def _row(group: Group) -> dict[str, Any]:
    by = {run.hex(): [one.study, one.passes, one.last] for run, one in group.by.items()}
    return {"account": group.account.facts(), "by": by, "unit": group.unit}


def _group(row: dict[str, Any], marks: Marks) -> Group:
    by = {bytes.fromhex(run): _spender(*held) for run, held in row["by"].items()}
    if row["unit"] not in ("", *UNITS):
        raise ValueError("unit")
    return Group(marks, Account.from_facts(row["account"]), by, row["unit"])


def _spender(study: object, passes: object, last: object) -> Spender:
    if not (isinstance(study, str) and type(passes) is int and type(last) is int):
        raise ValueError("by")
    return Spender(study, passes, last)


def _study_row(held: StudyCharges) -> dict[str, Any]:
    reached = {repr(delta): repr(epsilon) for delta, epsilon in held.reached.items()}
    return {"passes": held.passes, "last": dict(held.last), "reached": reached}


def _study(row: dict[str, Any]) -> StudyCharges:
    reached = {float(delta): float(epsilon) for delta, epsilon in row["reached"].items()}
    if not all(0.0 < delta < 1.0 and epsilon >= 0.0 for delta, epsilon in reached.items()):
        raise ValueError("reached")
    if row["last"]:
        Mechanism.from_facts(dict(row["last"]["mechanism"]))
    return StudyCharges(int(row["passes"]), dict(row["last"]), reached)
