"""A liar without a plan: fields of its letters turned at random, letters of earlier rounds and attempts said again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from p2pfl.codec import Many, Raw, Row, Spec, Tail, Text, Whole
from p2pfl.messages import KINDS, Bundle, Evidence, Hello, Letter, Message, seal
from p2pfl.simulate.peer import SimulatedPeer


class Chance:
    """Lies with probability `rate` about each letter, in one of several ways. The same seed lies the same."""

    def __init__(self, seed: int, rate: float = 0.1) -> None:
        self.dice, self.rate = random.Random(seed), rate
        self.said: list[Letter] = []
        self.lies: list[str] = []

    def __call__(self, liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        self.said.append(letter)
        if self.dice.random() >= self.rate:
            return (letter,)
        ways = (self._turned, self._said_before, self._elsewhere, self._invented, self._silent, self._accuses)
        way = self.dice.choice(ways)
        self.lies.append(f"{way.__name__} {type(letter.message).__name__} to {peer}")
        return way(liar, letter)

    def _turned(self, liar: SimulatedPeer, letter: Letter) -> tuple[Letter, ...]:
        """One field holds something else of its kind."""
        specs = dict(letter.message.specs)
        name = self.dice.choice(list(specs))
        message = replace(letter.message, **{name: self._other(specs[name], getattr(letter.message, name))})  # type: ignore[type-var]
        return (seal(message, letter.envelope, liar.identity),)

    def _said_before(self, liar: SimulatedPeer, letter: Letter) -> tuple[Letter, ...]:
        """Anything that it ever said, in this attempt or long before, to whomever."""
        return (*self.dice.sample(self.said, min(3, len(self.said))), letter)

    def _elsewhere(self, liar: SimulatedPeer, letter: Letter) -> tuple[Letter, ...]:
        """The letter at another place, before the true one."""
        envelope = letter.envelope
        place: dict[str, Any] = self.dice.choice(
            (
                {"round": max(0, envelope.round + self.dice.randint(-1, 3))},
                {"attempt": self.dice.randint(0, 4)},
                {"attempt": (1 << 53) - 1},
                {"epoch": 2},
                {"run": bytes(32)},
                {"incarnation": bytes(16)},
            )
        )
        return (seal(letter.message, replace(envelope, **place), liar.identity), letter)

    def _invented(self, liar: SimulatedPeer, letter: Letter) -> tuple[Letter, ...]:
        """A letter of any kind, out of nothing."""
        kind = self.dice.choice([kind for kind in KINDS.values() if kind not in (Bundle, Hello)])
        make: Any = kind
        message: Message = make(*(self._some(spec) for _, spec in kind.specs))
        return (letter, seal(message, letter.envelope, liar.identity))

    def _accuses(self, liar: SimulatedPeer, letter: Letter) -> tuple[Letter, ...]:
        """As if they proved something: letters that anyone signed, of one attempt where there are some."""
        log = [one for _, one in liar.world.log if one.envelope.round == letter.envelope.round]  # type: ignore[attr-defined]
        same = [one for one in log if one.envelope.attempt == letter.envelope.attempt] or self.said
        proof = self.dice.sample(same, min(self.dice.randint(1, 5), len(same)))
        return (letter, seal(Evidence(tuple(one.wire for one in proof)), letter.envelope, liar.identity))

    def _silent(self, liar: SimulatedPeer, letter: Letter) -> tuple[Letter, ...]:
        return ()

    def _other(self, spec: Spec, value: Any) -> Any:
        if isinstance(value, tuple) and value and self.dice.random() < 0.7:
            return self.dice.choice((value[:-1], value[1:], value[::-1], (*value, value[0])))
        if isinstance(value, bytes) and value and self.dice.random() < 0.5:
            place = self.dice.randrange(len(value))
            return value[:place] + bytes([value[place] ^ 1 << self.dice.randrange(8)]) + value[place + 1 :]
        if isinstance(value, int) and self.dice.random() < 0.7:
            return max(0, min(value + self.dice.choice((-1, 1, 2)), spec.most))  # type: ignore[attr-defined]
        return self._some(spec)

    def _some(self, spec: Spec) -> Any:
        dice = self.dice
        if isinstance(spec, Raw):
            size = dice.choice(spec.exactly or (spec.least, min(spec.most, 90)))
            return dice.randbytes(size)
        if isinstance(spec, Tail):
            return dice.randbytes(dice.choice((spec.least, max(spec.least, min(spec.most, 90)))))
        if isinstance(spec, Text):
            return dice.choice(("site-0", "site-1", "site-9", "", "0.5", "sum", "words", "nothing"))
        if isinstance(spec, Whole):
            return dice.choice((0, 1, min(61, spec.most), spec.most))
        if isinstance(spec, Row):
            return tuple(map(self._some, spec.of))
        if isinstance(spec, Many):
            return tuple(self._some(spec.of) for _ in range(dice.randint(0, 5)))
        raise TypeError(f"no value of {spec}")
