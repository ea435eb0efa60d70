"""One liar among four: each lie is as if it had not come, its sender alone is accused of it, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from p2pfl import codec, merkle
from p2pfl import messages as m
from p2pfl.errors import round as errors
from p2pfl.errors.sharing import WordOutOfRange
from p2pfl.messages import Letter, Message, open_letter
from p2pfl.sharing import events as e
from p2pfl.sharing.certificate import short
from p2pfl.sharing.digests import chunk_leaf, edge_commitment, share_leaf, sum_digest
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.phases import propose
from p2pfl.sharing.state import Phase
from p2pfl.simulate import Lie, SimulatedFederation, outcome_of
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.liars import STRANGER, altering, flipped, proven, refused, resealed, run, state, with_fields
from tests.sharing.stopped_rounds import standing
from tests.simulate import promises

LIAR, COORDINATOR = "site-0", "site-1"  # of round 1, attempt 0; edges go 0→1, 0→2, 3→0
P = FIELDS[61].p


# ── SHARE ─────────────────────────────────────────────────────────────────────────────────────────────────────


def other_bundle(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
    """A second bundle under which this peer's share is good."""
    share, names = letter.message, liar.roster.names
    assert isinstance(share, m.Share)
    leaves = [share_leaf(share.salt, edge_commitment(share.salt, share.edge), share.backup)] * len(names)
    bundle = resealed(liar, letter, m.Bundle(bytes(32), bytes(32), merkle.root(leaves)))
    return replace(share, bundle=bundle.wire, path=merkle.paths(leaves)[names.index(peer)])


def bundle_in(change: Callable[[SimulatedPeer, Letter], bytes]) -> Callable[[SimulatedPeer, str, Letter], Message]:
    def alter(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
        assert isinstance(letter.message, m.Share)
        return replace(letter.message, bundle=change(liar, m.read_letter(letter.message.bundle)))

    return alter


SHARES = {
    "no seed where one belongs": (altering(m.Share, with_fields(edge=b""), to=["site-1"]), "direction"),
    "a seed where none belongs": (altering(m.Share, with_fields(edge=bytes(32)), to=["site-3"]), "direction"),
    "another seed": (altering(m.Share, with_fields(edge=bytes(32)), to=["site-1"]), "under the bundle's root"),
    "another salt": (altering(m.Share, with_fields(salt=bytes(32))), "under the bundle's root"),
    "no path": (altering(m.Share, with_fields(path=())), "under the bundle's root"),
    "no bundle": (altering(m.Share, with_fields(bundle=b"\x93")), ""),
    "a share as bundle": (
        altering(
            m.Share, lambda liar, peer, letter: replace(letter.message, bundle=resealed(liar, letter, m.Leave(())).wire)
        ),
        "Leave where Bundle belongs",
    ),  # type: ignore[type-var]
    "a bundle of another attempt": (
        altering(m.Share, bundle_in(lambda liar, bundle: resealed(liar, bundle, attempt=1).wire)),
        "of another sender, attempt or process",
    ),
    "a bundle of another process": (
        altering(m.Share, bundle_in(lambda liar, bundle: resealed(liar, bundle, incarnation=bytes(16)).wire)),
        "of another sender",
    ),
    "a bundle that a stranger signed": (
        altering(m.Share, bundle_in(lambda liar, bundle: m.seal(bundle.message, bundle.envelope, STRANGER).wire)),
        "not signed by",
    ),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_share_that_does_not_fit_its_bundle_is_refused(name: str) -> None:
    lie, text = SHARES[name]
    refused({LIAR: lie}, errors.BundleRejected, text)


def test_two_bundles_in_one_attempt_are_two_statements() -> None:
    lie = altering(m.Share, lambda *at: [at[2], other_bundle(*at)])
    assert proven(refused({LIAR: lie}, errors.TwoStatements, "Bundle")) == {LIAR}


# ── PROPOSE ───────────────────────────────────────────────────────────────────────────────────────────────────

GROUNDS = {
    "federation_digest": with_fields(federation_digest=bytes(32)),
    "configuration": with_fields(configuration=codec.facts({"field": "31"})),
    "no configuration": with_fields(configuration=b"{}  "),
    "model": with_fields(model=bytes(32)),
    "base": with_fields(rests_on=7),
}


@pytest.mark.parametrize("name", GROUNDS)
def test_a_proposal_on_other_grounds_is_no_lie_and_its_sender_is_summed_without(name: str) -> None:
    """It passes nothing on: in what its program would, its proposal is another one, and two convict it."""
    lie = altering(m.Propose, GROUNDS[name])
    federation = run({LIAR: lambda *at: () if isinstance(at[2].message, m.Held) else lie(*at)})
    promises.check(federation, beside=[LIAR])
    promises.everything_is_final(federation, beside=[LIAR])
    (one,) = outcome_of(federation).rounds
    assert LIAR not in one.survivors
    assert not any(peer.accused for name, peer in federation.peers.items() if name != LIAR)


def test_positions_that_would_burst_the_set_are_refused_under_their_own_senders_name() -> None:
    large = bytes(propose.most_support(7) + 1)
    refused({LIAR: altering(m.Propose, with_fields(support=large))}, errors.MalformedMessage, "positions", peers=7)


def test_a_site_that_nominates_too_much_is_told_so_before_it_says_anything() -> None:
    _, found = standing(Phase.SHARE)
    proposal = e.Proposal(bytes(32), b"{}", bytes(propose.most_support(3) + 1), 1, 1, "0", bytes(32))
    with pytest.raises(errors.SupportTooLarge):
        found.handle(e.UpdateReady(0.0, 1, proposal))
    assert found.state.proposal != proposal


def test_an_acknowledgement_that_nobody_could_make_whole_again_is_refused() -> None:
    """In another order it would verify nowhere, and who names a set that rests on it would look like the liar."""
    lie = altering(m.Ack, lambda liar, peer, letter: m.Ack(letter.message.held[::-1], ()))  # type: ignore[attr-defined]
    refused({LIAR: lie}, errors.MalformedMessage, "order of the roster")


def test_two_proposals_in_one_attempt_are_two_statements() -> None:
    def twice(liar: SimulatedPeer, peer: str, letter: Letter) -> list[Message]:
        return [letter.message, replace(letter.message, deadline_ms=1)]  # type: ignore[type-var]

    refused({LIAR: altering(m.Propose, twice)}, errors.TwoStatements, "Propose")


def members(**changes: Callable[[m.Members, SimulatedPeer], object]) -> Lie:
    def change(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
        message = letter.message
        assert isinstance(message, m.Members)
        return replace(message, **{name: make(message, liar) for name, make in changes.items()})  # type: ignore[arg-type]

    return altering(m.Members, change)


def of_attempt_1(wires: tuple[bytes, ...], liar: SimulatedPeer) -> tuple[bytes, ...]:
    own = next(one for one in (open_letter(wire, liar.roster, m.Message) for wire in wires) if one.sender == liar.name)
    return tuple(resealed(liar, own, attempt=1).wire if wire == own.wire else wire for wire in wires)


def place_of(liar: SimulatedPeer, message: m.Members) -> int:
    return message.survivors.index(liar.name)


def acked(change: Callable[[SimulatedPeer, m.Members], object]) -> Lie:
    """Another acknowledgement of its own than the one that the liar has sent."""

    def rows(message: m.Members, liar: SimulatedPeer) -> object:
        place = place_of(liar, message)
        return (*message.acks[:place], change(liar, message), *message.acks[place + 1 :])

    return members(acks=rows)


def signed(liar: SimulatedPeer, message: m.Members, attempt: int = 0, **others: bytes) -> object:
    """The liar's good signature over an acknowledgement of these bundles, or of others."""
    dealt = [m.read_letter(wire) for wire in message.bundles]
    held = tuple((one.sender, others.get(one.sender.replace("-", "_"), one.digest)) for one in dealt)
    own = dealt[place_of(liar, message)]
    return short(resealed(liar, own, m.Ack(held, ()), attempt=attempt), message.survivors)


SETS = {
    "somebody left out": members(survivors=lambda one, liar: one.survivors[:-1]),
    "somebody twice": members(survivors=lambda one, liar: (*one.survivors[:-1], one.survivors[0])),
    "nobody": members(survivors=lambda one, liar: ()),
    "owners in another order": members(owners=lambda one, liar: one.owners[::-1]),
    "one owner": members(owners=lambda one, liar: one.owners[:1]),
    "another deadline": members(deadline_ms=lambda one, liar: one.deadline_ms + 1),
    "an acknowledgement missing": members(acks=lambda one, liar: one.acks[:-1]),
    "an acknowledgement twice": members(acks=lambda one, liar: (*one.acks, one.acks[0])),
    "acknowledgements in another order": members(acks=lambda one, liar: one.acks[::-1]),
    "an acknowledgement of another attempt": acked(lambda liar, one: signed(liar, one, attempt=1)),
    "an acknowledgement of another bundle": acked(lambda liar, one: signed(liar, one, site_2=bytes(32))),
    "a proposal missing": members(proposes=lambda one, liar: one.proposes[1:]),
    "a proposal twice": members(proposes=lambda one, liar: (*one.proposes, one.proposes[0])),
    "a proposal of another attempt": members(proposes=lambda one, liar: of_attempt_1(one.proposes, liar)),
    "bundles as proposals": members(proposes=lambda one, liar: one.bundles),
    "garbage as acknowledgement": acked(lambda liar, one: (bytes(16), bytes(64), (), ())),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_does_not_hold_together_is_refused(name: str) -> None:
    refused({COORDINATOR: SETS[name]}, errors.MembersRejected)


def test_only_the_coordinator_names_the_set() -> None:
    def usurp(liar: SimulatedPeer, peer: str, letter: Letter) -> list[Message]:
        return [letter.message, m.Members(liar.roster.names, (), (), (), liar.roster.names, 1, ())]

    refused({LIAR: altering(m.Propose, usurp)}, errors.MembersRejected, "site-1 coordinates")


def test_two_sets_sent_to_one_peer_are_two_statements() -> None:
    def twice(liar: SimulatedPeer, peer: str, letter: Letter) -> list[Message]:
        return [letter.message, replace(letter.message, deadline_ms=7)]  # type: ignore[type-var]

    refused({COORDINATOR: altering(m.Members, twice, to=["site-2"])}, errors.TwoStatements, "Members")


# ── MASK and GATHER ───────────────────────────────────────────────────────────────────────────────────────────


def test_two_roots_in_one_attempt_are_two_statements() -> None:
    lie = altering(
        m.Root,
        lambda liar, peer, letter: [letter.message, replace(letter.message, leaves=bytes(len(letter.message.leaves)))],
    )  # type: ignore[attr-defined,type-var]
    assert proven(refused({LIAR: lie}, errors.TwoStatements, "Root")) == {LIAR}


def test_a_root_under_another_set_blames_neither_its_sender_nor_the_coordinator() -> None:
    """Its sender may have been told another set; who told it is known when the two sets lie side by side."""
    federation = run({LIAR: altering(m.Root, with_fields(attempt_digest=bytes(32)))})
    promises.check(federation, beside=[LIAR])
    promises.everything_is_final(federation, beside=[LIAR])
    assert not any(peer.accused for name, peer in federation.peers.items() if name != LIAR)


CHUNKS = {
    "a bit turned": (
        altering(
            m.Chunk, lambda liar, peer, letter: replace(letter.message, words=flipped(bytes(letter.message.words)))
        ),
        "not the one of its signed hash",
    ),  # type: ignore[attr-defined,type-var]
    "far beyond the last": (altering(m.Chunk, with_fields(index=(1 << 53) - 1)), "chunk 9007199254740991 of"),
    "a word too many": (
        altering(
            m.Chunk, lambda liar, peer, letter: replace(letter.message, words=bytes(letter.message.words) + bytes(8))
        ),
        "wants",
    ),  # type: ignore[attr-defined,type-var]
    "half a word": (
        altering(m.Chunk, lambda liar, peer, letter: replace(letter.message, words=bytes(letter.message.words)[:-4])),
        "wants",
    ),  # type: ignore[attr-defined,type-var]
    "a root of another shape": (altering(m.Root, with_fields(segments=((61, 3),))), "a vector of"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_chunk_that_does_not_match_what_was_signed_is_refused(name: str) -> None:
    lie, text = CHUNKS[name]
    refused({LIAR: lie}, errors.BulkRejected, text)


SUMS = {
    "the words of another digest": (
        altering(
            m.SumChunk, lambda liar, peer, letter: replace(letter.message, words=flipped(bytes(letter.message.words)))
        ),
        "not the one of its digest",
    ),  # type: ignore[attr-defined,type-var]
    "a digest of another owner's chunk": (altering(m.SumDigest, with_fields(index=3)), "not owned by site-0"),
    "a digest of no chunk": (altering(m.SumDigest, with_fields(index=(1 << 53) - 1)), "not owned by site-0"),
    "a word too many": (
        altering(
            m.SumChunk, lambda liar, peer, letter: replace(letter.message, words=bytes(letter.message.words) + bytes(8))
        ),
        "wants",
    ),  # type: ignore[attr-defined,type-var]
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_that_does_not_match_what_was_signed_is_refused(name: str) -> None:
    lie, text = SUMS[name]
    refused({LIAR: lie}, errors.BulkRejected, text)


def test_two_digests_of_one_chunk_are_two_statements() -> None:
    def twice(liar: SimulatedPeer, peer: str, letter: Letter) -> list[Message]:
        return [letter.message, replace(letter.message, sum_digest=bytes(32))]  # type: ignore[type-var]

    refused({LIAR: altering(m.SumDigest, twice)}, errors.TwoStatements, "SumDigest")


def false_sum(liar: SimulatedPeer, peer: str, letter: Letter) -> tuple[Letter, ...]:
    """An owner that adds one to what it owns, and says so to all: its own program believes it, too."""
    message = letter.message
    if isinstance(message, m.SumChunk) and message.index in told(liar):
        return (resealed(liar, letter, replace(message, words=state(liar).laid_out.sums[message.index].tobytes())),)
    if not isinstance(message, m.SumDigest) or message.index in told(liar):
        return (told(liar)[message.index],) if isinstance(message, m.SumDigest) else (letter,)
    own = state(liar).laid_out
    own.sums[message.index][0] = (int(own.sums[message.index][0]) + 1) % P
    said = sum_digest(message.attempt_digest, message.index, own.sums[message.index])
    own.sum_digests[message.index] = resealed(liar, letter, replace(message, sum_digest=said))
    told(liar)[message.index] = own.sum_digests[message.index]
    return (own.sum_digests[message.index],)


def told(liar: SimulatedPeer) -> dict[int, Letter]:
    return vars(liar).setdefault("told", {})  # type: ignore[no-any-return]


@pytest.mark.claim("LIAR-1")
def test_an_owner_that_tells_all_the_same_wrong_sum_is_convicted() -> None:
    """The tags find it out."""
    federation = refused({LIAR: false_sum}, errors.FalseSum, "chunk 0")
    assert proven(federation) == {LIAR}
    (one,) = outcome_of(federation).rounds
    assert LIAR not in one.survivors


def test_a_false_tag_convicts_the_one_who_signed_it() -> None:
    lie = altering(
        m.Tags,
        lambda liar, peer, letter: replace(
            letter.message, tags=letter.message.tags[:8] + flipped(letter.message.tags[8:])
        ),
    )  # type: ignore[attr-defined,type-var]
    federation = refused({LIAR: lie}, errors.FalseTag, "chunk 1")
    assert proven(federation) == {LIAR}


def test_tags_of_another_shape_are_refused() -> None:
    refused({LIAR: altering(m.Tags, with_fields(tags=bytes(8)))}, errors.TagsRejected)


def out_of_the_field(liar: SimulatedPeer, peer: str, letter: Letter) -> tuple[Letter, ...]:
    """Masked chunks of words that are p itself, all of them under the liar's signed root."""
    message = letter.message
    if not isinstance(message, (m.Root, m.Chunk)):
        return (letter,)
    own = state(liar)
    datas = [P.to_bytes(8, "little") * piece.count for piece in own.laid_out.pieces]
    if isinstance(message, m.Chunk):
        return (resealed(liar, letter, replace(message, words=datas[message.index])),)
    hashes = [merkle.leaf_hash(chunk_leaf(own.attempt_digest, index, data)) for index, data in enumerate(datas)]
    return (resealed(liar, letter, replace(message, leaves=b"".join(hashes))),)


def test_a_signed_word_that_is_not_in_the_field_is_refused_under_its_senders_name() -> None:
    refused({LIAR: out_of_the_field}, WordOutOfRange)


def opened_in(federation: SimulatedFederation, attempt: int) -> list[Letter]:
    opening = [letter for _, letter in federation.log if isinstance(letter.message, (m.Reveal, m.BackupShare))]
    return [letter for letter in opening if letter.envelope.attempt == attempt]


@pytest.mark.claim("LIAR-2")
@pytest.mark.parametrize("seed", range(4))
def test_an_owner_that_tells_two_sums_to_two_peers_gets_no_sum_and_no_reveal(seed: int) -> None:
    """Not of that attempt: the next one goes on."""
    lie = altering(m.SumDigest, with_fields(sum_digest=bytes(32)), to=["site-3"])
    federation = run({LIAR: lie}, seed=seed)
    promises.check(federation, beside=[LIAR])
    promises.everything_is_final(federation, beside=[LIAR])
    assert not opened_in(federation, 0)


@pytest.mark.claim("LIAR-2")
def test_two_good_sets_for_two_peers_come_to_no_sum_and_no_reveal() -> None:
    """The coordinator puts two of its own proposals into two sets; each is complete. The next attempt goes on."""

    def other(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
        message = letter.message
        assert isinstance(message, m.Members)
        place = message.survivors.index(liar.name)
        own = open_letter(message.proposes[place], liar.roster, m.Propose)
        second = resealed(liar, own, replace(own.message, clock_ms=99)).wire  # type: ignore[type-var]
        return replace(message, proposes=(*message.proposes[:place], second, *message.proposes[place + 1 :]))

    federation = run({COORDINATOR: altering(m.Members, other, to=["site-3"])})
    promises.check(federation, beside=[COORDINATOR])
    promises.everything_is_final(federation, beside=[COORDINATOR])
    assert not opened_in(federation, 0)


@pytest.mark.claim("LIAR-1")
def test_a_nonce_that_was_not_committed_to_is_refused() -> None:
    lie = altering(m.Nonce, with_fields(nonce=bytes(32)))
    assert proven(refused({LIAR: lie}, errors.SeedRejected, "nonce")) == {LIAR}
