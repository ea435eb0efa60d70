"""TenSEAL's CKKS beside our secure sum: five sites, 10⁶ words, one after the other on this machine.

    python benchmarks/tenseal_ckks.py [--python PATH] [--peers 5] [--words 1000000] [--rounds 3] [--json]

CKKS: every site encrypts and serialises its vector, a server reads and adds, every site reads and decrypts the sum; a
process each, joined by pipes, without network, TLS or disk, which favours it. Two settings: those that TenSEAL's README
shows, and the smallest ciphertexts that 128-bit security and nothing but additions allow. Ours: whole rounds on
loopback from the call on, with TLS, fsync and the ledger entry.

TenSEAL is not one of our dependencies. `make bench` puts it into an environment of its own, where it installs:

    python -m venv .tenseal && .tenseal/bin/pip install tenseal
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _links as links  # noqa: E402
from benchmarks import _report as report  # noqa: E402
from benchmarks import secure_sum  # noqa: E402

BITS: Final = [31, 16]  # the default field first
# Degree of the polynomials, bits of the moduli, bits of the scale.
SETTINGS: Final = {"its README's": (8192, "60,40,40,60", 40), "the smallest": (8192, "60,60", 40)}
PROMISED_WORDS: Final = 1_000_000
LEAST_TIME, MOST_BYTES = 20.0, 0.25  # promised: docs/benchmarks.md
Told = dict[str, float]


class CkksFailed(RuntimeError):
    """TenSEAL is here and did not do its work; the text is the end of what it said."""


def ckks(options: argparse.Namespace, setting: str) -> tuple[list[Told], str]:
    """What each round took, and TenSEAL's version. Raises CkksFailed."""
    degree, bits, scale = SETTINGS[setting]
    numbers = {
        "peers": options.peers,
        "words": options.words,
        "rounds": options.rounds,
        "degree": degree,
        "scale": scale,
    }
    command = [str(options.python), str(ROOT / "benchmarks" / "_ckks.py"), "--bits", bits]
    command += [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise CkksFailed("\n".join(done.stderr.splitlines()[-12:]))
    said = json.loads(done.stdout.splitlines()[-1])
    rounds: list[Told] = said["rounds"]
    if max(each["worst"] for each in rounds) > 1e-4:
        raise CkksFailed(f"its sum is wrong by {max(each['worst'] for each in rounds)}")
    return rounds, str(said["version"])


def findings(
    options: argparse.Namespace, mine: Mapping[int, list[Told]], its: Mapping[str, list[Told]]
) -> list[report.Finding]:
    """Ratios round by round; promised (docs/benchmarks.md) for the default field beside TenSEAL's own setting."""
    promised = options.words >= PROMISED_WORDS and options.peers == 5

    def per_word(told: Sequence[Told]) -> tuple[float, ...]:
        return tuple(each["bytes"] / options.words / options.peers for each in told)

    found = []
    for setting, theirs in its.items():
        for bits, told in mine.items():
            holds = promised and setting == next(iter(its)) and bits == BITS[0]
            pair = f"CKKS ({setting}) and ours ({bits} bits)"
            found += [
                report.Finding(
                    f"{pair}: time", report.column_ratios(theirs, told, "s"), at_least=LEAST_TIME if holds else None
                ),
                report.Finding(f"{pair}: processor", report.column_ratios(theirs, told, "cpu_s")),
                report.Finding(
                    f"{pair}: our bytes / its",
                    report.column_ratios(told, theirs, "bytes"),
                    at_most=MOST_BYTES if holds else None,
                ),
            ]
    for name, told in [(f"CKKS ({setting})", rows) for setting, rows in its.items()] + [
        (f"ours ({bits} bits)", rows) for bits, rows in mine.items()
    ]:
        found += [
            report.Finding(f"{name}: time", report.column(told, "s"), "s"),
            report.Finding(f"{name}: processor, all sites", report.column(told, "cpu_s"), "s"),
            report.Finding(f"{name}: bytes per word and site", per_word(told), "bytes"),
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = ROOT / ".tenseal" / "bin" / "python"
    default = own if own.exists() else Path(sys.executable)
    parser.add_argument("--python", type=Path, default=default, help="an interpreter that has TenSEAL")
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--words", type=int, default=PROMISED_WORDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if subprocess.run([options.python, "-c", "import tenseal"], capture_output=True, check=False).returncode:
        print("not measured: TenSEAL is not here. python -m venv .tenseal && .tenseal/bin/pip install tenseal")
        return 0
    mine = secure_sum.cold(links.loopback(options.peers), options.words, BITS, options.rounds)
    try:
        answers = {setting: ckks(options, setting) for setting in SETTINGS}
    except CkksFailed as error:
        print(f"not measured: TenSEAL did not run here. It said:\n{error}")
        return 0
    its = {setting: rounds for setting, (rounds, _) in answers.items()}
    on = {**report.machine("numpy", "pyzmq", "cryptography"), "tenseal": next(iter(answers.values()))[1]}
    title = f"TenSEAL's CKKS and ours: {options.peers} sites, {options.words:,} words, no network between the processes"
    return report.show(title, findings(options, mine, its), on, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
