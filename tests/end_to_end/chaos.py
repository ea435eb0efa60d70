"""Kill real sites over and over, at moments drawn from a seed, and ask each time whether anything was lost.

    python -m tests.end_to_end.chaos --episodes 100 [--seed 1] [--exhaust SITE] [--cuts]

An episode: 3 to 5 sites do a sum, a training of three rounds and another sum, while some of them are killed -9: at
the k-th event that they tell, or before the k-th step that they take on their disk. Whoever was killed starts again,
perhaps to be killed again. In the end all must have ended well, with one ledger. --exhaust kills one site once, before
every single step that it takes on the disk, in turn; --cuts cuts links at random bytes, too. Not a test: it runs as
long as one likes.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.end_to_end.checks import check_everything
from tests.end_to_end.processes import Process, Sites, federation
from tests.end_to_end.proxies import Proxy

ORDERS = [{"sum": [1, 2, 3], "name": "first"}, {"train": 3}, {"sum": [4, 5], "name": "second"}]
EPISODE_S = 900.0  # a hang, not a speed


def episode(place: Path, count: int, deaths: dict[str, list[dict[str, int]]], cuts: random.Random | None = None) -> int:
    """One federation from start to end; the number of kills that happened."""
    killed, proxies = 0, ExitStack()

    def door(name: str, port: int) -> int:
        if cuts is None:
            return port
        proxy = Proxy(port, [cuts.randrange(1, cuts.choice([6_000, 60_000])) for _ in range(cuts.randrange(4, 20))])
        proxies.callback(proxy.close)
        return proxy.port

    with proxies, federation(place, count, ["rounds=3", "privacy.steps_per_round=10"], doors=door) as sites:
        left = {name: list(deaths.get(name, [])) for name in sites.names}

        def begin(name: str) -> None:
            plan = {"die": left[name].pop(0)} if left[name] else {}
            sites.site(name, ORDERS, again=True, listen=f"127.0.0.1:{sites[name].port}", **plan)

        for name in sites.names:
            begin(name)
        until = time.monotonic() + EPISODE_S
        running = count
        while running:
            process = _next(sites, until)
            status = process.end().status
            if status == -9:
                killed += 1
                begin(process.name)
            elif status == 0:
                running -= 1
            else:
                raise AssertionError(f"status {status}\n{tails(sites)}")
        try:
            check_everything(sites, rounds=3, sums=2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{tails(sites)}") from None
    return killed


def _next(sites: Sites, until: float) -> Process:
    try:
        return sites.ends.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise AssertionError(f"stuck\n{tails(sites)}") from None


def tails(sites: Sites) -> str:
    lines = []
    for process in sites.started:
        lines.append(f"== {process.name}: {'running' if process.running else process.process.returncode}")
        lines += [f"   {line[:240]}" for line in process.said if '"link_' not in line][-14:]
    return "\n".join(lines)


def drawn(seed: int) -> tuple[int, dict[str, list[dict[str, int]]]]:
    """How many sites, and who dies when, from a seed."""
    choice = random.Random(seed)
    count = choice.choice([3, 3, 4, 5])
    names = ["ada", "ben", "cyd", "dot", "eve"][:count]
    deaths: dict[str, list[dict[str, int]]] = {}
    for name in choice.sample(names, choice.choice([1, 1, 1, 2, count])):
        for _ in range(choice.choice([1, 1, 2, 3])):
            moment = {"event": choice.randrange(1, 45)} if choice.random() < 0.4 else {"disk": choice.randrange(1, 260)}
            deaths.setdefault(name, []).append(moment)
    return count, deaths


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--exhaust")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--cuts", action="store_true")
    parser.add_argument("--count", type=int, default=3)
    options = parser.parse_args()
    failures = total = 0
    for number in range(options.seed, options.seed + options.episodes * options.step, options.step):
        if options.exhaust:
            count, deaths = options.count, {options.exhaust: [{"disk": number}]}
        else:
            count, deaths = drawn(number)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            try:
                killed = episode(Path(place), count, deaths, random.Random(number) if options.cuts else None)
                said = "ok"
            except AssertionError as error:
                failures += 1
                killed = 0
                said = f"FAILED\n{error}"
        total += killed
        print(f"{number}: {count} sites {deaths} killed {killed}  {time.monotonic() - began:.1f} s  {said}", flush=True)
    print(f"{options.episodes} episodes, {total} kills, {failures} failures")
    return failures and 1


if __name__ == "__main__":
    sys.exit(main())
