"""A home restored from a backup: stopped by what it signed since, let go on by a quorum, and training again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.checks import rounds
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites
from tests.end_to_end.test_homes import told
from tests.end_to_end.test_membership import peers

TRAIN = {"train": 1}


def trained(sites: Sites, names: list[str], until: int) -> None:
    do = [TRAIN | {"until": until}]
    if names == sites.names:
        running = list(sites.linked(lambda name: do, linger=PATIENCE_S).values())
    else:
        running = [sites.site(name, do, linger=PATIENCE_S) for name in names]
    for process in running:
        process.given()
    for process in running:
        if names != sites.names:  # it would wait for who is away, to hand the last round over
            process.kill()
        else:
            assert process.end().status == 0, process.tail


def audited(sites: Sites, name: str) -> None:
    """`ledger verify`, and the auditor's program on both of its logs, find nothing."""
    assert sites.verified(name).verified
    for log in ("federation", "site"):
        file = sites.place / f"{name}-{log}.json"
        export = ["ledger", "export", "--log", log, "-o", file, "--with-verifier", "--home", sites[name].home]
        assert sites.run(name, ["-m", "p2pfl", *export]).end().status == 0
        checked = sites.run(name, ["-I", file.with_name("verify_ledger.py"), file]).end()
        assert checked.status == 0, checked.text


@pytest.mark.claim("HOME-9")
def test_a_restored_home_stops_and_goes_on_once_a_quorum_has_signed_it(make: MakeSites, tmp_path: Path) -> None:
    sites = make(4, "rounds=5", "privacy.max_epsilon=100")
    everybody, others = sites.names, sites.names[:3]
    trained(sites, everybody, 1)
    shutil.copytree(sites["dot"].home, tmp_path / "backup")
    trained(sites, everybody, 3)
    before = max(float(one["epsilon"]["dot"]) for one in rounds(sites["ada"], "training"))
    shutil.rmtree(sites["dot"].home)
    shutil.move(tmp_path / "backup", sites["dot"].home)

    running = [sites.site(name, [TRAIN | {"until": 3}, {"sum": [1], "patience_s": 600}]) for name in ("ada", "ben")]
    told(sites.site("dot", [TRAIN]).end(), "P2P-ROUND-032", 5)
    for process in running:
        process.kill()

    file = sites.place / "change.yaml"
    peers(sites, "ada", "propose", "recover", "dot", "-o", file)
    assert f'dot: "{before:.6f}"' in file.read_text()
    for name in ("ben", "cyd"):
        peers(sites, name, "approve", file, "--yes")
    for name in others:
        peers(sites, name, "adopt", file)
    trained(sites, others, 4)  # the round that announces it, without dot
    trained(sites, everybody, 5)

    kept = rounds(sites["dot"], "training")
    assert [one["epoch"] for one in kept] == [1, 1, 1, 1, 2]
    assert "dot" not in kept[3]["survivors"]
    assert "dot" in kept[4]["survivors"]
    spent = [float(one["epsilon"]["dot"]) for one in kept if "dot" in one["epsilon"]]
    assert spent == sorted(spent)
    assert spent[-1] >= before
    assert len(sites.roots()) == 1
    for name in ("dot", "ada"):
        audited(sites, name)


def test_what_a_backup_has_not_forgotten_needs_no_recovery(make: MakeSites, tmp_path: Path) -> None:
    """A restored home that has signed nothing since its backup goes on as if it had slept."""
    sites = make(3, "rounds=2")
    trained(sites, sites.names, 1)
    shutil.copytree(sites["cyd"].home, tmp_path / "backup")
    shutil.rmtree(sites["cyd"].home)
    shutil.move(tmp_path / "backup", sites["cyd"].home)
    trained(sites, sites.names, 2)
    assert len(sites.roots()) == 1


def test_among_three_nobody_can_let_a_restored_home_go_on(make: MakeSites, capfd: pytest.CaptureFixture[str]) -> None:
    sites = make(3)
    trained(sites, sites.names, 1)
    peers(sites, "ada", "propose", "recover", "ben", "-o", sites.place / "change.yaml", status=2)
    assert "P2P-FED-054" in capfd.readouterr().err
