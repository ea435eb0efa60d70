"""A simulated federation whose letters are counted as they leave, by kind, and kept by nobody.

What is measured is a round of a federation at work: the second one, since in the first each site greets all others and
says again what it said before their links stood. All names are of one length, so that a count depends on nothing else
than the number of sites and of words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from p2pfl.errors.planning import WrongForecast
from p2pfl.messages import Letter, Message, Propose, Want
from p2pfl.sharing.chunks import Layout, Segment, plan
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate.federation import CALM, SimulatedFederation, Weather

MEASURED_ROUND: Final = 2
DELAY_S: Final = 0.1  # of each letter, where steps that wait for one another are counted: shorter than any patience
MOST_STEPS: Final = 1 << 40
WORDS_OF: Final = ("Chunk", "SumChunk")  # kinds of letter that carry the words


@dataclass(frozen=True, slots=True)
class Tally:
    """Letters of one kind, and their bytes: a letter to all counts once for each that it goes to."""

    letters: int = 0
    bytes: int = 0


class CountedFederation(SimulatedFederation):
    """Counts what leaves the sites; `by_kind` of all rounds, `by_round` of each."""

    def __init__(
        self, peers: int, *, rounds: int = 1, length: int, bits: int, seed: int = 0, weather: Weather = CALM
    ) -> None:
        names = [f"site-{k:04}" for k in range(peers)]
        super().__init__(peers, rounds=rounds, length=length, bits=bits, seed=seed, weather=weather, names=names)
        self.by_round: dict[int, dict[str, Tally]] = {}
        self.proposed, self.settled = dict[int, float](), dict[int, float]()  # by round: first, and last, in seconds

    def sent(self, to: str | None, letter: Letter[Message]) -> None:
        kind, number = type(letter.message).__name__, letter.envelope.round
        copies, held = len(self.peers) - 1 if to is None else 1, self.by_round.setdefault(number, {})
        old = held.get(kind, Tally())
        held[kind] = Tally(old.letters + copies, old.bytes + copies * len(letter.wire))
        if isinstance(letter.message, Propose):
            self.proposed.setdefault(number, self.now)
        elif isinstance(letter.message, Want):
            self.settled[number] = self.now

    @property
    def by_kind(self) -> dict[str, Tally]:
        """All that left, over all rounds."""
        found: dict[str, Tally] = {}
        for held in self.by_round.values():
            for kind, one in held.items():
                old = found.get(kind, Tally())
                found[kind] = Tally(old.letters + one.letters, old.bytes + one.bytes)
        return found

    def check(self) -> None:
        """Every site holds every round, and each sum is that of the inputs. Raises WrongForecast."""
        for number in range(1, self.rounds + 1):
            rows = [self.update(name, number)[0].words for name in self.roster.names]
            expected = FIELDS[self.bits].sum(rows)
            for peer in self.peers.values():
                held = peer.disk.totals[number - 1 : number]
                if not held or not np.array_equal(held[0][0].words, expected):
                    evidence = f"{peer.name} of {len(self.peers)} holds no sum of round {number}, or a wrong one"
                    raise WrongForecast(evidence=f"{evidence}: {peer.error}")


@dataclass(frozen=True, slots=True)
class MeasuredRound:
    """What one round of real letters came to, over all sites.

    by_kind   letters and bytes, by kind of letter
    cpu_s     processor seconds of the whole simulation, for each of its rounds
    """

    sites: int
    words: int
    bits: int
    by_kind: dict[str, Tally]
    cpu_s: float

    @property
    def letters(self) -> int:
        return sum(one.letters for one in self.by_kind.values())

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.by_kind.values())


def chunks(sites: int, words: int, bits: int) -> int:
    """How many chunks a vector of that many words is cut into."""
    return len(plan(Layout((Segment(bits, words),)), sites))


def measure(sites: int, words: int, bits: int, seed: int = 0) -> MeasuredRound:
    """Run real rounds and count the second one. Raises WrongForecast when a sum is not the one of the inputs."""
    begun = time.process_time()
    federation = CountedFederation(sites, rounds=MEASURED_ROUND, length=words, bits=bits, seed=seed)
    federation.run(MOST_STEPS)
    spent = (time.process_time() - begun) / MEASURED_ROUND
    federation.check()
    return MeasuredRound(sites, words, bits, federation.by_round[MEASURED_ROUND], spent)


def steps(sites: int, bits: int, seed: int = 0) -> int:
    """How many letters wait for one another, from the first proposal until the last site has the round in its ledger.

    Counted in a real round in which every letter takes DELAY_S and nothing else takes any time.
    """
    weather = Weather(delay_s=(DELAY_S, DELAY_S))
    federation = CountedFederation(sites, rounds=MEASURED_ROUND, length=sites, bits=bits, seed=seed, weather=weather)
    federation.run(MOST_STEPS)
    federation.check()
    between = federation.settled[MEASURED_ROUND] - federation.proposed[MEASURED_ROUND]
    return round(between / DELAY_S)
