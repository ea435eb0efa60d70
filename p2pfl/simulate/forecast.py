"""What a federation would cost and promise, before there is one: up to a thousand sites, in one process.

Real rounds run for every number of sites up to `real`; letters, bytes and processor time beyond that are those of
traffic.py, fitted to real rounds of this very call and checked against one that the fit has not seen. ε is the
account's own. The chance that a round stands is binomial: at least a quorum of the sites is there when it begins.

**Not in it:** TLS, disks, a site that dies in the middle of a round (the attempt is begun anew without it), the pass
over the records, positions that `compression.method: nominate` names, and counts for the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from p2pfl.errors.planning import WrongForecast
from p2pfl.federation.federation import Privacy
from p2pfl.roster import LEAST_PEERS, MOST_PEERS
from p2pfl.sharing.chunks import CHUNK_BYTES
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate import counted, traffic
from p2pfl.simulate.counted import MeasuredRound
from p2pfl.simulate.traffic import FitCheck, TrafficFit

MOST_SITES: Final = 1_000
MOST_REAL: Final = 100  # sites of a real round here: a minute and more of one processor
MOST_REAL_WORDS: Final = 4_000_000  # of all sites together, in a real round here
MOST_PARAMETERS: Final = 10**10
# The most memory of a site's sum beside its fp32 vector (docs/benchmarks.md; tests/test_bench.py holds the two equal);
# 61 bits as 31, in words twice as wide.
VECTORS: Final = {16: 3.7, 31: 4.2, 61: 8.4}

OnRound = Callable[[MeasuredRound], None]


@dataclass(frozen=True, slots=True)
class Size:
    """One number of sites and one density.

    words           numbers that a round sums
    quorum, liars   q and c of that many sites
    stands          chance that q sites or more are there; `rounds_for_one` = 1 / stands, infinite where that is 0
    colluders       so many sites learn, together, no more than sums over two others or more
    letters, bytes  that a site sends in a round, on the mean; `beyond` the words
    dense_bytes     of a plaintext all-reduce of all parameters, for each site
    seconds         of a round at the bandwidth and latency asked for; of it `cpu_s` is the processor's
    memory          bytes: letters that a site holds until its round is over, and its vectors
    how             "real": these very letters were sent here; "fitted"; "fitted, beyond p2pfl's 200 sites"
    """

    sites: int
    density: float
    words: int
    quorum: int
    liars: int
    stands: float
    colluders: int
    letters: float
    bytes: float
    beyond: float
    dense_bytes: float
    seconds: float
    cpu_s: float
    memory: float
    how: str

    @property
    def rounds_for_one(self) -> float:
        return 1.0 / self.stands if self.stands > 0.0 else math.inf


@dataclass(frozen=True, slots=True)
class Spent:
    """ε after so many rounds with this noise; infinite without noise."""

    rounds: int
    noise_multiplier: float
    epsilon: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was asked for, and what came of it.

    away        chance that a site is away when a round begins
    bandwidth   bits a second of a site's uplink; `latency_s` of one letter; `steps` letters wait for one another
    sizes       by number of sites, then density; `spent` by noise, then rounds
    fit, off    of letters and bytes; how far it is off in a real round that it has not seen
    """

    parameters: int
    bits: int
    away: float
    bandwidth: float
    latency_s: float
    steps: int
    delta: float
    sample_rate: float
    steps_per_round: int
    sizes: tuple[Size, ...]
    spent: tuple[Spent, ...]
    fit: TrafficFit
    off: FitCheck

    def size(self, sites: int, density: float) -> Size:
        """What a federation of that many sites would be, by the fit; also one that was not asked for."""
        return _size(self, sites, density, None)


def forecast(
    sites: Sequence[int],
    *,
    parameters: int = 1_000_000,
    density: Sequence[float] = (1.0,),
    rounds: Sequence[int] = (),
    noise: Sequence[float] = (),
    away: float = 0.05,
    bandwidth: float = 100e6,
    latency_s: float = 0.02,
    settings: Sequence[str] = (),
    real: int = traffic.CHECKED_AT,
    progress: OnRound | None = None,
) -> Forecast:
    """Forecast federations of so many sites each, up to a thousand.

    parameters   numbers of the model; `density` of them are summed in a round
    rounds, noise   of the training; those of `settings` where none are given
    settings     lines as for `p2pfl peers create --set`: field, sample rate, steps, δ, noise
    real         real rounds run for every number of sites up to this
    progress     called with each real round
    Raises WrongForecast, and what `peers create` raises for the settings.
    """
    from p2pfl.simulate.training import federation_of

    _check(sites, parameters, density, rounds, noise, away, bandwidth, latency_s, real)
    # Settings are those of the smallest federation: so many colluders as fit there fit in a larger one.
    agreed = federation_of(tuple(f"site-{place}" for place in range(min(*sites, MOST_PEERS))), settings)
    private, bits = agreed.privacy, agreed.sharing.field
    told = progress if progress is not None else _nothing
    found, off = _fitted(bits, told)
    steps = counted.steps(traffic.FITTED_AT[2], bits)
    spent = _spent(private, tuple(noise) or (private.noise_multiplier,), tuple(rounds) or (agreed.rounds,))
    rate = private.sample_rate, private.steps_per_round
    whole = Forecast(parameters, bits, away, bandwidth, latency_s, steps, private.delta, *rate, (), spent, found, off)
    held: list[Size] = []
    for count in sorted(set(sites)):
        for share in sorted(set(density), reverse=True):
            words = _words(parameters, share)
            runs = count <= real and count * words <= MOST_REAL_WORDS
            one = counted.measure(count, words, bits) if runs else None
            if one is not None:
                told(one)
            held.append(_size(whole, count, share, one))
    return replace(whole, sizes=tuple(held))


def stands(sites: int, away: float) -> float:
    """The chance that at least a quorum is there, each site being away by itself with chance `away`."""
    if away <= 0.0:
        return 1.0
    if away >= 1.0:
        return 0.0
    there, gone, least = math.log1p(-away), math.log(away), traffic.quorum(sites)
    chances = [
        math.exp(
            math.lgamma(sites + 1)
            - math.lgamma(count + 1)
            - math.lgamma(sites - count + 1)
            + count * there
            + (sites - count) * gone
        )
        for count in range(sites + 1)
    ]
    too_few, enough = math.fsum(chances[:least]), math.fsum(chances[least:])
    return 1.0 - too_few if too_few < enough else enough  # the smaller of two is known more exactly


def _fitted(bits: int, told: OnRound) -> tuple[TrafficFit, FitCheck]:
    """A fit of real rounds, and how far it is off in one more."""
    few, owned = traffic.SEVERAL_CHUNKS
    per_chunk = CHUNK_BYTES // FIELDS[bits].word_bytes
    rounds = []
    for count, words in (
        *((count, traffic.FEW_WORDS) for count in traffic.FITTED_AT),
        (few, few * owned * per_chunk),
    ):
        rounds.append(counted.measure(count, words, bits))
        told(rounds[-1])
    found = traffic.fit(rounds)
    unseen = counted.measure(traffic.CHECKED_AT, traffic.FEW_WORDS, bits)
    told(unseen)
    return found, traffic.check(found, unseen)


def _size(whole: Forecast, sites: int, density: float, one: MeasuredRound | None) -> Size:
    words, quorum, bits = _words(whole.parameters, density), traffic.quorum(sites), whole.bits
    said = whole.fit.traffic(sites, words)
    letters, sent, beyond = said.letters, said.bytes, said.beyond
    how = "fitted" if sites <= MOST_PEERS else f"fitted, beyond p2pfl's {MOST_PEERS} sites"
    if one is not None:
        letters, sent, beyond, how = one.letters / sites, one.bytes / sites, traffic.beyond(one) / sites, "real"
    return Size(
        sites,
        density,
        words,
        quorum,
        max(1, (sites - 1) // 3),
        stands(sites, whole.away),
        quorum - 2,
        letters,
        sent,
        beyond,
        2.0 * (sites - 1) / sites * 4 * whole.parameters,
        whole.steps * whole.latency_s + 8.0 * sent / whole.bandwidth + said.cpu_s,
        said.cpu_s,
        beyond + VECTORS[bits] * 4 * words,
        how,
    )


def _words(parameters: int, density: float) -> int:
    return max(1, math.ceil(density * parameters - 1e-9))


def _spent(private: Privacy, noise: Sequence[float], rounds: Sequence[int]) -> tuple[Spent, ...]:
    from p2pfl.training.privacy.account import Account, Mechanism

    found = []
    for multiplier in sorted(set(noise)):
        for count in sorted(set(rounds)):
            if private.is_none or multiplier == 0.0:
                found.append(Spent(count, multiplier, math.inf))
                continue
            mechanism = Mechanism.of_pass(replace(private, noise_multiplier=multiplier))
            mechanism = replace(mechanism, steps=count * private.steps_per_round)
            found.append(Spent(count, multiplier, Account([mechanism]).epsilon(private.delta)))
    return tuple(found)


def _nothing(one: MeasuredRound) -> None:
    """Nobody is told."""


def _check(
    sites: Sequence[int],
    parameters: int,
    density: Sequence[float],
    rounds: Sequence[int],
    noise: Sequence[float],
    away: float,
    bandwidth: float,
    latency_s: float,
    real: int,
) -> None:
    def wrong() -> Iterator[str]:
        yield from (
            f"sites {one}: {LEAST_PEERS} to {MOST_SITES}" for one in sites if not LEAST_PEERS <= one <= MOST_SITES
        )
        if not sites:
            yield "no number of sites"
        if not 1 <= parameters <= MOST_PARAMETERS:
            yield f"parameters {parameters}: 1 to {MOST_PARAMETERS}"
        yield from (f"density {one:g}: above 0, at most 1" for one in density if not 0.0 < one <= 1.0)
        yield from (f"rounds {one}: 1 to 100000" for one in rounds if not 1 <= one <= 100_000)
        yield from (f"noise {one:g}: 0 to 1000" for one in noise if not 0.0 <= one <= 1000.0)
        if not 0.0 <= away <= 1.0:
            yield f"away {away:g}: a chance, 0 to 1"
        if not 0.0 < bandwidth < math.inf:
            yield f"bandwidth {bandwidth:g}: bits a second, above 0"
        if not 0.0 <= latency_s < math.inf:
            yield f"latency {latency_s:g}: seconds, 0 or more"
        if not 0 <= real <= MOST_REAL:
            yield f"real {real}: 0 to {MOST_REAL} sites"

    evidence = "; ".join(wrong())
    if evidence:
        raise WrongForecast(evidence=evidence)
