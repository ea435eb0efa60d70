"""What must hold in every federation at every moment, read off what was said and what lies on the disks.

`said` is everything that left a process, before a liar's lie was put in its place; a liar is counted on every side.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import verify
from p2pfl.messages import Letter, open_letter
from p2pfl.sharing import evidence
from p2pfl.sharing import record as records
from p2pfl.sharing.digests import attempt_digest, base_digest, commitment
from p2pfl.sharing.history import NO_BASE
from p2pfl.simulate import SimulatedFederation

Place = tuple[int, int]  # round, attempt
ABANDON = (b"", b"")


def place_of(letter: Letter) -> Place:
    return letter.envelope.round, letter.envelope.attempt


def check(federation: SimulatedFederation, beside: Collection[str] = ()) -> None:
    """Every promise that is about safety. `beside`: liars, and homes that were rolled back: they promise nothing."""
    honest = [name for name in federation.peers if name not in beside]
    one_ballot_each(federation, honest)
    one_decision_each(federation, honest)
    one_masked_vector_each(federation, honest)
    silent_once_given_up(federation, honest)
    revealed_only_under_a_certificate(federation, honest)
    no_update_in_a_second_attempt_unless_the_first_is_abandoned(federation, honest)
    what_was_sent_is_said_to_be_spent(federation, honest)
    one_model(federation, honest)
    one_answer(federation, honest)
    nobody_honest_is_accused(federation, honest)


def of_the_honest(federation: SimulatedFederation, honest: Collection[str]) -> Iterable[tuple[Place, Letter]]:
    return ((place_of(letter), letter) for _, letter in federation.log if letter.sender in honest)


# ── votes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def one_ballot_each(federation: SimulatedFederation, honest: Collection[str]) -> None:
    cast: dict[tuple[str, Place], bytes] = {}
    for place, letter in of_the_honest(federation, honest):
        if isinstance(letter.message, m.Ballot):
            held = cast.setdefault((letter.sender, place), letter.signed)
            assert held == letter.signed, f"{letter.sender} cast two ballots in {place}"


def sets_of(federation: SimulatedFederation) -> dict[bytes, m.Members]:
    """By attempt digest, every U that was sent, or that rode in a certificate."""
    found: dict[bytes, m.Members] = {}
    for _, letter in federation.log:
        inside = letter.message.members if isinstance(letter.message, m.Certificate) else b""
        with contextlib.suppress(Malformed):  # of a certificate that a liar made of anything
            each = open_letter(inside, federation.roster, m.Message) if inside else letter
            if isinstance(each.message, m.Members):
                found[attempt_digest(each)] = each.message
    return found


def votes_in(federation: SimulatedFederation, honest: Collection[str]) -> dict[Place, dict[tuple[bytes, bytes], int]]:
    """By attempt, the votes that each decision may have: those of the honest, and of all who may vote both ways."""
    votes: dict[Place, dict[tuple[bytes, bytes], set[str]]] = defaultdict(lambda: defaultdict(set))
    for place, letter in of_the_honest(federation, honest):
        message = letter.message
        if isinstance(message, m.Ballot):
            votes[place][(message.attempt_digest, message.view) if message.survivors else ABANDON].add(letter.sender)
    liars = len(federation.peers) - len(honest)
    return {place: {vote: len(names) + liars for vote, names in by.items()} for place, by in votes.items()}


def one_decision_each(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """Whatever liars add to the honest ballots, at most one certificate can be made of them."""
    quorums = federation.roster.quorums
    for place, by in votes_in(federation, honest).items():
        enough = [vote for vote, count in by.items() if count >= (quorums.a if vote == ABANDON else quorums.q)]
        assert len(enough) <= 1, f"two certificates in {place}"


# ── masked words ──────────────────────────────────────────────────────────────────────────────────────────────


def one_masked_vector_each(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """One root, from one process, and one version of each chunk, per identity and attempt."""
    said: dict[tuple[object, ...], bytes] = {}
    for place, letter in of_the_honest(federation, honest):
        message, sender = letter.message, letter.sender
        if not isinstance(message, (m.Root, m.Chunk)):
            continue
        index = message.index if isinstance(message, m.Chunk) else -1
        held = said.setdefault((sender, place, index), letter.signed)
        assert held == letter.signed, f"{sender} masked twice in {place}"
        process = said.setdefault((sender, place, "process"), letter.envelope.incarnation)
        assert process == letter.envelope.incarnation, f"two processes of {sender} masked in {place}"


def silent_once_given_up(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """Whoever has signed ABANDON sends no word of y in that attempt, and no READY or acknowledgement that is new."""
    given_up: set[tuple[str, Place]] = set()
    said: set[bytes] = set()
    for place, letter in of_the_honest(federation, honest):
        message, sender = letter.message, letter.sender
        if isinstance(message, m.Ballot) and not message.survivors:
            given_up.add((sender, place))
        new = isinstance(message, (m.Ready, m.Ack)) and letter.signed not in said
        said |= {letter.signed} if new else set()
        late = (new or isinstance(message, m.Chunk)) and (sender, place) in given_up
        assert not late, f"{sender} sent {letter!r} after its ABANDON"


def no_update_in_a_second_attempt_unless_the_first_is_abandoned(
    federation: SimulatedFederation, honest: Collection[str]
) -> None:
    abandons: dict[Place, set[str]] = defaultdict(set)
    masked: dict[tuple[str, int], list[int]] = defaultdict(list)  # by peer and round: attempts with a word of it
    liars = len(federation.peers) - len(honest)
    for (number, attempt), letter in of_the_honest(federation, honest):
        if isinstance(letter.message, m.Ballot) and not letter.message.survivors:
            abandons[(number, attempt)].add(letter.sender)
        elif isinstance(letter.message, (m.Root, m.Chunk)):
            before = [one for one in masked[(letter.sender, number)] if one != attempt]
            masked[(letter.sender, number)].append(attempt)
            # A later certificate proves the earlier ones, but all ballots are in this log.
            counts = [len(abandons[(number, one)]) + liars for one in before]
            assert not counts or min(counts) >= federation.roster.quorums.a, (
                f"{letter.sender} masked in {(number, attempt)}: {counts}"
            )


def what_was_sent_is_said_to_be_spent(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """A round that was left behind "unsent" holds no word of that peer, or was abandoned since.

    Whoever trusts that word sums the same update again in the next round.
    """
    quorum = federation.roster.quorums.a
    votes = votes_in(federation, honest)
    free = {(name, one.round) for name in honest for one in federation.peers[name].left if not one.sent}
    for place, letter in of_the_honest(federation, honest):
        if isinstance(letter.message, (m.Root, m.Chunk)) and (letter.sender, place[0]) in free:
            abandoned = votes.get(place, {}).get(ABANDON, 0) >= quorum
            assert abandoned, f"{letter.sender} masked in {place}, and left it behind as unsent"


# ── what is opened ────────────────────────────────────────────────────────────────────────────────────────────


def revealed_only_under_a_certificate(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """Before a seed or a share of one leaves, q members of U had cast one and the same SURVIVORS; and of U alone.

    A seed that leaves is that of the bundle in U, and never one that somebody dealt beside it.
    """
    cast: dict[Place, dict[tuple[bytes, bytes], set[str]]] = defaultdict(lambda: defaultdict(set))
    sets = sets_of(federation)
    for _, letter in federation.log:
        place, message = place_of(letter), letter.message
        for one in (letter, *_ballots_in(letter, federation)):  # a liar may vote on both sides, and for one peer alone
            if isinstance(one.message, m.Ballot) and one.message.survivors:
                cast[place_of(one)][(one.message.attempt_digest, one.message.view)].add(one.sender)
        if letter.sender not in honest or not isinstance(message, (m.Reveal, m.BackupShare)):
            continue
        best, voters = max(cast[place].items(), key=lambda vote: len(vote[1]), default=(ABANDON, set()))
        assert len(voters) >= federation.roster.quorums.q, f"{letter.sender} revealed in {place} under {cast[place]}"
        chosen = sets[best[0]]
        rows = message.seeds if isinstance(message, m.Reveal) else message.shares
        assert {row[0] for row in rows} <= set(chosen.survivors), f"{letter.sender} opened somebody who is not in U"
        bundles = {one.sender: one.message for one in map(m.read_letter, chosen.bundles)}
        for name, seed in message.seeds if isinstance(message, m.Reveal) else ():
            made = bundles[name]
            assert isinstance(made, m.Bundle)
            assert made.self_mask == commitment("self-mask", seed), f"{letter.sender} opened another seed of {name}"


def _ballots_in(letter: Letter, federation: SimulatedFederation) -> Iterable[Letter]:
    wires = letter.message.ballots if isinstance(letter.message, m.Certificate) else ()
    for wire in wires:
        with contextlib.suppress(Malformed):
            yield open_letter(wire, federation.roster, m.Ballot)


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────


Decided = dict[Place, list[tuple[Letter, bytes]]]


def voted_for(federation: SimulatedFederation) -> Decided:
    """By attempt, the sets that were named in it, each with each V that somebody voted for under it."""
    sets: dict[bytes, Letter] = {}
    votes: dict[Place, set[tuple[bytes, bytes]]] = defaultdict(set)
    for _, letter in federation.log:
        if isinstance(letter.message, m.Members):
            sets[attempt_digest(letter)] = letter
        elif isinstance(letter.message, m.Ballot) and letter.message.survivors:
            votes[place_of(letter)].add((letter.message.attempt_digest, letter.message.view))
    return {place: [(sets[d], view) for d, view in found if d in sets] for place, found in votes.items()}


def confirmed(federation: SimulatedFederation, decided: Decided, letter: Letter) -> bytes:
    """The record that a confirmation signs: of the set and the sums for which it verifies."""
    said, key = letter.message, federation.roster[letter.sender].key
    assert isinstance(said, m.Confirm)
    for members, view in decided.get(place_of(letter), ()):
        record = records.make(members, view, federation.roster, said.total, said.model, said.outcome)
        if verify(key, "record", record, said.cosignature):
            return record
    raise AssertionError(f"{letter.sender} confirms what nobody voted for")


def one_model(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """Of the records that q peers may have signed, each rests on the one before: no two models can be final."""
    signed: dict[bytes, set[str]] = defaultdict(set)
    decided = voted_for(federation)
    for _, letter in of_the_honest(federation, honest):
        if isinstance(letter.message, m.Confirm):
            signed[confirmed(federation, decided, letter)].add(letter.sender)
    liars = len(federation.peers) - len(honest)
    facts = {base_digest(record): codec.read_facts(record) for record in signed}
    final = {
        base_digest(record) for record, names in signed.items() if len(names) + liars >= federation.roster.quorums.q
    }
    for start in final:
        below, at = set(), facts[start]
        while at["base"] != NO_BASE[1].hex() and bytes.fromhex(at["base"]) in facts:
            below.add(bytes.fromhex(at["base"]))
            at = facts[bytes.fromhex(at["base"])]
        beside = {one for one in final - below - {start} if facts[one]["round"] <= facts[start]["round"]}
        assert not beside, f"round {facts[start]['round']} ignores a record that q peers signed"


def one_answer(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """One log, of which each site holds a beginning; every sum in it is that of Python's integers over its U.

    q valid signatures lie beside each record, or beside a later one, which names it as that on which it rests.
    """
    quorum = federation.roster.quorums.q
    longest = max((federation.peers[name].disk.ledger for name in honest), key=len)
    for name in honest:
        disk = federation.peers[name].disk
        assert disk.ledger == longest[: len(disk.ledger)], f"{name} holds another log"
        covered = True
        for record, signatures in reversed(list(zip(disk.ledger, disk.signatures, strict=True))):
            keys = {who: federation.roster[who].key for who in signatures}
            valid = [who for who, one in signatures.items() if verify(keys[who], "record", record, one)]
            covered = len(valid) >= quorum or (covered and record != disk.ledger[-1])
            assert covered, f"{name} holds a record that {valid} signed"
        for record, vectors in zip(disk.ledger, disk.totals, strict=True):
            facts = codec.read_facts(record)
            assert len(facts["survivors"]) >= quorum
            if vectors:  # else of a round that this site took no part in: it has the record alone
                expected = federation.expected(facts["round"], facts["survivors"])
                assert vectors[0].words.tolist() == expected, f"{name} holds a wrong sum of round {facts['round']}"


def nobody_honest_is_accused(federation: SimulatedFederation, honest: Collection[str]) -> None:
    """No honest peer accuses another, and every proof that one passes on convicts a liar."""
    for name in honest:
        for one in federation.peers[name].accused:
            assert one.peer not in honest, f"{name} accuses {one.peer}: {one.error.render()}"
    for _, letter in of_the_honest(federation, honest):
        if isinstance(letter.message, m.Evidence):
            run = letter.envelope.run
            assert evidence.convict(letter.message.proof, federation.roster, run) not in honest


def everything_is_final(federation: SimulatedFederation, beside: Collection[str] = ()) -> None:
    """All can talk and have: as many rounds as were wanted stand at every site, and no process has ended."""
    for name, peer in federation.peers.items():
        if name in beside:
            continue
        waits = peer.round and (peer.round.number, peer.round.attempt, peer.round.phase, peer.round.waiting_for())
        assert peer.error is None, f"{name}: {peer.error.render()}"
        assert len(peer.disk.ledger) >= federation.rounds, f"{name} stands at {len(peer.disk.ledger)}, {waits}"
