"""A round as a timeline: when each peer did what, drawn as a picture and told as a table.

Every stamp is of the machine's monotonic clock, which all processes of one machine share, and names a step, a kind of
letter or a number of bytes: no value, no seed, no word. What is watched is wrapped in the benchmark's own processes,
and only when a timeline is asked for; the node knows nothing of it.

    phase   a phase of the round begins                work   an event is handled, in a worker thread or in the loop
    out     a letter is given to a link's queue        in     a letter has come and is opened
    up      bytes are given to TCP                     disk   one fsync
    turn    one callback of the event loop             hop    work is handed to a thread
    wire    bytes that left the interface so far, looked at every 5 ms
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from benchmarks import _process as process
from benchmarks._where import step_of
from p2pfl.home.disk import Disk
from p2pfl.mesh.pump import Pump
from p2pfl.node.inbox import Inbox
from p2pfl.node.post import Post
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run

Mark = tuple[str, str, float, float, int]  # lane, what, begin and end in seconds of the monotonic clock, bytes
SLOW_S: Final = 0.005  # the longest that one callback may keep the event loop
LOOK_S: Final = 0.005  # between two looks at the interface
FIXING: Final = ("Root", "SumDigest", "Nonce", "Tags")  # the small letters that fix and verify the sums
VOTES: Final = ("Ready", "Ballot", "Certificate", "Reveal", "Confirm")
BULK: Final = ("Chunk", "SumChunk")


class Timeline:
    """Stamps of this process, from `start` to `stop`. Of one process, one at a time: it wraps what it watches."""

    def __init__(self, source: type[Any], interface: str) -> None:
        """`source` is the class of the sum's source: propose, words and apply are its verbs."""
        self._marks: list[Mark] = []
        self._interface = "" if interface == "lo" else interface  # all peers share the loopback
        self._looking: threading.Event | None = None
        self._watch(Run, "handle", "work", step_of)
        self._watch(source, "propose", "work", lambda *_: "quantise")
        self._watch(source, "words", "work", lambda *_: "mask, hash")
        self._watch(source, "apply", "work", lambda *_: "read the sum")
        self._watch(Disk, "sync", "disk", lambda descriptor, path: path.name)
        self._watch(asyncio.Handle, "_run", "turn", lambda: "")
        self._watch(Post, "send", "out", lambda peer, letter: type(letter.message).__name__, _size_out)
        self._watch(Pump, "_to_tcp", "up", lambda: "")
        self._watch_letters()
        self._watch_phases()
        self._watch_hops()

    def _watch(
        self,
        owner: type[Any],
        verb: str,
        lane: str,
        what: Callable[..., str],
        size: Callable[..., int] = lambda *_: 0,
    ) -> None:
        watched, marks = getattr(owner, verb), self._marks

        @functools.wraps(watched)
        def stamped(found: Any, *arguments: Any, **named: Any) -> Any:
            begun, sent = time.monotonic(), getattr(found, "bytes_sent", 0)
            try:
                return watched(found, *arguments, **named)
            finally:
                count = found.bytes_sent - sent if lane == "up" else size(*arguments)
                marks.append((lane, what(*arguments), begun, time.monotonic(), count))

        setattr(owner, verb, stamped)

    def _watch_letters(self) -> None:
        opened, marks = Inbox._open, self._marks

        def stamped(inbox: Inbox, news: Any) -> Any:
            begun = time.monotonic()
            letter = opened(inbox, news)
            marks.append(("in", type(letter.message).__name__, begun, time.monotonic(), len(news.payload)))
            return letter

        setattr(Inbox, "_open", stamped)  # noqa: B010 (mypy takes no assignment to a method)

    def _watch_phases(self) -> None:
        handled, marks = Round.handle, self._marks

        def stamped(found: Round, event: Any) -> Any:
            before, begun = found.phase, time.monotonic()
            effects = handled(found, event)
            if found.phase is not before:
                marks.append(("phase", found.phase.value, begun, time.monotonic(), 0))
            return effects

        setattr(Round, "handle", stamped)  # noqa: B010

    def _watch_hops(self) -> None:
        handed, marks = asyncio.to_thread, self._marks

        async def stamped(work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
            begun = time.monotonic()
            try:
                return await handed(work, *arguments, **named)
            finally:
                marks.append(("hop", _called(work), begun, time.monotonic(), 0))

        setattr(asyncio, "to_thread", stamped)  # noqa: B010

    def start(self) -> None:
        """Stamps count from here."""
        self._marks.clear()
        if self._interface:
            self._looking = threading.Event()
            threading.Thread(target=self._look, args=(self._looking,), daemon=True).start()

    def _look(self, over: threading.Event) -> None:
        while not over.wait(LOOK_S):
            now = time.monotonic()
            self._marks.append(("wire", "", now, now, process.interface_bytes(self._interface)))

    def stop(self) -> list[Mark]:
        """What was stamped since `start`; a callback of the loop only where it was slow."""
        if self._looking is not None:
            self._looking.set()
        turns = sum(mark[0] == "turn" for mark in self._marks)
        kept = [mark for mark in self._marks if mark[0] != "turn" or mark[3] - mark[2] >= SLOW_S]
        return [*kept, ("turns", "", 0.0, 0.0, turns)]


def _called(work: Callable[..., Any]) -> str:
    """Its name; that of what a partial calls."""
    inner = work.func if isinstance(work, functools.partial) else work
    return str(getattr(inner, "__name__", type(inner).__name__))


def _size_out(peer: str, letter: Any) -> int:
    return int(letter.pieces.size)


# ── what it comes to ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Told:
    """The timeline of one peer: its marks, and the moment at which the update was ready."""

    name: str
    marks: list[Mark]
    begun: float

    def of(self, lane: str, what: str = "") -> list[Mark]:
        return [mark for mark in self.marks if mark[0] == lane and (not what or mark[1] == what)]

    def at(self, stamp: float) -> str:
        return f"{(stamp - self.begun) * 1e3:.0f}"

    def span(self, lane: str, what: str) -> str:
        """First and last of these, ms; a letter that came is whole at its last byte."""
        found = self.of(lane, what)
        return f"{self.at(found[0][2])}–{self.at(found[-1][3])}" if found else "–"


def idle(told: Told, bytes_per_s: float) -> float | None:
    """The part of the uplink that lay idle from the first Chunk out to the last SumChunk in elsewhere, about.

    That is, to the last look at which the interface had still sent more than letters. None without looks, or Chunks.
    """
    first, looks = told.of("out", "Chunk"), told.of("wire")
    after = [mark for mark in looks if first and mark[2] >= first[0][2]]
    least = bytes_per_s * LOOK_S / 2
    busy = [place for place in range(1, len(after)) if after[place][4] - after[place - 1][4] > least]
    if not busy:
        return None
    begun, ended = after[0], after[busy[-1]]
    return max(0.0, 1.0 - (ended[4] - begun[4]) / (bytes_per_s * (ended[2] - begun[2])))


def table(tolds: list[Told], bytes_per_s: float | None) -> list[str]:
    """One block of lines a peer; milliseconds from the moment at which its update was ready."""
    lines = []
    for told in tolds:
        disk, slow = told.of("disk"), told.of("turn")
        longest = max((mark[3] - mark[2] for mark in slow), default=0.0)
        turns = sum(mark[4] for mark in told.of("turns"))
        spent = sum(mark[3] - mark[2] for mark in disk)
        lines.append(f"  {told.name}")
        phases = " · ".join(f"{mark[1]} {told.at(mark[3])}" for mark in told.of("phase"))
        lines.append(f"    phases   {phases}")
        for lane, title in (("out", "out"), ("in", "in")):
            bulk = [f"{kind} {told.span(lane, kind)}" for kind in (*BULK, *FIXING, *VOTES) if told.of(lane, kind)]
            lines.append(f"    {title:8} {' · '.join(bulk)}")
        work: dict[str, float] = {}
        for mark in told.of("work"):  # the quantiser waited for the update before it began
            work[mark[1]] = work.get(mark[1], 0.0) + max(0.0, mark[3] - max(mark[2], told.begun))
        lines.append(f"    work     {' · '.join(f'{step} {s * 1e3:.0f}' for step, s in work.items() if s > 5e-4)}")
        lines += [f"    {lane:8} {_counted(told.of(lane))}" for lane in ("disk", "hop")]
        lines.append(
            f"    counts   {len(disk)} fsyncs in {spent * 1e3:.0f} ms · {len(told.of('hop'))} hand-overs to a thread · "
            f"{turns} callbacks, {len(slow)} over {SLOW_S * 1e3:.0f} ms, the longest {longest * 1e3:.0f} ms · "
            f"{len(told.of('in'))} letters in, {len(told.of('out'))} out, {len(told.of('up'))} sends to TCP"
        )
        if bytes_per_s is not None and (share := idle(told, bytes_per_s)) is not None:
            lines.append(f"    uplink   idle {share:.0%} between its first Chunk and its last bulk")
    return lines


def _counted(marks: list[Mark]) -> str:
    """How many of each, those with the most first."""
    return " · ".join(f"{what} {count}" for what, count in Counter(mark[1] for mark in marks).most_common())


# ── the picture ───────────────────────────────────────────────────────────────────────────────────────────────

WIDE: Final = 1100
LEFT: Final = 120
ROW: Final = 14
LANES: Final = ("phase", "work", "out", "in", "up", "disk", "turn")
TITLES: Final = {"turn": "loop, over 5 ms", "up": "to TCP", "out": "letters out", "in": "letters in"}
COLOURS: Final = {
    "quantise": "#8c564b",
    "masks ahead": "#c49c94",
    "mask, hash": "#e377c2",
    "check and add what it owns": "#ff7f0e",
    "check the sums": "#bcbd22",
    "tags": "#9467bd",
    "unmask": "#17becf",
    "read the sum": "#2ca02c",
    "digest of the sum": "#98df8a",
    "votes and letters": "#7f7f7f",
    "Chunk": "#1f77b4",
    "SumChunk": "#2ca02c",
    "Tags": "#9467bd",
    "Ready": "#d62728",
    "Ballot": "#d62728",
    "Certificate": "#d62728",
    "Reveal": "#17becf",
    "Confirm": "#000000",
    "disk": "#d62728",
    "turn": "#ff9896",
    "up": "#1f77b4",
}
OTHER: Final = "#bbbbbb"


def draw(title: str, tolds: list[Told]) -> str:
    """An SVG: peers from top to bottom, each with its lanes; time from left to right."""
    begun = min(told.begun for told in tolds)
    shown = [mark for told in tolds for mark in told.marks if mark[0] in LANES]
    first = min([begun, *(mark[2] for mark in shown if mark[2] > begun - 0.05)])
    last = max(mark[3] for mark in shown)
    scale = (WIDE - LEFT - 20) / (last - first)
    body, y = [_text(10, 20, title, 14)], 40

    def x(stamp: float) -> float:
        return LEFT + (stamp - first) * scale

    for told in tolds:
        body.append(_text(10, y + 10, told.name, 12))
        y += ROW + 2
        for lane in LANES:
            body.append(_text(20, y + 10, TITLES.get(lane, lane), 9))
            body.append(f'<line x1="{LEFT}" y1="{y + ROW}" x2="{WIDE - 20}" y2="{y + ROW}" stroke="#eee"/>')
            for _, what, start, end, size in told.of(lane):
                start = max(start, first)
                if end < first:
                    continue
                if lane == "phase":
                    body.append(
                        f'<line x1="{x(end):.1f}" y1="{y}" x2="{x(end):.1f}" y2="{y + 7 * ROW}" stroke="#ccc"/>'
                    )
                    body.append(_text(x(end) + 2, y + 10, what, 8))
                    continue
                colour = COLOURS.get(what, COLOURS.get(lane, OTHER))
                said = escape(f"{what} {(start - begun) * 1e3:.1f}–{(end - begun) * 1e3:.1f} ms {size or ''}")
                body.append(
                    f'<rect x="{max(LEFT, x(start)):.1f}" y="{y + 2}" width="{max(0.8, (end - start) * scale):.1f}" '
                    f'height="{ROW - 3}" fill="{colour}"><title>{said}</title></rect>'
                )
            y += ROW
        y += 8
    step = _step(last - first)
    for tick in range(int((first - begun) / step), int((last - begun) / step) + 1):
        at = x(begun + tick * step)
        body.append(f'<line x1="{at:.1f}" y1="32" x2="{at:.1f}" y2="{y}" stroke="#ddd" stroke-dasharray="2,3"/>')
        body.append(_text(at + 2, 34, f"{tick * step * 1e3:.0f} ms", 8))
    for place, (what, colour) in enumerate((*COLOURS.items(), ("other letters", OTHER))):
        column, row = place % 6, place // 6
        body.append(f'<rect x="{20 + column * 175}" y="{y + row * 16}" width="10" height="10" fill="{colour}"/>')
        body.append(_text(34 + column * 175, y + 9 + row * 16, {"up": "to TCP", "turn": "loop"}.get(what, what), 9))
    high = y + 16 * 5
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{high}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>\n"])


def _text(x: float, y: float, said: str, size: int) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}">{escape(said)}</text>'


def _step(span_s: float) -> float:
    """Seconds between two lines, so that there are some ten."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        if span_s / step <= 12:
            return step
    return 10.0


def write(folder: Path, name: str, title: str, tolds: list[Told]) -> Path:
    """The picture, in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text(draw(title, tolds), encoding="utf-8")
    return path
