"""Who is counted in a question of several rounds: a roll call says over which sites it is, and it begins anew where
other ones come.

A site that comes late is in the next roll call, and one that fell silent, or came and went between two, is counted no
more in this question. So each site lets it begin anew twice at most, however often it comes and goes, and a liar cannot
wear a question out. All who heard the same rounds say the same; docs/adr/0091.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

MOST_ASIDE: Final = 24  # of a question: their names stand in each of its records


@dataclass(slots=True)
class Attendance:
    """Of one question. seen: sites that were in one of its rounds; gone: those that are not counted any more."""

    seen: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    @property
    def aside(self) -> tuple[str, ...]:
        """Who is not counted whether it is there or not, as the sites agree on it."""
        return tuple(sorted(self.gone))

    def called(self, sites: Iterable[str]) -> tuple[str, ...]:
        """A roll call was over these: who is counted, in their order."""
        there = tuple(sites)
        self.gone |= self.seen - set(there)
        self.seen |= set(there)
        return tuple(name for name in there if name not in self.gone)

    def changed(self, counted: Iterable[str], sites: Iterable[str]) -> None:
        """A later round, that was to be over `counted`, was over these: whoever fell silent is counted no more."""
        there = set(sites)
        self.gone |= set(counted) - there
        self.seen |= there

    def is_over(self, me: str, counted: Iterable[str], least: int) -> bool:
        """It goes on without this site, or fewer than `least` are left to count, or too many came and went."""
        return me in self.gone or len(tuple(counted)) < least or len(self.gone) > MOST_ASIDE
