"""Homes and keys in the wrong hands, on full disks, rolled back, cloned: each an error of its own; nothing is lost.

What is wrong with files of records and with arguments is in tests/cli/test_processes.py.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.errors.round import PeersFileDiffers
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import digest
from p2pfl.ledger.log import Log
from p2pfl.messages import Envelope, Ready, seal
from p2pfl.peer.epoch import sums_run
from tests.end_to_end.checks import check_everything, entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Ended, Process, Sites
from tests.ports import free_ports

SUM = [{"sum": [1], "name": "first"}]
NEXT = [{"sum": [2], "name": "second"}]


def told(ended: Ended, code: str, status: int) -> None:
    """The process ended with this error, told as a person reads it, and with nothing else."""
    assert ended.status == status, ended.text
    assert f"error {code}: " in ended.text
    assert all(part in ended.text for part in ("  evidence  ", "  likely    ", "  try       "))
    assert "Traceback" not in ended.text
    assert ended.facts["error"]["code"] == code


def all_do(sites: Sites, do: list[dict[str, Any]], **plan: Any) -> None:
    started = [sites.site(name, do, **plan) for name in sites.names]
    assert [process.end().status for process in started] == [0] * len(started), started[0].tail


def malformed_peers(sites: Sites) -> None:
    sites.peers.write_text(sites.peers.read_text().replace("rounds:", "rounds:\n  rounds:", 1))


def unknown_key(sites: Sites) -> None:
    sites.peers.write_text(sites.peers.read_text() + "insecure: true\n")


def two_sites(sites: Sites) -> None:
    text = sites.peers.read_text()
    block = text.index("  - name: cyd")
    sites.peers.write_text(text[:block] + text[text.index("\n\n", block) + 1 :])


def wrong_key(sites: Sites) -> None:
    shutil.copy(sites["ben"].key, sites["ada"].key)


def no_key(sites: Sites) -> None:
    sites["ada"].key.write_text("not a key\n")


def key_open_to_others(sites: Sites) -> None:
    sites["ada"].key.chmod(0o644)


def home_open_to_others(sites: Sites) -> None:
    sites["ada"].home.chmod(0o755)


def account_cut(sites: Sites) -> None:
    path = sites["ada"].home / "identity"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "code", "status"),
    [
        (malformed_peers, "P2P-FED-", 2),
        (unknown_key, "P2P-FED-004", 2),
        (two_sites, "P2P-FED-", 2),
        (wrong_key, "P2P-KEY-002", 5),
        (no_key, "P2P-KEY-006", 2),
        (key_open_to_others, "P2P-KEY-004", 5),
        (home_open_to_others, "P2P-HOME-004", 2),
        (account_cut, "P2P-HOME-005", 5),
    ],
)
def test_what_is_wrong_with_a_file_of_the_home_is_an_error_of_its_own(
    make: MakeSites, spoil: Callable[[Sites], None], code: str, status: int
) -> None:
    sites = make(3)
    spoil(sites)
    ended = sites.sum("ada", 1).end()
    found = ended.facts["error"]["code"]
    assert found.startswith(code)
    told(ended, found, status)


@pytest.mark.parametrize("where", ["state/journal.new", "state/journal", "federation/*", "site/*"])
def test_a_disk_that_fills_in_mid_round_is_told_and_loses_nothing(make: MakeSites, where: str) -> None:
    sites = make(3)
    all_do(sites, SUM)
    started = [sites.site(name, NEXT, **({"full": where} if name == "ben" else {})) for name in sites.names]
    full = started[1].end()
    told(full, "P2P-HOME-006", 1)
    sites.verified("ben")
    again = sites.site("ben", NEXT)
    assert [process.end().status for process in (started[0], again, started[2])] == [0, 0, 0], again.tail
    check_everything(sites, rounds=0, sums=2)


def test_a_real_disk_that_is_full_is_told_and_the_home_opens_again(make: MakeSites, tmp_path: Path) -> None:
    sites = make(3)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        shutil.copytree(sites["ada"].home, small / "home")
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        told(sites.site("ada", SUM, home=str(small / "home")).end(), "P2P-HOME-006", 1)
        filler.unlink()
        started = [sites.site("ada", SUM, home=str(small / "home")), sites.site("ben", SUM), sites.site("cyd", SUM)]
        assert [process.end().status for process in started] == [0, 0, 0]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_home_of_another_federation_is_refused(make: MakeSites) -> None:
    sites, other = make(3), make(3)
    all_do(sites, SUM)
    shutil.rmtree(other["ada"].home)
    shutil.copytree(sites["ada"].home, other["ada"].home)
    shutil.copy(sites["ada"].key, other["ada"].key)
    told(other.sum("ada", 1).end(), "P2P-LEDGER-005", 2)  # it has a study of that name
    text = other.peers.read_text()
    other.peers.write_text(text.replace("federation: test", "federation: else"))
    told(other.sum("ada", 1).end(), "P2P-ROUND-042", 2)  # its key is not the one in that file


def test_a_home_that_was_rolled_back_is_stopped_by_the_first_hello(make: MakeSites, tmp_path: Path) -> None:
    sites = make(3)
    all_do(sites, SUM)
    shutil.copytree(sites["ben"].home, tmp_path / "old")
    all_do(sites, NEXT)
    all_do(sites, [{"sum": [3], "name": "third"}])
    shutil.rmtree(sites["ben"].home)
    shutil.move(tmp_path / "old", sites["ben"].home)
    others = [sites.sum(name, 4, "--name", "fourth") for name in ("ada", "cyd")]
    stopped = sites.site("ben", [{"sum": [4], "name": "fourth"}])
    told(stopped.end(), "P2P-ROUND-032", 5)
    for process in others:
        process.line("waiting for ben")  # they go on waiting for the right one
        process.signal(signal.SIGINT)
        assert process.end().status == 130


def lost(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    *held, last = path.read_bytes()
    path.write_bytes(bytes([*held, last ^ 1]))


@pytest.mark.claim("HOME-8")
@pytest.mark.parametrize(("spoil", "rounds"), [(lost, 2), (damaged, 2), (lost, 1)])
def test_a_site_whose_model_is_lost_or_damaged_has_it_from_a_peer(
    make: MakeSites, spoil: Callable[[Path], None], rounds: int
) -> None:
    """It goes on with it, or, when all rounds are over, ends with it: the others are there for a sum."""
    sites = make(3, "rounds=2")
    all_do(sites, [{"train": 1, "until": 1}])
    spoil(sites["ben"].home / "checkpoints" / "model")
    do = [{"train": 1, "until": rounds}, *SUM]
    started = [sites.site(name, do) for name in sites.names]
    assert started[1].event("model_lacking")["why"]
    ended = [process.end() for process in started]
    assert [one.status for one in ended] == [0, 0, 0], started[1].tail
    assert len({json.dumps(one.facts["given"][0]["model"]) for one in ended}) == 1
    with sites["ben"].opened() as home:
        assert home.read("checkpoints/model") is not None


@pytest.mark.claim("LEDGER-11")
def test_a_site_log_that_its_administrator_cut_is_found_by_the_first_hello(make: MakeSites) -> None:
    """Both logs of its home fit together, and all that it signed in rounds stands: only its heads tell."""
    sites = make(3)
    all_do(sites, SUM)
    all_do(sites, NEXT)
    with Home.open(sites["ben"].home, unlock=[KeyFile(sites["ben"].key)]) as home:
        log = Log.open(home, "site")
        kept = [(one.record, dict(one.signatures)) for one in list(log.records())[:-4]]
        for file in (home.path / "ledger" / "site").iterdir():
            file.unlink()
        made = Log.open(home, "site")
        made.extend(kept)
        made.sign_head(home.identity(), Log.open(home, "federation"))
        made.close()
        home.remove("state/heads")
    others = [sites.sum(name, 3, "--name", "third") for name in ("ada", "cyd")]
    stopped = sites.site("ben", [{"sum": [3], "name": "third"}]).end()
    told(stopped, "P2P-ROUND-032", 5)
    assert "a head of this site's log over" in " ".join(stopped.text.split())
    for process in others:
        process.line("waiting for ben")
        process.signal(signal.SIGINT)
        assert process.end().status == 130


def copied(sites: Sites, place: Path) -> Callable[..., Process]:
    """All sites have a sum behind them; what starts a second cyd, on a copy of its home and a port of its own."""
    all_do(sites, SUM)
    shutil.copytree(sites["cyd"].home, place)
    return lambda do: sites.site("cyd", do, home=str(place), listen=f"127.0.0.1:{free_ports(1)[0]}")


def test_a_copy_of_a_running_home_is_stopped_by_the_first_hello(make: MakeSites, tmp_path: Path) -> None:
    """The sum is right."""
    sites = make(4)
    start_copy = copied(sites, tmp_path / "clone")
    patient = [NEXT[0] | {"patience_s": 600}]
    started = {name: sites.site(name, patient) for name in ("ada", "cyd", "dot")}
    # Only ben is waited for: ada holds what the running cyd has signed, so there is something to show to a copy of it.
    started["ada"].line(lambda line: '"waiting"' in line and '"missing": {"ben": ' in line and '"cyd"' not in line)
    told(start_copy(patient).end(), "P2P-ROUND-032", 5)
    for process in (*started.values(), sites.site("ben", patient)):
        ended = process.end()
        assert ended.status == 0, process.tail
        assert ended.facts["given"][0]["total"] == ["8"]


def test_of_two_copies_of_a_home_at_least_one_stops(make: MakeSites, tmp_path: Path) -> None:
    """They start together; no sum is wrong."""
    sites = make(3)
    start_copy = copied(sites, tmp_path / "clone")
    others = [sites.site(name, NEXT) for name in ("ada", "ben")]
    copies = [sites.site("cyd", NEXT), start_copy(NEXT)]
    while (first := sites.next_end()) not in copies:
        pass  # of the sum before; or one of the others, when one copy was quick and has its sum
    (second,) = set(copies) - {first}
    if not first.end().status:  # the other one came when all was over: it is told so, or there is nobody to tell it
        for ended in (first.end(), *(process.end() for process in others)):
            assert (ended.status, ended.facts["given"][0]["total"]) == (0, ["6"]), ended.text
        second.kill()
        late = second.end()
        if late.status != -signal.SIGKILL:
            told(late, "P2P-ROUND-032", 5)
        assert not any('"given"' in line for line in late.out), second.tail
        return
    told(first.end(), "P2P-ROUND-032", 5)
    last = second.end()
    if last.status:  # each had signed something before it heard of the other: neither can be trusted
        told(last, "P2P-ROUND-032", 5)
        for process in others:
            process.signal(signal.SIGINT)
            assert process.end().status == 130, process.tail
        return
    for ended in (last, *(process.end() for process in others)):
        assert ended.status == 0, ended.text
        assert ended.facts["given"][0]["total"] == ["6"]


@pytest.mark.claim("HOME-6")
def test_a_new_process_draws_no_secret_for_a_round_before_a_quorum_has_said_hello(make: MakeSites) -> None:
    sites = make(3)
    all_do(sites, SUM)
    before = len(committed(sites, "ben"))
    ben = sites.site("ben", NEXT)
    assert set(ben.event("waiting")["missing"]) == {"ada", "cyd"}
    assert len(committed(sites, "ben")) == before
    others = [sites.site(name, NEXT) for name in ("ada", "cyd")]
    assert [process.end().status for process in (ben, *others)] == [0, 0, 0], ben.tail
    assert len(committed(sites, "ben")) > before


def committed(sites: Sites, name: str) -> list[dict[str, Any]]:
    """What binds a site in an attempt: the secrets that it drew."""
    return [one for one in entries(sites[name], "site") if one["kind"] == "commitment"]


@pytest.mark.claim("LIAR-5")
def test_a_proof_on_the_disk_of_one_site_keeps_the_liar_out_of_the_next_sum_at_all(make: MakeSites) -> None:
    sites = make(4)
    all_do(sites, SUM)
    with sites["dot"].opened() as home:
        liar = home.identity()
    run, names = sums_run(Federation.load(sites.peers)), {"sender": "dot", "incarnation": bytes([1]) * 16}
    at = Envelope(run=run, epoch=1, round=2, attempt=0, **names)  # type: ignore[arg-type]
    proof = codec.pack(tuple(seal(Ready(bytes(32), bytes([view]) * 32), at, liar).wire for view in (1, 2)))
    with Home.open(sites["ada"].home, unlock=[KeyFile(sites["ada"].key)]) as home:
        home.replace(f"state/evidence/{digest('evidence', proof).hex()[:16]}", proof)
    started = {name: sites.site(name, NEXT) for name in sites.names}
    told(started.pop("dot").end(), "P2P-ROUND-032", 5)  # it is shown what it signed
    for process in started.values():
        assert process.event("given")["given"]["survivors"] == ["ada", "ben", "cyd"], process.tail
    for process in started.values():  # all have it; each would wait a minute for dot, which does not come back
        process.signal(signal.SIGINT)
        assert process.end().status in (0, 130), process.tail


def test_a_site_with_another_peers_yaml_stops(make: MakeSites) -> None:
    """The others say why and go on waiting. It ends with the second that it meets, which may find it gone before it has
    read what that one says of itself: so one of them says why for sure.
    """
    sites = make(3)
    right = sites.peers.read_text()
    wrong = sites.place / "wrong.yaml"
    wrong.write_text(right + "# one site was told of this line\n")
    ada, ben = sites.sum("ada", 1), sites.sum("ben", 2)
    odd = ["sum", "--peers", wrong, "--home", sites["cyd"].home, "--value", 3, "--json"]
    told(sites.run("cyd", ["-m", "p2pfl", *odd]).end(), "P2P-ROUND-036", 2)
    cyd = sites.sum("cyd", 3)
    for process in (ada, ben, cyd):
        assert process.end().facts["value"] == "6.00"
    assert any(PeersFileDiffers.code in line for process in (ada, ben) for line in process.said), ada.tail + ben.tail


def test_no_error_of_a_site_repeats_a_value(make: MakeSites) -> None:
    sites = make(3)
    told(sites.sum("ada", "314159265.358", "--limit", 100).end(), "P2P-SHARE-007", 2)
    assert "314159265" not in "".join(line for process in sites.started for line in (*process.said, *process.out))
    assert not entries(sites["ada"], "federation")
