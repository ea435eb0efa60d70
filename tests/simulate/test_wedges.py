"""Wedges: a liar shows what decides an attempt to some, when it suits, so that fewer than a quorum go on from there.

Those wait for the others, who wait for a ballot that never comes. No clock runs before a quorum has proposed, so
neither side could ever leave the round behind.
"""

from __future__ import annotations

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing.parts import Backup
from p2pfl.sharing.phases import questions, unmask
from p2pfl.sharing.state import Phase
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate.attackers import Attacked, check_that_the_others_go_on, without
from tests.simulate.promises import place_of

LIAR = "site-1"  # it coordinates attempt 0 of round 1, and names no set
FIRST = (1, 0)


class Shown(Attacked):
    """A federation whose liar falls silent once it has shown what it has to show."""

    silent = False

    def carry(self, sender: str, to: str, letter: Letter) -> None:
        if not (self.silent and sender == LIAR):
            super().carry(sender, to, letter)

    def taken(self, kind: type[m.Message]) -> list[Letter]:
        """What the liar was told."""
        return [one for _, to, one in self.carried if to == LIAR and isinstance(one.message, kind)]

    def show(self, ballots: list[Letter], to: list[str]) -> None:
        """The liar makes a certificate of these ballots and one of its own, and says no more."""
        own = self.sealed(LIAR, m.Ballot(0, b"", b"", (), ()))
        for name in to:
            self.say(LIAR, name, m.Certificate(tuple(one.wire for one in [*ballots, own]), b""))
        self.silent = True


def abandoned_to_some(peers: int, *, after_leaving: bool) -> Shown:
    """Attempt 0 is over for those who alone are shown the liar's ballot; the others lack one, for ever.

    What most of the others say to those comes late, so that these have cast no ballot of their own.
    after_leaving   the liar waits until the others have cast LEAVE, and no clock runs at any of them
    """

    def holds(sender: str, to: str, letter: Letter) -> bool:
        return sender in late and to in shown and isinstance(letter.message, m.Propose) and place_of(letter) == FIRST

    def takes(sender: str, to: str, letter: Letter) -> bool:
        return to == LIAR and isinstance(letter.message, (m.Ballot, m.Leave))

    def withheld(liar: SimulatedPeer, to: str, letter: Letter) -> tuple[Letter, ...]:
        kept = isinstance(letter.message, (m.Members, m.Ballot))
        return () if kept or (isinstance(letter.message, m.Propose) and to in shown) else (letter,)

    world = Shown(peers, liars=[LIAR], lies={LIAR: withheld}, holds=holds, takes=takes)
    quorums = world.roster.quorums
    voters, shown = world.honest[: quorums.a - 1], world.honest[quorums.a - 1 :]
    late = voters[quorums.c :]  # of more than c ABANDONs those who are shown the liar's would vote themselves
    world.begin()
    last = m.Leave if after_leaving else m.Ballot
    world.until(lambda: {one.sender for one in world.taken(last)} >= set(voters))
    cast = {one.sender: one for one in world.taken(m.Ballot)}
    world.show([cast[name] for name in voters], shown)
    world.until(lambda: all(world.round_of(name).attempt for name in shown))
    assert not any(world.round_of(name).attempt for name in voters)
    world.release()
    world.to_the_end()
    return world


def nobody_shows_an_end(patch: pytest.MonkeyPatch) -> None:
    """Defence off: who went on repeats the certificate when a link comes up, and never else."""
    patch.setattr(questions, "show_end", lambda state, names: [])


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("after_leaving", [False, True], ids=["at once", "after LEAVE"])
@pytest.mark.parametrize("peers", [4, 5, 7])
def test_who_went_on_shows_the_end_of_an_attempt_to_those_who_stand_in_it(peers: int, after_leaving: bool) -> None:
    check_that_the_others_go_on(abandoned_to_some(peers, after_leaving=after_leaving))


@pytest.mark.parametrize("after_leaving", [False, True], ids=["at once", "after LEAVE"])
@pytest.mark.parametrize("peers", [4, 5, 7])
def test_did_they_not_the_two_would_wait_for_one_another_for_ever(
    peers: int, after_leaving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_shows_an_end(monkeypatch)
    world = abandoned_to_some(peers, after_leaving=after_leaving)
    assert {world.round_of(name).attempt for name in world.honest} == {0, 1}
    assert not any(world.peers[name].final_round for name in world.honest)


# ── the same with a certificate of SURVIVORS ──────────────────────────────────────────────────────────────────

GIVES_UP, WAITS, LAST = "site-0", "site-2", "site-3"


def certified_after_leaving() -> Shown:
    """The liar's ballot certifies the sum for one site alone, when the two others have cast LEAVE.

    What site-0 is told from the tags on comes late, so that it gives up; site-3 hears site-2's READY late, votes last,
    and would be the last to leave.
    """

    def holds(sender: str, to: str, letter: Letter) -> bool:
        late = {GIVES_UP: m.Tags, LAST: m.Ready}.get(to)
        return sender in (WAITS, LAST) and late is not None and isinstance(letter.message, late)

    def takes(sender: str, to: str, letter: Letter) -> bool:
        return to == LIAR and isinstance(letter.message, (m.Ballot, m.Leave, m.Certificate, m.Handed))

    withheld = without(m.Ballot, m.Leave, m.Handed)
    no_tags = without(m.Tags, to=[GIVES_UP])
    world = Shown(
        4, liars=[LIAR], lies={LIAR: lambda *one: no_tags(*one) if withheld(*one) else ()}, holds=holds, takes=takes
    )
    world.begin()
    world.until(lambda: GIVES_UP in {one.sender for one in world.taken(m.Ballot)})
    late = world.now + 1.0
    world.until(lambda: world.now > late)
    world.release()
    world.until(lambda: {one.sender for one in world.taken(m.Leave)} == {GIVES_UP, WAITS})
    world.until(lambda: {GIVES_UP, WAITS} <= world.round_of(LAST).state.leaving.leaves.keys())
    state = world.round_of(LIAR).state
    assert state.voting.ballot is not None
    assert state.unmasking.deal is not None
    world.say(LIAR, LAST, state.voting.ballot.message)
    world.say(LIAR, LAST, m.Reveal(((LIAR, state.unmasking.deal.self_mask.reveal()),)))
    rows = ((name, *vars_of(state.unmasking.backups[name])) for name in (GIVES_UP, WAITS))
    world.say(LIAR, LAST, m.BackupShare(tuple(rows)))
    world.silent = True
    world.until(lambda: world.stands(LAST, Phase.CONFIRM))
    world.to_the_end()
    return world


def vars_of(backup: Backup) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]]:
    return backup.share.reveal(), backup.salt, backup.edge, backup.path


@pytest.mark.claim("LIAR-3")
def test_a_certificate_is_shown_to_those_who_had_cast_leave_before() -> None:
    check_that_the_others_go_on(certified_after_leaving())


def test_were_it_not_they_would_stand_in_the_round_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmask, "_tell_leavers", lambda state: [])
    world = certified_after_leaving()
    assert world.round_of(WAITS).phase is Phase.BALLOT
    assert not any(world.peers[name].final_round for name in world.honest)
