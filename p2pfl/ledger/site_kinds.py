"""The kinds of entry of the site log, which is a site's own: what it did, and when. One of the four contracts.

What `federation_kinds.py` says of kinds holds here too. Times are whole Unix seconds, which the caller brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from p2pfl.keys import Draw
from p2pfl.ledger.kind import (
    ACTS,
    HASH,
    LINE,
    MAP,
    REAL_TEXT,
    SALT,
    SITE,
    SITES,
    WHOLE,
    YES_OR_NO,
    Kind,
    drawn,
    entry_kind,
    holds,
    may_hold,
    one_of,
    or_null,
    short,
)

SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEntry(Kind):
    """What all entries of the site log have. time: Unix seconds.

    salt   random: peers see hashes of this log's entries, and could try what one of them says
    """

    time: int = holds(WHOLE)
    salt: bytes = drawn(SALT)

    def salted(self, draw: Draw) -> Self:
        """The entry with a salt, as a log takes it."""
        return self if self.salt else replace(self, salt=draw(SALT_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEntry(SiteEntry):
    """What all entries about one attempt have."""

    run: bytes = holds(HASH)
    epoch: int = holds(WHOLE)
    round: int = holds(WHOLE)
    attempt: int = holds(WHOLE)

    @property
    def place(self) -> str:
        """Which attempt, in words."""
        return f"round {self.round} attempt {self.attempt}"


@entry_kind("start", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class StartEntry(SiteEntry):
    """A process began to work in this home, and did something. incarnation: hex."""

    version: str = holds(LINE)
    python: str = holds(LINE)
    incarnation: str = holds(LINE)

    @property
    def line(self) -> str:
        return f"p2pfl {self.version} started on Python {self.python}"


@entry_kind("operator", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorEntry(SiteEntry):
    """A person ran a command. options: what was asked for, without paths, values or secrets."""

    command: str = holds(LINE)
    options: Mapping[str, str | int | bool] = holds(MAP)

    @property
    def line(self) -> str:
        return _ran(self.command, self.options)


@entry_kind("acts", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class ActsEntry(SiteEntry):
    """What people did beside this process, or before it: one entry for the rounds since the last, acts or none.

    Peers are told how many entries the log has. One that came only when somebody did something would tell them.
    acts: `command` and `options` of each, as of an operator's entry; `at` in them is when.
    """

    acts: Sequence[Mapping[str, Any]] = holds(ACTS)

    @property
    def line(self) -> str:
        told = "; ".join(_ran(one["command"], one["options"]) for one in self.acts)
        return told or "nobody ran anything beside this process"


@entry_kind("commitment", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentEntry(AttemptEntry):
    """This site bound itself to something before it was sent: of a round, to its bundle."""

    of: str = holds(LINE)
    digest: bytes = holds(HASH)

    @property
    def line(self) -> str:
        return f"{self.place}: committed to {self.of} {short(self.digest)}"


@entry_kind("ballot", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class BallotEntry(AttemptEntry):
    """This site's one vote in an attempt. A vote to abandon has no digests."""

    vote: str = holds(one_of("SURVIVORS", "ABANDON"))
    attempt_digest: bytes | None = holds(or_null(HASH))
    view: bytes | None = holds(or_null(HASH))
    waited_for: Sequence[str] = holds(SITES)

    @property
    def line(self) -> str:
        waited = f", waiting for {', '.join(self.waited_for)}" if self.waited_for else ""
        return f"{self.place}: voted {self.vote}{waited}"


@entry_kind("abandoned", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonedEntry(AttemptEntry):
    """An attempt ended with an ABANDON certificate (its digest): nothing of it will ever be unmasked."""

    certificate: bytes = holds(HASH)
    waited_for: Sequence[str] = holds(SITES)

    @property
    def line(self) -> str:
        silent = f", {', '.join(self.waited_for)} did not answer" if self.waited_for else ""
        return f"{self.place}: abandoned{silent}"


@entry_kind("left", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class LeftEntry(AttemptEntry):
    """A round was left behind: q sites went on without its sum. sent: this site's masked vector had left it."""

    lacking: Sequence[str] = holds(SITES)
    sent: bool = holds(YES_OR_NO)

    @property
    def line(self) -> str:
        lacked = f", for want of {', '.join(self.lacking)}" if self.lacking else ""
        spent = "; this site's update is spent" if self.sent else ""
        return f"round {self.round} left behind{lacked}{spent}"


@entry_kind("missed", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class MissedEntry(AttemptEntry):
    """A round is final without this site, though its links stood and it had proposed. coordinator: named the set."""

    coordinator: str = holds(SITE)

    @property
    def line(self) -> str:
        return f"{self.place}: {self.coordinator} named a set without this site, which was there"


@entry_kind("breach", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class BreachEntry(AttemptEntry):
    """A peer broke the protocol. proof: the digest of letters that show it to anyone, where there are such."""

    peer: str = holds(SITE)
    code: str = holds(LINE)
    proof: bytes | None = holds(or_null(HASH))

    @property
    def line(self) -> str:
        proof = f", proof {short(self.proof)}" if self.proof else ""
        return f"{self.place}: {self.peer} broke the protocol ({self.code}){proof}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentEntry(SiteEntry):
    """What all entries about a privacy account have, as ChargeEntry says."""

    run: bytes = holds(HASH)
    round: int = holds(WHOLE)
    mechanism: Mapping[str, Any] = holds(MAP)
    before: str = holds(REAL_TEXT)
    after: str = holds(REAL_TEXT)
    delta: str = holds(REAL_TEXT)
    limit: str = holds(REAL_TEXT)
    alone: str | None = may_hold(REAL_TEXT)
    data: str | None = may_hold(LINE)

    @property
    def spent(self) -> str:
        """Epsilon before and after it, in words."""
        alone = f"; {self.alone} against all other sites together" if self.alone else ""
        return f"epsilon {self.before} -> {self.after} of {self.limit} at delta {self.delta}{alone}"


@entry_kind("charge", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeEntry(SpentEntry):
    """A pass was charged to the privacy account, before it began. mechanism: enough to recompute epsilon from.

    Or passes were, as one, of which the ledger knows and this home's account did not: the home is an older one.
    before, after, limit   of epsilon, as decimal text, at `delta`: of these records, over all studies of the site
    alone  of a pass of which each site adds a part of the noise: epsilon after it against all other sites together
    data   names the data set, under a key of the site's; none where a trainer did not say which records it brings
    """

    @property
    def line(self) -> str:
        if self.mechanism.get("mechanism") == "none":
            return f"round {self.round}: a pass WITHOUT differential privacy, epsilon {self.before} -> {self.after}"
        return f"round {self.round}: privacy charged, {self.spent}"


@entry_kind("look", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class LookEntry(SpentEntry):
    """A look at the held-out records with noise was charged to their account, before it was taken. Or, not `charged`:
    they can afford no more, and noise alone was put in its place. Or looks were, as one, that an older home forgot.

    Its fields mean what they do in `charge`, of the held-out records and of looks alone.
    """

    charged: bool = holds(YES_OR_NO)

    @property
    def line(self) -> str:
        if not self.charged:
            return f"round {self.round}: no look at held-out records, noise alone, {self.spent}"
        return f"round {self.round}: a look at held-out records charged, {self.spent}"


@entry_kind("budget", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEntry(SiteEntry):
    """A pass was not started, because it would have overspent. spent, would_be, limit: epsilon as decimal text."""

    run: bytes = holds(HASH)
    round: int = holds(WHOLE)
    spent: str = holds(REAL_TEXT)
    would_be: str = holds(REAL_TEXT)
    limit: str = holds(REAL_TEXT)

    @property
    def line(self) -> str:
        return f"round {self.round}: not started, epsilon would be {self.would_be} of {self.limit}"


@entry_kind("query", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class QueryEntry(SiteEntry):
    """A statistic was summed over these sites (docs/spec/ledger.md §1). data: a keyed digest, never a value."""

    run: bytes = holds(HASH)
    round: int = holds(WHOLE)
    attempt: int = holds(WHOLE)
    query: str = holds(LINE)
    data: bytes = holds(HASH)
    members: Sequence[str] = holds(SITES)

    @property
    def line(self) -> str:
        return f"round {self.round}: answered query {self.query} over {len(self.members)} sites"


@entry_kind("dropped", log="site")
@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedEntry(SiteEntry):
    """A torn tail, beyond every signed head, was dropped when a log was opened."""

    log: str = holds(one_of("federation", "site"))
    segment: int = holds(WHOLE)
    bytes: int = holds(WHOLE)

    @property
    def line(self) -> str:
        return f"{self.bytes} unfinished bytes dropped from the end of segment {self.segment} of the {self.log} log"


def _ran(command: str, options: Mapping[str, Any]) -> str:
    return " ".join(["operator ran", command, *(f"--{key}={value}" for key, value in sorted(options.items()))])
