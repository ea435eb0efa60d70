"""What must hold at every site when a federation is done, whatever happened on the way. Read from the homes alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.ledger.log import Log
from p2pfl.roster import Quorums
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
    """One ledger, all rounds in it, the budget respected, every model the mean of the updates of its survivors."""
    roots = sites.roots()
    assert len(roots) == 1, f"the roots differ: {roots}"
    kept = _rounds_of(sites)
    trained = [one for one in kept if one["configuration"]["purpose"] == "training"]
    summed = [one for one in kept if one["configuration"]["purpose"] == "sum"]
    assert len(trained) == rounds, f"rounds of training in the ledger: {[one['round'] for one in trained]}"
    assert len(summed) == sums, f"sums in the ledger: {[one['round'] for one in summed]}"
    quorum = Quorums(len(sites.names)).q
    assert all(len(one["survivors"]) >= quorum for one in kept)
    for name in sites.names:
        part = sum(name in one["survivors"] for one in trained)
        check_budget(sites[name], part, Federation.load(sites.peers).privacy.max_epsilon)
    if rounds:
        check_models(sites, [one["survivors"] for one in trained])


def _rounds_of(sites: Sites) -> list[dict[str, Any]]:
    return [one for one in entries(sites[sites.names[0]], "federation") if one["kind"] == "round"]


def check_budget(site: Site, rounds: int, limit: float) -> None:
    """ε only grows, never beyond the limit; no pass was taken that was not charged before.

    rounds   that this site's updates are in
    """
    charges = [one for one in entries(site, "site") if one["kind"] == "charge"]
    spent = [float(one["after"]) for one in charges]
    assert spent == sorted(spent), f"{site.name}: ε fell: {spent}"
    assert all(one <= limit for one in spent), f"{site.name}: ε over {limit}: {spent}"
    passes = len(list((site.folder / "updates").glob("*.npz"))) if (site.folder / "updates").exists() else 0
    assert len(charges) >= max(passes, rounds), f"{site.name}: {len(charges)} charges for {passes} passes"
    for before, after in itertools.pairwise(charges):
        assert float(after["before"]) >= float(before["before"]), f"{site.name}: ε before a pass fell"


def check_models(sites: Sites, survivors: list[list[str]]) -> None:
    """Each round's new model is the old one plus the mean of one update of each of its survivors, within quantisation.

    A site that was killed trains again, so it may have made several updates from one model, of which one counts; and
    an update that was left out of its round may be in the next. All sites end with one model, at the end of the chain.
    """
    federation = Federation.load(sites.peers)
    made = {name: _updates(sites[name]) for name in sites.names}
    last = [final_model(sites[name]) for name in sites.names]
    assert all(np.array_equal(one, last[0]) for one in last), "the sites end with several models"
    firsts = [updates[0][0] for updates in made.values() if updates]
    step = federation.sharing.scale / largest(FIELDS[federation.sharing.field], len(sites.names))  # of one word
    known = [np.frombuffer(before, np.float32) for before in {one for held in made.values() for one, _ in held}] + last
    model = np.frombuffer(max(firsts, key=firsts.count), np.float32)
    for number, names in enumerate(survivors, 1):
        sums: list[Any] = [np.zeros(model.size)]
        for name in names:
            sums = [total + update for total in sums for _, update in made[name]]
        means = [model.astype(np.float64) + total / len(names) for total in sums]
        near = [other for other in known for one in means if np.abs(one - other).max() <= step + 1e-7]
        assert near, f"model {number} is not the mean of its survivors' updates"
        model = near[0]
    assert np.array_equal(model, last[0]), "the last model is not the end of the chain"


def _updates(site: Site) -> list[tuple[bytes, Any]]:
    found = []
    for path in sorted((site.folder / "updates").glob("*.npz")):
        with np.load(path) as held:
            found.append((held["before"].tobytes(), held["update"].astype(np.float64)))
    return found


def final_model(site: Site) -> Any:
    from safetensors.numpy import load

    with site.opened() as home:
        data = home.read("checkpoints/model")
    assert data is not None
    return np.concatenate([one.ravel() for one in load(data).values()])
