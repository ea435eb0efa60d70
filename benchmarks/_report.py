"""What every benchmark here prints: median, spread, versions, processor, and the promise beside the finding."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from p2pfl.sharing import kernel

FINDINGS_FILE: Final = "P2PFL_FINDINGS"


@dataclass(frozen=True)
class Finding:
    """One measured quantity: a value for each round, its unit ("" for a ratio), and what was promised of the median.

    aim   below `at_most`: nobody was promised it
    """

    name: str
    values: tuple[float, ...]
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        """True when the median keeps every promise (with none, always)."""
        above = self.at_least is None or self.median >= self.at_least
        return above and (self.at_most is None or self.median <= self.at_most)

    @property
    def promise(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        said = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        aim = f" (aim {self.aim:g})" if self.aim is not None else ""
        short = ", short of its aim" if self.holds and self.aim is not None and self.median > self.aim else ""
        return f"promised {said}{aim}: {'held' if self.holds else 'NOT HELD'}{short}" if said else ""

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "least": min(self.values),
            "most": max(self.values),
            "rounds": len(self.values),
            "at_least": self.at_least,
            "at_most": self.at_most,
            "aim": self.aim,
            "holds": self.holds,
        }


def interleave(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Seconds of each task in each round. All take turns, so that a busy moment of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()  # the first call pays for pages and caches
    for _ in range(rounds):
        for name, task in tasks.items():
            begun = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - begun)
    return {name: tuple(each) for name, each in seconds.items()}


def rates(amount: float, seconds: Sequence[float]) -> tuple[float, ...]:
    """amount / seconds, round by round."""
    return tuple(amount / each for each in seconds)


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """above / below, round by round: both sides of a pair ran next to each other."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def column(told: Sequence[Mapping[str, float]], what: str) -> tuple[float, ...]:
    """One measured thing, round by round."""
    return tuple(each[what] for each in told)


def column_ratios(
    above: Sequence[Mapping[str, float]], below: Sequence[Mapping[str, float]], what: str
) -> tuple[float, ...]:
    """One measured thing of two sides, above / below, round by round."""
    return ratios(column(above, what), column(below, what))


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    """The mean in thousandths, and the standard deviation where there are several."""
    told = f"{statistics.fmean(values):{sign}.3f}"
    return f"{told} ± {statistics.stdev(values):.3f}" if len(values) > 1 else told


def machine(*distributions: str) -> dict[str, object]:
    """Processor, cores, load, Python, and the versions of the named distributions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "inner loops": kernel.in_use(),
        **{name: version(name) for name in distributions},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def keep(title: str, findings: Sequence[Finding], on: Mapping[str, object] | None = None) -> None:
    """Append the findings to the file that FINDINGS_FILE names, if one is: `make bench` keeps and compares them."""
    if path := os.environ.get(FINDINGS_FILE):
        told = {"benchmark": title, "machine": dict(on if on is not None else machine())}
        with Path(path).open("a", encoding="utf-8") as file:
            for one in findings:
                file.write(json.dumps({**told, "promise": one.promise, **one.as_json()}) + "\n")


def show(title: str, findings: Sequence[Finding], on: Mapping[str, object], *, as_json: bool) -> int:
    """Print the findings, as a table or as one JSON object. Returns the exit status: 0 when every promise holds."""
    held = all(finding.holds for finding in findings)
    keep(title, findings, on)
    if as_json:
        listed = [finding.as_json() for finding in findings]
        print(json.dumps({"benchmark": title, "machine": dict(on), "findings": listed, "holds": held}))
        return 0 if held else 1
    print(title)
    print("  " + ", ".join(f"{name} {value}" for name, value in on.items()))
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        spread = f"({len(finding.values)} rounds, {min(finding.values):.3g} to {max(finding.values):.3g})"
        line = f"  {finding.name:{width}s} {finding.median:8.3g} {finding.unit:10s} {spread:32s} {finding.promise}"
        print(line.rstrip())
    return 0 if held else 1
