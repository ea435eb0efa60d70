"""A newcomer asks for the ledger from its first entry on, and takes no other one than its peers.yaml names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pfl.errors.ledger import OtherFederation
from p2pfl.errors.round import MalformedMessage
from p2pfl.home import Home
from p2pfl.keys import SignedRecord
from p2pfl.ledger.verify import verify
from p2pfl.messages import Behind, Entries, Envelope, Letter, seal
from p2pfl.node.catchup import take_over
from p2pfl.node.logs import Logs
from p2pfl.node.pledge import pledge_of
from p2pfl.sharing.catchup import CatchUpRules
from tests.federation.changes import IDENTITIES, all_three, genesis_row, two_epochs
from tests.home.home_fixtures import make

MADE = all_three()
SECOND = MADE.federation()


@dataclass
class Newcomer:
    """fay, who holds peers.yaml of epoch 2 and an empty ledger."""

    home: Home
    logs: Logs

    def asks(self) -> CatchUpRules:
        return CatchUpRules(self.logs, SECOND.roster, SECOND.genesis)

    def takes(self, rows: list[SignedRecord]) -> dict[bytes, tuple[int, bytes]]:
        listed = tuple((record, tuple(sorted(signed.items()))) for record, signed in rows)
        letter: Letter = seal(
            Entries(0, len(rows), listed), Envelope(bytes(32), 2, 0, 0, "ada", bytes(16)), IDENTITIES["ada"]
        )
        message = letter.message
        assert isinstance(message, Entries)
        rules = self.asks()
        assert rules.ask(letter.sender, 0.0) is not None
        return take_over(self.logs, rules.rows_that_count(letter.sender, message, {}))


@pytest.fixture
def fay(tmp_path: Path) -> Iterator[Newcomer]:
    with make(tmp_path, "fay") as home:
        logs = Logs(home, home.identity(), pledge_of(SECOND), lambda: 1_700_000_000.0)
        logs.started(bytes(16))
        yield Newcomer(home, logs)


def test_a_newcomer_takes_the_whole_ledger_over_and_it_verifies(fay: Newcomer) -> None:
    assert fay.asks().ask("ada", 0.0) == Behind(0, b"", 0)
    found = fay.takes(two_epochs(MADE))
    assert [number for number, _ in found.values()] == [5]
    assert fay.logs.epochs.lineage is not None
    assert fay.logs.epochs.lineage.federation_digest == SECOND.digest
    assert len(fay.logs.changes(4)) == 1
    assert not [one for one in verify(fay.home).findings if one.log == "federation"]
    again = Logs(fay.home, fay.home.identity(), pledge_of(SECOND), lambda: 0.0)  # as the next process finds it
    assert again.epochs.lineage == fay.logs.epochs.lineage


@pytest.mark.claim("MEMBER-9")
def test_a_newcomer_takes_no_other_log_than_the_one_that_its_file_names(fay: Newcomer) -> None:
    record, signed = genesis_row()
    other = record.replace(b'"federation":"trial"', b'"federation":"trail"')
    names = {name: IDENTITIES[name].sign("record", other) for name in signed}
    with pytest.raises(MalformedMessage) as caught:
        fay.takes([(other, names), *two_epochs(MADE)[1:]])
    assert "genesis that peers.yaml names" in caught.value.evidence
    assert len(fay.logs.federation) == 0


def test_a_home_with_another_ledger_is_refused(fay: Newcomer, tmp_path: Path) -> None:
    record, signed = genesis_row()
    fay.logs.federation.append(record.replace(b'"epoch":1', b'"epoch":7'), signed)
    with pytest.raises(OtherFederation):
        Logs(fay.home, fay.home.identity(), pledge_of(SECOND), lambda: 0.0)
