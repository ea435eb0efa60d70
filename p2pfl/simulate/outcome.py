"""What became of a simulated federation, in facts that a test or a reader can judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.simulate.federation import CALM, Lie, SimulatedFederation, Weather


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """One round as the sites' logs hold it."""

    number: int
    attempts: int  # the one that was certified, and those abandoned before it
    survivors: tuple[str, ...]
    final_at: tuple[str, ...]  # sites whose log holds the round
    agreed: bool  # all of those hold the same record
    right: bool  # … and a sum that is the one of Python's integers


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole simulated run."""

    peers: tuple[str, ...]
    rounds: tuple[RoundOutcome, ...]
    deaths: int
    partitions: int
    letters: int
    bytes_sent: Mapping[str, int]  # by site: letters, as they would enter the links
    seconds: float  # virtual
    errors: Mapping[str, P2PFLError]  # by site: what ended its process

    @property
    def complete(self) -> bool:
        """Every site holds every round that any site holds, and all of them are right."""
        return all(one.right and one.final_at == self.peers for one in self.rounds)


def simulate(
    peers: int = 5,
    *,
    rounds: int = 1,
    length: int = 1000,
    bits: int = 61,
    seed: int = 0,
    weather: Weather = CALM,
    lies: Mapping[str, Lie] | None = None,
) -> Outcome:
    """Let `peers` sites sum `length` words in each of `rounds` rounds; the same arguments give the same outcome.

    bits     of the field: 16, 31 or 61
    weather  delays, deaths, partitions
    lies     by site name (site-0, site-1, …): what a liar makes of its letters
    """
    federation = SimulatedFederation(
        peers, rounds=rounds, length=length, bits=bits, seed=seed, weather=weather, lies=lies
    )
    federation.run()
    return outcome_of(federation)


def outcome_of(federation: SimulatedFederation) -> Outcome:
    """What `federation` has come to so far."""
    sent = dict.fromkeys(federation.peers, 0)
    letters = 0
    for to, letter in federation.log:
        copies = len(federation.peers) - 1 if to is None else 1
        letters += copies
        sent[letter.sender] += copies * len(letter.wire)
    names = tuple(federation.peers)
    logs = [federation.peers[name].disk.ledger for name in names]
    rounds = tuple(_round(federation, k + 1, records) for k, records in enumerate(zip_longest(*logs)))
    errors = {name: peer.error for name, peer in federation.peers.items() if peer.error is not None}
    return Outcome(names, rounds, federation.deaths, federation.partitions, letters, sent, federation.now, errors)


def _round(federation: SimulatedFederation, number: int, records: tuple[bytes | None, ...]) -> RoundOutcome:
    names = [name for name, record in zip(federation.peers, records, strict=True) if record is not None]
    held = {record for record in records if record is not None}
    facts = codec.read_facts(next(iter(held)))
    expected = federation.expected(facts["round"], facts["survivors"])
    # A site that was away takes the record over, and has no sum of its own to compare.
    totals = [total for name in names if (total := federation.peers[name].disk.totals[number - 1])]
    right = bool(totals) and all(vector.words.tolist() == expected for (vector,) in totals)
    agreed = len(held) == 1
    place = (facts["round"], facts["attempt"] + 1, tuple(facts["survivors"]))
    return RoundOutcome(*place, tuple(names), agreed, agreed and right)
