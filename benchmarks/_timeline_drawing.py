"""A round's timeline as a picture: peers from top to bottom, time from left to right."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Final

from benchmarks._timeline import Mark, Told, first_byte, gaps

WIDE: Final = 1100
LEFT: Final = 120
ROW: Final = 14
LANES: Final = ("phase", "work", "first", "out", "in", "up", "idle", "disk", "turn")
TITLES: Final = {
    "first": "first masked byte",
    "idle": "uplink idle",
    "turn": "loop, over 5 ms",
    "up": "to TCP",
    "out": "letters out",
    "in": "letters in",
}
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
    "first": "#e377c2",
    "idle": "#ff9896",
}
OTHER: Final = "#bbbbbb"


def _drawn(told: Told, bytes_per_s: float | None) -> list[Mark]:
    """Its marks, and what is made of them: until the first masked byte, and where the uplink lay idle."""
    first, idling = first_byte(told), gaps(told, bytes_per_s) if bytes_per_s is not None else []
    made = [("first", "first masked byte", *first, 0)] if first is not None else []
    return [*told.marks, *made, *(("idle", "uplink idle", *span, 0) for span in idling)]


def draw(title: str, tolds: list[Told], bytes_per_s: float | None = None) -> str:
    """An SVG: peers from top to bottom, each with its lanes; time from left to right. `bytes_per_s`: of an uplink."""
    tolds = [replace(told, marks=_drawn(told, bytes_per_s)) for told in tolds]
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
                    low = y + len(LANES) * ROW
                    body.append(f'<line x1="{x(end):.1f}" y1="{y}" x2="{x(end):.1f}" y2="{low}" stroke="#ccc"/>')
                    body.append(_text(x(end) + 2, y + 10, what, 8))
                    continue
                colour = COLOURS.get(what, COLOURS.get(lane, OTHER))
                more = f"{size} µs of processor" if lane == "turn" else size or ""
                said = escape(f"{what} {(start - begun) * 1e3:.1f}–{(end - begun) * 1e3:.1f} ms {more}")
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
        body.append(
            _text(
                34 + column * 175,
                y + 9 + row * 16,
                {"up": "to TCP", "turn": "loop", "first": "first byte", "idle": "uplink idle"}.get(what, what),
                9,
            )
        )
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


def write(folder: Path, name: str, title: str, tolds: list[Told], bytes_per_s: float | None = None) -> Path:
    """The picture, in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text(draw(title, tolds, bytes_per_s), encoding="utf-8")
    return path
