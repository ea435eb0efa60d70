"""Two federations of three sites each, at the same time, in real processes; one hospital takes part in both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2pfl.federation import draft
from p2pfl.home import Home
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.studies import studies_of
from p2pfl.roster import Address, Member
from p2pfl.training.privacy import account as privacy
from p2pfl.training.privacy.account import decimal_epsilon
from p2pfl.training.privacy.accounts import EVERYTHING
from tests.end_to_end.checks import check_everything, entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Process, Site, Sites, loopback, task_lines
from tests.end_to_end.site import _stand_in_epsilon
from tests.ports import free_ports

STEPS = 10
SETTINGS = ("rounds=2", f"privacy.steps_per_round={STEPS}", "privacy.max_epsilon=100")
TRAIN = [{"train": 2}]
SHARED = "ada"
DELTA = 1e-5


@dataclass(frozen=True)
class OfStudy(Site):
    """A site whose home has several studies. Whichever process comes first has its own at the root."""

    host: Site
    study: str

    @property
    def home(self) -> Path:
        return self.host.home

    @property
    def key(self) -> Path:
        return self.host.key

    def opened(self) -> Home:
        """Its home, as that study sees it."""
        held = studies_of(self.host.opened())
        return next(one.home for one in held if one.federation.name == self.study)


@contextmanager
def second(place: Path, first: Sites) -> Iterator[Sites]:
    """A federation of other sites, and of one that is in the first."""
    ports, where = free_ports(3), loopback(3)
    with first[SHARED].opened() as home:
        key = home.identity().key
    host = first[SHARED]
    first.sites[SHARED] = OfStudy(SHARED, host.folder, host.port, host.place, host, "test")
    guest = OfStudy(SHARED, place / SHARED, ports[0], where[0], host, "second")
    guest.folder.mkdir(parents=True)
    members = [Member(SHARED, key, (Address(where[0].address, ports[0]),))]
    others = {
        name: Site(name, place / name, port, at) for name, port, at in zip("xy", ports[1:], where[1:], strict=True)
    }
    members += [site.create(site.port, [site.place.address]) for site in others.values()]
    (place / "peers.yaml").write_bytes(draft.peers_file("second", members, task_lines(None), list(SETTINGS)))
    found = Sites(place, {SHARED: guest, **others})
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def both(make: MakeSites, tmp_path: Path) -> Iterator[tuple[Sites, Sites]]:
    first = make(3, *SETTINGS)
    with second(tmp_path / "second", first) as found:
        yield first, found


def charges(site: Site) -> list[dict[str, Any]]:
    return [one for one in entries(site, "site") if one["kind"] == "charge"]


def ended(processes: list[Process]) -> None:
    for process in processes:
        assert process.end().status == 0, process.tail


@pytest.mark.claim("DP-9")
@pytest.mark.claim("HOME-10")
@pytest.mark.parametrize(
    "moments",
    [
        [["rename", "accounts/spent", 1], ["fsync", "accounts/spent.new", 1]],
        [["open", "state/residual.new", 1], ["rename", "accounts/spent", 2]],
    ],
    ids=["as they charge", "in the middle"],
)
def test_two_studies_at_once_are_killed_as_they_charge_and_epsilon_is_that_of_both(
    both: tuple[Sites, Sites], moments: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "_epsilon", _stand_in_epsilon)
    others = [study.site(name, TRAIN) for study in both for name in study.names if name != SHARED]
    dying = [study.site(SHARED, TRAIN, die={"at": at}) for study, at in zip(both, moments, strict=True)]
    assert [process.end().status for process in dying] == [-9, -9]
    ended([study.site(SHARED, TRAIN, again=True) for study in both] + others)
    for study in both:
        check_everything(study, rounds=2, sums=0)
    spent = [charges(study[SHARED]) for study in both]
    assert [len(one) for one in spent] == [2, 2]
    whole = decimal_epsilon(0.01 * STEPS * 4)
    assert max(float(one["after"]) for held in spent for one in held) == float(whole)
    with both[0][SHARED].opened() as home:
        assert decimal_epsilon(read_accounts(home).epsilon(EVERYTHING, DELTA)) == whole


def test_verbs_on_a_home_of_two_studies_ask_which_one(both: tuple[Sites, Sites]) -> None:
    first, other = both
    ended([study.site(name, TRAIN) for study in both for name in study.names])
    where = ["--home", first[SHARED].home, "--key-file", first[SHARED].key, "--json"]

    def say(*verb: object) -> Any:
        return first.run(SHARED, ["-m", "p2pfl", *verb, *where]).end()

    told = say("studies").facts
    shown = {one["name"]: (one["rounds"], one["passes"]) for one in told["studies"]}
    assert shown == {"test": (3, 2), "second": (3, 2)}
    unclear = say("status")
    assert (unclear.status, unclear.facts["error"]["code"]) == (2, "P2P-HOME-011")
    assert [say("status", "--peers", study.peers).facts["federation"]["name"] for study in both] == ["test", "second"]
    for study in both:
        assert say("ledger", "verify", "--peers", study.peers).facts["verified"]
    model = say("model", "export", "-o", other.place / "model.safetensors", "--peers", other.peers)
    assert model.status == 0, model.text
    assert say("status", "--peers", other.peers).facts["model"]["named"] == model.facts["model"]
