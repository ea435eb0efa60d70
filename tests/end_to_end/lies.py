"""What a process of site.py makes of the letters that its node would send: a liar's, or those of a link that is slow.

Each plan is that of one site (wires.py). All of them are listed in undefended.py, beside those of honest sites without
a defence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, Final, cast

from p2pfl import messages as m
from p2pfl.keys import Identity
from p2pfl.messages import Letter
from p2pfl.node.post import Post
from p2pfl.node.runs import fairness
from p2pfl.sharing import certificate, chunks
from p2pfl.sharing.phases import members, questions
from p2pfl.sharing.state import State
from tests.end_to_end.wires import FIRST, HONEST, LIAR, NAMES, SEND, VICTIM, Hurried, Wires, heard, place_of
from tests.simulate.test_attacks_on_roots import two_vectors
from tests.simulate.test_wedges import vars_of

# ── a wedge: the certificate of an ABANDON is shown to one site alone ─────────────────────────────────────────


class Wedge(Wires):
    """The liar names no set, shows the victim the ABANDON that the others lack one ballot of, and says no more."""

    def __init__(self) -> None:
        super().__init__()
        self._ballots: dict[str, Letter] = {}
        self._silent = False

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        first = place_of(letter) == FIRST
        kept = isinstance(letter.message, (m.Members, m.Ballot, m.Certificate)) and first
        unheard = isinstance(letter.message, m.Propose) and first and peer == VICTIM
        return () if self._silent or kept or unheard else (letter,)

    def hears(self, letter: Letter) -> None:
        if isinstance(letter.message, m.Ballot) and place_of(letter) == FIRST and letter.sender != VICTIM:
            self._ballots[letter.sender] = letter
        if len(self._ballots) == 2 and not self._silent and self.post is not None:
            own = self.sealed(m.Ballot(0, b"", b"", (), ()), letter)
            wires = tuple(one.wire for one in (*self._ballots.values(), own))
            SEND(self.post, VICTIM, self.sealed(m.Certificate(wires, b""), letter))
            self._silent = True


class AfterWedge(Hurried):
    """Who is shown the end of attempt 0 goes on with whom it hears: the liar is silent from then on."""

    def hurries(self, state: State) -> Iterable[str]:
        return ("choose",) if state.attempt and heard(state, HONEST) else ()


class LateToVictim(AfterWedge):
    """What it proposes and votes reaches the victim late: when that has gone on. It gives up as no set is named."""

    def hurries(self, state: State) -> Iterable[str]:
        first = (state.round, state.attempt) == FIRST
        return ("propose",) if first and heard(state, NAMES) else super().hurries(state)

    def keeps(self, peer: str, letter: Letter) -> bool:
        return peer == VICTIM and isinstance(letter.message, m.Propose) and place_of(letter) == FIRST

    def hears(self, letter: Letter) -> None:
        super().hears(letter)
        if letter.sender == VICTIM and place_of(letter) == (1, 1):
            self.release()


# ── its brother: the liar's ballot certifies the sum for one site, when the two others have cast LEAVE ────────

GIVES_UP, WAITS = "ada", "cyd"


class CertifiesForOne(Wires):
    """The liar says READY and no ballot. It shows the victim what certifies and opens the sum once the others leave."""

    def __init__(self) -> None:
        super().__init__()
        self._left: set[str] = set()
        self._silent = False

    def reads(self, letter: Letter) -> Iterable[Letter]:
        taken = isinstance(letter.message, (m.Ballot, m.Leave, m.Certificate, m.Handed))
        return () if taken and place_of(letter) == FIRST else (letter,)

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        kept = isinstance(letter.message, (m.Ballot, m.Leave, m.Handed))
        untagged = isinstance(letter.message, m.Tags) and peer == GIVES_UP
        return () if self._silent or kept or untagged else (letter,)

    def hears(self, letter: Letter) -> None:
        if isinstance(letter.message, m.Leave):
            self._left.add(letter.sender)
        state = self.state
        if self._silent or state is None or self.post is None or not {GIVES_UP, WAITS} <= self._left:
            return
        vote, deal = state.voting.ballot, state.unmasking.deal
        if vote is None or deal is None:
            return
        backups = tuple((name, *vars_of(state.unmasking.backups[name])) for name in (GIVES_UP, WAITS))
        for said in (vote.message, m.Reveal(((LIAR, deal.self_mask.reveal()),)), m.BackupShare(backups)):
            SEND(self.post, VICTIM, self.sealed(said, vote))
        self._silent = True


class Slow(Hurried):
    """An honest site some of whose links are silent from a letter on, until the one has given up."""

    late: ClassVar[dict[str, type[m.Message]]] = {}  # the first letter that is late, by whom it is for

    def keeps(self, peer: str, letter: Letter) -> bool:
        return peer in self.late and isinstance(letter.message, self.late[peer]) and place_of(letter) == FIRST

    def hears(self, letter: Letter) -> None:
        super().hears(letter)
        if isinstance(letter.message, m.Ballot) and letter.sender == GIVES_UP:
            self.release()

    def hurries(self, state: State) -> Iterable[str]:
        return ("backup", "fetch")  # set under the certificate


class LeavesEarly(Slow):
    """Its clock runs ahead: it has soon asked the last voter as often as it may, and casts LEAVE."""

    def __init__(self) -> None:
        super().__init__()
        questions.PATIENCE_S = questions.AGAIN_S = 0.01  # type: ignore[misc]

    def hurries(self, state: State) -> Iterable[str]:
        asked = state.voting.questioned.get(VICTIM) == questions.MOST_ASKED
        return (*super().hurries(state), "leave") if asked else super().hurries(state)


class GivesUp(LeavesEarly):
    """It votes ABANDON once its tags have left, as it has nobody else's."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, m.Tags):
            self._told.add(peer)
        return (letter,)

    def hurries(self, state: State) -> Iterable[str]:
        return (*super().hurries(state), "gather") if len(self._told) == 3 else super().hurries(state)


class Waits(LeavesEarly):
    """Its tags come late to the one, and its READY to the victim: when the one has given up."""

    late: ClassVar = {GIVES_UP: m.Tags, VICTIM: m.Ready}


class VotesLast(Slow):
    """The victim reads what the liar votes and opens behind the LEAVEs of both others."""

    late: ClassVar = {GIVES_UP: m.Tags}

    def __init__(self) -> None:
        super().__init__()
        self._left: set[str] = set()
        self._unread: list[Letter] = []

    def reads(self, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, m.Leave):
            self._left.add(letter.sender)
            if len(self._left) == 2:
                return (letter, *self._unread)
        told = isinstance(letter.message, (m.Ballot, m.Reveal, m.BackupShare)) and letter.sender == LIAR
        if told and len(self._left) < 2:
            self._unread.append(letter)
            return ()
        return (letter,)


# ── two faces: the victim is told another sound set than the others ───────────────────────────────────────────

TOLD, SUMMED = ("ada", "ben", "dot"), ("ada", "ben", "cyd")


def set_of(state: State, chosen: tuple[str, ...]) -> m.Members:
    """A set as an honest coordinator would write it."""
    held = state.proposals
    asked = [held.proposes[name].message for name in chosen]
    acks = tuple(certificate.short(held.acks[name], chosen) for name in chosen)
    bundles, proposes = (tuple(of[name].wire for name in chosen) for of in (held.bundles, held.proposes))
    deadline = certificate.common_deadline_ms(asked, state.context.roster, state.attempt)
    return m.Members(chosen, bundles, acks, proposes, chosen, deadline, ())


class TwoFaces(Hurried):
    """The liar names two sets, when it has heard all that both are made of."""

    lacking: ClassVar = {VICTIM: ["cyd"]}

    def __init__(self) -> None:
        super().__init__()
        can_choose, complete = members.can_choose, members.complete
        self._other: m.Members | None = None

        def late(state: State) -> bool:
            return can_choose(state) and ((state.round, state.attempt) != FIRST or state.past("choose"))

        def chosen(state: State) -> tuple[str, ...]:
            if (state.round, state.attempt) != FIRST or not state.past("choose"):
                return complete(state)
            self._other = set_of(state, TOLD)
            return SUMMED

        members.complete = chosen
        from p2pfl.sharing import table

        for phase, rows in table.GUARDED.items():
            table.GUARDED[phase] = tuple(replace(row, true=late) if row.true is can_choose else row for row in rows)

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        told = isinstance(letter.message, m.Members) and place_of(letter) == FIRST and peer == VICTIM
        return (self.sealed(self._other, letter),) if told and self._other is not None else (letter,)


class UnheardByVictim(Hurried):
    """The victim hears nothing of this site before it has voted."""

    def keeps(self, peer: str, letter: Letter) -> bool:
        return peer == VICTIM and isinstance(letter.message, m.Share) and place_of(letter) == FIRST

    def _send(self, post: Post, peer: str, letter: Letter) -> None:
        super()._send(post, peer, letter)
        if peer == VICTIM and isinstance(letter.message, m.Ballot) and place_of(letter) == FIRST:
            self.release()


class ShowsLate(Hurried):
    """The victim's set reaches the others when they have voted: before, the two sets would convict the liar.

    It hears of their votes once it stands in GATHER.
    """

    def __init__(self) -> None:
        super().__init__()
        self._gathers = False
        self._unread: list[Letter] = []

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        self._gathers = self._gathers or (isinstance(letter.message, m.Root) and place_of(letter) == FIRST)
        return (letter,)

    def reads(self, letter: Letter) -> Iterable[Letter]:
        if self._gathers:
            unread, self._unread = self._unread, []
            return (*unread, letter)
        if isinstance(letter.message, (m.Ballot, m.Certificate)):
            self._unread.append(letter)
            return ()
        return (letter,)

    def keeps(self, peer: str, letter: Letter) -> bool:
        return isinstance(letter.message, m.Handed) and place_of(letter) == FIRST

    def hears(self, letter: Letter) -> None:
        super().hears(letter)
        if isinstance(letter.message, m.Ballot) and letter.sender == "ada":
            self.release()


# ── silence: the liar acknowledges nothing of its victim ──────────────────────────────────────────────────────


class HearsOfSilence(Hurried):
    """An honest site that waits for nothing that the liar never acknowledges."""

    lacking: ClassVar = {LIAR: [VICTIM]}


class Silence(HearsOfSilence):
    """In each round; and where the liar coordinates it leaves the victim out for that. It does not stop for its own."""

    def __init__(self) -> None:
        super().__init__()
        fairness.check = lambda *of: None
        refusal, complete = members.refusal, members.complete

        def refused(*of: Any) -> str:
            why = refusal(*of)
            return "" if VICTIM in why else why

        def chosen(state: State) -> tuple[str, ...]:
            own = state.proposals.acks.get(LIAR)
            if own is None:
                return complete(state)
            state.proposals.acks[LIAR] = state.seal(without_victim(own.message))
            return tuple(name for name in members._known(state) if name != VICTIM)

        members.refusal, members.complete = refused, chosen

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        return (self.sealed(without_victim(message), letter),) if isinstance(message, m.Ack) else (letter,)


def without_victim(ack: m.Ack) -> m.Ack:
    return replace(ack, held=tuple(row for row in ack.held if row[0] != VICTIM))


# ── two Roots: owners are shown another one than the rest ────────────────────────────────────────────────────


EACH_OWNS: Final = 1  # bytes of the shortest chunk: however few numbers are summed, each site owns some of them
OWNED: Final = 3  # by the victim


class TwoRoots(Wires):
    """The victim sums its chunk under a Root of its own, and the tag of that chunk is false.

    It has the tags late, from the others: they have compared when it opens the chunk. The liar hands nothing on.
    """

    told: ClassVar = {VICTIM: OWNED}  # by site that sees the second Root: its chunk

    def __init__(self) -> None:
        super().__init__()
        chunks.LEAST_BYTES = EACH_OWNS  # type: ignore[misc]
        self._two_vectors = two_vectors(self.told, self.told.values())

    def says(self, peer: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, m.Handed) or (peer in self.told and isinstance(letter.message, m.Tags)):
            return ()
        return self.lies(peer, letter) if self.run is not None else (letter,)

    def lies(self, peer: str, letter: Letter) -> Iterable[Letter]:
        return self._two_vectors(cast(Any, self), peer, letter)

    @property
    def identity(self) -> Identity:
        assert self.run is not None
        return self.run.context.identity


class ByHalves(TwoRoots):
    """Two owners, and these alone, see the second Root."""

    told: ClassVar = {"cyd": 2, VICTIM: OWNED}


class WordsOfTheOther(TwoRoots):
    """The victim sees a Root of its own, and is sent the words of the one that all others see. No tag is false."""

    def lies(self, peer: str, letter: Letter) -> Iterable[Letter]:
        return super().lies(peer, letter) if isinstance(letter.message, m.Root) else (letter,)


class LacksTags(Hurried):
    """An honest site that asks the others for the liar's tags, once it has theirs."""

    def __init__(self) -> None:
        super().__init__()
        chunks.LEAST_BYTES = EACH_OWNS  # type: ignore[misc]

    def hurries(self, state: State) -> Iterable[str]:
        tags = state.gathering.tags.keys() if state.gathering is not None else set()
        return ("lack",) if tags == set(HONEST) else ()


class LacksWords(LacksTags):
    """One that asks for what it lacks once all is signed but the victim's sum.

    It gives up when the liar has shown to all the words that the victim says it lacks.
    """

    def hurries(self, state: State) -> Iterable[str]:
        found = state.gathering
        if found is None or VICTIM not in state.survivors or len(found.roots) < len(NAMES):
            return ()
        if found.sum_digests.keys() != {piece.index for piece in found.pieces} - {OWNED}:
            return ()
        return ("lack", "gather") if (LIAR, OWNED) in found.shown else ("lack",)
