"""A round as a timeline: when each peer did what, told as a table. `_timeline_drawing.py` draws it.

Every stamp is of the machine's monotonic clock, which all processes of one machine share, and names a step, a kind of
letter or a number of bytes: no value, no seed, no word. What is watched is wrapped in the benchmark's own processes,
and only when a timeline is asked for; the node knows nothing of it.

    phase   a phase of the round begins                work   an event is handled, in a worker thread or in the loop
    words   the source gives its words to be masked    hop    work is handed to a thread
    spent   microseconds of processor that the process has had: when the words are there, and as bytes are given to TCP
    out     a letter is given to a link's queue        in     a letter has come and is opened
    up      bytes are given to TCP                     disk   one fsync
    turn    one callback of the event loop that took 5 ms or more; microseconds of processor in place of bytes
    wire    bytes that left the interface so far, looked at every 5 ms
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
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
LETTER_BYTES: Final = 4096  # more than TCP is given at once of what is not words
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
        self._turns = 0
        self._watch(Run, "handle", "work", step_of)
        self._watch(source, "propose", "work", lambda *_: "quantise")
        self._watch(source, "words", "work", lambda *_: "mask, hash")
        self._watch(source, "words", "words", lambda *_: "")
        self._watch(source, "words", "spent", lambda *_: "", _spent)
        self._watch(source, "apply", "work", lambda *_: "read the sum")
        self._watch(Disk, "sync", "disk", lambda descriptor, path: path.name)
        self._watch(Post, "send", "out", lambda peer, letter: type(letter.message).__name__, _size_out)
        self._watch(Pump, "_to_tcp", "up", lambda: "")
        self._watch(Pump, "_to_tcp", "spent", lambda: "", _spent)
        self._watch_turns()
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

    def _watch_turns(self) -> None:
        """There are tens of thousands: those that were quick are counted alone."""
        run, marks = asyncio.Handle._run, self._marks

        def stamped(handle: asyncio.Handle) -> None:
            callback, begun, before = getattr(handle, "_callback", None), time.monotonic(), time.thread_time()
            try:
                run(handle)
            finally:
                ended = time.monotonic()
                self._turns += 1
                if ended - begun >= SLOW_S:
                    spent = round(1e6 * (time.thread_time() - before))
                    marks.append(("turn", _called(callback, "__qualname__"), begun, ended, spent))

        setattr(asyncio.Handle, "_run", stamped)  # noqa: B010

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
        self._turns = 0
        if self._interface:
            self._looking = threading.Event()
            threading.Thread(target=self._look, args=(self._looking,), daemon=True).start()

    def _look(self, over: threading.Event) -> None:
        while not over.wait(LOOK_S):
            now = time.monotonic()
            self._marks.append(("wire", "", now, now, process.interface_bytes(self._interface)))

    def stop(self) -> list[Mark]:
        """What was stamped since `start`, and how many callbacks the loop has made."""
        if self._looking is not None:
            self._looking.set()
        return [*self._marks, ("turns", "", 0.0, 0.0, self._turns)]


def _called(work: Any, name: str = "__name__") -> str:
    """Its name; that of what a partial calls, or of the coroutine of which it is a task's step."""
    inner = work.func if isinstance(work, functools.partial) else work
    if isinstance(task := getattr(inner, "__self__", None), asyncio.Task):
        inner = task.get_coro()
    return str(getattr(inner, name, type(inner).__name__))


def _spent(*_: Any) -> int:
    return round(1e6 * time.process_time())


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


def first_byte(told: Told) -> tuple[float, float] | None:
    """When the words were there to be masked, and when TCP had the first of them. None without either."""
    chunks = told.of("out", "Chunk")
    there = [mark[3] for mark in told.of("words") if chunks and mark[3] <= chunks[0][2]]
    least = min(LETTER_BYTES, chunks[0][4]) if chunks else 0
    sent = [mark[3] for mark in told.of("up") if chunks and mark[2] >= chunks[0][2] and mark[4] >= least]
    return (there[-1], min(sent)) if there and sent else None


def spent_ms(told: Told, begun: float, ended: float) -> float | None:
    """Processor time of the process between two moments at which it was stamped: a busy machine says little else."""
    stamps = [mark for mark in told.of("spent") if begun <= mark[3]]
    after = [mark[4] for mark in stamps if mark[3] >= ended]
    return (min(after) - stamps[0][4]) / 1e3 if after else None


def looks(told: Told, bytes_per_s: float) -> list[Mark]:
    """Those at its interface from its first Chunk out on, until all its bulk has left.

    That is, until as many bytes have left as its Chunks and SumChunks hold, and to the last look that found the uplink
    more than half in use, if that is later: TLS and TCP add some bytes, and lost ones are sent again.
    """
    bulk = [mark for kind in BULK for mark in told.of("out", kind)]
    found = [mark for mark in told.of("wire") if bulk and mark[2] >= told.of("out", "Chunk")[0][2]]
    if not found:
        return []
    whole, least = found[0][4] + sum(mark[4] for mark in bulk), bytes_per_s * LOOK_S / 2
    busy = [place for place in range(1, len(found)) if found[place][4] - found[place - 1][4] > least]
    left = next((place for place, mark in enumerate(found) if mark[4] >= whole), 0)
    return found[: max([left, *busy]) + 1]


def idle(told: Told, bytes_per_s: float) -> float | None:
    """The part of the uplink that lay idle from the first Chunk out to the last SumChunk. None without looks."""
    found = looks(told, bytes_per_s)
    if len(found) < 2:
        return None
    begun, ended = found[0], found[-1]
    return max(0.0, 1.0 - (ended[4] - begun[4]) / (bytes_per_s * (ended[2] - begun[2])))


def gaps(told: Told, bytes_per_s: float) -> list[tuple[float, float]]:
    """When it was less than half in use meanwhile, from look to look."""
    spans: list[tuple[float, float]] = []
    for before, after in itertools.pairwise(looks(told, bytes_per_s)):
        if after[4] - before[4] < bytes_per_s * (after[2] - before[2]) / 2:
            begun = spans.pop()[0] if spans and spans[-1][1] == before[2] else before[2]
            spans.append((begun, after[2]))
    return spans


def table(tolds: list[Told], bytes_per_s: float | None) -> list[str]:
    """One block of lines a peer; milliseconds from the moment at which its update was ready."""
    lines = []
    for told in tolds:
        disk, slow, first = told.of("disk"), told.of("turn"), first_byte(told)
        own = sum(mark[4] >= SLOW_S * 1e6 for mark in slow)
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
        if slow:
            lines.append(f"    loop     {_counted(slow)}")
        if first is not None:
            after, there = (first[1] - first[0]) * 1e3, told.at(first[0])
            own_ms = spent_ms(told, *first)
            more = f", and {own_ms:.1f} ms of processor" if own_ms is not None else ""
            lines.append(f"    first    masked byte {after:.1f} ms{more} after the words were there, at {there}")
        lines.append(
            f"    counts   {len(disk)} fsyncs in {spent * 1e3:.0f} ms · {len(told.of('hop'))} hand-overs to a thread · "
            f"{turns} callbacks, {len(slow)} over {SLOW_S * 1e3:.0f} ms ({own} by their own processor time), "
            f"the longest {longest * 1e3:.0f} ms · "
            f"{len(told.of('in'))} letters in, {len(told.of('out'))} out, {len(told.of('up'))} sends to TCP"
        )
        if bytes_per_s is not None and (share := idle(told, bytes_per_s)) is not None:
            lines.append(f"    uplink   idle {share:.1%} between its first Chunk and its last SumChunk")
    return lines


def _counted(marks: list[Mark]) -> str:
    """How many of each, those with the most first."""
    return " · ".join(f"{what} {count}" for what, count in Counter(mark[1] for mark in marks).most_common())
