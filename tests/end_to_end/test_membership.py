"""Membership changes in a federation of real processes: who is added, leaves, or has another key, and what goes on."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl import codec
from p2pfl.cli.main import run
from p2pfl.federation import Federation
from p2pfl.keys import verify
from p2pfl.ledger.log import Log
from p2pfl.node.epochs import AGREED
from p2pfl.training.tasks.heart_records import deal
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites

STAY = ("ada", "ben", "cyd", "dot")


def peers(sites: Sites, name: str, verb: str, *arguments: object, status: int = 0) -> None:
    """`p2pfl peers VERB` as a person of that site runs it, beside whatever works in its home."""
    site = sites[name]
    common = ["--home", site.home, "--key-file", site.key]
    file = ["--peers", sites.peers] if verb != "new-key" else []
    assert run([str(one) for one in ("peers", verb, *arguments, *file, *common)]) == status


def approved(sites: Sites, *steps: object, by: tuple[str, ...] = STAY, round: int = 2) -> Path:
    """A change that `by` signed, one after another on one file, which lies in the last one's home too."""
    file = sites.place / "change.yaml"
    peers(sites, by[0], "propose", *steps, "--from-round", round, "-o", file)
    for name in by[1:]:
        peers(sites, name, "approve", file, "--yes")
    return file


def records(sites: Sites, name: str) -> list[codec.Facts]:
    with sites[name].opened() as home:
        return [codec.read_facts(one.record) for one in Log.open(home, "federation").records()]


@pytest.mark.claim("MEMBER-8")
def test_one_joins_one_leaves_one_has_another_key_and_the_training_goes_on(
    make: MakeSites, capfd: pytest.CaptureFixture[str]
) -> None:
    sites = make(5, "rounds=4", "privacy.max_epsilon=100")
    first = sites.linked(lambda name: [{"train": 1, "until": 2}])  # so that each has made two passes
    assert [process.end().status for process in first.values()] == [0] * 5
    fay = sites.newcomer("fay")
    card = sites.place / "ben.next.card"
    peers(sites, "ben", "new-key", "-o", card)
    file = approved(sites, "add", fay.card, "remove", "eve", "rotate", "ben", card)
    # Only dot, who signed last, holds it: the hello hands it on. The file of epoch 2 is for who has no ledger yet.
    peers(sites, "dot", "adopt", file, "-o", sites.place / "peers-2.yaml")

    running = {name: sites.site(name, [sites[name].shut(at=3)]) for name in ("ada", "ben", "dot", "eve")}
    running["fay"] = sites.site("fay", [{"train": 1}], peers=str(sites.place / "peers-2.yaml"))
    for name in ("ada", "ben"):
        running[name].event("change", epoch=2)
    for name in running.keys() - {"fay"}:
        sites[name].open()
    running["ada"].event("epoch", epoch=2)
    running["cyd"] = sites.site("cyd", [{"train": 1}])  # was away, and knows of nothing
    for name in (*STAY, "fay"):
        ended = running[name].end()
        assert ended.status == 0, ended.text
    ended = running["eve"].end()
    assert ended.status == 2
    assert "P2P-FED-037" in ended.text
    left = next(number for number, line in enumerate(running["eve"].said) if '"failed"' in line)
    assert not [line for line in running["eve"].said[left:] if '"waiting"' in line], "its links are gone already"

    assert len({sites.verified(name).federation.root for name in (*STAY, "fay")}) == 1
    held = records(sites, "fay")
    kinds = [one["kind"] for one in held]
    place = kinds.index("membership")
    assert kinds.count("membership") == 1
    assert (held[place]["added"], held[place]["removed"], held[place]["rotated"]) == (["fay"], ["eve"], ["ben"])
    assert "announced" in held[place - 1]
    assert [one["epoch"] for one in held[1:place]] == [1] * (place - 1)
    assert {one["epoch"] for one in held[place + 1 :]} == {2}
    assert sum(one["configuration"]["purpose"] == "training" for one in held if one["kind"] == "round") == 4
    after = [set(one["survivors"]) for one in held[place + 1 :]]
    assert after
    assert all("eve" not in names for names in after)
    assert any("fay" in names for names in after)
    with sites["ben"].opened() as home:
        assert home.identity().key.hex() == dict(held[place]["peers"])["ben"]

    # A file of the first epoch still names the federation: the home knows what came since.
    again = sites.site("cyd", [{"train": 1}], linger=0).end()
    assert again.status == 0, again.text


@pytest.mark.claim("MEMBER-3")
def test_a_newcomers_signature_under_the_agreement_is_in_every_ledger(
    make: MakeSites, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "baa.pdf"
    document.write_bytes(b"business associate agreement")
    named = hashlib.sha256(document.read_bytes()).hexdigest()
    sites = make(3, "rounds=3", "privacy.max_epsilon=100", f"agreement.sha256={named}")
    unseen = sites.site("ada", [{"train": 1}]).end()
    assert (unseen.status, "P2P-FED-053" in unseen.text) == (2, True)  # she would sign it by her first hello
    running = {name: sites.site(name, [sites[name].shut(at=3)], agreement=str(document)) for name in sites.names}
    running["ada"].event("round", round=1)
    fay = sites.newcomer("fay")
    file = approved(sites, "add", fay.card, by=("ada", "ben", "cyd"))
    peers(sites, "ada", "adopt", file, status=2)  # three of three, and it is not approved: she has not signed
    assert "no signature of fay, which joins, under the agreement" in capfd.readouterr().err
    common = ["--home", fay.home, "--key-file", fay.key]
    assert run([str(one) for one in ("peers", "accept", file, "--agreement", document, "--yes", *common)]) == 0
    peers(sites, "ada", "adopt", file, "-o", sites.place / "peers-2.yaml")
    running["ben"].event("change", epoch=2)
    for name in ("ada", "ben", "cyd"):
        sites[name].open()
    running["ada"].event("epoch", epoch=2)
    running["fay"] = sites.site("fay", [{"train": 1}], peers=str(sites.place / "peers-2.yaml"))
    for process in running.values():
        ended = process.end()
        assert ended.status == 0, ended.text

    assert len(sites.roots()) == 1  # each of them verified
    for name in sites.names:
        with sites[name].opened() as home:
            (entry,) = (one for one in Log.open(home, "federation").records() if b'"membership"' in one.record)
        held = codec.read_facts(entry.record)
        assert (held["agreement"], held["added"]) == (named, ["fay"])
        key = bytes.fromhex(dict(held["peers"])["fay"])
        assert verify(key, "membership", entry.record, entry.signatures["fay"])
    capfd.readouterr()
    assert run([str(one) for one in ("ledger", "show", *common)]) == 0
    assert f"fay joins, fay under agreement {named[:12]}" in capfd.readouterr().out
    for log in ("federation", "site"):  # and whoever audits her needs nobody's key
        target, verifier = sites.place / f"{log}.json", sites.place / "verify_ledger.py"
        words = ("ledger", "export", "--log", log, "-o", target, "--with-verifier", *common)
        assert run([str(one) for one in words]) == 0
        done = subprocess.run(
            [sys.executable, "-I", str(verifier), str(target)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert f"{named}, signed by every site that was ever one" in done.stdout


def test_a_site_that_was_away_when_its_new_key_came_into_force_goes_on_with_it(make: MakeSites) -> None:
    sites = make(5, "rounds=3", "privacy.max_epsilon=100")
    card = sites.place / "eve.next.card"
    held = {name: [sites[name].shut(at=2) | {"until": 2}, {"train": 1, "gate": 3}] for name in sites.names}
    # eve may be slow to come back, and the others wait for its word
    running = sites.linked(held.__getitem__, linger=PATIENCE_S / 2)
    running["ada"].event("round", round=1)
    peers(sites, "eve", "new-key", "-o", card)
    file = approved(sites, "rotate", "eve", card, by=("eve", "ada", "ben"))
    running["eve"].kill()
    for name in STAY:
        sites[name].open()
    running["ada"].event("round", round=2)  # without her: the next epoch begins behind a round that she missed
    peers(sites, "cyd", "approve", file, "--yes")  # the fourth: in force as soon as a round says so, while all run
    running["ada"].event("change", epoch=2)
    for name in STAY:
        sites[name].open()
    running["ada"].event("epoch", epoch=2)

    lost = sites.site("eve", [{"train": 1}]).end()
    assert lost.status == 2
    assert "P2P-FED-038" in lost.text
    peers(sites, "eve", "adopt", file)
    running["eve"] = sites.site("eve", [{"train": 1}])
    for name in sites.names:
        ended = running[name].end()
        assert ended.status == 0, ended.text
    assert len(sites.roots()) == 1
    found = records(sites, "eve")
    assert [one["rotated"] for one in found if one["kind"] == "membership"] == [["eve"]]


def test_the_hub_leaves_and_a_running_training_goes_on_under_its_successor(make: MakeSites) -> None:
    sites = make(5, "rounds=4", "privacy.max_epsilon=100", "topology=hub", "hub=ada", outbound=("cyd", "dot", "eve"))
    running = sites.linked(lambda name: [sites[name].shut(at=2)])
    running["ben"].event("round", round=1)
    peers(sites, "ben", "propose", "remove", "ada", "-o", sites.place / "none.yaml", status=2)
    approved(sites, "remove", "ada", "hub", "ben", by=("ben", "cyd", "dot", "eve"))
    assert running["ada"].event("change", epoch=2)["hub"] == "ben"
    for name in sites.names:
        sites[name].open()
    stay = ("ben", "cyd", "dot", "eve")
    for name in stay:
        running[name].event("epoch", epoch=2)
    for name in ("cyd", "dot", "eve"):  # none of them has a port
        assert running[name].event("link_up", path="relay")["via"] == "ben"
    for name in stay:
        ended = running[name].end()
        assert ended.status == 0, ended.text
    assert "P2P-FED-037" in running["ada"].end().text

    assert len({sites.verified(name).federation.root for name in stay}) == 1
    held = records(sites, "eve")
    assert [one["removed"] for one in held if one["kind"] == "membership"] == [["ada"]]
    rounds = [one for one in held if one["kind"] == "round"]
    assert sum(one["configuration"]["purpose"] == "training" for one in rounds) == 4
    assert all("ada" not in one["survivors"] for one in rounds if one["epoch"] == 2)
    for name in stay:
        with sites[name].opened() as home:
            assert Federation.parse(home.read(AGREED) or b"").hub == "ben"


@pytest.mark.claim("MEMBER-13")
def test_a_revoked_key_loses_its_link_at_once_and_is_in_no_sum_with_that_site(make: MakeSites) -> None:
    sites = make(5, "rounds=1", "privacy.max_epsilon=100")
    apart = ("ada", "eve")  # each gets what it lacks from the others, and waits in vain for the other's last word
    running = sites.linked(lambda name: [sites[name].shut(at=1)], {name: {"linger": 1} for name in apart})
    running["ada"].event("charged", round=1)
    peers(sites, "ada", "revoke", "eve")
    assert "revoked" in running["ada"].event("link_down", peer="eve")["reason"]
    assert "P2P-FED-041" in running["eve"].event("refused", peer="ada")["text"]
    for name in sites.names:
        sites[name].open()
    for name in sites.names:
        ended = running[name].end()
        assert ended.status == 0, ended.text
    rounds = [set(one["survivors"]) for one in records(sites, "ben") if one["kind"] == "round"]
    assert all(len(names & {"ada", "eve"}) == 1 for names in rounds)
    with sites["ada"].opened() as home:
        told = [codec.read_facts(one.record) for one in Log.open(home, "site").records()]
    assert [one["options"]["peer"] for one in told if one.get("command") == "peers revoke"] == ["eve"]


def test_each_epoch_has_sums_of_its_own(make: MakeSites) -> None:
    sites = make(3)
    first = [sites.site(name, [{"sum": [1]}]) for name in sites.names]
    assert [process.end().status for process in first] == [0] * 3
    fay = sites.newcomer("fay")
    file = sites.place / "change.yaml"
    peers(sites, "ada", "propose", "add", fay.card, "--of", "sums", "-o", file)
    for name in ("ben", "cyd"):
        peers(sites, name, "approve", file, "--yes")
    for name in ("ada", "ben"):
        peers(sites, name, "adopt", file)
    do = [{"sum": [2]}, {"sum": [10]}]
    running = [sites.site(name, do, linger=PATIENCE_S) for name in ("ada", "ben", "cyd")]  # fay never comes
    given = [[process.given() for _ in do] for process in running]
    for process in running:  # once all have it: whoever is slow has the last round from the others
        process.kill()
    assert [one["total"] for one in given[0]] == [["6"], ["30"]]  # of the second, fay is a member and is not there
    assert given[0] == given[1] == given[2]
    held = records(sites, "ada")
    assert [one["kind"] for one in held] == ["genesis", "round", "round", "membership", "round"]
    assert [one["round"] for one in held if one["kind"] == "round"] == [1, 2, 1]
    assert held[-1]["left_out"] == ["fay"]
    assert len({sites.verified(name).federation.root for name in ("ada", "ben", "cyd")}) == 1


def test_a_restart_with_the_first_file_goes_on_after_a_site_was_added(make: MakeSites) -> None:
    """It waits by name for a site that the file does not list, and looks for none that has left since."""
    sites = make(4)
    everybody = ("--patience", PATIENCE_S)  # of four, three go on without one that starts late
    first = [sites.sum(name, 1, *everybody) for name in sites.names]
    assert [process.end().status for process in first] == [0] * 4
    fay = sites.newcomer("fay")
    file, second = sites.place / "change.yaml", sites.place / "peers-2.yaml"
    peers(sites, "ada", "propose", "add", fay.card, "remove", "dot", "--of", "sums", "-o", file)
    for name in ("ben", "cyd"):
        peers(sites, name, "approve", file, "--yes")
    for name in ("ada", "ben"):
        peers(sites, name, "adopt", file)
    peers(sites, "cyd", "adopt", file, "-o", second)
    last = [sites.sum(name, 2, *everybody) for name in STAY]  # the round that announces the change
    assert [process.end().status for process in last] == [0] * 4

    stay = ("ada", "ben", "cyd")
    running = [sites.sum(name, 3, *everybody) for name in stay]  # each with the file that does not list fay
    assert "epoch 2" in running[0].line("sites: ada, ben, cyd, fay")
    assert "never seen" in running[0].line("waiting for fay")
    words = ("-m", "p2pfl", "sum", "--peers", second, "--home", fay.home, "--value", 3, "--stat", "sum", "--json")
    words = (*words, *everybody)
    for process in (*running, sites.run("fay", words)):
        ended = process.end()
        assert (ended.status, ended.facts["survivors"]) == (0, [*stay, "fay"]), process.tail
    sites["ada"].records.write_bytes(next(iter(deal(3).files.values())))
    ended = sites.join("ada", "--check", "--wait", "1").end()
    assert (ended.status, [link["peer"] for link in ended.facts["links"]]) == (1, ["ben", "cyd", "fay"]), ended.text
