"""Whose exact counts a study opens: the held-out records with which it began to, or none from then on.

The totals of a class do not depend on the model. So two rounds between which a held-out record was taken out, or came,
differ by that record: by its label, to everybody who has both sums. A site that counted nothing from then on would be
found by the same subtraction. So a site whose held-out records are other ones than before adds uniform words in place
of its counts: the sum of all sites is uniform, and tells nothing of anybody. A flag beside it says that a site did so,
not which; all sites see it in the sum, and measure nothing more in this study. A sum over fewer sites carries no flag,
since one that it is missing from would tell who raised it. docs/adr/0063.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from p2pfl import codec
from p2pfl.home import Home
from p2pfl.node.runs.metric import is_measured

ITEM: Final = "state/held-out"


@runtime_checkable
class HoldsOut(Protocol):
    """A trainer that says which records it holds out. Of one that does not, nobody here can tell that they changed."""

    def held_out_names(self) -> Iterable[bytes]: ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out records of one study at this site, as the home knows them: by one keyed digest of all of them."""

    home: Home
    run: bytes
    trainer: object

    def have_changed(self, rounds: Iterable[codec.Facts] = ()) -> bool:
        """They are not those that were counted first. What cannot be read as that digest is no such digest.

        rounds   of the study, as the ledger has them: where one of them measured, a home without the digest was
                 restored from a backup of before, and nobody knows what was counted
        """
        before, now = self.home.read(ITEM), self._bound()
        if now is None:
            return False
        # A study in the same folder begins anew: exact counts of another run are of other models and another roster.
        if before is None or before[:32] != self.run:
            return any(is_measured(record["outcome"]) for record in rounds)
        return before != now

    def bind(self) -> None:
        """From now on they are those of this study; durable on return, before a count of them enters a sum."""
        now = self._bound()
        if now is not None and self.home.read(ITEM) != now:
            self.home.replace(ITEM, now)

    def _bound(self) -> bytes | None:
        """The run (32 bytes) and the digest of its held-out records (32), however they are ordered."""
        if not isinstance(self.trainer, HoldsOut):
            return None
        keyed = hmac.new(self.home.records_key().reveal(), b"held out\0" + self.run, "sha256")
        for name in sorted(self.trainer.held_out_names()):  # equal records count as often as they are there
            keyed.update(name)
        return self.run + keyed.digest()
