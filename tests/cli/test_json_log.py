"""The log: one JSON object a line, facts of a table and no others, a full disk that ends nothing."""

from __future__ import annotations

import json
import logging
import stat
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from p2pfl.cli.json_log import EVENTS, JsonLog
from p2pfl.cli.monitor import Monitor
from p2pfl.errors.mesh import LinkFlooded
from p2pfl.errors.people import LogNotWritable
from p2pfl.federation import Federation
from p2pfl.node.progress import LinkWentDown, PassCharged, PhaseEntered, Progress, StillWaiting
from tests.federation.sample import peers_yaml

SEED = "5eed" * 16


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, *told: Progress, **options: Any) -> list[dict[str, Any]]:
    json_log = JsonLog(str(path), wall=lambda: 1_800_000_000.25, **options)
    json_log.site = "ada"
    for each in told:
        json_log(each)
    json_log.close()
    return lines(path)


def test_a_line_says_when_how_grave_where_and_what(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", LinkWentDown("ben", "cut"))
    assert line == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "site": "ada",
        "event": "link_down",
        "peer": "ben",
        "reason": "cut",
    }


@pytest.mark.claim("CLI-3")
@pytest.mark.parametrize(("status", "code"), [(0, "done"), (1, "not ready")])
def test_the_last_line_has_the_exit_status_also_of_a_check(tmp_path: Path, status: int, code: str) -> None:
    """`join --check` that found a link missing ended with 1, and its log with 0."""
    monitor = Monitor(str(tmp_path / "log"), "info", 0, 1, None)
    with monitor.running(Federation.parse(peers_yaml()), "join --check"):
        monitor.ends_with(status)
    last = lines(tmp_path / "log")[-1]
    assert (last["event"], last["status"], last["code"]) == ("ended", status, code)


def test_what_is_not_in_the_table_is_not_written(tmp_path: Path) -> None:
    error = LinkFlooded(peer="ben", evidence="600 at once")
    odd = []
    for event in get_args(Progress):
        wider = make_dataclass(event.__name__, ["seed", "data"], bases=(event,), frozen=True)
        written_too = EVENTS[event.kind][1]
        held = {one.name: {"x": "x" if one.name in written_too else SEED} for one in fields(event)}
        if "error" in held:
            held["error"] = error
        odd.append(wider(**held, seed=SEED, data="/srv/scans.csv"))
    path = tmp_path / "log"
    found = written(path, *odd, level="debug")
    assert SEED not in path.read_text()
    assert "scans" not in path.read_text()
    assert {line["event"] for line in found} == EVENTS.keys()
    refused = next(line for line in found if line["event"] == "refused")
    assert (refused["code"], refused["evidence"]) == ("P2P-MESH-061", "600 at once")


def test_every_event_is_in_the_table_with_fields_that_it_has() -> None:
    kinds = {event.kind: {one.name for one in fields(event)} for event in get_args(Progress)}
    assert kinds.keys() == EVENTS.keys()
    assert [kind for kind, (_, names) in EVENTS.items() if not {*names} <= kinds[kind]] == []


def test_lines_below_the_level_are_left_out(tmp_path: Path) -> None:
    phase, down = PhaseEntered(1, 0, "share"), LinkWentDown("ben", "cut")
    assert [line["event"] for line in written(tmp_path / "a", phase, down)] == ["link_down"]
    assert [line["event"] for line in written(tmp_path / "b", phase, down, level="error")] == []


def test_the_same_waiting_is_written_once_in_a_while(tmp_path: Path) -> None:
    now = [0.0]
    json_log = JsonLog(str(tmp_path / "log"), now=lambda: now[0])
    for second in range(0, 130, 5):
        now[0] = float(second)
        json_log(StillWaiting(1, "share", {"ben": "its share"}, {}))
    json_log(StillWaiting(1, "share", {"cyd": "its share"}, {}))
    json_log.close()
    assert [list(line["missing"]) for line in lines(tmp_path / "log")] == [["ben"]] * 3 + [["cyd"]]


def test_numbers_that_json_has_not_are_text(tmp_path: Path) -> None:
    odd: Any = PassCharged(1, float("inf"), [float("nan")])  # type: ignore[arg-type]
    (line,) = written(tmp_path / "log", odd)
    assert (line["epsilon"], line["limit"]) == ("inf", ["nan"])


def test_files_are_turned_at_their_size_and_so_many_are_kept_readable_by_nobody_else(tmp_path: Path) -> None:
    json_log = JsonLog(str(tmp_path / "log"), size=1000, keep=2)
    for number in range(100):
        json_log.note("info", "said", number=number)
    json_log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert [line["number"] for file in (files[2], files[1], files[0]) for line in lines(file)][-1] == 99


def test_a_log_that_was_moved_away_is_begun_anew_when_it_is_told_to(tmp_path: Path) -> None:
    json_log = JsonLog(str(tmp_path / "log"))
    json_log.note("info", "before")
    json_log._listener.stop()
    json_log._listener.start()
    (tmp_path / "log").rename(tmp_path / "log.old")
    json_log.reopen()
    json_log.note("info", "after")
    json_log.close()
    assert [line["event"] for line in lines(tmp_path / "log.old")] == ["before"]
    assert [line["event"] for line in lines(tmp_path / "log")] == ["after"]


def test_a_place_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LogNotWritable):
        JsonLog(str(tmp_path / "no" / "log"))


def test_a_disk_that_is_full_is_said_once_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    json_log = JsonLog("/dev/full")
    for _ in range(3):
        json_log.note("info", "said")
    json_log.close()
    said = capsys.readouterr().err
    assert said.count("the log cannot be written any more") == 1
    assert "Traceback" not in said


def test_a_log_that_hangs_holds_up_nobody_and_what_had_no_room_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.cli.json_log.MOST_QUEUED", 10)
    json_log = JsonLog(str(tmp_path / "log"))
    json_log._listener.stop()  # nobody takes a line any more
    for number in range(25):
        json_log.note("info", "said", number=number)
    assert json_log._dropped == 15
    json_log._listener.start()
    json_log._listener.stop()
    json_log._listener.start()
    json_log.note("info", "said", number=25)
    json_log.close()
    assert lines(tmp_path / "log")[-1]["lines_dropped"] == 15
    assert logging.getLogger("p2pfl").handlers == []
