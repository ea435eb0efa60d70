"""Runs benchmarks in sections, keeps what they found, and compares it with the last time: what `make bench` calls.

    python -m benchmarks._bench [--only "sum links"] [--results bench.jsonl] [--list] [-- ARGUMENTS …]

Every section ends within ten minutes (`_sections.LIMIT_S`): a script that still runs then is stopped, and named. What
is found goes to the results file, a JSON object a line: run, commit, section, command, seconds (of the whole script),
machine, benchmark, name, ratio (null where it has a unit), unit, median, least, most, rounds, promise, holds. At the
end stand all promises, and each finding beside the last one of the same command on the same machine. The exit status is
1 when a script failed, was stopped, or found a promise not held.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import _results as results
from benchmarks import _sections as sections
from benchmarks._report import FINDINGS_FILE, Finding, machine

ROOT: Final = sections.HERE.parent
PATIENCE_S: Final = 30.0  # of a script that was told to end: it takes its network namespaces away first


def commit() -> str:
    """The commit that is measured, with a + where files differ from it; "unknown" outside of a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() + "+" * bool(changed.stdout.strip()) if head.returncode == 0 else "unknown"


def arguments_of(script: str, given: Sequence[str]) -> list[str]:
    """The section's own arguments, then those of this call, which win."""
    return [*sections.ARGUMENTS.get(script, ()), *given]


def run_script(script: str, given: Sequence[str], findings: Path, left_s: float) -> tuple[int | None, float]:
    """Run it; its exit status (None: it was stopped after `left_s` seconds), and the seconds that it took."""
    argv = [sys.executable, "-m", f"benchmarks.{script}", *arguments_of(script, given)]
    begun = time.perf_counter()
    child = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, FINDINGS_FILE: str(findings)})
    try:
        status: int | None = child.wait(timeout=max(left_s, 0.0))
    except subprocess.TimeoutExpired:
        status = None
    finally:
        if child.poll() is None:
            _end(child)
    return status, time.perf_counter() - begun


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def run_section(
    section: str, scripts: Sequence[str], given: Sequence[str], run: str, results_file: Path
) -> tuple[list[results.Line], list[str]]:
    """Run its scripts one after the other; what they found, written down at once, and what failed."""
    kept: list[results.Line] = []
    failed: list[str] = []
    ends = time.perf_counter() + sections.LIMIT_S
    with tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            command = shlex.join(["python", "-m", f"benchmarks.{script}", *arguments_of(script, given)])
            print(f"== {section}: {command}", flush=True)
            findings = Path(folder) / script
            status, seconds = run_script(script, given, findings, ends - time.perf_counter())
            told = results.told(findings)
            told.append({"benchmark": script, "machine": machine(), "promise": ""})
            told[-1] |= Finding("the whole script", (seconds,), "s").as_json() | {"status": status}
            where = {"run": run, "commit": commit(), "section": section, "command": command}
            lines = [results.line_of(one, **where, seconds=seconds) for one in told]
            results.append(results_file, lines)
            kept += lines
            if status is None:
                failed.append(f"{script} was stopped: section {section} took its {sections.LIMIT_S:g} s")
            elif status:
                failed.append(f"{script} ended with {status}")
    return kept, failed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="sections or scripts, with blanks or commas between them")
    parser.add_argument("--results", type=Path, default=ROOT / "bench.jsonl")
    parser.add_argument("--list", action="store_true", help="say which sections there are")
    parser.add_argument("arguments", nargs="*", help="behind --: what every script gets")
    given = parser.parse_args(argv)
    if given.list:
        for section, scripts in sections.sections().items():
            print(f"{section:20s} {' '.join(scripts)}")
        return 0
    try:
        wanted = sections.chosen(given.only.replace(",", " ").split())
        before = results.read(given.results)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    run = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept: list[results.Line] = []
    failed: list[str] = []
    for section, scripts in wanted.items():
        lines, wrong = run_section(section, scripts, given.arguments, run, given.results)
        kept, failed = kept + lines, failed + wrong
    print("\n== promised and found\n" + "\n".join(results.promised(kept)))
    print("\n== now and before\n" + "\n".join(results.compared(kept, before)))
    print(f"\n{len(kept)} findings were added to {given.results}")
    for one in failed:
        print(one, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
