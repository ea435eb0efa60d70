"""Kill sites that train, over and over, and ask what it cost: one charge for each update that was offered, no more.

    python -m tests.end_to_end.budget --kills 100 [--sites 5] [--rounds 60] [--seed 1]

Each site's processes die one after another, at moments drawn from the seed: in the middle of a pass, before a step on
the disk around it, at any step, or at an event. Whoever died starts again. After so many kills the training goes on to
its end. Then every site's ε is exactly that of its charges, each charge has its own round and the update of it
was offered, no update is in two sums, every model is the mean of the updates in it, and all ledgers are one.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from p2pfl.federation import Federation
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.runs.passes import PASS
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import largest
from p2pfl.training.privacy.account import decimal_epsilon
from tests.end_to_end.chaos import tails
from tests.end_to_end.checks import entries, final_model, rounds
from tests.end_to_end.processes import Sites, federation

STEPS: Final = 10
SETTINGS: Final = (f"privacy.steps_per_round={STEPS}", "privacy.max_epsilon=100")
OVERALL_S: Final = 1800.0
# Steps on the disk around a pass: its seed, its charge, its update, the end of its seed.
AROUND: Final = (
    ["open", "state/pass.new"],
    ["rename", "state/pass"],
    ["fsync", "accounts/spent.new"],
    ["rename", "accounts/spent"],
    ["open", "state/residual.new"],
    ["rename", "state/residual"],
    ["unlink", "state/pass"],
)


def moment(choice: random.Random) -> dict[str, Any]:
    """When a process dies."""
    kind = choice.random()
    if kind < 0.2:
        return {"told": {"event": choice.choice(["charged", "repeated", "trained"])}}
    if kind < 0.5:
        return {"at": [*choice.choice(AROUND), choice.choice([1, 1, 2])]}
    return {"event": choice.randrange(3, 40)} if kind < 0.65 else {"disk": choice.randrange(1, 120)}


@dataclass
class Found:
    """What a federation that was killed so often came to."""

    kills: int
    moments: Counter[str]
    charges: dict[str, int]  # by site
    summed: dict[str, int]  # by site: training rounds that it is in
    repeated: int  # passes that a later process repeated
    seconds: float

    def __str__(self) -> str:
        spent = ", ".join(f"{name} {self.charges[name]} charges, {self.summed[name]} summed" for name in self.charges)
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.moments.most_common())
        return f"{self.kills} kills in {self.seconds:.0f} s ({kinds}); {self.repeated} passes repeated; {spent}"


def run(place: Path, *, kills: int, sites: int, rounds: int, seed: int) -> Found:
    """One federation from start to end. Raises AssertionError with what went wrong."""
    choice, began, killed, moments = random.Random(seed), time.monotonic(), 0, Counter[str]()
    with federation(place, sites, [f"rounds={rounds}", *SETTINGS]) as made:

        def begin(name: str) -> None:
            plan = {"die": moment(choice)} if killed < kills else {}
            listen = f"127.0.0.1:{made[name].port}"
            made.site(name, [{"train": rounds}], again=True, offers=True, listen=listen, **plan)

        for name in made.names:
            begin(name)
        running = sites
        while running:
            try:
                process = made.ends.get(timeout=max(0.0, began + OVERALL_S - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"stuck after {killed} kills\n{tails(made)}") from None
            status = process.end().status
            if status == -9:
                killed += 1
                dies = [json.loads(line) for line in process.said if line.startswith('{"event": "dies"')]
                moments["at " + dies[0]["path"] if dies else "at an event"] += 1
                begin(process.name)
            elif status == 0:
                running -= 1
            else:
                raise AssertionError(f"{process.name} ended with {status}\n{tails(made)}")
        assert killed >= kills, f"the training ended after {killed} kills: give it more rounds"
        try:
            return check(made, killed, moments, time.monotonic() - began)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{tails(made)}") from None


def told(sites: Sites, name: str, kind: str) -> list[dict[str, Any]]:
    """The events of that kind that all processes of a site told."""
    lines = [line for process in sites.started if process.name == name for line in process.said]
    events = [json.loads(line) for line in lines if line.startswith('{"event"')]
    return [event for event in events if event["event"] == kind]


def check(sites: Sites, kills: int, moments: Counter[str], seconds: float) -> Found:
    """What must hold at every site."""
    assert len(sites.roots()) == 1, "the ledgers differ"
    trained = rounds(sites[sites.names[0]], "training")
    charges, summed, repeated = {}, {}, 0
    offered: dict[str, dict[int, int]] = {}  # by site, by round: the charge of the update that it offered
    for name in sites.names:
        noted = [one for one in entries(sites[name], "site") if one["kind"] == "charge"]
        offers = told(sites, name, "offered")
        offered[name] = {one["round"]: one["charge"] for one in offers}
        count = charges[name] = len(noted)
        assert len({one["round"] for one in noted}) == count, f"{name}: a round was charged twice"
        assert {one["charge"] for one in offers} == set(range(1, count + 1)), f"{name}: charged, and never offered"
        assert noted[-1]["after"] == decimal_epsilon(0.01 * (STEPS * count)), f"{name}: ε is not that of its charges"
        with sites[name].opened() as home:
            assert ([held.passes for held in read_accounts(home).studies.values()], home.read(PASS)) == ([count], None)
        used = [offered[name][one["round"]] for one in trained if name in one["survivors"]]
        assert len(set(used)) == len(used), f"{name}: an update is in two sums"
        summed[name] = len(used)
        repeated += len(told(sites, name, "repeated"))
    check_chain(sites, [(one["round"], one["survivors"]) for one in trained], offered)
    return Found(kills, moments, charges, summed, repeated, seconds)


def check_chain(sites: Sites, trained: list[tuple[int, list[str]]], offered: dict[str, dict[int, int]]) -> None:
    """The last model is the sum of all means of one update of each survivor, within quantisation."""
    step = Federation.load(sites.peers).sharing.scale / largest(FIELDS[31], len(sites.names))
    model: Any = 0.0
    for number, survivors in trained:
        model = model + sum(update(sites, name, offered[name][number]) for name in survivors) / len(survivors)
    last = [final_model(sites[name]) for name in sites.names]
    assert all(np.array_equal(one, last[0]) for one in last), "the sites end with several models"
    assert np.abs(model - last[0]).max() <= len(trained) * (step + 1e-7), "a sum holds other updates than were offered"


def update(sites: Sites, name: str, charge: int) -> Any:
    """The update of that charge."""
    with np.load(sites[name].folder / "updates" / f"{charge:04d}.npz") as held:
        return held["update"].astype(np.float64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pfl-budget-") as place:
        try:
            print(
                run(Path(place), kills=options.kills, sites=options.sites, rounds=options.rounds, seed=options.seed),
                flush=True,
            )
        except AssertionError as error:
            print(f"FAILED {error}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
