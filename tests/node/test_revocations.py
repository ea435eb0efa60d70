"""A key that was revoked here stays so until somebody accepts it again, whatever becomes of the list in the home."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.codec import Malformed, read_facts
from p2pfl.errors.membership import RevocationsLost, Revoked
from p2pfl.home import Home
from p2pfl.ledger.log import Log
from p2pfl.node.logs import Logs
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.pledge import pledge_of
from p2pfl.node.progress import unseen
from p2pfl.node.revocations import REVOKED, decide, packed, parse_decisions
from p2pfl.node.site_index import SiteIndex
from tests.federation.changes import IDENTITIES, federation
from tests.home.home_fixtures import make

FEDERATION = federation()
EVE = FEDERATION.roster["eve"].key


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with make(tmp_path, "ada") as home:
        home.replace("identity", IDENTITIES["ada"].reveal())
        yield home


def started(home: Home) -> PendingChange:
    """What a process that begins knows of changes."""
    logs = Logs(home, home.identity(), pledge_of(FEDERATION), time.time)
    return PendingChange(home, logs, FEDERATION, unseen)


def decided(home: Home, *, revoked: bool) -> bool:
    """As `p2pfl peers revoke eve` does, and with --undo."""
    with home.beside():
        return decide(home, SiteIndex(Log.open(home, "site")).revocations(), EVE, revoked=revoked)


def noted(home: Home) -> list[bool]:
    """Of each entry of a decision, whether it accepts the key again."""
    entries = (read_facts(one.record) for one in Log.open(home, "site").records())
    return [one["options"].get("undo", False) for one in entries if one.get("command") == "peers revoke"]


@pytest.mark.claim("MEMBER-14")
@pytest.mark.parametrize("older", [None, b"", packed({EVE: 1})], ids=["lost", "empty", "older"])
def test_a_list_that_lacks_a_decision_ends_the_process_and_begins_none(home: Home, older: bytes | None) -> None:
    """Nobody accepted the key again, so the site log does not say so, and the key is not accepted."""
    running = started(home)
    for revoked in (True, False, True):
        decided(home, revoked=revoked)
        assert running._look() == (["eve"] if revoked else [])
    if older is None:
        (home.path / REVOKED).unlink()
    else:
        home.replace(REVOKED, older)
    with pytest.raises(RevocationsLost) as told:
        running._look()
    assert told.value.suggestion == f"p2pfl peers revoke eve --peers {FEDERATION.source} --home {home.path}"
    with pytest.raises(RevocationsLost):
        started(home)
    assert noted(home) == [False, True, False]
    assert not decided(home, revoked=True)  # what is to try: it is no decision, and mends the list
    again = started(home)
    assert again._look() == ["eve"]
    with pytest.raises(Revoked):
        again.check_key("eve")
    assert noted(home) == [False, True, False]


def test_a_key_that_is_accepted_again_beside_a_running_site_parts_it_from_nobody(home: Home) -> None:
    """The links came up again, and the rounds of that process went on without that site until it ended."""
    running, cut = started(home), list[str]()
    rounds = running.parted
    for revoked in (True, False, True, False):
        decided(home, revoked=revoked)
        asyncio.run(running._take_up(lambda peer, error: cut.append(peer)))
        assert rounds == ({"eve"} if revoked else set())
    assert cut == ["eve", "eve"]


def test_decisions_of_which_a_process_has_heard_nothing_are_noted_each(home: Home) -> None:
    for revoked in (True, False, True, False):
        decided(home, revoked=revoked)
    assert started(home)._look() == []
    assert noted(home) == [False, True, False, True]


@pytest.mark.parametrize(
    "data", [EVE, EVE + bytes(4), packed({EVE: 1}) * 2, packed({EVE: 1})[:-1]], ids=["short", "none", "twice", "cut"]
)
def test_a_list_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_decisions(data)
