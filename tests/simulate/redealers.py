"""Liars that, beside their other mischief, deal anew as processes that there never were, and hand on older words.

Each of a few made-up processes deals to one honest site; some acknowledge little and propose what the real one does.
What a liar's own process holds of anybody goes to whoever coordinates, the older as well as the newer.
"""

from __future__ import annotations

from typing import Final

from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.sharing.state import State
from tests.simulate.faces import TwoFaced
from tests.simulate.mischief import Mischief
from tests.simulate.test_dealt_anew import dealt_anew

PROCESSES: Final = 6  # more than count


class Redealers(Mischief):
    """The script of liars that deal again and again."""

    def __init__(self, world: TwoFaced, seed: int, only: frozenset[int] | None = None) -> None:
        super().__init__(world, seed, only)
        self.every_s = self.dice.choice((0.05, 0.3, 1.0, 3.0))  # on average
        self._seen: dict[tuple[str, int, int], list[m.Held]] = {}  # by liar, round and attempt: what it could hand on

    def begin(self, until: float) -> None:
        """Beside all else, deal anew from time to time, up to a moment."""
        super().begin(until)
        self._from_time_to_time(self._redeal, self.every_s, until)

    def _redeal(self) -> None:
        liar, to = self.dice.choice(sorted(self.world.liars)), self.dice.choice(self.world.honest)
        state = self._open(to)
        if state is not None and state.coordinator in self.world.honest and self.dice.random() < 0.5:
            to, state = state.coordinator, self._open(state.coordinator)
        if state is None:
            return
        way = self.dice.choice((self._deal, self._say, self._hand, self._all))
        letters = way(liar, to, state)
        if letters and self._does(f"{way.__name__} anew by {liar} to {to} in {(state.round, state.attempt)}"):
            for letter in letters:
                self.world.show(liar, to, letter)

    def _open(self, name: str) -> State | None:
        """The attempt of a process in which a bundle may still count."""
        run = self.world.peers[name].run
        state = run.current.state if run is not None and run.current is not None else None
        return state if state is not None and not state.closed else None

    def _process(self, liar: str, state: State) -> m.Envelope:
        made_up = bytes([255 - self.dice.randrange(PROCESSES)]) * len(self.world.peers[liar].incarnation)
        peer = self.world.peers[liar]
        return m.Envelope(peer.run_id, self.world.roster.epoch, state.round, state.attempt, liar, made_up)

    def _deal(self, liar: str, to: str, state: State) -> list[Letter]:
        """A bundle of a made-up process to one alone."""
        return [dealt_anew(self.world, to, self._process(liar, state))]

    def _say(self, liar: str, to: str, state: State) -> list[Letter]:
        """What a made-up process acknowledges, and proposes as the real one."""
        own = self._open(liar)
        if own is None or (own.round, own.attempt) != (state.round, state.attempt):
            return []
        at, identity, known = self._process(liar, state), self.world.peers[liar].identity, own.proposals
        rows = tuple((name, one.digest) for name, one in known.bundles.items() if self.dice.random() < 0.5)
        ordered = tuple(sorted(rows, key=lambda row: self.world.roster.index(row[0])))
        said: list[m.Message] = [m.Ack(ordered if self.dice.random() < 0.5 else (), ())]
        if liar in known.proposes:
            said.append(known.proposes[liar].message)
        return [seal(message, at, identity) for message in said]

    def _all(self, liar: str, to: str, state: State) -> list[Letter]:
        """A made-up process deals and speaks, and then what was said before is handed on."""
        return [*self._deal(liar, to, state), *self._say(liar, to, state), *self._hand(liar, to, state)]

    def _hand(self, liar: str, to: str, state: State) -> list[Letter]:
        """Of somebody what a face of the liar holds now, or held some time before in this attempt."""
        mine = self._seen.setdefault((liar, state.round, state.attempt), [])
        for process in (self.world.peers[liar], self.world.twins[liar]):
            current = process.run.current if process.run is not None else None
            if current is None or (current.number, current.attempt) != (state.round, state.attempt):
                continue
            known = current.state.proposals
            for name in sorted(known.bundles.keys() & known.acks.keys() & known.proposes.keys()):
                held = m.Held((known.acks[name].wire,), (known.proposes[name].wire,), (known.bundles[name].wire,))
                if held not in mine:
                    mine.append(held)
        peer = self.world.peers[liar]
        at = m.Envelope(peer.run_id, self.world.roster.epoch, state.round, state.attempt, liar, peer.incarnation)
        return [seal(self.dice.choice(mine), at, peer.identity)] if mine else []
