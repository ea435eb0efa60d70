"""A benchmark's timeline: what it stamps, what it tells of it, and what it draws."""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import _timeline as timeline
from benchmarks import _timeline_drawing as drawing
from benchmarks._timeline import Mark, Timeline, Told
from p2pfl.home.disk import Disk
from p2pfl.mesh.pump import Pump
from p2pfl.node.inbox import Inbox
from p2pfl.node.post import Post
from p2pfl.node.runs.sums import SumRun
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run

MARKS: list[Mark] = [
    ("work", "quantise", 0.0, 10.040, 0),  # it waited for the update until 10 s
    ("phase", "propose", 10.040, 10.050, 0),
    ("disk", "attempt.new", 10.050, 10.060, 0),
    ("words", "", 10.091, 10.0964, 0),
    ("spent", "", 10.091, 10.0965, 5_000_000),
    ("spent", "", 10.099, 10.0996, 5_000_900),
    ("up", "", 10.099, 10.0995, 90_000),  # of another sum
    ("out", "Chunk", 10.100, 10.100, 1_500_000),
    ("up", "", 10.100, 10.1001, 300),  # a letter
    ("up", "", 10.1002, 10.1007, 16_384),
    ("spent", "", 10.1002, 10.1008, 5_002_200),
    ("up", "", 10.1008, 10.1020, 65_536),
    ("spent", "", 10.1008, 10.1021, 5_003_000),
    ("out", "SumChunk", 10.108, 10.108, 500_000),
    ("wire", "", 10.095, 10.095, 900_000),
    ("wire", "", 10.100, 10.100, 1_000_000),
    ("wire", "", 10.105, 10.105, 2_000_000),
    ("wire", "", 10.110, 10.110, 2_000_100),
    ("wire", "", 10.115, 10.115, 2_400_100),
    ("wire", "", 10.120, 10.120, 3_000_200),
    ("wire", "", 10.125, 10.125, 3_100_000),
    ("wire", "", 10.130, 10.130, 3_100_500),
    ("in", "Chunk", 10.110, 10.111, 2_000_000),
    ("in", "Chunk", 10.130, 10.131, 2_000_000),
    ("turn", "_from_tcp", 10.140, 10.160, 19_500),
    ("turn", "work", 10.160, 10.166, 900),  # another process had the processor
    ("turn", "_from_tcp", 10.170, 10.177, 6_100),
    ("turns", "", 0.0, 0.0, 321),
]
UPLINK = 200e6  # bytes a second: 1 MB from look to look


WATCHED: list[tuple[Any, str]] = [
    (Disk, "sync"),
    (Pump, "_to_tcp"),
    (Inbox, "_open"),
    (Post, "send"),
    (Round, "handle"),
    (Run, "handle"),
    (SumRun, "propose"),
    (SumRun, "words"),
    (SumRun, "apply"),
    (asyncio.Handle, "_run"),
    (asyncio, "to_thread"),
]  # what the timeline wraps, which is undone after each test


def test_a_timeline_stamps_files_loop_and_hand_overs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of what happens between start and stop; and of the loop's callbacks those that were slow."""
    for owner, verb in WATCHED:
        monkeypatch.setattr(owner, verb, getattr(owner, verb))
    disk, line = Disk(tmp_path), Timeline(SumRun, "lo")
    disk.replace(tmp_path / "before", (b"x",))
    line.start()

    async def work() -> None:
        await asyncio.to_thread(functools.partial(disk.replace, tmp_path / "item", (b"x",)))

    asyncio.run(work())
    assert [what for lane, what, *_ in line.stop() if lane == "hop"] == ["replace"]
    lanes = [lane for lane, *_ in line.stop()]
    assert [lanes.count(lane) for lane in ("disk", "hop", "turns")] == [2, 1, 1]
    assert all(begun <= ended for _, _, begun, ended, _ in line.stop())


def test_slow_callbacks_are_told_by_name_and_with_their_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop's clock goes on while another process has the processor; its thread's own does not."""
    clock = {"wall": 0.0, "own": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(time, "thread_time", lambda: clock["own"])
    for owner, verb in WATCHED:
        monkeypatch.setattr(owner, verb, getattr(owner, verb))
    line = Timeline(SumRun, "lo")
    loop = asyncio.new_event_loop()

    def taking(wall: float, own: float) -> None:
        clock["wall"] += wall
        clock["own"] += own

    async def work() -> None:
        taking(0.0061, 0.0002)

    line.start()
    asyncio.Handle(taking, (0.0049, 0.0049), loop)._run()
    asyncio.Handle(functools.partial(taking, 0.0051, 0.005), (), loop)._run()
    loop.run_until_complete(work())
    loop.close()
    slow = [(what, round(ended - begun, 4), spent) for lane, what, begun, ended, spent in line.stop() if lane == "turn"]
    assert slow == [(taking.__qualname__, 0.0051, 5000), (work.__qualname__, 0.0061, 200)]
    (turns,) = [mark[4] for mark in line.stop() if mark[0] == "turns"]
    assert turns >= 3


def test_a_table_tells_spans_and_counts() -> None:
    lines = "\n".join(timeline.table([Told("site-0", MARKS, 10.0)], UPLINK))
    for said in ("propose 50", "out      Chunk 100–100", "in       Chunk 110–131", "quantise 40", "1 fsyncs in 10 ms"):
        assert said in lines, lines


def test_a_table_tells_how_long_the_first_masked_byte_took_from_the_words_on() -> None:
    """To the end of the send that gave TCP a part of the first Chunk: 100.7 less 96.4 ms."""
    assert "first    masked byte 4.3 ms, and 2.2 ms of processor after the words were there, at 96" in table(MARKS)
    for lane in ("words", "out", "up"):
        lacking = [mark for mark in MARKS if mark[0] != lane]
        assert timeline.first_byte(Told("site-0", lacking, 10.0)) is None
        assert "masked byte" not in table(lacking)
    unspent = [mark for mark in MARKS if mark[0] != "spent"]
    assert "masked byte 4.3 ms after" in table(unspent)
    again: Mark = ("words", "", 10.110, 10.120, 0)  # of an attempt that came to no Chunk
    assert timeline.first_byte(Told("site-0", [*MARKS, again], 10.0)) == (10.0964, 10.1007)
    short: list[Mark] = [("words", "", 10.0, 10.001, 0), ("out", "Chunk", 10.002, 10.002, 40)]
    assert timeline.first_byte(Told("site-0", [*short, ("up", "", 10.002, 10.003, 90)], 10.0)) == (10.001, 10.003)


def test_a_table_tells_the_idle_uplink_from_the_first_chunk_to_the_last_sum() -> None:
    """2 MB of words leave from 100 ms on and have left by 120, of 4 MB that would have; 0.1 MB follows, of letters."""
    assert "uplink   idle 50.0% between its first Chunk and its last SumChunk" in table(MARKS)
    told = Told("site-0", MARKS, 10.0)
    assert [(round(begun, 3), round(ended, 3)) for begun, ended in timeline.gaps(told, UPLINK)] == [(10.105, 10.115)]
    busier: list[Mark] = [*MARKS, ("wire", "", 10.135, 10.135, 4_100_500)]  # some was lost, and is sent again
    assert timeline.idle(Told("site-0", busier, 10.0), UPLINK) == pytest.approx(1 - 3.1005 / 7)
    for lane in ("wire", "out"):
        lacking = [mark for mark in MARKS if mark[0] != lane]
        assert timeline.idle(Told("site-0", lacking, 10.0), UPLINK) is None
    assert "uplink" not in "\n".join(timeline.table([told], None)), "a loopback has no speed"


def test_a_table_tells_which_callbacks_kept_the_event_loop() -> None:
    lines = table(MARKS)
    assert "321 callbacks, 3 over 5 ms (2 by their own processor time), the longest 20 ms" in lines
    assert "loop     _from_tcp 2 · work 1" in lines


def table(marks: list[Mark]) -> str:
    return "\n".join(timeline.table([Told("site-0", marks, 10.0)], UPLINK))


def test_the_picture_shows_every_mark_of_every_peer_and_is_well_formed(tmp_path: Path) -> None:
    tolds = [Told(f"site-{k}", MARKS, 10.0) for k in (0, 1)]
    path = drawing.write(tmp_path / "new", "sum", "5 < 6 & more", tolds, UPLINK)
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    titles = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("Chunk") for title in titles) == 2 * 3
    assert sum(title.startswith("quantise") for title in titles) == 2
    for drawn in (
        "first masked byte 96.4–100.7 ms",
        "uplink idle 105.0–115.0 ms",
        "_from_tcp 140.0–160.0 ms 19500 µs of processor",
        "work 160.0–166.0 ms 900 µs of processor",
    ):
        assert sum(title.strip() == drawn for title in titles) == 2, titles
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"site-0", "site-1", "propose", "5 < 6 & more", "first masked byte", "uplink idle"} <= set(words)
