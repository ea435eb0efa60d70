"""`p2pfl doctor` as people run it: beside others that run it, beside a join, alone."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from tests.cli.sites import Sites, Start, ended, facts, said


def test_five_doctors_at_once_find_every_link_well_in_both_directions(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path, count=5)
    running = [start("doctor", *sites.common(name), "--wait", "300", "--json") for name in sites.names]
    for name, process in zip(sites.names, running, strict=True):
        status, out, err = ended(process)
        assert status == 0, err
        told: dict[str, Any] = facts(out)
        assert told["ready"]
        assert told["port"] == {
            "state": "open",
            "address": f"127.0.0.1:{sites.ports[sites.names.index(name)]}",
            "process": process.pid,
        }
        assert {link["peer"] for link in told["links"]} == set(sites.names) - {name}
        for link in told["links"]:
            assert (link["there"], link["back"], link["up"], link["errors"]) == ("ok", "ok", True, [])
            assert link["same_peers_yaml"]
            assert link["tls"]["version"] == "TLSv1.3"
            assert link["up_bit_s"] > 0
            assert link["down_bit_s"] > 0
            assert abs(link["clock_ahead_s"]) < 10


@pytest.mark.claim("PROBE-1")
def test_a_doctor_beside_a_training_disturbs_no_round(tmp_path: Path, start: Start) -> None:
    """It finds that the port is held by this site's own join. Once the sites are told to stop, their links end.

    A site that stands still for a while may lose a link, and an attempt with it: that is not the doctor's doing.
    """
    sites = Sites(tmp_path, "rounds=500", "privacy.max_epsilon=100")
    logs = {name: tmp_path / f"{name}.jsonl" for name in sites.names}
    joins = [start(*sites.join(name, "--log", str(log))) for name, log in logs.items()]
    said(joins[0], "round 1 ")
    for _ in range(2):
        status, out, err = ended(start("doctor", *sites.common(sites.names[0]), "--json"))
        assert status == 0, err + out
        told: dict[str, Any] = facts(out)
        assert (told["port"]["state"], told["port"]["process"]) == ("taken", joins[0].pid)
        assert [(link["there"], link["back"]) for link in told["links"]] == [("ok", "ok")] * 2
    happened = {name: log.read_text() for name, log in logs.items()}
    for process in joins:
        process.send_signal(signal.SIGINT)
    assert [ended(process)[0] for process in joins] == [130] * 3
    for name, text in happened.items():
        events = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        rounds = [one for one in events if one["event"] == "round"]
        assert rounds or name != sites.names[0], "its first round was final before"
        assert all(one["survivors"] == sites.names for one in rounds)
        assert not {"left", "refused"} & {one["event"] for one in events}, text
        ends = [one["reason"] for one in events if one["event"] == "link_down"]
        assert all(any(why in reason for why in ("replaced", "nothing arrived", "dialled anew")) for reason in ends), (
            text
        )


def test_a_site_down_and_one_with_another_file_end_doctor_with_1(tmp_path: Path, start: Start) -> None:
    """Both findings say what to do."""
    sites = Sites(tmp_path)
    first, second, third = sites.names
    other = tmp_path / "other.yaml"
    other.write_bytes(sites.peers_yaml("rounds=9"))
    far = start("doctor", "--peers", str(other), *sites.common(second)[2:], "--wait", "300")
    said(far, "listening")
    status, out, _ = ended(start("doctor", *sites.common(first), "--wait", "0.1"))
    assert status == 1
    down, differs = out.index(f"\n  {third} "), out.index(f"\n  {second} ")
    assert down < differs, "the worst comes first"
    assert "P2P-MESH-043" in out
    assert "P2P-ROUND-033" in out
    assert re.search(r"\| -rounds: 8.*\n.*\| \+rounds: 9", out)
    assert f"try       nc -vz 127.0.0.1 {sites.ports[2]}" in out
    assert max(map(len, out.splitlines())) <= 80
    far.send_signal(signal.SIGINT)
    assert ended(far)[0] == 130


def test_ctrl_c_while_it_only_answers_others_prints_what_was_found(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    for process in [start("sum", *sites.common(name), "--value", "1") for name in sites.names[1:]]:
        said(process, "listening")
    running = start("doctor", *sites.common(sites.names[0]), "--wait", "300", "--json")
    said(running, "answering the others' doctors")
    running.send_signal(signal.SIGINT)
    status, out, _ = ended(running)
    assert status == 0
    assert facts(out)["ready"]


def test_a_port_held_by_another_program_is_named(tmp_path: Path, start: Start) -> None:
    """And a home of another federation is refused."""
    sites = Sites(tmp_path)
    with socket.create_server(("127.0.0.1", sites.ports[0])):
        status, out, _ = ended(start("doctor", *sites.common(sites.names[0]), "--wait", "0.1", "--json"))
    told: dict[str, Any] = facts(out)
    assert status == 1
    assert told["port"]["state"] == "shut"
    assert [error["code"] for error in told["errors"]] == ["P2P-MESH-001"]
    Home.create(tmp_path / "stranger", "stranger", [KeyFile(tmp_path / "stranger.key")]).close()
    status, _, err = ended(start("doctor", "--peers", str(sites.peers), "--home", str(tmp_path / "stranger")))
    assert (status, "P2P-ROUND-042" in err) == (2, True)
