"""What each site of a planned training gives and sees: bytes, steps, records drawn, both ε, looks at held-out records.

All of it follows from the plan and from settings of peers.yaml; no record is read, and no round is run. Bytes are those
of the words of a round's sum, as the sharing lays them out. The letters around them are counted by `p2pfl simulate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfl.federation.distributed_noise import parts_of
from p2pfl.roster import LEAST_PEERS, MOST_PEERS
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.simulate import traffic
from p2pfl.simulate.training import federation_of
from p2pfl.training.privacy.account import Account, Mechanism

if TYPE_CHECKING:
    from p2pfl.federation.federation import Federation
    from p2pfl.training.privacy.plan import BatchPlan


@dataclass(frozen=True, slots=True)
class EachSite:
    """One site's share of a training.

    sites, quorum    that take part, and the fewest over whose sum a round is opened: nothing else of another is seen
    numbers, field   that a round sums of each, and the bits of the prime field that they are summed in
    round_bytes      of the words that leave it in a round; `dense_bytes`: a plain fp32 all-reduce of as many numbers
    bytes            in all rounds
    steps            in all rounds
    batch            records that a step draws on average, and `drawn`: all steps together; one record `uses` times
    epsilon          of a record that trains, against outsiders and the colluders that noise in parts is made for
    alone            the same against all other sites together
    looks            models that are measured on held-out records
    look_epsilon     what these spend of a held-out record, and `look_alone`: against all other sites together; None
                     where counts are exact, which nothing bounds
    """

    sites: int
    quorum: int
    numbers: int
    field: int
    round_bytes: float
    bytes: float
    dense_bytes: float
    steps: int
    batch: int
    drawn: float
    uses: float
    epsilon: float
    alone: float
    looks: int
    look_epsilon: float | None
    look_alone: float | None


def each_site(
    best: BatchPlan, rounds: int, steps: int, delta: float, sites: int, numbers: int, settings: Sequence[str]
) -> EachSite:
    """What each of `sites` sites gives and sees in `rounds` of `steps` steps with the batch and noise of `best`.

    numbers     that a round sends
    settings    of peers.yaml, as for `p2pfl peers create --set`: the field, looks with noise
    Raises what `peers create` raises for them.
    """
    # Settings are those of the smallest federation: so many colluders as fit there fit in a larger one.
    names = tuple(f"site-{place}" for place in range(max(LEAST_PEERS, min(sites, MOST_PEERS))))
    agreed, quorum = federation_of(names, settings), traffic.quorum(sites)
    field, share = FIELDS[agreed.sharing.field], 2.0 * (sites - 1) / sites
    quantiser = Quantiser(field, sites, 0.0, 1.0, rotate=agreed.sharing.field == 16)
    round_bytes = share * quantiser.length(numbers) * field.word_bytes
    looks, look_epsilon, look_alone = looks_of(agreed, rounds, delta, quorum)
    return EachSite(
        sites,
        quorum,
        numbers,
        agreed.sharing.field,
        round_bytes,
        rounds * round_bytes,
        share * 4 * numbers,
        rounds * steps,
        best.batch,
        float(best.batch * rounds * steps),
        best.uses,
        best.epsilon,
        best.alone,
        looks,
        look_epsilon,
        look_alone,
    )


def looks_of(agreed: Federation, rounds: int, delta: float, quorum: int) -> tuple[int, float | None, float | None]:
    """How many models are measured, and both ε of a held-out record by that; None of exact counts.

    Of exact counts the first model is measured too, and that of each round.
    """
    measures = agreed.measures
    if not measures.noise_multiplier:
        return rounds + 1, None, None
    looks, parts = min(measures.looks, rounds), parts_of(quorum, agreed.privacy.colluders)
    whole = Mechanism(measures.noise_multiplier, 1.0, looks, parts)
    spent, alone = (Account().after(one, delta) for one in (whole, whole.alone))
    return looks, spent, alone
