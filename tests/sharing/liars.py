"""What a liar can make of its own letters: small pieces from which a test builds one attack."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from p2pfl import messages as m
from p2pfl.errors import P2PFLError
from p2pfl.keys import Identity
from p2pfl.messages import Letter, Message, seal
from p2pfl.sharing import evidence
from p2pfl.simulate import CALM, Lie, SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises

Change = Callable[[SimulatedPeer, str, Letter], Message | Letter | Iterable[Message | Letter]]


def resealed(liar: SimulatedPeer, letter: Letter, message: Message | None = None, **envelope: Any) -> Letter:
    """`letter` with another message or another place, under the liar's own good signature."""
    return seal(message or letter.message, replace(letter.envelope, **envelope), liar.identity)


def altering(kind: type[Message], change: Change, *, to: Iterable[str] | None = None, once: bool = False) -> Lie:
    """Lie in letters of one kind (to some peers only, or to each only once); be honest in all others."""
    told: set[str] = set()

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        if not isinstance(letter.message, kind) or (to is not None and peer not in to) or (once and peer in told):
            return (letter,)
        told.add(peer)
        made = change(liar, peer, letter)
        each = (made,) if isinstance(made, (Message, Letter)) else tuple(made)
        return [one if isinstance(one, Letter) else resealed(liar, letter, one) for one in each]

    return lie


def with_fields(**fields: Any) -> Change:
    """The same message with other fields."""
    return lambda liar, peer, letter: replace(letter.message, **fields)  # type: ignore[type-var]


def flipped(data: bytes, bit: int = 0) -> bytes:
    """`data` with one bit of its first byte turned."""
    return bytes([data[0] ^ (1 << bit)]) + data[1:]


def run(
    lies: dict[str, Lie],
    *,
    peers: int = 4,
    seed: int = 0,
    rounds: int = 1,
    length: int = 20,
    weather: Weather = CALM,
    steps: int = 50_000,
    hub: str | None = None,
) -> SimulatedFederation:
    """A federation with liars, until nothing more happens."""
    federation = SimulatedFederation(
        peers, rounds=rounds, seed=seed, length=length, weather=weather, lies=lies, hub=hub
    )
    with contextlib.suppress(RuntimeError):  # a liar may keep attempts coming for ever
        federation.run(steps)
    return federation


def state(liar: SimulatedPeer):  # type: ignore[no-untyped-def]
    assert liar.run is not None
    assert liar.run.current is not None
    return liar.run.current.state


def refused(lies: dict[str, Lie], error: type[P2PFLError], text: str = "", **more: int) -> SimulatedFederation:
    """Run it: each lie is as if it had not come, the liar is accused of just this, and the honest have their result."""
    federation = run(lies, **more)
    honest = [name for name in federation.peers if name not in lies]
    found = [one for name in honest for one in federation.peers[name].accused]
    assert any(type(one.error) is error and text in one.error.render() for one in found), [one.error for one in found]
    assert {one.peer for one in found} <= set(lies)
    assert all(one.error.code.startswith("P2P-") for one in found)
    promises.check(federation, beside=lies)
    promises.everything_is_final(federation, beside=lies)
    return federation


def proven(federation: SimulatedFederation) -> set[str]:
    """Who is convicted by evidence that honest peers told to all."""
    return {
        evidence.convict(letter.message.proof, federation.roster)
        for _, letter in federation.log
        if isinstance(letter.message, m.Evidence) and letter.sender not in federation.lies
    }


def errors(federation: SimulatedFederation) -> dict[str, P2PFLError]:
    """What ended the processes of honest peers, by name."""
    return {
        name: peer.error
        for name, peer in federation.peers.items()
        if peer.error is not None and name not in federation.lies
    }


STRANGER = Identity(bytes(range(32)))
