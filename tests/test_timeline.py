"""A benchmark's timeline: what it stamps, what it tells of it, and what it draws."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import _timeline as timeline
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
    ("out", "Chunk", 10.100, 10.100, 4_000_000),
    ("wire", "", 10.100, 10.100, 1_000_000),
    ("wire", "", 10.105, 10.105, 2_000_000),
    ("wire", "", 10.110, 10.110, 2_000_100),
    ("wire", "", 10.115, 10.115, 3_000_100),
    ("wire", "", 10.120, 10.120, 3_000_200),
    ("in", "Chunk", 10.110, 10.111, 2_000_000),
    ("in", "Chunk", 10.130, 10.131, 2_000_000),
    ("turn", "", 10.140, 10.160, 0),
    ("turns", "", 0.0, 0.0, 321),
]


def test_a_timeline_stamps_files_loop_and_hand_overs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of what happens between start and stop; and of the loop's callbacks those that were slow."""
    watched = [
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
    ]
    for owner, verb in watched:
        monkeypatch.setattr(owner, verb, getattr(owner, verb))  # what the timeline wraps is undone after this test
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


def test_a_table_tells_spans_counts_and_how_much_of_the_uplink_lay_idle() -> None:
    """The uplink is looked at from the first Chunk to the last look that found it busy: 2 MB of 3 in 15 ms."""
    lines = "\n".join(timeline.table([Told("site-0", MARKS, 10.0)], 200e6))
    for said in (
        "propose 50",
        "out      Chunk 100–100",
        "in       Chunk 110–131",
        "quantise 40",
        "1 fsyncs in 10 ms",
        "321 callbacks, 1 over 5 ms, the longest 20 ms",
        "idle 33%",
    ):
        assert said in lines, lines
    assert timeline.idle(Told("site-0", MARKS[:4], 10.0), 200e6) is None


def test_the_picture_shows_every_mark_of_every_peer_and_is_well_formed(tmp_path: Path) -> None:
    path = timeline.write(tmp_path / "new", "sum", "5 < 6 & more", [Told(f"site-{k}", MARKS, 10.0) for k in (0, 1)])
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    titles = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("Chunk") for title in titles) == 2 * 3
    assert sum(title.startswith("quantise") for title in titles) == 2
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"site-0", "site-1", "propose", "5 < 6 & more"} <= set(words)
