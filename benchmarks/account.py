"""What the privacy accountant costs a long training: memory that it keeps, time of one ε, beside Opacus' own PRV.

    python benchmarks/account.py [--passes 2400] [--every 20] [--json]

A training of 2400 passes of four steps (σ = 4, sample rate .02) spends ε = 2. Each accountant runs in a process of its
own and is asked after every 20th pass, since what it keeps follows from how many different histories it has seen, and
asking after each takes an hour. "kept" is what the process has grown by at the end, "most" its peak above the start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._process import peak_bytes, resident_bytes
from benchmarks._report import Finding, machine, ratios, show

NOISE, RATE, STEPS, DELTA = 4.0, 0.02, 4, 1e-5
MIB: Final = 1 << 20
PROMISED_MIB: Final = 64
WHO: Final = ("p2pfl", "opacus")


def measure(who: str, passes: int, every: int) -> dict[str, list[float]]:
    """Memory and time of one accountant over a training, in this process."""
    from opacus.accountants import PRVAccountant

    from p2pfl.training.privacy.accountant import upper_bound

    def plain(steps: int) -> float:
        accountant = PRVAccountant()
        accountant.history = [(NOISE, RATE, steps)]
        return float(accountant.get_epsilon(DELTA))

    def ours(steps: int) -> float:
        return upper_bound([(NOISE, RATE, steps)], DELTA)

    of = plain if who == "opacus" else ours
    of(STEPS)  # the first call loads scipy
    before, seconds, epsilon = resident_bytes(), [], 0.0
    for number in range(every, passes + 1, every):
        begun = time.perf_counter()
        epsilon = of(STEPS * number)
        seconds.append(time.perf_counter() - begun)
    kept, most = ((held - before) / MIB for held in (resident_bytes(), peak_bytes()))
    return {"kept": [kept], "most": [most], "seconds": seconds, "epsilon": [epsilon]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=2400)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=WHO, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(options.measure, options.passes, options.every)))
        return 0
    found: dict[str, dict[str, list[float]]] = {}
    for who in WHO:
        command = [sys.executable, __file__, "--measure", who]
        command += ["--passes", str(options.passes), "--every", str(options.every)]
        found[who] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    mine, theirs = found["p2pfl"], found["opacus"]
    findings = [
        Finding("memory kept", tuple(mine["kept"]), "MiB", at_most=PROMISED_MIB),
        Finding("memory kept, Opacus' own", tuple(theirs["kept"]), "MiB"),
        Finding("most memory above the start", tuple(mine["most"]), "MiB"),
        Finding("most memory above the start, Opacus' own", tuple(theirs["most"]), "MiB"),
        Finding("one ε", tuple(mine["seconds"]), "s"),
        Finding("one ε, Opacus' own", tuple(theirs["seconds"]), "s"),
        Finding("time / Opacus' own", ratios(mine["seconds"], theirs["seconds"]), at_most=1.0),
        Finding("ε at the end / Opacus' own", ratios(mine["epsilon"], theirs["epsilon"]), at_least=1.0 - 1e-5),
    ]
    title = f"the accountant over {options.passes} passes"
    return show(title, findings, machine("opacus", "scipy"), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
