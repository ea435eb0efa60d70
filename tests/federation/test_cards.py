"""Cards: what one site hands to the others, under its own signature."""

from __future__ import annotations

import pytest

from p2pfl.codec import Malformed, facts
from p2pfl.errors import EXIT_INTEGRITY, P2PFLError
from p2pfl.errors import federation as leaves
from p2pfl.federation import Federation
from p2pfl.federation.cards import Card
from p2pfl.federation.membership import Lineage
from p2pfl.roster import Address
from tests.federation.sample import CARDS, IDENTITIES, NAMES, replaced


def test_a_card_reads_back_as_it_was_signed() -> None:
    for card in CARDS:
        assert Card.parse(card.to_bytes(), "a.card") == card
    dialler = Card.sign(IDENTITIES[0], "dialler", [])
    assert Card.parse(dialler.to_bytes(), "a.card") == dialler
    v6 = Card.sign(IDENTITIES[0], "six", [Address("fe80::1", 7443)])
    assert Card.parse(v6.to_bytes(), "a.card") == v6


@pytest.mark.claim("FED-3")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("charite", "charitee"),
        ("10.0.0.1:7000", "10.0.0.1:7009"),
        (CARDS[0].member.key.hex(), CARDS[1].member.key.hex()),
    ],
)
def test_an_edited_card_is_refused(old: str, new: str) -> None:
    raw = CARDS[0].to_bytes().decode().replace(old, new, 1).encode()
    with pytest.raises(leaves.CardForged) as caught:
        Card.parse(raw, "charite.card")
    assert caught.value.exit_status == EXIT_INTEGRITY


def test_layout_and_comments_of_a_card_do_not_break_its_signature() -> None:
    assert Card.parse(b"# from Berlin\n" + CARDS[0].to_bytes().replace(b"name: ", b"name:   "), "a.card") == CARDS[0]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"version: 1\n",
        CARDS[0].to_bytes() + b"more: 1\n",
        CARDS[0].to_bytes().replace(b"version: 1", b"version: 2"),
        CARDS[0].to_bytes()[:-20] + b'"\n',
    ],
)
def test_a_malformed_card_is_refused_by_a_leaf(raw: bytes) -> None:
    with pytest.raises(P2PFLError) as caught:
        Card.parse(raw, "a.card")
    assert "a.card" in str(caught.value)


def test_the_fingerprint_is_eight_words_of_the_key() -> None:
    words = CARDS[0].fingerprint.split()
    assert len(words) == 8
    assert CARDS[0].fingerprint != CARDS[1].fingerprint


def test_a_card_with_a_key_for_which_everybody_can_sign_is_refused() -> None:
    """Its signature holds: R = A = the neutral point, S = 0. Under it anybody would be that site."""
    neutral = (1).to_bytes(32, "little")
    raw = (
        f"version: 1\nname: mallory\nkey: {neutral.hex()}\naddresses: []\nsignature: {(neutral + bytes(32)).hex()}\n"
    ).encode()
    with pytest.raises(leaves.KeyOfEverybody) as caught:
        Card.parse(raw, "mallory.card")
    assert str(caught.value.fields["place"]) == "mallory.card:3:6"


def test_so_is_a_peers_yaml_that_lists_one() -> None:
    not_canonical = (2**255 - 19 + 3).to_bytes(32, "little")
    for key in (bytes(32), bytes(31) + b"\x80", not_canonical):
        with pytest.raises(leaves.KeyOfEverybody):
            Federation.parse(replaced(CARDS[1].member.key.hex(), key.hex()), "peers.yaml")


def test_so_is_a_ledger_that_begins_with_one() -> None:
    peers = [[card.member.name, card.member.key.hex()] for card in CARDS]
    genesis = {"kind": "genesis", "epoch": 1, "federation_digest": "ab" * 32, "peers": peers}
    assert Lineage.of_genesis(facts(genesis)).roster.names == NAMES
    peers[1][1] = bytes(32).hex()
    with pytest.raises(Malformed, match="everybody can sign"):
        Lineage.of_genesis(facts(genesis))
