"""Membership as pure steps: the roster of one epoch and a change that q of its members signed ► that of the next.

A *change* is one record: the whole next peers.yaml, from which round on, and what it changes. People sign
that record, and the same bytes stand in every federation log, so any log proves each step from the genesis to the
current roster. It comes into force where a round says so: `announced` in its record, which q sites signed,
makes that round the last of its epoch (docs/adr/0018). Bytes: docs/spec/ledger.md §7.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from p2pfl.codec import Facts, Malformed, facts, read_facts
from p2pfl.errors import P2PFLError
from p2pfl.errors.counts import counted
from p2pfl.federation.federation import Federation
from p2pfl.keys import Identity, SignedRecord, belongs_to_somebody, digest, verify
from p2pfl.roster import Member, Quorums, Roster

KIND: Final = "membership"  # of the record, and of the signatures over it
BEGINNINGS: Final = ("genesis", "agreement", KIND)  # entries of the federation log that are no rounds
RUNS: Final = ("training", "sums")
EARLIEST: Final = 2  # a change stands behind a final round; before the first, another peers.yaml is made
LATEST: Final = (1 << 53) - 1  # the largest number that every JSON reader reads as it is written
MOST_RECORD: Final = 1 << 20  # bytes
EPSILON: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?|inf")


def run_of(first: bytes, federation_digest: bytes, what: str) -> bytes:
    """The id of a run: `training` goes on through all epochs, while each epoch has `sums` of its own.

    first, federation_digest   SHA-256 of the peers.yaml of epoch 1, and of the run's own epoch
    """
    return digest("run", first if what == RUNS[0] else federation_digest, what.encode())


def genesis_digest(record: bytes) -> bytes:
    """The digest of a federation log's first entry, by which later peers.yaml name it."""
    return hashlib.sha256(record).digest()


@dataclass(frozen=True, slots=True)
class Change:
    """A record and the signatures over it, by name. Only the roster of the epoch before can judge them (`Lineage`)."""

    record: bytes
    signatures: Mapping[str, bytes]

    @property
    def digest(self) -> bytes:
        """The digest that a round announces."""
        return digest("change", self.record)

    @property
    def facts(self) -> Facts:
        """The record, read. Raises Malformed."""
        return read_facts(self.record, MOST_RECORD)

    def federation(self) -> Federation:
        """The peers.yaml of the next epoch. Raises a leaf of errors.federation, Malformed."""
        held = self.facts
        text, epoch = held.get("file"), held.get("epoch")
        if not isinstance(text, str):
            raise Malformed("a change without a file")
        return Federation.parse(text.encode(), f"peers.yaml of epoch {epoch}")

    def sign(self, identity: Identity, name: str) -> Change:
        """The change with one more signature."""
        return replace(self, signatures={**self.signatures, name: identity.sign(KIND, self.record)})


def record_of(
    lineage: Lineage, file: bytes, *, of: str, from_round: int, recovered: Mapping[str, str] | None = None
) -> bytes:
    """The record of a change from the last epoch of `lineage` to the peers.yaml `file`.

    recovered   by site that goes on from an older home of its own, the ε that it has spent at the least
    Raises Malformed, with the reason, when the one does not lead to the other; a leaf of errors.federation when `file`
    is no peers.yaml.
    """
    new = Federation.parse(file, "the next peers.yaml")
    old = lineage.roster
    if of not in RUNS or not EARLIEST <= from_round <= LATEST:
        raise Malformed(f"from round {from_round} of {of}: a change begins at round {EARLIEST} or later")
    if new.roster.epoch != old.epoch + 1:
        raise Malformed(f"a file of epoch {new.roster.epoch} where {old.epoch + 1} follows")
    if (new.first, new.genesis) != (lineage.first, lineage.genesis):
        raise Malformed("its lineage is not that of this federation")
    before, after = ({one.name: one.key for one in each.members} for each in (old, new.roster))
    for name, key in after.items():
        holder = old.name_of(key)
        if holder is not None and holder != name:
            raise Malformed(f"{name} has the key of {holder}: a key keeps its name, and its account of privacy")
        if lineage.is_anothers(name, key):
            raise Malformed(f"{name} was a site with another key, which left: sets of sites are known by their names")
    held: Facts = {
        "kind": KIND,
        "epoch": new.roster.epoch,
        "of": of,
        "from_round": from_round,
        "before": lineage.federation_digest.hex(),
        "federation_digest": new.digest.hex(),
        "peers": [[name, key.hex()] for name, key in after.items()],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "rotated": [name for name in after if name in before and before[name] != after[name]],
        "file": file.decode(),
        **agreed(new, after.keys() - before.keys()),
        **({"recovered": dict(recovered)} if recovered else {}),
    }
    for name, spent in (recovered or {}).items():
        if before.get(name) != after.get(name, b"") or not EPSILON.fullmatch(spent):
            raise Malformed(f"{name} goes on from an older home: it stays, with its key, and with an epsilon")
    return facts(held)


def agreed(new: Federation, added: Collection[str]) -> Facts:
    """A record's field for the agreement: its SHA-256, if peers.yaml names one and a site joins."""
    return {"agreement": new.agreement.hex()} if new.agreement and added else {}


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a federation stands after its genesis and the changes since.

    digests     of the peers.yaml of each epoch so far, the current one last
    keys        by each name that a site ever had, the last key of it
    file        the current peers.yaml, empty in epoch 1: the genesis holds its digest alone
    """

    first: bytes
    genesis: bytes
    digests: tuple[bytes, ...]
    roster: Roster
    file: bytes = b""
    keys: Mapping[str, bytes] = field(default_factory=dict)

    def is_anothers(self, name: str, key: bytes) -> bool:
        """A site of that name left with another key. Two sums over sets of one spelling would differ by the two."""
        return name not in self.roster and self.keys.get(name, key) != key

    @property
    def federation_digest(self) -> bytes:
        """SHA-256 of the current peers.yaml."""
        return self.digests[-1]

    @classmethod
    def of_genesis(cls, record: bytes) -> Lineage:
        """What the first entry of a log says. Raises Malformed."""
        held = read_facts(record, MOST_RECORD)
        try:
            if held["kind"] != "genesis":
                raise ValueError(f"it begins with {held['kind']!r}")
            members = tuple(Member(name, bytes.fromhex(key)) for name, key in held["peers"])
            roster, first = Roster(held["epoch"], members), bytes.fromhex(held["federation_digest"])
            Quorums(len(members))
            if not all(belongs_to_somebody(member.key) for member in members):
                raise ValueError("a key for which everybody can sign")
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"not a genesis: {error}") from None
        return cls(first, genesis_digest(record), (first,), roster, keys=_keys_of(roster))

    def signers(self, change: Change) -> list[str]:
        """Members whose signature over the record is good and counts, in roster order.

        That of a site with an older home does not: it has forgotten what it signed. Raises Malformed.
        """
        signed, recovered = change.signatures, change.facts.get("recovered") or {}
        if not isinstance(recovered, dict):
            raise Malformed("recovered: not what each site has spent")
        return [
            one.name
            for one in self.roster.members
            if one.name in signed
            and one.name not in recovered
            and verify(one.key, KIND, change.record, signed[one.name])
        ]

    def _check_signed(self, change: Change) -> None:
        """Raises Malformed unless q members have signed the record, as soon as too many have not; it is not read."""
        quorum = self.roster.quorums.q
        good, spare = 0, len(self.roster.members) - quorum
        for one in self.roster.members:
            if verify(one.key, KIND, change.record, change.signatures.get(one.name, b"")):
                good += 1
            elif (spare := spare - 1) < 0:
                raise Malformed(f"{good} of {quorum} signatures")

    def joiners(self, change: Change) -> list[str]:
        """The added sites that signed the change with their listed key, and so signed the agreement."""
        held, signed = change.facts, change.signatures
        keys = {name: bytes.fromhex(key) for name, key in held.get("peers", []) if name in held.get("added", [])}
        return [name for name, key in keys.items() if name in signed and verify(key, KIND, change.record, signed[name])]

    def counted(self, change: Change) -> Change:
        """The change with those of its signatures that count, and no other."""
        names = (*self.signers(change), *self.joiners(change))
        return replace(change, signatures={name: change.signatures[name] for name in names})

    def lacking(self, change: Change) -> str:
        """The signatures that a change still lacks, in words; empty when it has enough."""
        signers, joiners, held = self.signers(change), self.joiners(change), change.facts
        quorum = self.roster.quorums.q
        own = [name for name in held.get("rotated", []) if name not in signers]
        joins = [name for name in held.get("added", []) if "agreement" in held and name not in joiners]
        there, missing = len(signers), quorum - len(signers)
        more = f"{counted(missing, 'more signature')} ({there} of {quorum} there)"
        told = [more] if missing > 0 else []
        told += [f"no signature of {name} with the key that it gives up" for name in own]
        told += [f"no signature of {name}, which joins, under the agreement" for name in joins]
        return "; ".join(told)

    def check_change(self, change: Change) -> None:
        """Raises Malformed unless the record leads from here to the next epoch; `lacking` judges its signatures."""
        held = change.facts
        try:
            file, of, from_round = held["file"].encode(), held["of"], held["from_round"]
            made = record_of(self, file, of=of, from_round=from_round, recovered=held.get("recovered"))
            if made != change.record:
                raise Malformed("what it says of the change is not what its file changes")
        except Malformed:
            raise
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise Malformed(f"not a change of membership: {error}") from None
        except P2PFLError as error:
            raise Malformed(f"the file in it: {error.happened}") from None

    def after(self, change: Change) -> Lineage:
        """The lineage once the change is in force. Raises Malformed unless enough sites have signed it.

        Signatures are judged before anything is read: what too few have signed is anybody's, and reading may be slow.
        """
        self._check_signed(change)
        held = change.facts
        if (held.get("epoch"), held.get("before")) != (self.roster.epoch + 1, self.federation_digest.hex()):
            raise Malformed("it changes another epoch than this one")
        if (count := len(self.signers(change))) < self.roster.quorums.q:
            raise Malformed(f"{count} of {self.roster.quorums.q} signatures")
        self.check_change(change)
        if lacking := self.lacking(change):
            raise Malformed(lacking)
        new = change.federation()
        keys = {**self.keys, **_keys_of(new.roster)}
        return replace(self, digests=(*self.digests, new.digest), roster=new.roster, file=new.raw, keys=keys)


def _keys_of(roster: Roster) -> dict[str, bytes]:
    return {one.name: one.key for one in roster.members}


@dataclass
class Epochs:
    """Membership as a federation log tells it, entry after entry. `roster` judges the next one."""

    lineage: Lineage | None = None
    announced: bytes = b""  # digest of the change that ends the epoch, which alone may come next
    _last: tuple[bytes, int] = (b"", 0)  # run and number of the last round
    ends: list[int] = field(default_factory=list)  # entries that are changes, by number
    entries: int = 0
    rounds: int = 0  # of this epoch
    rosters: tuple[Roster, ...] = ()  # of every epoch so far
    added: dict[str, int] = field(default_factory=dict)  # by site that was added later: the newest entry that did it
    recovered: dict[str, int] = field(default_factory=dict)  # … and by one that goes on from an older home

    @classmethod
    def of(cls, rows: Sequence[SignedRecord]) -> Epochs:
        """After these entries, from the genesis on. Raises Malformed."""
        found = cls()
        for record, signed in rows:
            found.add_entry(record, signed)
        return found

    def copy(self) -> Epochs:
        return replace(self, ends=list(self.ends), added=dict(self.added), recovered=dict(self.recovered))

    @property
    def roster(self) -> Roster | None:
        """The roster of the epoch of the next entry; None before the genesis."""
        return self.lineage.roster if self.lineage is not None else None

    def add_entry(self, record: bytes, signed: Mapping[str, bytes], held: Facts | None = None) -> None:
        """Take in the next entry. Raises Malformed when it may not stand there; a round's signatures are not judged.

        held   what the record says, where it is an entry of this home's own log that has been read already
        """
        held = read_facts(record, MOST_RECORD) if held is None else held
        kind = held.get("kind")
        if self.lineage is None:
            self.lineage = Lineage.of_genesis(record)
            self.rosters = (self.lineage.roster,)
        elif kind == "genesis" or (kind == "agreement" and self.entries != 1):
            raise Malformed(f"a second {kind}")
        elif kind == KIND:
            self._change(Change(record, signed), held)
        elif self.announced:
            raise Malformed(f"a {kind} where the change that the last round announced belongs")
        elif kind == "round":
            self._round(held, self.lineage)
        self.entries += 1

    def _round(self, held: Facts, lineage: Lineage) -> None:
        if held.get("epoch") != lineage.roster.epoch:
            raise Malformed(f"a round of epoch {held.get('epoch')}, the roster is of {lineage.roster.epoch}")
        try:
            self._last, self.rounds = (bytes.fromhex(held["run"]), int(held["round"])), self.rounds + 1
            self.announced = bytes.fromhex(held.get("announced", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"not a round: {error}") from None

    def _change(self, change: Change, held: Facts) -> None:
        lineage = self.lineage
        if lineage is None or change.digest != self.announced:
            raise Malformed("a change of membership that the round before it does not announce")
        after, (run, number) = lineage.after(change), self._last
        if not due(change, lineage, run, number):
            raise Malformed(f"it begins at round {held['from_round']} of the {held['of']}, and stands too early")
        self.lineage, self.announced, self.rounds = after, b"", 0
        self.rosters = (*self.rosters, after.roster)
        self.ends.append(self.entries)
        self.added |= dict.fromkeys(held["added"], self.entries)
        self.recovered |= dict.fromkeys(held.get("recovered", ()), self.entries)


def due(change: Change, lineage: Lineage, run: bytes, number: int) -> bool:
    """True when round `number` of `run` may be the last before the change: sites that hold it announce it there."""
    held = change.facts
    wanted = run_of(lineage.first, lineage.federation_digest, str(held["of"]))
    return run == wanted and number >= int(held["from_round"]) - 1
