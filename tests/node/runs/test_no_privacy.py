"""Under `privacy: none`: the same pipeline, an account that is infinite from then on, and records that say so."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl import codec
from p2pfl.errors.training import PassWouldOverspend
from p2pfl.ledger import entry as entries
from p2pfl.ledger.verify import check_site
from p2pfl.node.pledge import genesis_of
from p2pfl.node.progress import unseen
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.runs.models import MODEL
from p2pfl.node.runs.passes import Passes
from p2pfl.training.model import checkpoint
from p2pfl.training.privacy.account import Account
from tests.node.runs.homes import Place, charges, draw, finished, places, summed
from tests.training.settings import PRIVACY


@pytest.fixture
def place(tmp_path: Path) -> Place:
    one, _ = places(tmp_path, "privacy=none")
    return one


@pytest.mark.claim("PLAIN-1")
def test_each_pass_is_charged_as_infinite_and_every_record_says_so(place: Place) -> None:
    run = place.started()
    for number in (1, 2):
        after, outcome = summed(run, number)
        finished(place, run, number, after, outcome, epsilon={"charite": "inf", "st-olav": "inf", "uppsala": ""})
    assert run.configuration["mechanism"] == "none"
    assert [one["mechanism"]["mechanism"] for one in charges(run)] == ["none", "none"]
    assert [(one["before"], one["after"], one["limit"]) for one in charges(run)] == [
        ("0.000000", "inf", "inf"),
        ("inf",) * 3,
    ]
    assert "WITHOUT differential privacy" in entries.entry_of(charges(run)[0]).line
    assert run.propose(3, 2).epsilon == "inf"
    assert codec.read_facts(genesis_of(place.federation))["settings"]["unit"] == "none"
    assert check_site(run.logs.site) == []
    held = place.home.read(MODEL)
    assert held is not None and checkpoint.facts_of(held)["privacy"] == "none"


@pytest.mark.claim("PLAIN-1")
def test_the_same_records_train_privately_no_more(place: Place) -> None:
    summed(place.started(), 1)
    later = Passes(replace(place.federation, privacy=PRIVACY), place.home, place.logs(), bytes(32), unseen)
    assert later.spent() == "inf"
    with pytest.raises(PassWouldOverspend) as caught:
        later.begin(1, 0, bytes(32), b"", draw)
    assert "without differential privacy" in caught.value.render()
    assert read_accounts(place.home).unseen.account.passes == 1, "nothing was charged"


def test_a_private_account_becomes_infinite_by_one_pass_without_noise(place: Place) -> None:
    account = Account()
    account.charge(PRIVACY)
    account.charge(place.federation.privacy)
    assert account.epsilon(1e-5) == math.inf
    assert Account.from_bytes(account.to_bytes()).epsilon(1e-5) == math.inf


@pytest.mark.parametrize("private", [True, False])
def test_an_older_home_learns_that_it_has_spent_without_bound(place: Place, private: bool) -> None:
    account = Account()
    forgotten = account.learn(PRIVACY if private else place.federation.privacy, math.inf)
    assert forgotten is not None and forgotten.name == "none"
    assert account.epsilon(1e-5) == math.inf
    assert account.learn(replace(PRIVACY, max_epsilon=3.0), 1.0) is None, "and knows of no less"
