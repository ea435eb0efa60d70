"""A home whose ledger holds many rounds, written by the node's own code, with every site's signatures.

A study of sums: of each round the federation log has its record, and the site log the commitment, the question and the
vote. Entries are appended a thousand at a time, so that ten thousand rounds take half a minute and no hour of fsyncs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from p2pfl.cli.peers.create import task_lines
from p2pfl.federation import Federation, draft
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import Identity, SignedRecord, digest
from p2pfl.ledger.federation_kinds import RoundEntry
from p2pfl.ledger.site_kinds import BallotEntry, CommitmentEntry, QueryEntry, SiteEntry
from p2pfl.node.logs import Logs
from p2pfl.node.pledge import genesis_of, pledge_of
from p2pfl.roster import Member

SITES: Final = 5
AT_ONCE: Final = 1_000
TIME: Final = 1_700_000_000
RUN: Final = digest("run", b"a long ledger")


class LongLedger:
    """The home of `site-0`, and the identities of all."""

    def __init__(self, folder: Path) -> None:
        self.home = Home.create(folder / "site-0", "site-0", [KeyFile(folder / "site-0.key")])
        others = {f"site-{k}": Identity(digest("a long ledger", bytes([k]))) for k in range(1, SITES)}
        self.identities = {"site-0": self.home.identity(), **others}
        members = [Member(name, one.key, ()) for name, one in self.identities.items()]
        text = draft.peers_file("long", members, task_lines(None), ["sharing.field=31"])
        self.federation = Federation.parse(text, "peers.yaml")

    def open(self) -> Logs:
        """The logs, as a process finds them at its start."""
        return Logs(self.home, self.identities["site-0"], pledge_of(self.federation), lambda: float(TIME))

    def signed(self, record: bytes) -> SignedRecord:
        return record, {name: one.sign("record", record) for name, one in self.identities.items()}

    def write(self, rounds: int) -> None:
        """Genesis, and so many rounds."""
        logs = self.open()
        _, signatures = self.signed(genesis_of(self.federation))
        logs.begin(signatures, {})
        numbers = iter(range(1, rounds + 1))
        while some := list(islice(numbers, AT_ONCE)):
            logs.site.extend([(one.record, {}) for number in some for one in self.noted(number)])
            logs.adopt([self.signed(self.round(number)) for number in some])
        logs.close()

    def noted(self, number: int) -> Sequence[SiteEntry]:
        """What the site log has of a round."""
        place: dict[str, Any] = {"time": TIME + number, "salt": RUN[:16], "run": RUN, "round": number, "attempt": 0}
        view, names = digest("view", number.to_bytes(8, "big")), list(self.identities)
        return (
            CommitmentEntry(**place, epoch=1, of="bundle", digest=view),
            QueryEntry(**place, query=f"question {number}", data=self.mark(number), members=names),
            BallotEntry(**place, epoch=1, vote="SURVIVORS", attempt_digest=view, view=view, waited_for=()),
        )

    def mark(self, number: int) -> bytes:
        """What names the data that were summed in a round."""
        return digest("data", number.to_bytes(8, "big"))

    def round(self, number: int) -> bytes:
        """The record of a round that summed a question."""
        asked = {"purpose": "sum", "name": f"question {number}", "vectors": []}
        hashed, when = digest("some", number.to_bytes(8, "big")), 1000 * (TIME + number)
        return round_entry(number, list(self.identities), hashed, run=RUN, configuration=asked, time_ms=when).record


def round_entry(number: int, names: Sequence[str], hashed: bytes, **said: Any) -> RoundEntry:
    """A final round of all `names`, as sharing/record.py writes one; a digest that `said` does not name is `hashed`."""
    digests = ("run", "base", "attempt_digest", "view", "total", "model_before", "model_after", "salt")
    fields: dict[str, Any] = {
        **dict.fromkeys(digests, hashed),
        "epoch": 1,
        "attempt": 0,
        "rests_on": number - 1,
        "survivors": names,
        "left_out": (),
        "outcome": {},
        "epsilon": dict.fromkeys(names, ""),
        "site_heads": dict.fromkeys(names, hashed),
    }
    return RoundEntry(round=number, **(fields | said))
