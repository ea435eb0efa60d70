"""What the two logs of one home say of each other, and that no signed head was removed.

The site log's head states the federation log's size and root; each round's record carries the root that every member's
site log then had. So neither log can be cut, exchanged or begun anew alone, not even with the home's own key:
the records bear the signatures of other sites. Pure: chains and notes in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from p2pfl.codec import Facts
from p2pfl.errors.counts import counted
from p2pfl.federation.membership import BEGINNINGS
from p2pfl.federation.membership import KIND as MEMBERSHIP
from p2pfl.ledger import entry as entries
from p2pfl.ledger import note
from p2pfl.ledger.read_log import Finding, HashChain
from p2pfl.merkle import Tree


@dataclass(frozen=True, slots=True)
class Both:
    """Both logs of the home `name`, as far as they were read, and the notes of their newest heads."""

    name: str
    federation: HashChain
    federation_head: str | None
    site: HashChain
    site_head: str | None

    @property
    def stated(self) -> tuple[int, bytes] | None:
        """Entries and root of the federation log that the site log's head speaks of."""
        try:
            return note.federation_of(note.parse_note(self.site_head)[0]) if self.site_head else None
        except ValueError:
            return None  # the check of the head itself says so

    @property
    def rounds(self) -> list[entries.Entry]:
        """Entries of the federation log that begin neither the log nor an epoch."""
        return [one for one in self.federation.entries if _facts(one).get("kind") not in BEGINNINGS]


def check_heads(both: Both) -> Iterator[Finding]:
    """Faults that no crash explains: a missing head, a federation log shorter than the site log says."""
    # Rounds are counted, which reads every record, only where a head is missing: at nearly no start.
    rounds = len(both.rounds) if both.federation_head is None or both.site_head is None else 0
    # After each round both heads are signed, the federation log's first: a crash in between leaves one round without.
    if both.federation_head is None and rounds > 1:
        yield Finding("federation", f"its signed head is missing, and it holds {counted(rounds, 'round')}")
    if both.site_head is None and rounds > 1:
        yield Finding("site", f"its signed head is missing, and the federation log holds {counted(rounds, 'round')}")
    if both.stated is None:
        return
    size, root = both.stated
    here = len(both.federation.entries)
    if size > here:
        yield Finding("federation", f"the site log's head speaks of {counted(size, 'entry')}, here are {here}", here)
    elif both.federation.root_at(size) != root:
        yield Finding("federation", f"the site log's head speaks of other ones than its first {counted(size, 'entry')}")


def check_carried(both: Both) -> Iterator[Finding]:
    """Each round's record carries a root that this site's log had.

    Only rounds that the site log's head covers are checked: a process at work may be writing the ones behind it. None
    before the site's log began anew: the site joined then, or goes on from an older home since.
    """
    covered, began = both.stated[0] if both.stated else 0, _began(both)
    kept = [one for one in both.rounds if began < one.index < covered]
    carried = [(one, _facts(one).get("site_heads", {}).get(both.name)) for one in kept]
    wanted, tree = {root for _, root in carried if root}, Tree()
    for leaf in both.site.leaves:
        if not wanted:
            return
        tree.append(leaf)
        wanted.discard(tree.root().hex())
    for one, root in carried:
        if root in wanted:
            what = f"entry {one.index} of the federation log carries a head of this log that it never had"
            yield Finding("site", what)


def _began(both: Both) -> int:
    """The newest entry of the federation log since which the site's log counts; −1 where it always has."""
    changes = ((one.index, _facts(one)) for one in both.federation.entries)
    return max(
        (
            index
            for index, held in changes
            if held.get("kind") == MEMBERSHIP and both.name in (*held["added"], *held.get("recovered", ()))
        ),
        default=-1,
    )


def _facts(one: entries.Entry) -> Facts:
    try:
        return entries.read_record(one.record)
    except ValueError:
        return {}
