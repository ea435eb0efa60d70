"""What liars with two faces do, drawn from a seed: whom they show which face, what they change, keep and bring out.

Every departure from a face's own letter is a *deed* with a number. A run that breaks a promise is made small by leaving
deeds out (search.py).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from p2pfl import messages as m
from p2pfl.messages import OF_A_ROUND, Letter, Message, seal
from p2pfl.sharing.phases.fetch import PART_BYTES
from tests.sharing.chance import Chance
from tests.simulate.faces import Standing, TwoFaced

KINDS: Final = (*OF_A_ROUND, m.Held, m.Handed, m.Evidence, m.Entries)
DECIDING: Final = (m.Ballot, m.Certificate, m.Leave, m.Ready, m.Confirm, m.Reveal, m.BackupShare)
HANDED_ON: Final = (*DECIDING, m.Root, m.SumDigest, m.Nonce, m.Tags, m.Members, m.Want)
MOST_KEPT: Final = 400
Slot = tuple[str, int, type, int, int, object]


@dataclass
class Kept:
    """A letter that a liar keeps back from one peer, until a time or until that peer goes on."""

    liar: str
    to: str
    letter: Letter
    until: Callable[[Standing | None], bool]


class Mischief:
    """The script of all liars of one federation."""

    def __init__(self, world: TwoFaced, seed: int, only: frozenset[int] | None = None) -> None:
        self.world, self.dice = world, random.Random(seed)
        self.only = only
        self.deeds: list[str] = []
        self.chance = Chance(seed)
        self.active = True
        self._said: dict[str, list[Letter]] = defaultdict(list)
        self._last: dict[Slot, Letter] = {}
        self._kept: list[Kept] = []
        dice, honest = self.dice, world.honest
        liars = sorted(world.liars)  # a set's order differs from process to process
        self.rate = dice.choice((0.0, 0.0, 0.02, 0.1, 0.3))  # of letters that are changed beside the two faces
        every = dice.random() < 0.3
        self.faced = set(KINDS) if every else set(dice.sample(KINDS, dice.randint(1, 4)))
        self.second = {name: set(dice.sample(honest, dice.randint(0, len(honest)))) for name in liars}
        mute = dice.random() < 0.4
        self.muted = {
            name: (
                set(dice.sample(KINDS, dice.randint(1, 4))) if mute else set(),
                set(dice.sample(honest, dice.randint(1, len(honest)))),
            )
            for name in liars
        }
        self.turns = dice.choice((0, 0, 1, 2))  # by turns: for how many attempts each lies; 0: all do, always
        self.gap = dice.choice((0.5, 3.0, 10.0, 40.0))  # seconds between what is said unasked, on average

    def begin(self, until: float) -> None:
        """Say things unasked from time to time, up to a moment."""
        self._from_time_to_time(self._unasked, self.gap, until)

    def _from_time_to_time(self, act: Callable[[], None], gap: float, until: float) -> None:
        """`gap`: seconds between two, on average."""
        clock = self.world.clock

        def again() -> None:
            if self.active and clock.now < until:
                act()
                clock.at(clock.now + self.dice.expovariate(1 / gap), again)

        clock.at(self.dice.uniform(0, gap), again)

    def rest(self) -> None:
        """No more lies; what was kept back is shown."""
        self.active = False
        kept, self._kept = self._kept, []
        for one in kept:
            self.world.show(one.liar, one.to, one.letter)

    def _does(self, deed: str) -> bool:
        """Count the deed; it is done unless it is one of those that are left out."""
        number = len(self.deeds)
        done = self.only is None or number in self.only
        self.deeds.append(deed if done else "")
        return done

    # ── each letter of a face ────────────────────────────────────────────────────────────────────────────────

    def say(self, face: int, liar: str, to: str, letter: Letter) -> Iterable[Letter]:
        """The letter of the face that this peer is shown, changed or not; nothing of the other one."""
        kind, place = type(letter.message), letter.envelope
        self._said[liar].append(letter)
        slot: Slot = (liar, face, kind, place.round, place.attempt, getattr(letter.message, "index", 0))
        self._last[slot] = letter
        if not self.active or not self._has_turn(liar, place.attempt):
            return (letter,) if face == 0 else ()
        name = f"{kind.__name__} of {liar} to {to} in {(place.round, place.attempt)}"
        shown = int(kind in self.faced and to in self.second[liar])
        if shown and face == 0 and not self._does(f"the second face's {name}"):
            return (letter,)
        if face != shown or (face == 1 and self.deeds[-1:] == [""]):
            return ()
        kinds, deaf = self.muted[liar]
        if kind in kinds and to in deaf and self._does(f"no {name}"):
            return self._keep(liar, to, letter)
        if self.dice.random() >= self.rate:
            return (letter,)
        way = self.dice.choice((self._mixed, self._mixed, self._changed, self._keep, self._twice, self._elsewhere))
        return way(liar, to, letter) if self._does(f"{way.__name__} {name}") else (letter,)

    def _has_turn(self, liar: str, attempt: int) -> bool:
        names = sorted(self.world.liars)
        return not self.turns or names[attempt // self.turns % len(names)] == liar

    def _sealed(self, liar: str, letter: Letter, message: Message, **place: Any) -> Letter:
        return seal(message, replace(letter.envelope, **place), self.world.peers[liar].identity)

    def _mixed(self, liar: str, to: str, letter: Letter) -> tuple[Letter, ...]:
        """One field is that of the other face's letter at the same place."""
        kind, place = type(letter.message), letter.envelope
        index = getattr(letter.message, "index", 0)
        others = [self._last.get((liar, face, kind, place.round, place.attempt, index)) for face in (0, 1)]
        found = [one for one in others if one is not None and one.message != letter.message]
        if not found:
            return self._changed(liar, to, letter)
        other = found[0].message
        differ = [name for name, _ in kind.specs if getattr(other, name) != getattr(letter.message, name)]
        chosen = self.dice.choice(differ)
        return (self._sealed(liar, letter, replace(letter.message, **{chosen: getattr(other, chosen)})),)

    def _changed(self, liar: str, to: str, letter: Letter) -> tuple[Letter, ...]:
        return self.chance._turned(self.world.peers[liar], letter)

    def _elsewhere(self, liar: str, to: str, letter: Letter) -> tuple[Letter, ...]:
        return self.chance._elsewhere(self.world.peers[liar], letter)

    def _twice(self, liar: str, to: str, letter: Letter) -> tuple[Letter, ...]:
        """Both faces' letters, one after the other."""
        place, index = letter.envelope, getattr(letter.message, "index", 0)
        slots = [(liar, face, type(letter.message), place.round, place.attempt, index) for face in (0, 1)]
        return tuple(self._last[slot] for slot in slots if slot in self._last)

    def _keep(self, liar: str, to: str, letter: Letter) -> tuple[Letter, ...]:
        """Nothing now: at a moment of the liar's choice, or never."""
        choice = self.dice.random()
        if choice < 0.2 or len(self._kept) >= MOST_KEPT:
            return ()
        stood = self.world.standing(to)
        if choice < 0.6:
            phase = self.dice.random() < 0.5
            part = slice(0, 3 if phase else 2)
            self._kept.append(Kept(liar, to, letter, lambda now: (now or ())[part] != (stood or ())[part]))
        else:
            seconds = self.dice.choice((0.1, 2.0, 8.0, 25.0, 45.0, 100.0))
            moment = self.world.now + self.dice.uniform(0, seconds)
            self.world.clock.at(moment, lambda: self.world.show(liar, to, letter))
        return ()

    def saw(self, name: str, before: Standing | None, after: Standing | None) -> None:
        if before == after:
            return
        due = [one for one in self._kept if one.to == name and one.until(after)]
        for one in due:
            self._kept.remove(one)
            self.world.show(one.liar, one.to, one.letter)

    # ── what is said unasked ─────────────────────────────────────────────────────────────────────────────────

    def _unasked(self) -> None:
        liar = self.dice.choice(sorted(self.world.liars))
        some = self.dice.sample(self.world.honest, self.dice.randint(1, len(self.world.honest)))
        ways = (self._again, self._handed, self._certificates, self._votes, self._leave, self._short_log, self._accuses)
        way = self.dice.choice(ways)
        letters = way(liar)
        if letters and self._does(f"{way.__name__} by {liar} to {', '.join(some)}: {letters}"):
            for to in some:
                for letter in letters:
                    self.world.show(liar, to, letter)

    def _pool(self, kinds: tuple[type[Message], ...], count: int) -> list[Letter]:
        """What any liar was told or said lately, of these kinds, out of one attempt."""
        recent = [
            one
            for sender, to, one in self.world.carried[-4000:]
            if ({sender, to} & self.world.liars) and isinstance(one.message, kinds)
        ]
        if not recent:
            return []
        chosen = self.dice.choice(recent).envelope
        same = [one for one in recent if (one.envelope.round, one.envelope.attempt) == (chosen.round, chosen.attempt)]
        return self.dice.sample(same, min(count, len(same)))

    def _again(self, liar: str) -> list[Letter]:
        """Something that it said before, of whichever face, round and attempt."""
        said = self._said[liar]
        return self.dice.sample(said, min(3, len(said)))

    def _handed(self, liar: str) -> list[Letter]:
        pool = self._pool(HANDED_ON, 4)
        return [self._sealed(liar, pool[0], m.Handed(tuple(one.wire for one in pool)), sender=liar)] if pool else []

    def _certificates(self, liar: str) -> list[Letter]:
        """A certificate that the liars' ballots complete, for either decision."""
        pool = self._pool((m.Ballot,), 1)
        if not pool:
            return []
        place, quorums = pool[0].envelope, self.world.roster.quorums
        given_up = self.dice.random() < 0.7
        votes: dict[str, Letter] = {}
        sets = {}
        for _, _, one in self.world.carried:
            at = one.envelope
            if (at.round, at.attempt) != (place.round, place.attempt):
                continue
            if isinstance(one.message, m.Ballot) and bool(one.message.survivors) != given_up:
                votes[one.sender] = one
            elif isinstance(one.message, m.Members):
                sets[one.digest] = one
        if given_up:
            for name in sorted(self.world.liars):
                votes[name] = self._ballot(name, place, m.Ballot(0, b"", b"", (), tuple(self._some_names())))
        enough = quorums.a if given_up else quorums.q
        if len(votes) < enough:
            return []
        chosen = sorted(votes, key=self.world.roster.names.index)[:enough]
        members = (
            self.dice.choice(list(sets.values())).wire if sets and not (given_up and self.dice.random() < 0.5) else b""
        )
        made = m.Certificate(tuple(votes[name].wire for name in chosen), members)
        return [self._sealed(liar, pool[0], made, sender=liar)]

    def _ballot(self, liar: str, place: m.Envelope, vote: m.Ballot) -> Letter:
        peer = self.world.peers[liar]
        return seal(vote, replace(place, sender=liar, incarnation=peer.incarnation), peer.identity)

    def _some_names(self) -> list[str]:
        names = self.world.roster.names
        return [name for name in names if self.dice.random() < 0.4]

    def _votes(self, liar: str) -> list[Letter]:
        """Its vote on the other side, with a reason of its choice; or a copy of what an honest site voted."""
        pool = self._pool((m.Ballot, m.Ready, m.Members, m.Root), 1)
        if not pool:
            return []
        message = pool[0].message
        if isinstance(message, m.Ballot) and message.survivors and self.dice.random() < 0.6:
            vote = message
        else:
            vote = m.Ballot(0, getattr(message, "attempt_digest", b""), b"", (), tuple(self._some_names()))
        return [self._ballot(liar, pool[0].envelope, vote)]

    def _leave(self, liar: str) -> list[Letter]:
        pool = self._pool(HANDED_ON, 1)
        return [self._sealed(liar, pool[0], m.Leave(tuple(self._some_names())), sender=liar)] if pool else []

    def _short_log(self, liar: str) -> list[Letter]:
        """Its log up to some round, as if there were no more, to a peer whose log is as short as its beginning."""
        disk = self.world.peers[liar].disk
        if not disk.ledger or not self._said[liar]:
            return []
        first = self.dice.randrange(len(disk.ledger))
        rows = list(zip(disk.ledger, disk.signatures, strict=True))[
            first : self.dice.randint(first, len(disk.ledger)) + 1
        ]
        listed = tuple((record, tuple(sorted(signed.items()))) for record, signed in rows)
        return [
            self._sealed(liar, self._said[liar][-1], m.Entries(first, first + len(rows), listed), round=0, attempt=0)
        ]

    def _accuses(self, liar: str) -> list[Letter]:
        pool = self._pool(KINDS, self.dice.randint(1, 4))
        if sum(one.size for one in pool) > PART_BYTES or not pool:
            return []
        return [self._sealed(liar, pool[0], m.Evidence(tuple(one.wire for one in pool)), sender=liar)]
