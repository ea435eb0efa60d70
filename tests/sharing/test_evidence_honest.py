"""All letters of honest runs, in calm and storm: however an accuser puts them together, they convict nobody."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import digest
from p2pfl.messages import Letter, Message, open_letter, read_letter, seal
from p2pfl.sharing.digests import attempt_digest, chunk_leaf
from p2pfl.sharing.evidence import convicted
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate import CALM, SimulatedFederation, Weather

RUNS = {
    "four in calm": (4, 0, CALM),
    "three that lose their ways": (3, 3, Weather(0.01, 4, (0.05, 30.0), (0.0005, 5.0))),
    "four in a storm": (4, 8, Weather(0.02, 6, (0.05, 30.0), (0.0005, 5.0), 0.01, 3, (0.1, 40.0))),
    "five of whom some are away": (5, 2, Weather(0.02, 6, (20.0, 90.0), (0.0005, 2.0))),
}


@cache
def ran(name: str) -> SimulatedFederation:
    peers, seed, weather = RUNS[name]
    federation = SimulatedFederation(peers, rounds=2, seed=seed, length=2 * peers + 1, weather=weather)
    federation.run(100_000)
    return federation


@cache
def letters_of(name: str) -> list[Letter]:
    """Every signed letter that was said, and every one that rode inside another, once each, in one order."""
    found: dict[tuple[bytes, bytes], Letter] = {}

    def take(letter: Letter) -> None:
        if letter.message.signed:
            found.setdefault((letter.digest, letter.signature), letter)
        for _, value in ((field, getattr(letter.message, field)) for field, _ in letter.message.specs):
            for wire in value if isinstance(value, tuple) else (value,):
                if isinstance(wire, bytes) and wire[:1] == b"\x93":
                    inner = _letter(wire)
                    if inner is not None:
                        take(inner)

    for _, letter in ran(name).log:
        take(letter)
    return list(found.values())


def _letter(wire: bytes) -> Letter | None:
    try:
        return read_letter(wire)
    except Malformed:
        return None


def of_kind(name: str, kind: type[Message]) -> list[Letter]:
    return [letter for letter in letters_of(name) if isinstance(letter.message, kind)]


def guilty(name: str, letters: Iterable[Letter]) -> str:
    return convicted([letter.wire for letter in letters], ran(name).roster)


@pytest.mark.claim("LIAR-4")
@pytest.mark.parametrize("name", RUNS)
def test_no_letter_and_no_two_letters_of_honest_peers_convict_anybody(name: str) -> None:
    letters = letters_of(name)
    assert len({type(letter.message) for letter in letters}) >= 14
    for letter in letters:
        assert guilty(name, [letter]) == "", letter
    by_attempt: dict[tuple[int, int], list[Letter]] = {}
    for letter in letters:
        by_attempt.setdefault((letter.envelope.round, letter.envelope.attempt), []).append(letter)
    for group in by_attempt.values():
        for pair in itertools.permutations(group, 2):
            assert guilty(name, pair) == "", pair
    firsts = [group[:: max(1, len(group) // 8)] for group in by_attempt.values()]
    for one, other in itertools.permutations(firsts, 2):
        for pair in itertools.product(one, other):
            assert guilty(name, pair) == "", pair


def chunks_of(name: str) -> dict[tuple[int, int, int], dict[str, bytes]]:
    """By round, attempt and chunk, each author's masked words: as they were sent; the owner's own by subtraction."""
    federation = ran(name)
    found: dict[tuple[int, int, int], dict[str, bytes]] = {}
    sums: dict[tuple[int, int, int], tuple[str, bytes]] = {}
    for _, letter in federation.log:
        message, place = letter.message, (letter.envelope.round, letter.envelope.attempt)
        if isinstance(message, m.Chunk):
            found.setdefault((*place, message.index), {})[letter.sender] = bytes(message.words)
        elif isinstance(message, m.SumChunk):
            sums[(*place, message.index)] = (letter.sender, bytes(message.words))
    for place3, (owner, data) in sums.items():
        field, others = FIELDS[federation.bits], found[place3]
        if owner not in others:
            rest = field.sum([field.from_bytes(each) for each in others.values()])
            others[owner] = field.subtract(field.from_bytes(data), rest).tobytes()
    return {place3: by for place3, by in found.items() if place3 in sums}


def shown(name: str, author: str, place: tuple[int, int, int], data: bytes) -> Letter:
    """The words, opened by any peer."""
    federation = ran(name)
    set_of = members_of(name)[place[:2]]
    envelope = m.Envelope(federation.peers[author].run_id, 1, *place[:2], "site-0", bytes(16))
    message = m.Opened(attempt_digest(set_of), place[2], author, data)
    return seal(message, envelope, federation.peers["site-0"].identity)


@cache
def members_of(name: str) -> dict[tuple[int, int], Letter]:
    return {(one.envelope.round, one.envelope.attempt): one for one in of_kind(name, m.Members)}


@pytest.mark.parametrize("name", RUNS)
def test_opened_words_of_honest_peers_convict_nobody_however_they_are_put_together(name: str) -> None:
    """Each member's tags against each member's words, each owner's digest against the words of each chunk."""
    chunks = chunks_of(name)
    assert chunks
    for place, by in chunks.items():
        attempt = place[:2]
        at = [one for one in letters_of(name) if (one.envelope.round, one.envelope.attempt) == attempt]
        chosen = members_of(name)[attempt]
        roots = {one.sender: one for one in at if isinstance(one.message, m.Root)}
        open_ = {author: shown(name, author, place, data) for author, data in by.items()}
        for root_of, told, words_of in itertools.product(roots.values(), at, open_.values()):
            if isinstance(told.message, m.Tags):
                assert guilty(name, [chosen, root_of, told, words_of]) == ""
        _no_false_sum(name, chosen, [one for one in at if isinstance(one.message, m.SumDigest)], roots, open_)


def _no_false_sum(
    name: str, chosen: Letter, digests: list[Letter], roots: dict[str, Letter], open_: dict[str, Letter]
) -> None:
    members: Any = chosen.message

    def put_together(signed: Letter, authors: list[str]) -> list[Letter]:
        return [chosen, signed, *(roots[one] for one in authors), *(open_[one] for one in authors)]

    order = [author for author in members.survivors if author in roots and author in open_]
    for signed in digests:
        assert guilty(name, put_together(signed, order)) == ""
    for left_out in order:
        fewer = [author for author in order if author != left_out]
        twice = [*fewer, fewer[0]]
        for authors in (fewer, twice):
            assert guilty(name, put_together(digests[0], authors)) == ""


def test_the_words_that_were_worked_out_are_those_of_the_signed_roots() -> None:
    """So that the test above tries true words, and a digest that is false would be found with them."""
    name = "four in calm"
    for place, by in chunks_of(name).items():
        roots = {
            one.sender: one.message
            for one in of_kind(name, m.Root)
            if (one.envelope.round, one.envelope.attempt) == place[:2]
        }
        for author, data in by.items():
            said_root: Any = roots[author]
            hashed = merkle.leaf_hash(chunk_leaf(said_root.attempt_digest, place[2], data))
            assert hashed == said_root.leaves[32 * place[2] : 32 * place[2] + 32]
    place, by = next(iter(chunks_of(name).items()))
    at = [one for one in letters_of(name) if (one.envelope.round, one.envelope.attempt) == place[:2]]
    true = next(one for one in at if isinstance(one.message, m.SumDigest) and one.message.index == place[2])
    owner = ran(name).peers[true.sender]
    false = seal(replace(true.message, sum_digest=bytes(32)), true.envelope, owner.identity)  # type: ignore[type-var]
    roots_of = [one for one in at if isinstance(one.message, m.Root)]
    open_ = [shown(name, author, place, data) for author, data in by.items()]
    chosen = members_of(name)[place[:2]]
    assert guilty(name, [chosen, false, *roots_of, *open_]) == true.sender
    assert guilty(name, [chosen, true, *roots_of, *open_]) == ""


@pytest.mark.parametrize("name", RUNS)
def test_backup_shares_of_honest_dealers_convict_nobody_whichever_are_put_together(name: str) -> None:
    federation = ran(name)
    held: dict[tuple[int, int], list[tuple[Letter, Letter]]] = {}  # (bundle, the share that one holder would show)
    for to, letter in federation.log:
        share = letter.message
        if isinstance(share, m.Share) and to is not None:
            bound = digest("edge", share.salt, share.edge)
            row = (letter.sender, share.backup, share.salt, bound, share.path)
            place = m.Envelope(letter.envelope.run, 1, letter.envelope.round, letter.envelope.attempt, to, bytes(16))
            backup = seal(m.BackupShare((row,)), place, federation.peers[to].identity)
            bundle = open_letter(share.bundle, federation.roster, m.Bundle)
            held.setdefault((letter.envelope.round, letter.envelope.attempt), []).append((bundle, backup))
    enough = federation.roster.quorums.q - 1
    for pairs in list(held.values())[:3]:
        bundles = {bundle.digest: bundle for bundle, _ in pairs}
        for bundle in bundles.values():
            right = [backup for its, backup in pairs if its.digest == bundle.digest]
            for chosen in itertools.permutations(right, min(enough, len(right))):
                assert guilty(name, [bundle, *chosen]) == ""
            assert guilty(name, [bundle, *(backup for _, backup in pairs)]) == ""
