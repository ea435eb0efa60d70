"""Attacks on the masked sums and on what opens them: by an owner, by who tags, by who holds back, by a dealer.

site-0 lies. Each attack is mounted twice: against the code as it is, and with the one defence switched off that stops
it. Then it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import digest
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing import evidence, shamir
from p2pfl.sharing.digests import edge_commitment, share_leaf, sum_digest
from p2pfl.sharing.field import FIELDS, Words, bytes_of
from p2pfl.sharing.forms import Forms
from p2pfl.sharing.phases import ballot, gather, missing, verify
from p2pfl.sharing.phases.share import threshold
from p2pfl.sharing.state import Phase, State
from p2pfl.sharing.table import Guarded
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.algebra import BITS, P
from tests.sharing.liars import altering, flipped, proven, state
from tests.sharing.test_round_liars import false_sum
from tests.simulate import promises
from tests.simulate.attackers import Attacked, check_that_the_others_go_on, resealed_as, row_off, without

LIAR = "site-0"
FIELD = FIELDS[BITS]


def wrong_at_all(world: Attacked) -> None:
    """Every honest site has the same final sum, and it is none."""
    assert len({tuple(world.total(name)) for name in world.honest}) == 1
    assert world.total(world.honest[0]) != world.expected(1, [*world.peers])
    with pytest.raises(AssertionError, match="wrong sum"):
        promises.one_answer(world, world.honest)


def fails_for_ever(world: Attacked, attempts: int = 4) -> list[tuple[str, ...]]:
    """So many attempts go by, and nobody has a sum. Returns the sets that were tried."""
    world.begin()
    world.until(lambda: all(world.stands(name, *Phase, attempt=attempts) for name in world.honest))
    assert not any(world.peers[name].disk.ledger for name in world.honest)
    named = {promises.place_of(one): one.message for _, one in world.log if isinstance(one.message, m.Members)}
    return [one.survivors for (_, attempt), one in sorted(named.items()) if attempt < attempts]


def ran(world: Attacked) -> Attacked:
    world.begin()
    world.to_the_end()
    return world


# ── a chunk added wrongly ─────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_that_its_owner_adds_wrongly_convicts_it_and_is_in_no_sum() -> None:
    world = ran(Attacked(lies={LIAR: false_sum}))
    check_that_the_others_go_on(world)
    assert proven(world) == {LIAR}
    assert world.left_out() == [LIAR]


def test_were_the_tags_not_compared_everyone_would_confirm_the_wrong_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(state: State) -> list[e.Effect]:
        state.laid_out.compared = state.laid_out.checked = True
        return []

    row_off(monkeypatch, Phase.GATHER, verify.can_check, Guarded(verify.can_check, believe, Phase.GATHER))
    wrong_at_all(ran(Attacked(lies={LIAR: false_sum})))


# ── a chunk's sum that is chosen after the forms are known ────────────────────────────────────────────────────


def unseen(forms: Forms, words: int) -> Words:
    """A change of one chunk that these forms do not see: orthogonal to both, by a cross product.    (words,)"""
    tags = []
    for place in range(3):
        unit = FIELD.zeros(words)
        unit[place] = 1
        tags.append([int(word) for word in FIELD.from_bytes(forms.tag(unit))])
    (a, b, c), (x, y, z) = zip(*tags, strict=True)
    change = FIELD.zeros(words)
    change[:3] = [(b * z - c * y) % P, (c * x - a * z) % P, (a * y - b * x) % P]
    assert change.any()
    return change


def waits_for_the_forms() -> Attacked:
    """The owner says nothing of its chunk until it knows the forms, as far as it comes."""
    world = Attacked(lies={LIAR: without(m.SumDigest, m.SumChunk, m.Handed)})
    world.begin()
    sums = {0, 1, 2, 3}
    world.until(lambda: world.stands(LIAR, Phase.GATHER) and world.round_of(LIAR).state.laid_out.sums.keys() >= sums)
    return world


def chooses_its_sum(world: Attacked) -> None:
    attempt, own = world.round_of(LIAR).state.attempt_digest, world.round_of(LIAR).state.laid_out
    forms, old = Forms(own.challenge, FIELD), own.sum_digests[0].message
    assert isinstance(old, m.SumDigest)
    own.sums[0][...] = FIELD.add(own.sums[0], unseen(forms, own.sums[0].size))
    message = replace(old, sum_digest=sum_digest(attempt, 0, own.sums[0]))
    own.sum_digests[0] = world.sealed(LIAR, message)
    for name in world.honest:
        world.say(LIAR, name, message)
        world.say(LIAR, name, m.SumChunk(attempt, 0, bytes(bytes_of(own.sums[0]))))


def test_nobody_opens_a_nonce_before_every_sum_is_signed() -> None:
    """A peer that waits for it is gone on without."""
    world = waits_for_the_forms()
    world.until(lambda: world.round_of("site-1").attempt == 1)
    assert not any(isinstance(letter.message, m.Nonce) and letter.sender != LIAR for _, letter in world.log)
    world.to_the_end()
    check_that_the_others_go_on(world)
    assert world.left_out() == [LIAR]


def test_were_nonces_open_before_signing_a_wrong_sum_would_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would pass all forms.

    Two things bind the forms to the sums: V is in the challenge, and the nonces are opened for V. Both are off.
    """

    def not_yet(state: State) -> bool:
        return not state.view

    monkeypatch.setattr(gather, "_view", lambda state: digest("view", state.attempt_digest))
    row_off(monkeypatch, Phase.GATHER, gather.all_summed, Guarded(not_yet, gather.open_nonce, Phase.GATHER))
    world = waits_for_the_forms()
    world.until(lambda: world.round_of(LIAR).state.laid_out.challenge)
    chooses_its_sum(world)
    world.to_the_end()
    wrong_at_all(world)
    assert not any(world.accused(LIAR).values())


# ── false tags ────────────────────────────────────────────────────────────────────────────────────────────────

FALSE_TAGS = altering(
    m.Tags,
    lambda liar, peer, letter: replace(letter.message, tags=letter.message.tags[:8] + flipped(letter.message.tags[8:])),
)  # type: ignore[attr-defined,type-var]


def test_a_false_tag_that_makes_a_true_sum_look_wrong_convicts_its_author() -> None:
    world = ran(Attacked(lies={LIAR: FALSE_TAGS}))
    check_that_the_others_go_on(world)
    assert proven(world) == {LIAR}
    assert world.left_out() == [LIAR]


def test_were_nothing_opened_a_false_tag_would_spoil_every_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Honest owners would be left out for it."""
    row_off(monkeypatch, Phase.GATHER, verify.can_judge, None)
    world = Attacked(lies={LIAR: FALSE_TAGS})
    tried = fails_for_ever(world)
    assert all(LIAR in chosen for chosen in tried)
    assert any(len(chosen) < 4 for chosen in tried)
    assert not proven(world)


# ── withheld nonces ───────────────────────────────────────────────────────────────────────────────────────────


def test_who_withholds_its_nonce_is_named_and_gone_on_without() -> None:
    world = ran(Attacked(lies={LIAR: without(m.Nonce, m.Handed)}))
    check_that_the_others_go_on(world)
    assert world.left_out() == [LIAR]


def test_were_nobody_named_a_withheld_nonce_would_spoil_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (missing, ballot):
        monkeypatch.setattr(module, "to_blame", lambda state: ())
    tried = fails_for_ever(Attacked(lies={LIAR: without(m.Nonce, m.Handed)}))
    assert len(tried) >= 3
    assert all(LIAR in chosen for chosen in tried)


# ── wrong Shamir shares ───────────────────────────────────────────────────────────────────────────────────────


def misdeals(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    """Shares of something else than the self-mask, all of them under a signed root; and the mask itself is kept."""
    message = letter.message
    if isinstance(message, m.Reveal):
        return ()
    if not isinstance(message, m.Share):
        return (letter,)
    own = state(liar)
    deal = own.unmasking.deal
    assert deal is not None
    if message.bundle == deal.bundle.wire:
        deal_wrongly(liar, own)
    return (resealed_as(liar, letter, own.masking.shares[to]),)


def deal_wrongly(liar: SimulatedPeer, own: State) -> None:
    names, deal = liar.roster.names, own.unmasking.deal
    assert deal is not None
    polynomial = bytes((threshold(own) - 1) * 32)
    backups = shamir.split(digest("something else"), threshold(own), len(names), polynomial)
    dealt = [own.masking.shares[name] for name in names]
    leaves = [
        share_leaf(one.salt, edge_commitment(one.salt, one.edge), backup)
        for one, backup in zip(dealt, backups, strict=True)
    ]
    bundle = resealed_as(liar, deal.bundle, replace(deal.bundle.message, shares=merkle.root(leaves)))  # type: ignore[type-var]
    shares = {
        name: replace(one, bundle=bundle.wire, backup=backup, path=merkle.paths(leaves)[place])
        for place, (name, one, backup) in enumerate(zip(names, dealt, backups, strict=True))
    }
    own.unmasking.deal, own.masking.shares = replace(deal, bundle=bundle), shares
    own.proposals.bundles[liar.name] = bundle


def takes_seeds(sender: str, to: str, letter: Letter) -> bool:
    """The liar's own program is to know no more than the others: else it would go on with a sum that they lack."""
    return to == LIAR and isinstance(letter.message, (m.Reveal, m.BackupShare, m.Total))


def lost(monkeypatch: pytest.MonkeyPatch, *, proof: bool) -> tuple[Attacked, list[list[int]]]:
    """Four rounds of which the honest have a sum, and by honest site those that they had to leave behind."""

    def shows_nothing(*_: object) -> str:
        raise Malformed("no proof")

    if not proof:
        monkeypatch.setattr(evidence, "_misdealt", shows_nothing)
    world = ran(Attacked(lies={LIAR: misdeals}, takes=takes_seeds, rounds=4))
    check_that_the_others_go_on(world)
    return world, [[one.round for one in world.peers[name].left] for name in world.honest]


def test_who_deals_shares_of_something_else_is_convicted_by_them_and_costs_one_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, rounds = lost(monkeypatch, proof=True)
    assert proven(world) == {LIAR}
    assert rounds == [[1]] * 3
    assert world.left_out(4) == [LIAR]


def test_were_such_shares_no_proof_their_dealer_would_cost_round_after_round(monkeypatch: pytest.MonkeyPatch) -> None:
    world, rounds = lost(monkeypatch, proof=False)
    assert not proven(world)
    assert rounds == [[1, 4]] * 3
