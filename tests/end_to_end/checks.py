"""What must hold at every site when a federation is done, whatever happened on the way. Read from the homes alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.ledger.log import Log
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.quantiser import largest
from tests.end_to_end.processes import Site, Sites


def entries(site: Site, which: Any) -> list[dict[str, Any]]:
    """All entries of one of a site's logs, as facts."""
    with site.opened() as home:
        return [codec.read_facts(one.record) for one in Log.open(home, which).records()]


def rounds(site: Site, purpose: str) -> list[dict[str, Any]]:
    """The records of final rounds with this purpose: training, evaluation, sum."""
    found = [one for one in entries(site, "federation") if one["kind"] == "round"]
    return [one for one in found if one["configuration"]["purpose"] == purpose]


def check_everything(sites: Sites, *, rounds: int, sums: int) -> None:
    """One ledger, all rounds in it, the budget respected, every model the mean of the updates."""
    roots = sites.roots()
    assert len(roots) == 1, f"the roots differ: {roots}"
    kept = _rounds_of(sites)
    trained = [one["round"] for one in kept if one["configuration"]["purpose"] == "training"]
    summed = [one["round"] for one in kept if one["configuration"]["purpose"] == "sum"]
    assert trained == list(range(1, rounds + 1)), f"rounds of training in the ledger: {trained}"
    assert summed == list(range(1, sums + 1)), f"sums in the ledger: {summed}"
    for name in sites.names:
        check_budget(sites[name], rounds, Federation.load(sites.peers).privacy.max_epsilon)
    if rounds:
        check_models(sites)


def _rounds_of(sites: Sites) -> list[dict[str, Any]]:
    return [one for one in entries(sites[sites.names[0]], "federation") if one["kind"] == "round"]


def check_budget(site: Site, rounds: int, limit: float) -> None:
    """ε only grows, never beyond the limit; no pass was taken that was not charged before."""
    charges = [one for one in entries(site, "site") if one["kind"] == "charge"]
    spent = [float(one["after"]) for one in charges]
    assert spent == sorted(spent), f"{site.name}: ε fell: {spent}"
    assert all(one <= limit for one in spent), f"{site.name}: ε over {limit}: {spent}"
    passes = len(list((site.folder / "updates").glob("*.npz"))) if (site.folder / "updates").exists() else 0
    assert len(charges) >= max(passes, rounds), f"{site.name}: {len(charges)} charges for {passes} passes"
    for before, after in itertools.pairwise(charges):
        assert float(after["before"]) >= float(before["before"]), f"{site.name}: ε before a pass fell"


def check_models(sites: Sites) -> None:
    """Each round's new model is the old one plus the mean of one update of every site, within quantisation.

    A site that was killed trains again, so it may have made several updates from one model: one of them counts.
    """
    federation = Federation.load(sites.peers)
    peers, settings = len(sites.names), federation.sharing
    step = settings.scale / largest(FIELDS[settings.field], peers)  # of one word; stochastic rounding moves by < 1
    made = {name: _updates(sites[name]) for name in sites.names}
    befores = sorted({before for updates in made.values() for before, _ in updates})
    vectors = [np.frombuffer(before, np.float32) for before in befores]
    for before in befores:
        start = np.frombuffer(before, np.float32).astype(np.float64)
        choices: list[Any] = [np.zeros(start.size)]
        for name in sites.names:
            here = [update for held, update in made[name] if held == before]
            choices = [total + one for total in choices for one in here]
        if not choices:
            continue  # a model that not every site got to train from: the last
        after = [start + total / peers for total in choices]
        reached = [_final_model(sites[name]) for name in sites.names] + vectors
        slack = step + 1e-7
        near = any(np.abs(one - other).max() <= slack for one in after for other in reached)
        assert near, "a model is not the mean of its updates"


def _updates(site: Site) -> list[tuple[bytes, Any]]:
    found = []
    for path in sorted((site.folder / "updates").glob("*.npz")):
        with np.load(path) as held:
            found.append((held["before"].tobytes(), held["update"].astype(np.float64)))
    return found


def _final_model(site: Site) -> Any:
    from safetensors.numpy import load

    with site.opened() as home:
        data = home.read("checkpoints/model")
    assert data is not None
    return np.concatenate([one.ravel() for one in load(data).values()])
