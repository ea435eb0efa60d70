"""What a configuration says: the size of every sum that is made under it, and which positions may be nominated."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.training import SupportMalformed
from p2pfl.node.runs.sizes import SCALARS, check_support, sum_bytes
from p2pfl.node.runs.sums import Asked, SumRun, encode, salt
from p2pfl.training.compression.nomination import encode_support
from tests.node.runs.homes import Place, draw, masked, places


def size(vectors: object) -> int:
    return sum(vector.words.nbytes for vector in vectors)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("compression.method=none", "sharing.field=31", "sharing.scale=1e-6"),
        ("sharing.field=61", "sharing.scale=1e-9"),
    ],
)
def test_an_update_and_its_counts_fit(tmp_path, settings: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    place, other = places(tmp_path, *settings)
    run = place.started()
    offer = run.propose(1, 0)
    most = sum_bytes(codec.facts(offer.configuration))
    assert size(masked(run, 1, offer)) <= most <= SCALARS + 8 * 4096
    for one in (place, other):
        one.home.close()


def test_a_question_has_exactly_its_size(place: Place) -> None:
    parts = [
        encode(array, peers=3, bits=bits, limit=limit, decimals=None, draw=draw)
        for array, bits, limit in ((np.zeros(7), 31, 2.0), (np.arange(5), 61, None))
    ]
    run = SumRun(Asked("ages", (), 3), parts, place.logs(), bytes(32), salt(draw), lambda answer: None)
    assert sum_bytes(codec.facts(run.question)) == size(part.vector for part in run.parts)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"purpose": "sum"},
        {"purpose": "sum", "vectors": [{"field": 7, "length": 1}]},
        {"purpose": "sum", "vectors": [{"field": 31, "length": -1}]},
        {"purpose": "sum", "vectors": 4},
        {"purpose": "training", "field": 31},
        {"purpose": "training", "field": [], "parameters": 4},
        {"purpose": "training", "field": 31, "parameters": "4"},
    ],
)
def test_a_configuration_that_says_no_size_has_none(facts: codec.Facts) -> None:
    assert sum_bytes(codec.facts(facts)) == 0


NOMINATES = {"purpose": "training", "compression": "nominate", "parameters": 1000, "density": "0.02"}  # 20 of 4 peers


@pytest.mark.parametrize("settings", [("compression.method=none",), ("compression.method=nominate",)])
def test_what_a_site_nominates_is_a_nomination(tmp_path, settings: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    place, other = places(tmp_path, *settings)
    run = place.started()
    offer = run.propose(1, 0)
    facts = codec.facts(offer.configuration)
    assert (offer.support != b"") == (settings == ("compression.method=nominate",))
    check_support(facts, offer.support, len(place.federation.roster.members), "ada")
    with pytest.raises(SupportMalformed):
        check_support(facts, offer.support + b"\xff", len(place.federation.roster.members), "ada")
    for one in (place, other):
        one.home.close()


@pytest.mark.claim("LIAR-10")
@pytest.mark.parametrize(
    ("facts", "support"),
    [
        (NOMINATES | {"compression": "none"}, b"x"),  # where nothing is nominated
        (NOMINATES | {"purpose": "evaluation"}, encode_support(np.arange(2))),  # nor here
        ({"purpose": "sum", "vectors": []}, b"x"),
        (NOMINATES, b""),
        (NOMINATES, b"x"),
        (NOMINATES, (5).to_bytes(4, "little") + b"\xff" * 5),  # no number ends in it
        (NOMINATES, encode_support(np.arange(6))),  # more than a fourth of 20
        (NOMINATES, encode_support(np.array([0, 1000]))),  # beyond the last parameter
    ],
)
def test_what_is_no_nomination_is_refused_and_its_sender_named(facts: codec.Facts, support: bytes) -> None:
    with pytest.raises(SupportMalformed) as caught:
        check_support(codec.facts(facts), support, 4, "bob")
    assert caught.value.fields["peer"] == "bob"
    check_support(codec.facts(NOMINATES), encode_support(np.array([0, 7, 8, 9, 999])), 4, "bob")


LED = NOMINATES | {"compression": "leader", "leader": "bob"}


@pytest.mark.claim("LIAR-10")
@pytest.mark.parametrize(
    ("peer", "support", "facts"),
    [
        ("ada", encode_support(np.arange(1)), LED),  # it is another's turn
        ("bob", encode_support(np.arange(21)), LED),  # more than 20
        ("bob", encode_support(np.arange(1)), NOMINATES | {"compression": "leader"}),  # it is nobody's turn
        ("bob", encode_support(np.arange(1)), LED | {"compression": "random"}),  # nor ever here
    ],
)
def test_who_names_positions_out_of_turn_or_too_many_is_refused(peer: str, support: bytes, facts: codec.Facts) -> None:
    with pytest.raises(SupportMalformed) as caught:
        check_support(codec.facts(facts), support, 4, peer)
    assert caught.value.fields["peer"] == peer
    check_support(codec.facts(LED), encode_support(np.arange(20)), 4, "bob")
    check_support(codec.facts(LED), b"", 4, "ada")


@pytest.mark.parametrize(
    "facts",
    [
        NOMINATES | {"density": "x"},
        NOMINATES | {"parameters": 0},
        NOMINATES | {"density": "nan"},
        NOMINATES | {"parameters": 1 << 60},
        NOMINATES | {"density": 10**400},
        NOMINATES | {"parameters": []},
        {"purpose": "training", "compression": "nominate"},
    ],
)
def test_a_configuration_that_does_not_say_how_many_refuses_nothing(facts: codec.Facts) -> None:
    check_support(codec.facts(facts), b"x", 4, "bob")


@pytest.mark.parametrize("configuration", [b"", b"{", b"[]", b"\xff", codec.facts({}), codec.facts({"purpose": []})])
def test_under_a_configuration_that_is_none_nothing_is_nominated(configuration: bytes) -> None:
    check_support(configuration, b"", 4, "bob")
    with pytest.raises(SupportMalformed):
        check_support(configuration, b"x", 4, "bob")
