"""A liar signs two Roots in one attempt: of unlike chunks, each shown to some, so that honest owners look like liars.

Each attack is mounted twice: against the code as it is, and with the one defence switched off that stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import pytest

from p2pfl import codec, merkle
from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.sharing import events as e
from p2pfl.sharing import evidence
from p2pfl.sharing.digests import chunk_leaf
from p2pfl.sharing.field import bytes_of
from p2pfl.sharing.forms import TAG_BYTES
from p2pfl.sharing.phases import roots
from p2pfl.sharing.phases.mask import piece_of
from p2pfl.sharing.state import Phase
from p2pfl.simulate import Lie
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.liars import flipped, proven, state
from tests.sharing.stopped_rounds import standing
from tests.simulate.attackers import Attacked, check_that_the_others_go_on, resealed_as

LIAR = "site-0"


def other_chunk(liar: SimulatedPeer, index: int) -> bytes:
    """Chunk `index` of the liar's second vector."""
    own = state(liar)
    return flipped(bytes(bytes_of(piece_of(own.masking.mine, own.laid_out.pieces[index]))))


def two_vectors(told: Collection[str], chunks: Collection[int]) -> Lie:
    """The peers in `told` see another Root than the rest: other words in these chunks.

    An owner among them is given the other words. The tags of these chunks are of neither, and the liar opens nothing.
    """

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        said, altered = letter.message, peer in told
        if isinstance(said, m.Root) and altered:
            return (resealed_as(liar, letter, replace(said, leaves=_leaves(liar, said, chunks))),)
        if isinstance(said, m.Chunk) and altered and said.index in chunks:
            return (resealed_as(liar, letter, replace(said, words=flipped(bytes(said.words)))),)
        if isinstance(said, m.Tags):
            return (resealed_as(liar, letter, replace(said, tags=_false(said.tags, chunks))),)
        return () if isinstance(said, m.Opened) else (letter,)

    return lie


def _leaves(liar: SimulatedPeer, root: m.Root, chunks: Collection[int]) -> bytes:
    size = merkle.HASH_BYTES
    leaves = [root.leaves[at : at + size] for at in range(0, len(root.leaves), size)]
    for index in chunks:
        leaves[index] = merkle.leaf_hash(chunk_leaf(root.attempt_digest, index, other_chunk(liar, index)))
    return b"".join(leaves)


def _false(tags: bytes, chunks: Collection[int]) -> bytes:
    held = bytearray(tags)
    for index in chunks:
        place = slice(TAG_BYTES * index, TAG_BYTES * (index + 1))
        held[place] = flipped(bytes(held[place]))
    return bytes(held)


def ran(world: Attacked) -> Attacked:
    world.begin()
    world.to_the_end()
    return world


class LateTags(Attacked):
    """The liar's tags come last to those who see its second Root: the others have compared when these open a chunk."""

    def __init__(self, peers: int, told: Collection[str], chunks: Collection[int]) -> None:
        super().__init__(peers, lies={LIAR: two_vectors(told, chunks)}, rounds=2)
        self.told = told

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if sender == LIAR and to in self.told and isinstance(letter.message, m.Tags):
            self.clock.at(self.now + 1.0, lambda: super(LateTags, self)._carry(sender, to, letter))
        else:
            super()._carry(sender, to, letter)


def by_halves(peers: int) -> Attacked:
    """n−q owners are shown the one Root, the rest the other, and the tags of what these own are false."""
    owners = range(1 + peers - (2 * peers // 3 + 1), peers)
    return LateTags(peers, [f"site-{k}" for k in owners], owners)


def one_owner(peers: int) -> Attacked:
    """Chunk 1 is summed under another Root by its owner alone, and its tag is false."""
    return LateTags(peers, ["site-1"], [1])


def words_of_the_other(peers: int) -> Attacked:
    """The owner of chunk 1 is shown a Root of its own, and is sent the words of the Root that all others see."""
    of_two = two_vectors(["site-1"], [1])

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        return of_two(liar, peer, letter) if isinstance(letter.message, m.Root) else (letter,)

    return Attacked(peers, lies={LIAR: lie}, rounds=2)


ATTACKS = [by_halves, one_owner, words_of_the_other]


def accused(world: Attacked) -> set[str]:
    """Whom honest sites accuse."""
    return {one.peer for name in world.honest for one in world.peers[name].accused}


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("peers", [4, 5, 7, 10])
@pytest.mark.parametrize("attack", ATTACKS)
def test_two_roots_convict_who_signed_them_and_no_owner_is_accused(
    attack: Callable[[int], Attacked], peers: int
) -> None:
    world = ran(attack(peers))
    check_that_the_others_go_on(world)
    assert proven(world) == {LIAR}
    assert accused(world) == {LIAR}
    assert not any(world.peers[name].error for name in world.honest)


def no_root_is_handed_on(patch: pytest.MonkeyPatch) -> None:
    """Defence off: nor does anybody compare what the owners say they summed under."""
    patch.setattr(roots, "show", lambda state, names=(): [])
    patch.setattr(roots, "note", lambda state: None)
    patch.setattr(roots, "are_the_same", lambda state, index: True)


@pytest.mark.parametrize("peers", [4, 5, 7, 10])
@pytest.mark.parametrize("attack", [by_halves, one_owner])
def test_were_no_root_handed_on_owners_would_be_taken_for_the_liars(
    attack: Callable[[int], Attacked], peers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four and five sites so many are that honest processes end, and the others have no round ever again."""
    no_root_is_handed_on(monkeypatch)
    world = ran(attack(peers))
    assert accused(world) & set(world.honest)
    if peers < 7:
        ended = [world.peers[name].error for name in world.honest if world.peers[name].error is not None]
        assert ended
        assert {error.exit_status for error in ended} == {3}
        assert not any(world.peers[name].final_round for name in world.honest)


@pytest.mark.parametrize("peers", [4, 5, 7, 10])
def test_were_no_root_shown_with_a_question_the_liar_would_never_be_proven(
    peers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round costs an attempt, and is summed with the liar and without the honest owner."""
    no_root_is_handed_on(monkeypatch)
    world = ran(words_of_the_other(peers))
    assert not proven(world)
    for number in range(1, world.rounds + 1):
        assert world.left_out(number) == ["site-1"]
    assert all(codec.read_facts(record)["attempt"] for record in world.peers["site-1"].disk.ledger)


def test_an_owner_that_names_roots_of_its_own_is_gone_on_without() -> None:
    """It could not be held to its sum. Nobody else has signed anything twice, and nobody else is accused."""

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        said = letter.message
        return (
            (resealed_as(liar, letter, replace(said, roots=bytes(32))),) if isinstance(said, m.SumDigest) else (letter,)
        )

    world = ran(Attacked(lies={LIAR: lie}))
    check_that_the_others_go_on(world)
    assert world.left_out() == [LIAR]
    assert accused(world) <= {LIAR}


def test_a_second_root_convicts_its_author_after_the_vote_too() -> None:
    federation, found = standing(Phase.BALLOT, peers=4)
    held = found.state.laid_out.roots["site-3"]
    other = seal(
        replace(held.message, leaves=bytes(len(held.message.leaves))),
        held.envelope,
        federation.peers["site-3"].identity,
    )
    assert found.handle(e.Received(found.state.now, held)) == []
    told = [one for one in found.handle(e.Received(found.state.now, other)) if isinstance(one, e.Accuse)]
    assert [(one.peer, one.error.code) for one in told] == [("site-3", "P2P-ROUND-005")]
    assert evidence.convict(told[0].proof, federation.roster) == "site-3"


def test_what_an_owner_opens_before_this_peer_has_compared_is_held() -> None:
    """Else this peer would wait for it in vain, and name the owner. Words that no Root holds are the owner's fault."""
    federation, found = standing(Phase.GATHER, peers=4)
    owner = federation.peers["site-0"]
    while len(state(owner).masking.contributed.get(0, {})) < 4 or len(state(owner).laid_out.roots) < 4:
        assert federation.clock.step()
    own = state(owner)
    for name, letter in own.laid_out.roots.items():
        if name not in found.state.laid_out.roots:
            found.handle(e.Received(found.state.now, letter))

    def opened(words: bytes) -> Letter:
        return own.seal(m.Opened(own.attempt_digest, 0, "site-1", words))

    words = bytes(bytes_of(own.masking.contributed[0]["site-1"]))
    assert found.handle(e.Received(found.state.now, opened(flipped(words)))) == []  # whose sum has not come
    assert not found.state.laid_out.opened
    found.handle(e.Received(found.state.now, opened(words)))
    assert found.state.laid_out.opened[0].keys() == {"site-1"}
    found.handle(e.Received(found.state.now, own.laid_out.sum_digests[0]))
    (told,) = [
        one for one in found.handle(e.Received(found.state.now, opened(flipped(words)))) if isinstance(one, e.Accuse)
    ]
    assert (told.peer, told.error.code, told.proof) == ("site-0", "P2P-ROUND-007", ())
