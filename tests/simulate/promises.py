"""What must hold in every federation at every moment, read off what was said and what lies on the disks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing.state import Phase
from p2pfl.simulate import SimulatedFederation

Place = tuple[int, int]  # round, attempt


def place_of(letter: Letter) -> Place:
    return letter.envelope.round, letter.envelope.attempt


def check(federation: SimulatedFederation, beside: Collection[str] = ()) -> None:
    """Every promise that is about safety. `beside`: liars, and homes that were rolled back: they promise nothing."""
    honest = [name for name in federation.peers if name not in beside]
    one_ballot_each(federation, honest)
    one_masked_vector_each(federation, honest)
    revealed_only_under_a_certificate(federation, honest)
    no_update_in_a_second_attempt_unless_the_first_is_abandoned(federation, honest)
    one_answer(federation, honest)


def one_ballot_each(federation: SimulatedFederation, honest: Collection[str]) -> None:
    cast: dict[tuple[str, Place], bytes] = {}
    for _, letter in federation.log:
        if isinstance(letter.message, m.Ballot) and letter.sender in honest:
            held = cast.setdefault((letter.sender, place_of(letter)), letter.body)
            assert held == letter.body, f"{letter.sender} cast two ballots in {place_of(letter)}"


def one_masked_vector_each(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """One root, from one process, and one version of each chunk, per identity and attempt."""
    said: dict[tuple[object, ...], bytes] = {}
    for _, letter in federation.log:
        message, sender = letter.message, letter.sender
        if sender not in honest or not isinstance(message, (m.Root, m.Chunk)):
            continue
        index = message.index if isinstance(message, m.Chunk) else -1
        held = said.setdefault((sender, place_of(letter), index), letter.body)
        assert held == letter.body, f"{sender} masked twice in {place_of(letter)}"
        process = said.setdefault((sender, place_of(letter), "process"), letter.envelope.incarnation)
        assert process == letter.envelope.incarnation, f"two processes of {sender} masked in {place_of(letter)}"


def revealed_only_under_a_certificate(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """Before each Reveal, q peers had cast one and the same SURVIVORS; and so never one after an abandonment."""
    cast: dict[Place, dict[str, m.Ballot]] = defaultdict(dict)
    for _, letter in federation.log:
        place = place_of(letter)
        if isinstance(letter.message, m.Ballot):
            cast[place].setdefault(letter.sender, letter.message)
        elif isinstance(letter.message, m.Reveal) and letter.sender in honest:
            survivors = [(one.attempt_digest, one.view) for one in cast[place].values() if one.survivors]
            most = max(map(survivors.count, survivors), default=0)
            assert most >= federation.roster.quorums.q, f"{letter.sender} revealed in {place} under {most} ballots"
            assert [name for name, _ in letter.message.seeds] == [letter.sender]


def no_update_in_a_second_attempt_unless_the_first_is_abandoned(
    federation: SimulatedFederation, honest: Collection[str]
) -> None:
    abandons: dict[Place, set[str]] = defaultdict(set)
    for _, letter in federation.log:
        number, attempt = place_of(letter)
        if isinstance(letter.message, m.Ballot) and not letter.message.survivors:
            abandons[(number, attempt)].add(letter.sender)
        elif isinstance(letter.message, m.Root) and letter.sender in honest and attempt:
            # A later certificate proves the earlier ones, but all ballots are in this log.
            counts = [len(abandons[(number, before)]) for before in range(attempt)]
            assert min(counts) >= federation.roster.quorums.a, f"{letter.sender} masked in {place_of(letter)}: {counts}"


def one_answer(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """One log, of which each site holds a beginning; every sum in it is that of Python's integers."""
    longest = max((federation.peers[name].disk.ledger for name in honest), key=len)
    for name in honest:
        disk = federation.peers[name].disk
        assert disk.ledger == longest[: len(disk.ledger)], f"{name} holds another log"
        for number, (vector,) in enumerate(disk.totals, 1):
            assert vector.words.tolist() == federation.expected(number), f"{name} holds a wrong sum of round {number}"
            assert codec.read_facts(disk.ledger[number - 1])["survivors"] == list(federation.roster.names)


def everything_is_final(federation: SimulatedFederation) -> None:
    """All can talk and have: every round stands at every site."""
    for name, peer in federation.peers.items():
        waits = peer.round and (peer.round.number, peer.round.attempt, peer.round.phase, peer.round.waiting_for())
        assert peer.error is None, f"{name}: {peer.error.render()}"
        assert peer.final_round == federation.rounds, f"{name} stands at {waits}"
        assert peer.course is not None
        assert peer.course.current is None or peer.course.current.phase is Phase.FINAL
