"""Nothing secret shows: in no print of any event, effect, letter or state of a simulated round, and in no log line."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.sharing.parts import Deal
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises

STORM = Weather(0.03, 6, (0.05, 60.0), (0.0005, 5.0))


class Overheard(SimulatedFederation):
    """Writes down every fresh secret, and the print of whatever a driver could print."""

    def __init__(self, peers: int, seed: int) -> None:
        self.drawn: list[bytes] = []
        self.salts: set[bytes] = set()
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
            if peer.round is not None:
                self.note("round", vars(peer.round))
                self.salts |= {one.salt for one in peer.round.state.unmasking.backups.values()}

        peer._feed = told  # type: ignore[method-assign]
        carry_out = peer._carry_out_one

        def noted(effect: e.Effect) -> None:
            self.note("effect", effect)
            carry_out(effect)

        peer._carry_out_one = noted  # type: ignore[method-assign]

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
    secrets = secrets_of(federation)
    assert len(secrets) > 40
    for secret in secrets:
        assert not any(form in text for form in forms(secret))


def secrets_of(federation: Overheard) -> set[bytes]:
    """Seeds and nonces that were drawn, and backup shares, but those that were opened to all in the end.

    A salt is none: it keeps the root of a bundle from being computed again, and hides nothing that is not uniform.
    """
    told = [letter.message for _, letter in federation.log]
    opened = {one.nonce for one in told if isinstance(one, m.Nonce)}
    opened |= {row[1] for one in told if isinstance(one, m.BackupShare) for row in one.shares}
    backups = {one.backup for one in told if isinstance(one, m.Share)}
    return {*federation.drawn, *backups} - federation.salts - opened


@pytest.mark.claim("SUM-13")
@pytest.mark.parametrize("peers", [3, 4])
def test_once_a_round_is_final_no_secret_of_any_of_its_attempts_lies_on_any_disk(peers: int) -> None:
    federation = SimulatedFederation(peers, seed=5, length=6, weather=STORM)
    lain: list[bytes] = []
    deals: list[Deal] = []
    for peer in federation.peers.values():
        persist = peer._persist

        def watched(effect: e.Persist, persist: Any = persist, peer: SimulatedPeer = peer) -> None:
            if peer.round is not None and peer.round.number == 1 and peer.round.state.unmasking.deal is not None:
                deals.append(peer.round.state.unmasking.deal)
            lain.extend(data for _, data in effect.items if data is not None)
            persist(effect)

        peer._persist = watched  # type: ignore[method-assign]
    federation.run(100_000)
    promises.everything_is_final(federation)
    secrets, opened = {deal.self_mask.reveal() for deal in deals}, set[bytes]()
    for message in (letter.message for _, letter in federation.log if letter.envelope.round == 1):
        secrets |= {message.backup, message.edge or message.backup} if isinstance(message, m.Share) else set()
        opened |= {row[1] for row in message.shares} if isinstance(message, m.BackupShare) else set()
        opened |= {row[1] for row in message.seeds} if isinstance(message, m.Reveal) else set()
    secrets -= opened
    assert secrets & {deal.self_mask.reveal() for deal in deals}, "some attempt was abandoned"
    assert sum(any(secret in data for data in lain) for secret in secrets) > 10  # they had lain there
    for peer in federation.peers.values():
        assert not any(secret in data for secret in secrets for data in peer.disk.items.values())
