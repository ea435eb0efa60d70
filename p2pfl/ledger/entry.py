"""The kinds of entry, as facts, and their exact bytes. One of the four contracts: what auditors see.

A record is canonical JSON (`codec.facts`), and the bytes are the entry: they are hashed, signed and kept as written.
Kinds are added, never reinterpreted; a kind that this version does not know is *unsupported*, not skipped. No entry
holds a value of a patient, a vector, or the name of a file. Reals travel as decimal text, bytes as hex, time as whole
Unix seconds that the caller brings. docs/spec/ledger.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from p2pfl.codec import Facts, facts, read_facts
from p2pfl.keys import digest
from p2pfl.ledger.fields import (
    Check,
    by_name,
    is_hash,
    is_map,
    is_name,
    is_peers,
    is_real,
    is_spent,
    is_text,
    is_vote,
    is_whole,
    many,
    optional,
)

FIRST: Final = bytes(32)  # what the first entry holds as the hash of the one before
MOST_RECORD: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its number from 0, the record's bytes as written, signatures by name, the hash of the one before."""

    index: int
    record: bytes
    signatures: Mapping[str, bytes]
    previous: bytes

    @property
    def hash(self) -> bytes:
        return entry_hash(self.previous, self.record)


def entry_hash(previous: bytes, record: bytes) -> bytes:
    """SHA-256 over p2pfl/1/entry\\0, then the hash of the entry before and the record, each behind its length."""
    return digest("entry", previous, record)


# ── the kinds ─────────────────────────────────────────────────────────────────────────────────────────────────

_PLACE: Final[dict[str, Check]] = {"run": is_hash, "epoch": is_whole, "round": is_whole, "attempt": is_whole}
_TIME: Final[dict[str, Check]] = {"time": is_whole}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entry: the log that it belongs to, its fields, and how a person reads it."""

    log: Literal["federation", "site"]
    fields: Mapping[str, Check]
    line: Callable[[Facts], str]
    may: Mapping[str, Check] = dataclasses.field(default_factory=dict)  # fields that it has in some cases only


def _round_line(f: Facts) -> str:
    out = f" without {', '.join(f['left_out'])}" if f["left_out"] else ""
    model = f", model {f['model_after'][:12]}" if f["model_after"] != f["model_before"] else ""
    # Purpose and outcome are the federation's own words; they are shown when they are there.
    purpose = f" ({f['configuration']['purpose']})" if isinstance(f["configuration"].get("purpose"), str) else ""
    worst = max((value for value in f["epsilon"].values() if value), key=float, default=None)
    spent = f", epsilon at most {worst}" if worst is not None else ""
    summed = f"sum over {len(f['survivors'])} sites{out}"
    last = ", the last of its epoch" if "announced" in f else ""
    return f"round {f['round']}{purpose} attempt {f['attempt']}: {summed}{model}{spent}{last}"


def _membership_line(f: Facts) -> str:
    steps = [*(f"{name} joins" for name in f["added"]), *(f"{name} leaves" for name in f["removed"]),
             *(f"{name} has another key" for name in f["rotated"])]  # fmt: skip
    what = ", ".join(steps) or "other addresses"
    signed = f", {' and '.join(f['added'])} under agreement {f['agreement'][:12]}" if "agreement" in f else ""
    then = f"{len(f['peers'])} sites, peers.yaml {f['federation_digest'][:12]}"
    return f"epoch {f['epoch']} begins: {what}{signed}; {then}"


KINDS: Final[dict[str, Kind]] = {
    "genesis": Kind(
        "federation",
        {"federation": is_text, "epoch": is_whole, "federation_digest": is_hash, "peers": is_peers, "settings": is_map},
        lambda f: (
            f"federation {f['federation']} begins: epoch {f['epoch']}, {len(f['peers'])} sites, "
            f"peers.yaml {f['federation_digest'][:12]}"
        ),
    ),
    "agreement": Kind(
        "federation",
        {"epoch": is_whole, "sha256": is_hash, "members": many(is_name)},
        lambda f: f"agreement {f['sha256'][:12]} signed by {', '.join(f['members'])}",
    ),
    "round": Kind(
        "federation",
        {
            **_PLACE,
            "rests_on": is_whole,
            "base": is_hash,
            "time_ms": is_whole,
            "salt": is_hash,
            "attempt_digest": is_hash,
            "view": is_hash,
            "total": is_hash,
            "survivors": many(is_name),
            "left_out": many(is_name),
            "model_before": is_hash,
            "model_after": is_hash,
            "configuration": is_map,
            "outcome": is_map,
            "epsilon": by_name(is_spent),
            "site_heads": by_name(is_hash),
        },
        _round_line,
        {"announced": is_hash},
    ),
    "membership": Kind(
        "federation",
        {
            "epoch": is_whole,
            "of": lambda value: value in ("training", "sums"),
            "from_round": is_whole,
            "before": is_hash,
            "federation_digest": is_hash,
            "peers": is_peers,
            "added": many(is_name),
            "removed": many(is_name),
            "rotated": many(is_name),
            "file": lambda value: isinstance(value, str),
        },
        _membership_line,
        {"agreement": is_hash},
    ),
    "start": Kind(
        "site",
        {**_TIME, "version": is_text, "python": is_text, "incarnation": is_text},
        lambda f: f"p2pfl {f['version']} started on Python {f['python']}",
    ),
    "operator": Kind(
        "site",
        {**_TIME, "command": is_text, "options": is_map},
        lambda f: " ".join(["operator ran", f["command"], *(f"--{k}={v}" for k, v in sorted(f["options"].items()))]),
    ),
    "commitment": Kind(
        "site",
        {**_TIME, **_PLACE, "of": is_text, "digest": is_hash},
        lambda f: f"round {f['round']} attempt {f['attempt']}: committed to {f['of']} {f['digest'][:12]}",
    ),
    "ballot": Kind(
        "site",
        {
            **_TIME,
            **_PLACE,
            "vote": is_vote,
            "attempt_digest": optional(is_hash),
            "view": optional(is_hash),
            "waited_for": many(is_name),
        },
        lambda f: (
            f"round {f['round']} attempt {f['attempt']}: voted {f['vote']}"
            + (f", waiting for {', '.join(f['waited_for'])}" if f["waited_for"] else "")
        ),
    ),
    "abandoned": Kind(
        "site",
        {**_TIME, **_PLACE, "certificate": is_hash, "waited_for": many(is_name)},
        lambda f: (
            f"round {f['round']} attempt {f['attempt']}: abandoned"
            + (f", {', '.join(f['waited_for'])} did not answer" if f["waited_for"] else "")
        ),
    ),
    "left": Kind(
        "site",
        {**_TIME, **_PLACE, "lacking": many(is_name), "sent": lambda value: isinstance(value, bool)},
        lambda f: (
            f"round {f['round']} left behind"
            + (f", for want of {', '.join(f['lacking'])}" if f["lacking"] else "")
            + ("; this site's update is spent" if f["sent"] else "")
        ),
    ),
    "missed": Kind(
        "site",
        {**_TIME, **_PLACE, "coordinator": is_name},
        lambda f: (
            f"round {f['round']} attempt {f['attempt']}: {f['coordinator']} named a set without this site, "
            "which was there"
        ),
    ),
    "breach": Kind(
        "site",
        {**_TIME, **_PLACE, "peer": is_name, "code": is_text, "proof": optional(is_hash)},
        lambda f: (
            f"round {f['round']} attempt {f['attempt']}: {f['peer']} broke the protocol ({f['code']})"
            + (f", proof {f['proof'][:12]}" if f["proof"] else "")
        ),
    ),
    "charge": Kind(
        "site",
        {
            **_TIME,
            "run": is_hash,
            "round": is_whole,
            "mechanism": is_map,
            "before": is_real,
            "after": is_real,
            "delta": is_real,
            "limit": is_real,
        },
        lambda f: (
            f"round {f['round']}: privacy charged, epsilon {f['before']} -> {f['after']} of {f['limit']} "
            f"at delta {f['delta']}"
        ),
    ),
    "budget": Kind(
        "site",
        {**_TIME, "run": is_hash, "round": is_whole, "spent": is_real, "would_be": is_real, "limit": is_real},
        lambda f: f"round {f['round']}: not started, epsilon would be {f['would_be']} of {f['limit']}",
    ),
    "query": Kind(
        "site",
        {
            **_TIME,
            "run": is_hash,
            "round": is_whole,
            "attempt": is_whole,
            "query": is_text,
            "data": is_hash,
            "members": many(is_name),
        },
        lambda f: f"round {f['round']}: answered query {f['query']} over {len(f['members'])} sites",
    ),
    "dropped": Kind(
        "site",
        {**_TIME, "log": lambda value: value in ("federation", "site"), "segment": is_whole, "bytes": is_whole},
        lambda f: f"{f['bytes']} unfinished bytes dropped from the end of segment {f['segment']} of the {f['log']} log",
    ),
}


class UnknownKind(ValueError):
    """A record of a kind that this version does not know."""


def read(record: bytes) -> Facts:
    """The facts of a record. Raises UnknownKind, or ValueError that names the field that is wrong."""
    held = read_facts(record, MOST_RECORD)
    kind = KINDS.get(str(held.get("kind")))
    if kind is None:
        raise UnknownKind(f"kind {held.get('kind')!r} is not known to this version")
    may = {field: check for field, check in kind.may.items() if field in held}
    odd = set(held) ^ {"kind", *kind.fields, *may}
    if odd:
        raise ValueError(f"{held['kind']}: {', '.join(sorted(odd))} is missing, or does not belong there")
    for field, check in {**kind.fields, **may}.items():
        if not check(held[field]):
            raise ValueError(f"{held['kind']}: {field} does not hold what it must")
    return held


def render(entry: Entry) -> str:
    """One line for a person: number, time where there is one, what happened, how many signed."""
    try:
        held = read(entry.record)
    except ValueError as error:
        return f"{entry.index:>6}  unsupported: {error}"
    seconds = held.get("time", held.get("time_ms", 0) // 1000)
    at = datetime.fromtimestamp(min(seconds, 253402300799), UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "-" * 20
    signed = f"  [{len(entry.signatures)} signatures]" if entry.signatures else ""
    return f"{entry.index:>6}  {at}  {KINDS[held['kind']].line(held)}{signed}"


# ── builders ──────────────────────────────────────────────────────────────────────────────────────────────────


def _made(kind: str, held: Mapping[str, Any]) -> bytes:
    """The record, after the check that whoever reads it will make. Raises ValueError."""
    record = facts({"kind": kind, **held})
    read(record)
    return record


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def genesis(
    *,
    federation: str,
    epoch: int,
    federation_digest: bytes,
    peers: Iterable[tuple[str, bytes]],
    settings: Mapping[str, Any],
) -> bytes:
    """Entry 0: who takes part, under which peers.yaml. A function of that file alone."""
    rows = [[name, key.hex()] for name, key in peers]
    held = {"federation": federation, "epoch": epoch, "federation_digest": federation_digest.hex(), "peers": rows}
    return _made("genesis", {**held, "settings": dict(settings)})


def agreement(*, epoch: int, sha256: bytes, members: Sequence[str]) -> bytes:
    """The business associate agreement, by its digest, that every one of `members` signed (45 CFR 164.504(e))."""
    return _made("agreement", {"epoch": epoch, "sha256": sha256.hex(), "members": list(members)})


@dataclass(frozen=True, slots=True)
class AttemptId:
    """Which attempt an entry is about."""

    run: bytes
    epoch: int
    round: int
    attempt: int

    @property
    def facts(self) -> Facts:
        return {"run": self.run.hex(), "epoch": self.epoch, "round": self.round, "attempt": self.attempt}


def start(*, time: int, version: str, python: str, incarnation: bytes) -> bytes:
    """A process began to work in this home."""
    return _made("start", {"time": time, "version": version, "python": python, "incarnation": incarnation.hex()})


def operator(*, time: int, command: str, options: Mapping[str, str | int | bool]) -> bytes:
    """A person ran a command. `options` without paths, values or secrets: what was asked for, not of whom."""
    return _made("operator", {"time": time, "command": command, "options": dict(options)})


def commitment(place: AttemptId, *, time: int, of: str, digest: bytes) -> bytes:
    """This site bound itself to something (of a round: its bundle) before it was sent."""
    return _made("commitment", {**place.facts, "time": time, "of": of, "digest": digest.hex()})


def ballot(
    place: AttemptId,
    *,
    time: int,
    survivors: bool,
    attempt_digest: bytes | None = None,
    view: bytes | None = None,
    waited_for: Sequence[str] = (),
) -> bytes:
    """This site's one vote in an attempt."""
    vote = {"vote": "SURVIVORS" if survivors else "ABANDON", "waited_for": list(waited_for)}
    digests = {"attempt_digest": _hex(attempt_digest or None), "view": _hex(view or None)}
    return _made("ballot", {**place.facts, "time": time, **vote, **digests})


def abandoned(place: AttemptId, *, time: int, certificate: bytes, waited_for: Sequence[str] = ()) -> bytes:
    """An attempt ended with an ABANDON certificate (its digest): nothing of it will ever be unmasked."""
    held = {"time": time, "certificate": certificate.hex(), "waited_for": list(waited_for)}
    return _made("abandoned", {**place.facts, **held})


def left(place: AttemptId, *, time: int, lacking: Sequence[str], sent: bool) -> bytes:
    """A round was left behind: q sites went on without its sum. `sent`: this site's masked vector had left it."""
    return _made("left", {**place.facts, "time": time, "lacking": list(lacking), "sent": sent})


def missed(place: AttemptId, *, time: int, coordinator: str) -> bytes:
    """A round is final without this site, though its links stood and it had proposed; who named the set."""
    return _made("missed", {**place.facts, "time": time, "coordinator": coordinator})


def breach(place: AttemptId, *, time: int, peer: str, code: str, proof: bytes | None) -> bytes:
    """A peer broke the protocol. `proof`: the digest of letters that show it to anyone, where there are such."""
    return _made("breach", {**place.facts, "time": time, "peer": peer, "code": code, "proof": _hex(proof)})


@dataclass(frozen=True, slots=True)
class Spent:
    """Privacy before and after, as decimal text: epsilon at delta, and the limit."""

    before: str
    after: str
    delta: str
    limit: str


def charge(*, time: int, run: bytes, round: int, mechanism: Mapping[str, Any], spent: Spent) -> bytes:
    """A pass was charged to the privacy account, before it began. `mechanism`: enough to recompute epsilon from."""
    privacy = {"before": spent.before, "after": spent.after, "delta": spent.delta, "limit": spent.limit}
    return _made("charge", {"time": time, "run": run.hex(), "round": round, "mechanism": dict(mechanism), **privacy})


def budget(*, time: int, run: bytes, round: int, spent: str, would_be: str, limit: str) -> bytes:
    """A pass was not started, because it would have overspent."""
    held = {"time": time, "run": run.hex(), "round": round, "spent": spent, "would_be": would_be, "limit": limit}
    return _made("budget", held)


def query(*, time: int, run: bytes, round: int, attempt: int, query: str, data: bytes, members: Sequence[str]) -> bytes:
    """A statistic was summed over these sites (docs/spec/ledger.md §1). `data`: a keyed digest, never a value."""
    place = {"run": run.hex(), "round": round, "attempt": attempt}
    held = {"time": time, **place, "query": query, "data": data.hex()}
    return _made("query", {**held, "members": list(members)})


def dropped(*, time: int, log: str, segment: int, size: int) -> bytes:
    """A torn tail, beyond every signed head, was dropped when a log was opened."""
    return _made("dropped", {"time": time, "log": log, "segment": segment, "bytes": size})
