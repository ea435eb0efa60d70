"""A proof against a liar outlives the process that was shown it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from p2pfl.messages import Envelope, Evidence, Ready, Share, seal
from p2pfl.sharing import events as e
from p2pfl.sharing.run import Run
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.stopped_rounds import ME

LIAR, OTHER = "site-0", "site-1"


@dataclass
class Seat:
    """ME's next process, with what lies on its disk, and the others' keys."""

    federation: SimulatedFederation

    def run(self, *proofs: tuple[bytes, ...]) -> Run:
        peer = self.federation.peers[ME]
        peer.disk.proofs = list(proofs)
        peer.boot()
        assert peer.run is not None
        return peer.run

    def two_readys(self, name: str, **place: int | bytes) -> tuple[bytes, ...]:
        """What convicts `name`: of one attempt, for two views."""
        peer: SimulatedPeer = self.federation.peers[name]
        here = {
            "run": peer.run_id,
            "epoch": 1,
            "round": 7,
            "attempt": 0,
            "sender": name,
            "incarnation": bytes([9]) * 16,
        }
        at = Envelope(**(here | place))  # type: ignore[arg-type]
        return tuple(seal(Ready(bytes(32), bytes([view]) * 32), at, peer.identity).wire for view in (1, 2))


def seat() -> Seat:
    return Seat(SimulatedFederation(4, seed=0, length=12))


@pytest.mark.claim("LIAR-5")
def test_a_liar_whose_proof_is_on_the_disk_stays_left_out() -> None:
    """By the next process, which shows the proof to every peer that comes."""
    here = seat()
    proof = here.two_readys(LIAR)
    run = here.run(proof)
    assert set(run.peers.proven) == {LIAR}
    sent = [one for one in run.handle(e.LinkUp(0.0, OTHER, bytes(16))) if isinstance(one, e.Send)]
    (told,) = [one.letter for one in sent if isinstance(one.letter.message, Evidence)]
    assert told.sender == ME
    assert told.message == Evidence(proof)
    assert Share not in {type(one.letter.message) for one in sent}


@pytest.mark.claim("LIAR-5")
def test_what_is_no_proof_here_convicts_nobody_after_a_restart() -> None:
    here = seat()
    of_another_run = here.two_readys(LIAR, run=bytes(32))
    of_another_epoch = here.two_readys(LIAR, epoch=2)
    half, against_itself = here.two_readys(OTHER)[:1], here.two_readys(ME)
    run = here.run(of_another_run, of_another_epoch, half, against_itself, ())
    assert run.peers.proven == {}


def test_a_proof_that_a_peer_shows_is_kept_for_the_next_process() -> None:
    here = seat()
    here.federation.run()
    proof = here.two_readys(LIAR)
    other = here.federation.peers[OTHER]
    at = Envelope(other.run_id, 1, 7, 0, OTHER, other.incarnation)
    here.federation.peers[ME].feed(e.Received(here.federation.now, seal(Evidence(proof), at, other.identity)))
    assert here.federation.peers[ME].disk.proofs == [proof]
    here.federation.peers[ME].boot()
    run = here.federation.peers[ME].run
    assert run is not None
    assert set(run.peers.proven) == {LIAR}


@pytest.mark.parametrize("place", [{"run": bytes(32)}, {"round": 1 << 52}, {"epoch": 2}, {"attempt": 1 << 52}])
def test_a_proof_is_passed_on_at_this_sites_own_place_whatever_its_bringer_wrote(place: dict[str, Any]) -> None:
    """Under a liar's number this site would look as if it held rounds that nobody has, or spoke of another run."""
    here = seat()
    run, other = here.run(), here.federation.peers[OTHER]
    proof = here.two_readys(LIAR, **({} if "run" in place or "epoch" in place else place))
    at = replace(Envelope(other.run_id, 1, 7, 0, OTHER, other.incarnation), **place)
    run.handle(e.Received(0.0, seal(Evidence(proof), at, other.identity)))
    sent = [one.letter for one in run.handle(e.LinkUp(0.0, "site-3", bytes(16))) if isinstance(one, e.Send)]
    (told,) = [one for one in sent if isinstance(one.message, Evidence)]
    context = run.context
    assert told.envelope == Envelope(context.run, 1, run.number, 0, ME, context.incarnation)
