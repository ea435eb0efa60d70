"""The kinds of entry of the federation log, which is the same bytes at every site. One of the four contracts.

Kinds are added, never reinterpreted; a kind that this version does not know is *unsupported*, not skipped. No entry
holds a value of a patient, a vector, or the name of a file. Reals travel as decimal text, bytes as hex. To add a kind:
a class here or in `site_kinds.py`, its row in docs/spec/ledger.md §1, and its fields at the top of `auditor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from p2pfl.ledger.kind import (
    HASH,
    LINE,
    MAP,
    PEERS,
    REAL_TEXT,
    SITES,
    SPENT,
    TEXT,
    WHOLE,
    Kind,
    by_name,
    entry_kind,
    holds,
    may_hold,
    one_of,
    short,
)

ROLL_CALL: Final = "roll call"  # the first `part` of a question about the sites' tables


@entry_kind("genesis", log="federation")
@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisEntry(Kind):
    """Entry 0: who takes part, under which peers.yaml. A function of that file alone."""

    federation: str = holds(LINE)
    epoch: int = holds(WHOLE)
    federation_digest: bytes = holds(HASH)
    peers: Sequence[tuple[str, bytes]] = holds(PEERS)
    settings: Mapping[str, Any] = holds(MAP)

    @property
    def line(self) -> str:
        begins = f"federation {self.federation} begins: epoch {self.epoch}"
        return f"{begins}, {len(self.peers)} sites, peers.yaml {short(self.federation_digest)}"


@entry_kind("agreement", log="federation")
@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementEntry(Kind):
    """The business associate agreement, by its digest, that every one of `members` signed (45 CFR 164.504(e))."""

    epoch: int = holds(WHOLE)
    sha256: bytes = holds(HASH)
    members: Sequence[str] = holds(SITES)

    @property
    def line(self) -> str:
        return f"agreement {short(self.sha256)} signed by {', '.join(self.members)}"


@entry_kind("round", log="federation")
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry(Kind):
    """A final round, as sharing/record.py writes it. `epsilon`: after it, by site; empty where it charged nothing."""

    run: bytes = holds(HASH)
    epoch: int = holds(WHOLE)
    round: int = holds(WHOLE)
    attempt: int = holds(WHOLE)
    rests_on: int = holds(WHOLE)
    base: bytes = holds(HASH)
    time_ms: int = holds(WHOLE)
    salt: bytes = holds(HASH)
    attempt_digest: bytes = holds(HASH)
    view: bytes = holds(HASH)
    total: bytes = holds(HASH)
    survivors: Sequence[str] = holds(SITES)
    left_out: Sequence[str] = holds(SITES)
    model_before: bytes = holds(HASH)
    model_after: bytes = holds(HASH)
    configuration: Mapping[str, Any] = holds(MAP)
    outcome: Mapping[str, Any] = holds(MAP)
    epsilon: Mapping[str, str] = holds(by_name(SPENT))
    site_heads: Mapping[str, bytes] = holds(by_name(HASH))
    announced: bytes | None = may_hold(HASH)

    @property
    def line(self) -> str:
        # The purpose is the federation's own word; it is shown when it is there.
        purpose = self.configuration.get("purpose")
        of = f" ({purpose}{_asked(self.configuration)})" if isinstance(purpose, str) else ""
        out = f" without {', '.join(self.left_out)}" if self.left_out else ""
        model = f", model {short(self.model_after)}" if self.model_after != self.model_before else ""
        worst = max((value for value in self.epsilon.values() if value), key=float, default=None)
        spent = f", epsilon at most {worst}" if worst is not None else ""
        last = ", the last of its epoch" if self.announced is not None else ""
        summed = f"sum over {len(self.survivors)} sites"
        return f"round {self.round}{of} attempt {self.attempt}: {summed}{out}{model}{spent}{last}"


def _asked(configuration: Mapping[str, Any]) -> str:
    """Of a statistic's sum: which question it is a part of, and which part."""
    statistic, name = configuration.get("statistic"), configuration.get("name")
    if not isinstance(statistic, Mapping) or not isinstance(name, str):
        return ""
    noised = " with noise" if "noise" in statistic else ""
    return f" of {name}: {statistic.get('part')}{noised}"


@entry_kind("membership", log="federation")
@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipEntry(Kind):
    """A change of membership, as federation/membership.py writes it: the next peers.yaml, and what it changes."""

    epoch: int = holds(WHOLE)
    of: str = holds(one_of("training", "sums"))
    from_round: int = holds(WHOLE)
    before: bytes = holds(HASH)
    federation_digest: bytes = holds(HASH)
    peers: Sequence[tuple[str, bytes]] = holds(PEERS)
    added: Sequence[str] = holds(SITES)
    removed: Sequence[str] = holds(SITES)
    rotated: Sequence[str] = holds(SITES)
    file: str = holds(TEXT)
    agreement: bytes | None = may_hold(HASH)
    recovered: Mapping[str, str] | None = may_hold(by_name(REAL_TEXT))

    @property
    def line(self) -> str:
        steps = [
            *(f"{name} joins" for name in self.added),
            *(f"{name} leaves" for name in self.removed),
            *(f"{name} has another key" for name in self.rotated),
            *(f"{name} goes on from an older home, epsilon {spent}" for name, spent in (self.recovered or {}).items()),
        ]
        joined = f", {' and '.join(self.added)} under agreement {short(self.agreement)}" if self.agreement else ""
        then = f"{len(self.peers)} sites, peers.yaml {short(self.federation_digest)}"
        return f"epoch {self.epoch} begins: {', '.join(steps) or 'other addresses'}{joined}; {then}"
