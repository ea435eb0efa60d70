"""Bytes in, findings out: what a ledger proves, and every entry that is not what it should be.

`check_federation` and `check_site` judge entries alone: the roster and the quorum come from the genesis record.
`verify` reads a home, decrypts it, judges its signed heads, and uses those two. It only reads, so it may run beside a
writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from p2pfl.codec import Facts
from p2pfl.errors.counts import counted
from p2pfl.errors.ledger import HeadRefused, LedgerRewritten, LedgerShortened
from p2pfl.federation.membership import KIND as MEMBERSHIP
from p2pfl.federation.membership import Epochs, Lineage
from p2pfl.home import Home
from p2pfl.home.segments import LogName, SegmentFiles
from p2pfl.keys import digest
from p2pfl.keys import verify as signature_verifies
from p2pfl.ledger import entry as entries
from p2pfl.ledger import note
from p2pfl.ledger.cross_check import Both, check_carried, check_heads
from p2pfl.ledger.entry import FIRST, Entry, UnknownKind
from p2pfl.ledger.log import check_head, read_head
from p2pfl.ledger.read_log import Finding, HashChain, read_log
from p2pfl.merkle import EMPTY_ROOT
from p2pfl.roster import Roster


@dataclass(frozen=True, slots=True)
class LogFacts:
    """The figures of one log, for `--json`."""

    entries: int = 0
    root: bytes = EMPTY_ROOT
    head: bytes = FIRST
    signed: int = 0
    """Entries that the newest signed head covers."""


@dataclass
class Report:
    """The outcome. It is verified when no finding is a fault."""

    findings: list[Finding] = field(default_factory=list)
    federation: LogFacts = LogFacts()
    site: LogFacts = LogFacts()

    @property
    def verified(self) -> bool:
        return not any(finding.fault for finding in self.findings)


def verify(home: Home) -> Report:
    """Check both logs of a home: frames, chain, signed heads, and what each entry claims."""
    report = Report()
    # The site log's head speaks of the federation log, so it is read first: beside a writer it then runs behind.
    site, site_head, report.site = _verify_log(home, "site", report.findings)
    federation, federation_head, report.federation = _verify_log(home, "federation", report.findings)
    report.findings += check_federation(federation.entries)
    report.findings += check_site(site.entries)
    both = Both(home.name, federation, federation_head, site, site_head)
    report.findings += _together(both, read_head(home, "site"))
    return report


def _verify_log(home: Home, which: LogName, findings: list[Finding]) -> tuple[HashChain, str | None, LogFacts]:
    """One log's entries, the note of its newest head, and its figures."""
    text = read_head(home, which)  # read before the segments, which are never behind a head
    reading = read_log(SegmentFiles(home, which), which)
    findings += reading.findings
    chain, signed = reading.chain, 0
    if text is not None:
        try:
            check_head(home, which, reading, text)
            signed = note.parse_note(text)[0].size
        except (HeadRefused, LedgerShortened, LedgerRewritten) as error:
            entry = len(chain.entries) if isinstance(error, LedgerShortened) else None
            findings.append(Finding(which, f"{error.happened} {error.evidence}", entry))
    if signed < len(chain.entries):
        what = f"entries {signed} to {len(chain.entries) - 1} are beyond the newest signed head"
        findings.append(Finding(which, what, fault=False))
    return chain, text, LogFacts(len(chain.entries), chain.tree.root(), chain.head, signed)


def _together(both: Both, newest: str | None) -> Iterator[Finding]:
    """What the logs say of each other. newest: the site log's head, read after everything else."""
    yield from check_heads(both)
    yield from check_carried(both)
    stated = replace(both, site_head=newest).stated
    silent = [one for one in both.rounds if one.index >= (stated[0] if stated else 0)]
    if newest is not None and len(silent) > 1:  # a head is signed after every round
        yield Finding(
            "site", f"its newest head does not speak of the last {counted(len(silent), 'round')} of the federation log"
        )


# ── the federation log, from its entries alone ────────────────────────────────────────────────────────────────


def check_federation(log: Sequence[Entry]) -> list[Finding]:
    """Every entry is of a known form, signed by as many as it must be, and follows from those before it."""
    findings: list[Finding] = []
    if not log:
        return findings
    try:
        first = entries.read_record(log[0].record)
    except ValueError as error:
        return [Finding("federation", f"not a genesis: {error}", 0)]
    if first["kind"] != "genesis":
        return [Finding("federation", f"the log begins with {first['kind']}, not with a genesis", 0)]
    try:
        Lineage.of_genesis(log[0].record)
    except ValueError as error:
        return [Finding("federation", f"genesis: {error}", 0)]
    rosters, broken = _epochs(log)
    past, covered = _Past(), _covered(log, rosters)
    for entry, roster in zip(log, rosters, strict=True):
        try:
            held = entries.read_record(entry.record)
        except UnknownKind as error:
            findings.append(Finding("federation", f"unsupported: {error}", entry.index))
            continue
        except ValueError as error:
            findings.append(Finding("federation", f"malformed: {error}", entry.index))
            continue
        if entries.KINDS[held["kind"]].in_log != "federation":
            findings.append(Finding("federation", f"{held['kind']} does not belong in this log", entry.index))
            continue
        enough = 0 if entry.index in covered else roster.quorums.q
        problems = [*_signatures(entry, held, roster, enough)]
        problems += past.judge_entry(entry.index, held, entry.record, roster)
        problems += [broken[entry.index]] if entry.index in broken else []
        findings += [Finding("federation", what, entry.index) for what in problems]
    return findings


def _epochs(log: Sequence[Entry]) -> tuple[list[Roster], dict[int, str]]:
    """By entry, the roster that judges it; and what is wrong with the changes of membership among them."""
    steps, rosters, broken = Epochs(), list[Roster](), dict[int, str]()
    for entry in log:
        before, announced = steps.roster, steps.announced
        try:
            steps.add_entry(entry.record, entry.signatures)
        except ValueError as error:
            if announced or b'"kind":"membership"' in entry.record:  # else it is told below, in other words
                broken[entry.index] = f"membership: {error}"
        rosters += [one for one in (before or steps.roster,) if one is not None]
    return rosters, broken


def _covered(log: Sequence[Entry], rosters: Sequence[Roster]) -> set[int]:
    """Rounds below one that a quorum signed and that rests on them: it made all of them final."""
    covered: set[int] = set()
    rested_on: set[str] = set()  # digests of records that a signed or covered round names as its base
    for entry in reversed(log):
        try:
            held = entries.read_record(entry.record)
        except ValueError:
            continue
        if held["kind"] != "round":
            continue
        if digest("base", entry.record).hex() in rested_on:
            covered.add(entry.index)
            rested_on.add(held["base"])
        elif not list(_signatures(entry, held, rosters[entry.index], rosters[entry.index].quorums.q)):
            rested_on.add(held["base"])
    return covered


def _signatures(entry: Entry, held: Facts, roster: Roster, quorum: int) -> Iterable[str]:
    """What is wrong with the signatures: which must be there, and which do not verify."""
    valid, keys, label = set(), {one.name: one.key for one in roster.members}, "record"
    required = set(roster.names) if held["kind"] == "genesis" else set(held.get("members", ()))
    joins = dict[str, bytes]()
    if held["kind"] == MEMBERSHIP:  # a joining site may sign too; where an agreement is named, it must
        label = MEMBERSHIP
        joins = {name: bytes.fromhex(key) for name, key in held["peers"] if name in held["added"] and name not in keys}
        required = set(joins) if "agreement" in held else set()
    for name, signature in sorted(entry.signatures.items()):
        key = keys.get(name) or joins.get(name)
        if key is None:
            yield f"{held['kind']}: signed by {name}, who is not in the roster"
        elif not signature_verifies(key, label, entry.record, signature):
            yield f"{held['kind']}: the signature of {name} is not over this record"
        else:
            valid.add(name)
    if required - valid:
        under = ", under the agreement" if joins else ""
        yield f"{held['kind']}: not signed by {', '.join(sorted(required - valid))}{under}"
    elif len(valid & set(keys)) < quorum:
        yield f"{held['kind']}: {len(valid & set(keys))} valid signatures, {quorum} are wanted"


def _membership(held: Facts, roster: Roster) -> Iterable[str]:
    survivors, quorum = held["survivors"], roster.quorums.q
    if len(set(survivors)) != len(survivors) or not set(survivors) <= set(roster.names):
        yield f"round {held['round']}: sums over a name that is not in the roster, or over one site twice"
    if len(survivors) < quorum:
        yield f"round {held['round']}: sums over {len(survivors)} sites, fewer than the quorum of {quorum}"
    if held["epoch"] != roster.epoch:
        yield f"round {held['round']}: of epoch {held['epoch']}, the roster is of {roster.epoch}"


class _Past:
    """What earlier entries say, and later ones must agree with."""

    def __init__(self) -> None:
        self.rounds: dict[str, int] = {}  # by run
        self.models: dict[str, str] = {}  # by run
        self.bases: dict[str, str] = {}  # by run: digest of the last record, that the next one names
        self.epsilon: dict[str, float] = {}  # by member
        self.agreement: str | None = None  # that the sites of the first epoch signed

    def judge_entry(self, index: int, held: Facts, record: bytes, roster: Roster) -> list[str]:
        """What is wrong with this entry after those before it; from then on it is one of them."""
        if held["kind"] == "genesis":
            return [] if index == 0 else ["a second genesis"]
        if held["kind"] == "round":
            spent = self._spent(f"round {held['round']}", held["epsilon"])
            return [*_membership(held, roster), *self._order(held, record), *spent]
        if held["kind"] == MEMBERSHIP:
            unlike = bool(held["added"]) and held.get("agreement") != self.agreement
            told = ["membership: not under the agreement of the first epoch"] if unlike else []  # the rest: `_epochs`
            return [*told, *self._spent("membership", held.get("recovered", {}))]
        if index != 1:
            return ["an agreement that does not stand behind the genesis"]
        self.agreement = held["sha256"]
        whole = held["members"] == list(roster.names) and held["epoch"] == roster.epoch
        return [] if whole else ["an agreement that is not of all sites of the genesis"]

    def _order(self, held: Facts, record: bytes) -> Iterable[str]:
        run = held["run"]
        before = (self.rounds.get(run, 0), self.bases.get(run, bytes(32).hex()))
        if (held["rests_on"], held["base"]) != before:
            yield f"round {held['round']} does not rest on the round before it in this log"
        self.bases[run] = digest("base", record).hex()
        if held["round"] <= self.rounds.get(run, -1):
            yield f"round {held['round']} comes after round {self.rounds[run]} of the same run"
        if self.models.get(run, held["model_before"]) != held["model_before"]:
            yield f"round {held['round']} rests on a model that no earlier round of its run made"
        self.rounds[run], self.models[run] = held["round"], held["model_after"]

    def _spent(self, where: str, said: Mapping[str, str]) -> Iterable[str]:
        for name, text in said.items():
            if not text:
                continue
            spent = float(text)
            if spent < self.epsilon.get(name, 0.0):
                yield f"{where}: the epsilon of {name} went down from {self.epsilon[name]:g} to {text}"
            self.epsilon[name] = max(spent, self.epsilon.get(name, 0.0))


# ── the site log, from its entries alone ──────────────────────────────────────────────────────────────────────


def check_site(log: Sequence[Entry]) -> list[Finding]:
    """Every entry is of a known form; one ballot per attempt; the privacy account never sinks or passes its limit."""
    findings: list[Finding] = []
    ballots: dict[tuple[object, ...], tuple[object, ...]] = {}
    # By kind of account; a data set that shares no record with another has an account of its own.
    by_data = dict[tuple[str, str | None], float]()
    for entry in log:
        try:
            held = entries.read_record(entry.record)
        except UnknownKind as error:
            findings.append(Finding("site", f"unsupported: {error}", entry.index))
            continue
        except ValueError as error:
            findings.append(Finding("site", f"malformed: {error}", entry.index))
            continue
        if entries.KINDS[held["kind"]].in_log != "site":
            findings.append(Finding("site", f"{held['kind']} does not belong in this log", entry.index))
        if held["kind"] == "ballot":
            place = (held["run"], held["epoch"], held["round"], held["attempt"])
            said = (held["vote"], held["attempt_digest"], held["view"])
            if ballots.setdefault(place, said) != said:
                findings.append(Finding("site", f"a second, other ballot in round {held['round']}", entry.index))
        if held["kind"] in ("charge", "look"):
            account = held["kind"], held.get("data")
            before, after, limit = (float(held[name]) for name in ("before", "after", "limit"))
            spent = by_data.get(account, 0.0)
            if before < spent or after < before:
                findings.append(Finding("site", f"the privacy account goes down, from {spent:g}", entry.index))
            if after > (limit if held.get("charged", True) else before):  # of another study's larger limit, too
                findings.append(Finding("site", f"epsilon {held['after']} is above its limit", entry.index))
            by_data[account] = max(spent, after)
    return findings
