"""What `p2pfl doctor` makes of all findings together, and how it is written down."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.doctor import judge_clocks, judge_files
from p2pfl.cli.doctor_facts import Port, doctor_text, facts_of, own_clock
from p2pfl.cli.links import apart, link_facts, link_lines
from p2pfl.errors.mesh import PeerUnreachable
from p2pfl.errors.probe import NotReachedBy
from p2pfl.errors.round import PeersFileDiffers
from p2pfl.federation import Federation
from p2pfl.federation.difference import difference
from p2pfl.mesh.events import Path as Route
from p2pfl.mesh.events import TlsFacts
from p2pfl.mesh.probe.client import ClockOffset
from p2pfl.mesh.probe.diagnosis import AddressTrial, Diagnosis
from p2pfl.mesh.probe.wire import DOCTOR, Dialed, PeerFacts
from p2pfl.roster import Address
from tests.federation.sample import peers_yaml

OUTPUT = (Path(__file__).parents[2] / "docs/reference/json.md").read_text(encoding="utf-8")
FEDERATION = Federation.parse(peers_yaml())
NAME, *PEERS = FEDERATION.roster.names
LONG = "a-hospital-of-a-very-long-name"


def documented(heading: str) -> set[str]:
    """Keys in the first column of the table under `heading` in docs/reference/json.md."""
    section = OUTPUT.split(heading)[-1].split("\n## ")[0]
    return {key for row in re.findall(r"^\| (`.*?) \|", section, re.M) for key in re.findall(r"`(\w+)`", row)}


def test_a_doctor_is_there_quickly_since_it_loads_neither_torch_nor_what_trains() -> None:
    script = (
        "import sys, p2pfl.cli.doctor, p2pfl.cli.status, p2pfl.mesh.probe.doctor_port, p2pfl.mesh.probe.diagnose; "
        "loaded = {'torch', 'opacus', 'p2pfl.peer', 'p2pfl.node.node'} & set(sys.modules); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ── what all sites together show ──────────────────────────────────────────────────────────────────────────────


def well(peer: str, ahead_s: float = 0.0, theirs: bytes | None = None) -> Diagnosis:
    held = FEDERATION.digest if theirs is None else b"\1" * 32
    address = Address("10.0.0.1", 7443)
    way = AddressTrial(address, None, "10.0.0.1", 1448, 0.001, 0.004)
    errors = [] if theirs is None else [PeersFileDiffers(peer=peer, evidence="first difference in line 2")]
    tls = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768")
    return Diagnosis(
        peer,
        (way,),
        way,
        there="ok",
        back="ok",
        dialed=(Dialed("10.0.0.9:7443", 4),),
        tls=tls,
        facts=PeerFacts(DOCTOR, 1 << 24, held, "0.1.0"),
        round_trip_s=0.0042,
        clock=ClockOffset(0.0042, ahead_s),
        to_bytes_s=11.7e6,
        from_bytes_s=2.9e8,
        theirs=theirs,
        errors=list(errors),
    )


def test_one_clock_that_is_off_is_told_at_that_site() -> None:
    found = [well("a"), well("b", 600.0), well("c", -0.2)]
    assert judge_clocks(found, "d") == []
    assert [[error.code for error in one.errors] for one in found] == [[], ["P2P-MESH-040"], []]
    assert "600 s ahead of" in found[1].errors[0].happened


def test_when_most_others_agree_on_another_time_it_is_this_clock_that_is_off() -> None:
    found = [well("a", 600.0), well("b", 601.0), well("c", 0.0)]
    (error,) = judge_clocks(found, "d")
    assert (error.code, "600 s behind those of a, b" in error.happened) == ("P2P-MESH-041", True)
    assert all(not one.errors for one in found)


@pytest.mark.parametrize(
    ("others", "ahead"),
    [([0.0, 86400.0], 0.0), ([-60.0, -60.0], 60.0), ([-60.0], 60.0), ([0.0, 0.0, 9.0], 0.0), ([], None)],
)
def test_between_two_clocks_of_which_one_is_off_a_right_one_is_right(others: list[float], ahead: float | None) -> None:
    assert own_clock(others) == ahead


def test_clocks_that_are_all_off_by_another_time_are_each_told() -> None:
    found = [well("a", 600.0), well("b", -400.0), well("c", 90.0)]
    assert judge_clocks(found, "d") == []
    assert [len(one.errors) for one in found] == [1, 1, 1]


def test_when_most_hold_one_other_file_this_one_is_said_to_differ() -> None:
    """It is shown once, not once for each of them."""
    found = [well("a", theirs=b"x"), well("b", theirs=b"x"), well("c")]
    (error,) = judge_files(found)
    assert error.code == "P2P-ROUND-036"
    assert [len(one.errors) for one in found] == [1, 0, 0]
    assert judge_files([well("a", theirs=b"x"), well("b", theirs=b"y"), well("c")]) == []
    assert judge_files([well("a", theirs=b"x"), well("b"), well("c")]) == []


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────────


def unreachable(peer: str) -> PeerUnreachable:
    host = "a-gateway.of-a-hospital.with-a-long-name.example.org"
    return PeerUnreachable(
        peer=peer,
        address=Address(host, 7443),
        host=host,
        port=7443,
        evidence="10.11.12.13: no answer within 5 s; 2001:db8::1: no route to host",
    )


def test_the_table_fits_80_columns_whatever_the_names_and_the_worst_is_first() -> None:
    route = Route("relay", "another-very-long-name")
    bad = Diagnosis(LONG, (), path=route, there="stalls", back="no", errors=[unreachable(LONG)])
    blocked = replace(
        well("b"),
        back="no",
        round_trip_s=1.2345,
        clock=ClockOffset(1.2, -3000.0),
        errors=[
            NotReachedBy(
                peer="b",
                address="10.0.0.9:7443",
                port=7443,
                happened="The machine answers, and nothing listens there.",
                evidence="b says P2P-MESH-043: connection refused",
            )
        ],
    )
    lines = link_lines([link_facts(one) for one in (well("a"), blocked, bad)])
    rows = [line for line in lines if re.match(r"  \S", line)]
    assert [row.split()[0] for row in rows] == ["site", LONG[:14] + "…", "b", "a"]
    assert [line for line in lines if len(line) > 80 and not line.startswith("      try")] == []
    assert not any("\x1b" in line for line in lines), "no colour"


def test_a_site_that_holds_another_file_has_no_link_whoever_lets_whom_in() -> None:
    shown = told(well(PEERS[0]), well(PEERS[1], theirs=b"x"))
    assert [link["up"] for link in shown["links"]] == [True, False]
    assert shown["links"][1]["errors"][0]["try"] == "p2pfl peers show", "doctor has been asked already"


def test_a_command_to_try_is_never_broken() -> None:
    far = unreachable("b")
    assert f"      try       {far.suggestion}" in link_lines([link_facts(Diagnosis("b", there="no", errors=[far]))])


def test_likely_causes_are_said_once_for_each_code() -> None:
    lines = link_lines(
        [link_facts(Diagnosis(peer, there="no", errors=[unreachable(peer)])) for peer in ("a", "b", "c")]
    )
    assert sum("likely" in line for line in lines) == 1
    assert sum("try" in line for line in lines) == 3


def test_another_file_is_shown_line_by_line_and_cannot_steer_the_terminal() -> None:
    theirs = FEDERATION.raw.replace(b"rounds: ", b"rounds: \x1b[2J1")
    one = well("b", theirs=theirs)
    lines = link_lines([link_facts(one, difference(FEDERATION.raw, theirs, "yours", "b"))])
    assert any("| +rounds: \ufffd[2J" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def told(*found: Diagnosis) -> dict[str, Any]:
    return facts_of(FEDERATION, NAME, Port("open", Address("10.0.0.9", 7443)), found, [], [])


def test_every_key_of_the_json_is_documented_and_the_other_way_round() -> None:
    keys = told(well(PEERS[0]))
    assert documented("`p2pfl doctor --json`") == set(keys) | set(keys["links"][0])


def test_the_first_line_says_whether_anything_is_wrong() -> None:
    assert doctor_text(told(*map(well, PEERS))).splitlines()[0] == f"{NAME}: all links work"
    away = Diagnosis(PEERS[1], there="no", errors=[unreachable(PEERS[1])])
    assert doctor_text(told(well(PEERS[0]), away)).splitlines()[0] == f"{NAME}: 1 of 2 links work, 1 finding"


def test_another_release_is_a_note_and_no_failure() -> None:
    older = well(PEERS[0])
    assert older.facts is not None
    older = replace(older, facts=replace(older.facts, software="0.0.9"))
    shown = told(older)
    assert shown["ready"]
    assert "it runs p2pfl 0.0.9; the protocol is the same" in doctor_text(shown)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "+0.0 s"), (-12.34, "-12.3 s"), (600, "+10 min"), (-7300, "-2 h"), (200_000, "+2 d"), (119.0, "+119.0 s")],
)
def test_a_difference_of_clocks_is_short(seconds: float, text: str) -> None:
    assert apart(seconds) == text
