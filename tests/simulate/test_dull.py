"""Nothing secret shows: in no print of any event, effect, letter or state of a simulated round, and in no log line."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer

STORM = Weather(0.03, 6, (0.05, 60.0), (0.0005, 5.0))


class Overheard(SimulatedFederation):
    """Writes down every fresh secret, and the print of whatever a driver could print."""

    def __init__(self, peers: int, seed: int) -> None:
        self.drawn: list[bytes] = []
        self.prints: list[str] = []
        super().__init__(peers, seed=seed, length=6, weather=STORM)
        for peer in self.peers.values():
            self._overhear(peer)
        self.drawn.clear()  # identities, drawn before any round, are drawn with the same call

    def draw(self, count: int) -> bytes:
        drawn = super().draw(count)
        if count == 32:
            self.drawn.append(drawn)
        return drawn

    def _overhear(self, peer: SimulatedPeer) -> None:
        handle = peer._feed

        def told(event: e.Event) -> None:
            self.note("event", event)
            handle(event)
            self.note("round", peer.round and vars(peer.round))
            self.note("state", peer.round and peer.round.state)

        peer._feed = told  # type: ignore[method-assign]
        for kind, do in list(peer._do.items()):
            peer._do[kind] = lambda effect, do=do: (self.note("effect", effect), do(effect))

    def note(self, what: str, value: Any) -> None:
        logging.getLogger("p2pfl.simulated").debug("%s %r", what, value)
        self.prints.append(f"{value!r} {value} {value!s:>3}")


def forms(secret: bytes) -> tuple[str, ...]:
    """How bytes look in a print; pieces of it, since a print may cut or escape across a border."""
    part = secret[4:28]
    return repr(part)[2:-1], part.hex(), str(list(part))[1:-1], repr(part.decode("latin-1"))[1:-1]


@pytest.mark.parametrize("seed", range(2))
def test_no_secret_shows_in_any_print_or_log_line_of_a_simulated_round(
    seed: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    federation = Overheard(3, seed)
    federation.run(100_000)
    out, err = capsys.readouterr()
    text = "\n".join((*federation.prints, caplog.text, out, err))
    assert len(text) > 100_000
    assert "Share" in text
    opened = public(federation)
    secrets = [drawn for drawn in federation.drawn if drawn not in opened]
    assert len(secrets) > 20
    for secret in secrets:
        assert not any(form in text for form in forms(secret))


def public(federation: SimulatedFederation) -> set[bytes]:
    """Nonces are said to all; they are secret only until then."""
    return {letter.message.nonce for _, letter in federation.log if isinstance(letter.message, m.Nonce)}
