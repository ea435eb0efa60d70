"""The same table, for hours: python -m tests.fuzz.target [NAME …] [--tries N] [--seed S] [--atheris].

Without --atheris spoilt samples are drawn from a seeded generator, so a run repeats itself. With it, libFuzzer looks
for inputs that reach new code (`pip install atheris`); behind `--` stand libFuzzer's own options:

    python -m tests.fuzz.target letter opening --tries 100000
    python -m tests.fuzz.target --atheris -- -max_total_time=600
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

if "--atheris" in sys.argv:
    with contextlib.suppress(ImportError):  # told below, in `guided`
        import atheris

        with atheris.instrument_imports(include=["p2pfl"]):  # all there is would take minutes
            importlib.import_module("tests.fuzz.decoders")

from tests.fuzz.check import Broken, accepts, bounded
from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.mutations import mutated


@dataclass
class Tried:
    """Tries of one decoder, and how many of them it read as valid."""

    tries: int = 0
    accepted: int = 0


def chosen(names: Sequence[str]) -> tuple[Decoder, ...]:
    """The rows of these names; all, if none is given. Raises SystemExit for a name that is in no row."""
    known = {decoder.name: decoder for decoder in DECODERS}
    if unknown := set(names) - known.keys():
        raise SystemExit(f"no decoder is called {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in names or known)


def run(names: Sequence[str], seed: int, tries: int) -> dict[str, Tried]:
    """Try `tries` spoilt samples for each decoder, and measure memory at every hundredth. Raises Broken."""
    found = {}
    for decoder in chosen(names):
        rng, tried = random.Random(f"{seed} {decoder.name}"), Tried()
        for tried.tries in range(1, tries + 1):
            data = mutated(decoder.samples, rng.randrange)
            tried.accepted += accepts(decoder, data)
            if tried.tries % 100 == 0:
                bounded(decoder, data)
        found[decoder.name] = tried
    return found


def guided(names: Sequence[str], options: Sequence[str]) -> None:
    """Under libFuzzer: raw bytes for a decoder, or moves on one of its samples, as the input says. Does not return."""
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is not installed here: pip install atheris, or run without --atheris") from None
    rows = chosen(names)

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        decoder = rows[provider.ConsumeIntInRange(0, len(rows) - 1)]
        below: Callable[[int], int] = lambda count: int(provider.ConsumeIntInRange(0, count - 1))  # noqa: E731
        if provider.ConsumeBool():
            accepts(decoder, mutated(decoder.samples, below))
        else:
            accepts(decoder, bytes(provider.ConsumeBytes(provider.remaining_bytes())))

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing broke; 1: something did, and its bytes are on stderr."""
    parser = argparse.ArgumentParser(description="Try decoders with spoilt bytes, for longer than a test does.")
    parser.add_argument("names", nargs="*", help="decoders of the table (default: all)")
    parser.add_argument("--tries", type=int, default=10_000, help="for each decoder (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="coverage-guided, with libFuzzer's options behind --")
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index("--") if "--" in given else len(given)
    options: Any = parser.parse_args(given[:at])
    if options.atheris:
        guided(options.names, given[at + 1 :])
    try:
        for name, tried in run(options.names, options.seed, options.tries).items():
            print(f"{name}: {tried.tries} tries, {tried.accepted} read as valid, nothing broke")
    except Broken as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
