"""Every way to ask for b_i, or a share of it, without the right certificate is refused; the code has one way out."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import p2pfl
from p2pfl import messages as m
from p2pfl.errors.round import DisclosureRefused
from p2pfl.keys import Secret, digest
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.disclosure import lost_bundle, seed_to_reveal, share_to_reveal
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.snapshot import restore
from p2pfl.sharing.state import ATTEMPT_ITEM, Phase, State
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.phase_drivers import (
    WAYS,
    after_a_new_deal_in_this_attempt,
    by,
    of_a_set_with_another_bundle_of_this_site,
    parts,
    stood,
    without_a_deal,
)
from tests.sharing.stopped_rounds import ME, copied, standing

ROOM = Path(p2pfl.__file__).parent


@pytest.fixture
def state() -> State:
    return copied(stood()[1]).state


def test_under_the_certificate_this_peers_own_seed_comes_out(state: State) -> None:
    assert state.unmasking.deal is not None
    assert seed_to_reveal(state) == state.unmasking.deal.self_mask


@pytest.mark.claim("SUM-8")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_without_the_right_certificate_nothing_comes_out(state: State, way: Callable[[State], None]) -> None:
    seed = seed_to_reveal(state)
    assert seed is not None
    way(state)
    with pytest.raises(DisclosureRefused) as refused:
        seed_to_reveal(state)
    assert seed.reveal().hex() not in refused.value.render()
    assert repr(seed.reveal())[2:-1] not in refused.value.render()


OF_THIS_SITE_ALONE = (without_a_deal, of_a_set_with_another_bundle_of_this_site, after_a_new_deal_in_this_attempt)


@pytest.mark.claim("SUM-8")
@pytest.mark.parametrize("way", [way for way in WAYS if way not in OF_THIS_SITE_ALONE], ids=lambda way: way.__name__)
def test_without_the_right_certificate_no_share_of_anothers_seed_comes_out(
    state: State, way: Callable[[State], None]
) -> None:
    shares = {name: share_to_reveal(state, name) for name in state.names}
    assert all(one is not None for one in shares.values())
    way(state)
    for name, held in shares.items():
        with pytest.raises(DisclosureRefused) as refused:
            share_to_reveal(state, name)
        assert held is not None
        assert held.share.reveal().hex() not in refused.value.render()


def smaller(state: State, left_out: str) -> None:
    """A whole certificate for the set without one site."""
    message: Any = parts(state)[0].message
    names = tuple(name for name in state.names if name != left_out)
    keep = [place for place, name in enumerate(state.names) if name != left_out]

    def kept(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rows[place] for place in keep)

    gone = m.read_letter(message.bundles[state.names.index(left_out)])
    acks = tuple(
        (process, signature, ((left_out, gone.digest),), ()) for process, signature, _, _ in kept(message.acks)
    )
    made = m.Members(names, kept(message.bundles), acks, kept(message.proposes), names, message.deadline_ms, ())
    d, view = attempt_digest(members := by("site-1", made)), digest("view")
    ballots = tuple(by(name, m.Ballot(1, d, view, tuple(names), ())).wire for name in names)
    state.members, state.certificate = members, by(ME, m.Certificate(ballots, members.wire))


@pytest.mark.claim("SUM-8")
def test_of_a_site_outside_of_the_set_nothing_comes_out(state: State) -> None:
    smaller(state, "site-3")
    assert share_to_reveal(state, "site-3") is None
    assert share_to_reveal(state, "site-0") is not None
    assert seed_to_reveal(state) is not None


def test_a_site_outside_of_the_set_reveals_nothing_of_its_own(state: State) -> None:
    """It helps with shares of the others."""
    smaller(state, ME)
    assert seed_to_reveal(state) is None
    assert share_to_reveal(state, ME) is None
    assert share_to_reveal(state, "site-0") is not None


@pytest.mark.claim("SUM-8")
def test_a_share_of_another_bundle_than_the_one_in_the_set_never_comes_out(state: State) -> None:
    """It came of a dealer's first process; the set rests on what its second one dealt."""
    state.proposals.bundles["site-0"] = by("site-0", m.Bundle(bytes(32), bytes(32), bytes(32)))
    assert share_to_reveal(state, "site-0") is None
    assert share_to_reveal(state, "site-3") is not None


@pytest.mark.claim("HOME-6")
def test_a_home_without_its_own_bundle_of_the_set_is_called_older(state: State) -> None:
    """The set holds a bundle of this site that the home does not know."""
    assert lost_bundle(state) is None
    state.unmasking.deal = None
    error = lost_bundle(state)
    assert error is not None
    assert "signed" in error.evidence


# ── what is destroyed ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("SUM-13")
def test_the_certificate_destroys_every_secret_outside_of_the_set() -> None:
    """On the disk too. site-3 deals and is acknowledged by all, and proposes nothing: the set is the three others."""

    def silent(peer: SimulatedPeer, to: str, letter: Letter) -> tuple[Letter, ...]:
        return () if isinstance(letter.message, (m.Propose, m.Held)) else (letter,)

    federation = SimulatedFederation(4, length=8, lies={"site-3": silent})
    written: dict[str, State] = {}

    def watched(peer: SimulatedPeer, do: Callable[[Any], None]) -> Callable[[e.Persist], None]:
        def store(effect: e.Persist) -> None:
            do(effect)
            if effect.then is e.CertificateStored:
                context = peer.context()
                others = PeerView(federation.roster, peer.name)
                written[peer.name] = restore(context, others, peer.disk.items[ATTEMPT_ITEM])

        return store

    for peer in federation.peers.values():
        peer._persist = watched(peer, peer._persist)  # type: ignore[method-assign]
    federation.run()
    assert written.keys() == set(federation.peers)
    chosen = {"site-0", "site-1", "site-2"}
    for name, state in written.items():
        assert set(state.survivors) == chosen
        assert set(state.unmasking.backups) == chosen, f"{name} keeps a share of a seed that nothing may open"
        assert (state.unmasking.deal is not None) is (name in chosen), (
            f"{name} keeps its own seed, which nothing may open"
        )


@pytest.mark.parametrize("phase", [Phase.SHARE, Phase.PROPOSE, Phase.MASK, Phase.GATHER, Phase.BALLOT])
def test_in_a_phase_before_the_certificate_nothing_comes_out_whatever_flags_say(phase: Phase) -> None:
    state = copied(standing(phase)[1]).state
    state.sum.reveals[ME] = Secret(bytes(32))
    state.view, state.confirming.record = digest("view"), b"{}"
    with pytest.raises(DisclosureRefused):
        seed_to_reveal(state)


# ── one way out ───────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def nodes() -> list[tuple[str, ast.AST]]:
    """file:function of every node in a function of the package, and the node."""
    return [
        (f"{file.relative_to(ROOM)}:{function.name}", node)
        for file in sorted(ROOM.rglob("*.py"))
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    ]


def places_of(found: Callable[[ast.AST], bool]) -> set[str]:
    """file:function of every node in the package for which `found` holds."""
    return {place for place, node in nodes() if found(node)}


def test_self_masks_are_touched_in_four_places_only() -> None:
    """Where they are dealt, masked with, stored and disclosed."""
    assert places_of(lambda node: isinstance(node, ast.Attribute) and node.attr == "self_mask") == {
        "sharing/disclosure.py:seed_to_reveal",
        "sharing/phases/mask.py:edges",
        "sharing/snapshot.py:snapshot",
        # a bundle's commitment to one
        "sharing/disclosure.py:may_be_opened",
        "sharing/evidence.py:_misdealt",
        "sharing/phases/unmask.py:accept",
        "sharing/phases/unmask.py:combine",
    }


def called(name: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name


@pytest.mark.claim("SUM-8")
def test_own_seeds_and_shares_leave_in_one_place_each_and_that_place_asks_first() -> None:
    assert places_of(called("seed_to_reveal")) == {"sharing/phases/unmask.py:reveal"}
    assert places_of(called("share_to_reveal")) == {"sharing/phases/unmask.py:back_up"}
    assert places_of(called("BackupShare")) == {"sharing/phases/unmask.py:back_up"}
    assert places_of(called("Reveal")) == {
        "sharing/phases/unmask.py:reveal",
        # seeds of others, that were opened and checked against U's bundles before
        "sharing/phases/unmask.py:accept_shares",
        "sharing/phases/unmask.py:combine",
        "sharing/phases/fetch.py:_serve_sum",
        "sharing/phases/unlinked.py:tell_seeds",
    }


def test_seeds_are_opened_where_a_certificate_was_checked_and_nowhere_else() -> None:
    """Whatever is in `reveals` was opened under the certificate: these are all places that put something there."""
    assert places_of(lambda node: isinstance(node, ast.Assign) and ".reveals" in ast.unparse(node.targets[0])) == {
        "sharing/phases/unmask.py:reveal",
        "sharing/phases/unmask.py:combine",
        "sharing/keepsake.py:read_keepsake",
        "sharing/round.py:settled",
    }
    assert places_of(lambda node: isinstance(node, ast.Call) and ".reveals.set" in ast.unparse(node)) == {
        "sharing/phases/unmask.py:accept"
    }


@pytest.mark.claim("SUM-8")
def test_edge_seeds_leave_in_shares_alone() -> None:
    assert places_of(called("Share")) == {"sharing/phases/share.py:deal"}
    places = places_of(lambda node: isinstance(node, ast.Attribute) and node.attr == "edges")
    # Those of a histogram are others: statistics imports nothing of sharing (tests/test_house.py).
    assert {place for place in places if not place.startswith("statistics/")} == {"sharing/phases/mask.py:edges"}
