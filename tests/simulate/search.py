"""A search for schedules in which liars with two faces, crashes and returns break a promise.

    python -m tests.simulate.search --seeds 5000 --n 7          many seeds of one size (without --n: of 3 to 10 sites)
    python -m tests.simulate.search --from 4711 --seeds 1 --n 7 --minimise
    python -m tests.simulate.search --seeds 1000 --dealt-anew   the liars deal as one process after another, too

Each seed is one federation in virtual time: up to c liars (`faces.py`, `mischief.py`), honest ones that die, return,
or lose sight of one another. Then the liars rest, are silent, or go on; and each promise is checked: one log,
right sums, no honest site accused, no honest process ended, every round final in bounded time and attempts, and by
linear algebra that the liars know no more than the certified sums. A seed is the same schedule in every process.
"""

from __future__ import annotations

import argparse
import collections
import functools
import hashlib
import multiprocessing
import random
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from p2pfl import messages as m
from p2pfl.errors.round import LeftOutTooOften
from p2pfl.messages import letters as read
from p2pfl.sharing import chunks
from p2pfl.simulate import Weather
from tests.sharing.owners import EACH
from tests.simulate import promises
from tests.simulate.faces import Pooled, TwoFaced
from tests.simulate.mischief import Mischief
from tests.simulate.redealers import Redealers

SIZES: Final = (3, 4, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10)
WEATHERS: Final = (
    Weather(delay_s=(0.001, 0.05)),
    Weather(delay_s=(0.0005, 2.0), overtaking=0.5),
    Weather(delay_s=(0.0005, 20.0), overtaking=0.5),  # a letter takes a deadline
    Weather(0.01, 3, (0.05, 60.0), (0.0005, 5.0)),
    Weather(0.005, 2, (1.0, 300.0), (0.001, 1.0), 0.005, 2, (0.1, 100.0)),  # rounds go by without the dead
    Weather(0.0, 0, (0.1, 60.0), (0.001, 1.0), 0.02, 5, (0.1, 150.0)),  # nobody dies
)
MOST_STEPS: Final = 150_000
TOLD_EACH: Final = 100  # schedules
BOUND_S: Final = 6 * 3600.0  # of virtual time, from the last lie on
# In one round. At worst each of c ≤ 3 liars spoils one as coordinator, one as a member, and one by what it shows to
# some only; then it is named. Each of at most five deaths or cuts may end one more, and slow letters the first few.
MOST_ATTEMPTS: Final = 20
WHERE_ALL_MUST_BE_THERE: Final = 3  # sites: then one liar stops every sum, and the first that is named ends the run


@dataclass
class Played:
    """One schedule, and what was wrong with it."""

    seed: int
    peers: int
    wrong: str = ""
    attempts: int = 0  # most in one round
    letters: int = 0
    digest: str = ""  # of all letters, in their order
    stopped: int = 0  # honest processes that were left out too often, and were started again
    seen: collections.Counter[str] = field(default_factory=collections.Counter)
    deeds: list[str] = field(default_factory=list)


def play(seed: int, peers: int = 0, only: frozenset[int] | None = None, lies: type[Mischief] = Mischief) -> Played:
    """One schedule to its end. `only`: the numbers of the deeds that are done; None: all.

    In three of four each site owns words, as in a long vector; in the fourth one site owns all, as in a short one.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(chunks, "LEAST_BYTES", chunks.LEAST_BYTES if seed % 4 == 3 else EACH)
    try:
        return _one(seed, peers, only, lies)
    finally:
        patch.undo()


def _one(seed: int, peers: int, only: frozenset[int] | None, lies: type[Mischief]) -> Played:
    dice = random.Random(seed * 1000 + peers)
    peers = peers or dice.choice(SIZES)
    names = [f"site-{k}" for k in range(peers)]
    most = max(1, (peers - 1) // 3)
    liars = dice.sample(names, dice.choice((most, most, dice.randint(1, most))))
    weather = dice.choice(WEATHERS)
    world = TwoFaced(peers, liars, rounds=dice.choice((1, 2, 2, 3, 5)), seed=seed, weather=weather)
    for twin in world.twins.values():
        twin.same_process = dice.random() < 0.7
    script = lies(world, seed, only)
    world.script = script
    played = Played(seed, peers, deeds=script.deeds)
    until = dice.choice((3.0, 30.0, 100.0, 300.0))
    script.begin(until)
    ends = dice.choice(("rest", "rest", "silent", "go on"))
    world.clock.at(until, lambda: _ends(world, script, ends))
    try:
        _run(world, played, until)
        judge(world)
    except AssertionError as error:
        played.wrong = f"{error}" or "an assertion"
    except Exception:
        played.wrong = traceback.format_exc(limit=-6)
    played.letters = len(world.carried)
    played.digest = _digest(world)
    proposed = (one for _, one in world.log if one.sender in world.honest and isinstance(one.message, m.Propose))
    played.attempts = max((one.envelope.attempt for one in proposed), default=0) + 1
    if played.attempts > MOST_ATTEMPTS and not played.wrong and peers > WHERE_ALL_MUST_BE_THERE:
        played.wrong = f"{played.attempts} attempts in a round"
    played.seen.update(type(note).__name__ for name in world.honest for note in world.peers[name].disk.notes)
    played.seen.update("left behind" for name in world.honest for _ in world.peers[name].left)
    played.seen.update(f"accused {one.error.code}" for name in world.honest for one in world.peers[name].accused)
    return played


def _digest(world: TwoFaced) -> str:
    found = hashlib.sha256()
    for sender, to, letter in world.carried:
        found.update(f"{sender} {to} ".encode() + letter.wire)
    return found.hexdigest()


def _ends(world: TwoFaced, script: Mischief, how: str) -> None:
    """The liars have lied enough; or they go on, each letter in its own way."""
    if how == "go on":
        return
    script.rest()
    if how == "silent":
        for name in sorted(world.liars):
            world.peers[name].kill()


def _run(world: TwoFaced, played: Played, until: float) -> None:
    """Until every honest site has all rounds, and what they say of that has arrived."""
    vain = world.roster.quorums.n <= WHERE_ALL_MUST_BE_THERE
    world.begin()
    for step in range(MOST_STEPS):
        if not world.clock.step():
            break
        if step % 64:
            continue
        for name in world.honest:
            _look(world, name, played, vain)
        if _all_final(world) or world.now > until + BOUND_S:
            break
    _look_again(world, played, vain)
    if not vain:
        stands = {name: (len(world.peers[name].disk.ledger), _waits(world, name)) for name in world.honest}
        assert _all_final(world), f"not final {world.now - until:.0f} s after the last lie, step {step}: {stands}"


def _look_again(world: TwoFaced, played: Played, vain: bool) -> None:
    for _ in range(MOST_STEPS):
        for name in world.honest:
            _look(world, name, played, vain)
        if _all_final(world) or not world.clock.step():
            return


def _look(world: TwoFaced, name: str, played: Played, vain: bool) -> None:
    """No honest process ends but by the rule for being left out; its operator looks, and starts it again."""
    peer = world.peers[name]
    if isinstance(peer.error, LeftOutTooOften):
        peer.disk.looked, played.stopped = peer.final_round, played.stopped + 1
        world.start(peer)
    elif peer.error is not None and not (vain and peer.error.fields.get("peer") in world.liars):
        raise AssertionError(f"{name} ended: {peer.error.render()}")


def _all_final(world: TwoFaced) -> bool:
    return all(len(world.peers[name].disk.ledger) >= world.rounds for name in world.honest)


def _waits(world: TwoFaced, name: str) -> object:
    run = world.peers[name].run
    if run is None:
        return "no process"
    rounds = {number: (one.attempt, one.phase.name, one.waiting_for()) for number, one in run.rounds.items()}
    return run.number, list(run.held), rounds


def judge(world: TwoFaced) -> None:
    """Every promise to the honest. Raises AssertionError."""
    promises.check(world, beside=world.liars)
    known = Pooled(world, sorted(world.liars), fresh=False)
    assert known.learns_only_the_certified_sums(), "the liars know more than the certified sums"


# ── what was found, made small ────────────────────────────────────────────────────────────────────────────────


def minimised(found: Played, lies: type[Mischief] = Mischief) -> list[str]:
    """The fewest deeds found after which something is still wrong: halves are left out, then quarters, and so on."""
    kept = [number for number, deed in enumerate(found.deeds) if deed]
    size = max(1, len(kept) // 2)
    last = found
    while True:
        smaller = False
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            tried = play(found.seed, found.peers, frozenset(fewer), lies)
            if tried.wrong:
                kept, last, smaller = [k for k, deed in enumerate(tried.deeds) if deed], tried, True
                break
        if not smaller and size == 1:
            return [deed for deed in last.deeds if deed] + [f"→ {last.wrong}"]
        size = size if smaller else size // 2


def _plays(seeds: range, peers: int, jobs: int, lies: type[Mischief]) -> Iterator[Played]:
    one = functools.partial(play, peers=peers, lies=lies)
    if jobs < 2:
        yield from map(one, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(one, seeds)


def main(arguments: list[str] | None = None) -> int:
    """Play seeds, tell what each of those that broke a promise broke, and end with 1 if there was one."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulate.search", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--n", type=int, default=0, dest="peers", help="sites; 0: 3 to 10, by seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--minimise", action="store_true", help="leave out deeds of what is found while it is still wrong"
    )
    parser.add_argument("--dealt-anew", action="store_true", help="liars deal as one process after another, too")
    options = parser.parse_args(arguments)
    lies = Redealers if options.dealt_anew else Mischief
    read.read_letter = functools.lru_cache(maxsize=4096)(read.read_letter)  # what goes to all is decoded once
    found, letters, most, stopped = 0, 0, 0, 0
    seen: collections.Counter[str] = collections.Counter()
    seeds = range(options.first, options.first + options.seeds)
    for count, played in enumerate(_plays(seeds, options.peers, options.jobs, lies), 1):
        if not count % TOLD_EACH:
            print(f"{count} schedules", file=sys.stderr, flush=True)
        letters, most, stopped = letters + played.letters, max(most, played.attempts), stopped + played.stopped
        seen += played.seen
        if played.wrong:
            found += 1
            print(f"seed {played.seed}, {played.peers} sites: {played.wrong}", flush=True)
            for line in minimised(played, lies) if options.minimise else ():
                print(f"    {line}", flush=True)
    print(f"{len(seeds)} schedules, {letters} letters, at most {most} attempts in a round, {found} broke a promise")
    print(f"left out too often, and started again: {stopped}; {dict(sorted(seen.items()))}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
