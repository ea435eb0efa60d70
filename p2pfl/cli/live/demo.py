"""All sites of a demo as one live view, from the lines that each of them logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pfl.cli.live.words import bar, joined, left_of, phase_of, plain
from p2pfl.cli.output import amount, counted, duration

STATE: Final = 2  # the column that gives way where the terminal is narrow
ENDS: Final = {"killed": ("killed", "red"), "ended": ("done", "green")}


@dataclass
class _DemoSite:
    """What one site has said of itself."""

    state: str = "loading PyTorch"
    style: str = "dim"
    round: int = 0
    step: tuple[int, int] = (0, 0)
    up: set[str] = field(default_factory=set)
    metric: str = ""
    epsilon: str = ""
    sent: int = 0
    waits: str = ""


class DemoView:
    """What a demo shows. `take` gets every event of every site."""

    def __init__(self, names: Sequence[str], rounds: int, now: Callable[[], float] = time.monotonic) -> None:
        self._sites = {name: _DemoSite() for name in names}
        self._rounds, self._now, self._begun = rounds, now, now()
        self._first: float | None = None  # when the first round was begun
        self._final = 0  # the latest final round

    def take(self, name: str, event: Mapping[str, Any]) -> None:  # noqa: C901  one case an event
        """An event of that site, as its log has it."""
        site, kind = self._sites[name], str(event.get("event"))
        match kind:
            case "started":
                self._sites[name] = _DemoSite()
            case "listening":
                site.state, site.style = "loading PyTorch and records", "cyan"
            case "link_up":
                site.up.add(str(event.get("peer")))
            case "link_down":
                site.up.discard(str(event.get("peer")))
            case "charged" | "repeated":
                self._first = self._first or self._now()
                site.round, site.step = int(event.get("round", 0)), (0, 0)
                site.epsilon = str(event.get("epsilon", ""))
                site.state, site.style = phase_of("training"), "cyan"
            case "step":
                site.step = int(event.get("step", 0)), int(event.get("steps", 0))
            case "phase":
                site.round = int(event.get("round", 0))
                attempt = f", attempt {event['attempt']}" if event.get("attempt") else ""
                phase = str(event.get("phase", ""))
                training = site.step[0] < site.step[1] or site.state == phase_of("training")
                if not (training and phase in ("share", "propose")):  # it deals its shares while it trains
                    site.state, site.style, site.waits = phase_of(phase) + attempt, "cyan", ""
            case "waiting":
                missing = event.get("missing") or event.get("silent") or {}
                site.waits = f"waiting for {', '.join(map(str, missing))}" if missing else ""
            case "trained":
                site.step, site.state = (0, 0), phase_of("propose")
            case "round":
                self._final = max(self._final, int(event.get("round", 0)))
                site.sent += int(event.get("bytes_sent", 0))
                if "metric" in event:
                    site.metric = f"{event['metric']} {float(event['value']):.3f}"
            case "killed" | "ended":
                site.state, site.style = ENDS[kind]
                site.step, site.up, site.waits = (0, 0), set(), ""

    def render(self, now: float, doing: str) -> RenderableType:
        """The view at `now`."""
        spent = now - self._first if self._first is not None else 0.0
        head = [plain("demo", "bold"), plain(f"{len(self._sites)} sites")]
        if self._final:
            head.append(plain(f"{min(self._final, self._rounds)} of {counted(self._rounds, 'round')} final"))
        head += [plain(duration(now - self._begun), "dim"), plain(left_of(spent, self._final, self._rounds), "dim")]
        table = Table.grid(padding=(0, 2))
        for column in range(7):
            right, gives_way = column in (1, 4, 5), column == STATE
            table.add_column(justify="right" if right else "left", no_wrap=not gives_way, overflow="ellipsis")
        for name, site in self._sites.items():
            table.add_row(*self._row(name, site))
        return Group(joined(head), plain(doing, "cyan"), table)

    def _row(self, name: str, site: _DemoSite) -> list[Text]:
        epsilon = "" if site.epsilon in ("", "inf") else f"ε {float(site.epsilon):.2f}"
        return [
            plain(name),
            plain("" if not site.round else f"round {site.round}" if site.round <= self._rounds else "last model"),
            joined([plain(site.state, site.style), bar(*site.step, "steps"), plain(site.waits, "yellow")]),
            plain(counted(len(site.up), "link") if site.up else "", "dim"),
            plain(site.metric),
            plain(epsilon),
            plain(f"sent {amount(site.sent)}" if site.sent else "", "dim"),
        ]
