"""How soon `p2pfl` says its first word: verbs that need no PyTorch, with warm and cold caches.

    python benchmarks/startup.py [--rounds 5] [--json]

Each verb is started as a person would start it, in a federation of four sites of which no other runs; the clock stops
at the first byte that it prints; of `join`, at the line that says where it listens: its links are being dialled then,
while another process loads PyTorch. warm: everything was read a moment ago. cold disk: the interpreter's and all
packages' files are dropped from the page cache before each start (those that another process has mapped stay). cold
bytecode: no .pyc file is there, as on the first start after a checkout; pip writes them when it installs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import IO, Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _report as report  # noqa: E402
from benchmarks._federation import federation, key_file  # noqa: E402
from p2pfl.training.tasks.heart_records import deal  # noqa: E402

PROMISED_S: Final = 0.5
SITES: Final = ("ada", "ben", "cyd", "dan")
HOME: Final = ("--home", "ada", "--key-file", str(key_file(Path(), "ada")))
VERBS: Final = {
    "--help": ["--help"],
    "peers show": ["peers", "show"],
    "peers fingerprint": ["peers", "fingerprint", "--peers", "peers.yaml"],
    "status": ["status", *HOME],
    "ledger verify": ["ledger", "verify", *HOME],
    "ledger show": ["ledger", "show", *HOME],
    "doctor": ["doctor", *HOME, "--wait", "0.01"],
    "sum": ["sum", *HOME, "--value", "1"],
    "join": ["join", *HOME, "--data", "ada.csv"],
}
LINES: Final = {"join": b"listening at"}  # what the clock stops at, where it is not the first byte
CACHES: Final = ("warm", "cold disk", "cold bytecode")


def forget_files() -> None:
    """Drop what the interpreter and the packages consist of from the page cache."""
    paths = sysconfig.get_paths()
    for top in {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], str(ROOT / "p2pfl")}:
        for folder, _, names in os.walk(top):
            for name in names:
                if name.endswith((".py", ".pyc", ".so")):
                    with open(os.path.join(folder, name), "rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def first_word(folder: Path, arguments: list[str], bytecode: Path) -> tuple[float, float]:
    """Seconds, and of them processor seconds, from the start of the process to the first byte that it prints.

    Then it is ended. What other programs take of a busy machine's processors is in the former alone.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pfl", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        heard = _heard(process.stdout, LINES.get(arguments[0], b""))
        took = time.perf_counter() - began
    finally:
        process.kill()
        process.communicate()
    if not heard:
        raise SystemExit(f"p2pfl {' '.join(arguments)} says nothing")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _heard(stream: IO[bytes] | None, line: bytes) -> bytes:
    """The first byte, or the first line that holds `line`."""
    if stream is None or not line:
        return stream.read(1) if stream is not None else b""
    return next((one for one in stream if line in one), b"")


def measure(rounds: int) -> list[report.Finding]:
    """All verbs take turns, so that a busy moment of the machine meets all of them."""
    took: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="p2pfl-startup-") as place:
        folder, kept = Path(place), Path(place) / "bytecode"
        federation(folder, dict.fromkeys(SITES, "127.0.0.1"))
        (folder / "ada.csv").write_bytes(deal(len(SITES)).files["cleveland"])
        for arguments in VERBS.values():
            first_word(folder, arguments, kept)
        for turn in range(rounds):
            for cache in CACHES:
                for verb, arguments in VERBS.items():
                    if cache == "cold disk":
                        forget_files()
                    bytecode = folder / f"none-{turn}-{verb}" if cache == "cold bytecode" else kept
                    took.setdefault((cache, verb), []).append(first_word(folder, arguments, bytecode))
    found = []
    for (cache, verb), values in took.items():
        seconds, processor = zip(*values, strict=True)
        bound = PROMISED_S if cache == "warm" else None
        found.append(report.Finding(f"{verb}, {cache}", seconds, "s", at_most=bound))
        found.append(report.Finding(f"{verb}, {cache}: processor", processor, "s"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds)
    sys.exit(
        report.show(
            "p2pfl says its first word after", found, report.machine("click", "cryptography"), as_json=options.json
        )
    )


if __name__ == "__main__":
    main()
