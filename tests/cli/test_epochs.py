"""What the commands show of a home whose federation has changed its members: the epoch that it is, and its keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.cli.main import run
from p2pfl.errors.membership import NothingToChange
from p2pfl.federation import Federation
from p2pfl.federation.membership import run_of
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import digest
from p2pfl.ledger.log import Log
from p2pfl.messages import Envelope, Ready, seal
from p2pfl.node.epochs import current, standing
from tests.federation.changes import IDENTITIES, all_three, federation, two_epochs

MADE = all_three()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose ledger has come to epoch 2."""
    with Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key")]) as made:
        log = Log.open(made, "federation")
        log.extend(two_epochs(MADE))
        log.sign_head(made.identity())
        at = Envelope(run_of(federation().first, b"", "training"), 2, 4, 0, "fay", bytes(16))
        proof = [seal(Ready(digest("d"), bytes([k]) * 32), at, IDENTITIES["fay"]).wire for k in (1, 2)]
        made.replace("state/evidence/0123456789abcdef", codec.pack(proof))
    return tmp_path / "home"


def told(capsys: pytest.CaptureFixture[str], home: Path, *verb: str) -> dict[str, Any]:
    assert run([*verb, "--home", str(home), "--key-file", str(home.parent / "ada.key"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_status_shows_the_epoch_that_it_is_and_who_is_in_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, home, "status")["federation"]
    assert (shown["epoch"], shown["federation_digest"]) == (2, MADE.federation().digest.hex())
    assert shown["sites"] == ["ada", "ben", "cyd", "dot", "fay"]
    assert shown["name"] == "trial"


def test_a_proof_is_checked_with_the_keys_of_the_epoch_that_it_is_of(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (proof,) = told(capsys, home, "ledger", "evidence")["proofs"]
    assert proof["convicts"] == "fay"  # who was not there when the ledger began


def test_a_file_of_any_epoch_leads_to_the_peers_file_of_the_one_that_it_is(home: Path, tmp_path: Path) -> None:
    with Home.open(home, unlock=[KeyFile(tmp_path / "ada.key")], write=False) as opened:
        for given in (federation(), MADE.federation()):
            assert current(opened, given).digest == MADE.federation().digest
    with Home.create(tmp_path / "new", "fay", [KeyFile(tmp_path / "fay.key")]) as new:
        given: Federation = MADE.federation()
        assert current(new, given) is given
        with pytest.raises(NothingToChange):
            standing(new, given)
