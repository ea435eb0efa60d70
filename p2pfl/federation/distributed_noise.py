"""With which settings noise of which each site adds a part holds: one clipped sum a round, and nothing chosen by it.

A site's part alone is too little noise, so nothing may depend on its update but the sum: no second step from a model
that its own update moved, no moments of its own, no positions, no residual. docs/spec/distributed-noise.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from p2pfl.errors.distributed_noise import NoiseNotShared
from p2pfl.federation.readers import Table, table

if TYPE_CHECKING:
    from p2pfl.federation.federation import Federation

DISTRIBUTED: Final = "distributed"
LEAST_PARTS: Final = 2  # honest sites in every sum: as many as the secure sum itself needs to hide any


class Unfit(NamedTuple):
    """A setting that does not fit: its key, what it is, what it must be, and why."""

    key: str
    found: str
    wanted: str
    why: str


def unfit(federation: Federation) -> Iterator[Unfit]:
    """What does not fit in a federation with `privacy.noise: distributed`."""
    private, q = federation.privacy, federation.roster.quorums.q
    if private.steps_per_round != 1:
        yield Unfit("privacy.steps_per_round", str(private.steps_per_round), "1", "noise must be in each step's sum")
    if federation.compression.method not in ("none", "lowrank"):
        why = "positions or what is held back would follow from values that have a part of the noise alone"
        yield Unfit("compression.method", federation.compression.method, "none or lowrank", why)
    if federation.local.optimiser != "sgd":
        why = "what is summed must be the clipped sum times a public number; adam or momentum may follow it (server)"
        yield Unfit("local.optimiser", federation.local.optimiser, "sgd", why)
    if federation.local.learning_rate is None:
        why = "how far a record moves an update must stand in this file"
        yield Unfit("local.learning_rate", "null", "a number", why)
    if federation.local.personal:
        why = "what stays at a site would move with a part of the noise alone, and the next update follows from it"
        yield Unfit("local.personal", f"[{', '.join(federation.local.personal)}]", "[]", why)
    if federation.sharing.field == 16:
        yield Unfit("sharing.field", "16", "31 or 61", "the grid of the noise would be too coarse")
    if exceeds_sum(federation):
        why = "a sum over a quorum holds two honest sites against no more"
        yield Unfit("privacy.colluders", str(private.colluders), f"at most {q - 2}", why)


def check_noise(federation: Federation, top: Table) -> None:
    """Raises NoiseNotShared for the first setting with which distributed noise would not hold, naming all of them."""
    if not federation.privacy.is_distributed:
        return
    for one in (found := list(unfit(federation))):
        heading, _, name = one.key.partition(".")
        place = top.value(heading, table).node(name).place
        evidence = "; ".join(f"{each.key} {each.found}, wanted {each.wanted}" for each in found)
        said = {"setting": one.key, "found": one.found, "wanted": one.wanted, "why": one.why}
        raise NoiseNotShared(evidence=evidence, place=place, source=place.source, **said)


def with_parts(federation: Federation) -> Federation:
    """The same; of distributed noise, with how many sites' parts make it up."""
    private = federation.privacy
    if not private.is_distributed:
        return federation
    parts = parts_of(federation.roster.quorums.q, private.colluders)
    return replace(federation, privacy=replace(private, parts=parts))


def sensitivity(federation: Federation, divisor: float, rounds_before: int) -> float:
    """L2 norm by which one record moves a site's update at most, in the round behind so many others.

    divisor    the task's public one
    """
    local, private = federation.local, federation.privacy
    rate = (local.learning_rate or 0.0) * local.factor(rounds_before, 1)
    return rate * private.max_grad_norm / divisor


def bounds_of_moves(federation: Federation, divisor: float) -> tuple[float, float]:
    """The least and the most by which a record moves an update, over all rounds: a schedule makes steps smaller."""
    moves = [sensitivity(federation, divisor, number) for number in range(federation.rounds)]
    return min(moves), max(moves)


def exceeds_sum(federation: Federation) -> bool:
    """`privacy.colluders` are more than the sum holds out; in the first epoch: a removal always comes into force.

    It leaves a smaller quorum, and settings as they are. What is behind them then is what `parts_of` says.
    """
    colluders, q = federation.privacy.colluders, federation.roster.quorums.q
    return federation.roster.epoch == 1 and colluders is not None and colluders > q - 2


def parts_of(quorum: int, colluders: int | None) -> int:
    """How many honest sites' noise is in every sum that is opened: those of a quorum less the colluders.

    Two at the least: where a removal left a quorum too small for the colluders that were agreed on, noise is against as
    many as the sum itself holds out.
    """
    return max(LEAST_PARTS, quorum - (quorum if colluders is None else colluders))
