"""The size that a configuration says bounds every sum that is made under it, and not by much."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.runs.sizes import SCALARS, sum_bytes
from p2pfl.runs.sums import SumRun, encode
from tests.runs.places import Place, draw, masked, places


def size(vectors: object) -> int:
    return sum(vector.words.nbytes for vector in vectors)  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [(), ("compression.method=none", "sharing.field=31", "sharing.scale=1e-6"),
                                      ("sharing.field=61", "sharing.scale=1e-9")])  # fmt: skip
def test_an_update_and_its_counts_fit(tmp_path, settings: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    place, other = places(tmp_path, *settings)
    run = place.started()
    offer = run.propose(1, 0)
    most = sum_bytes(codec.facts(offer.configuration))
    assert size(masked(run, 1, offer)) <= most <= SCALARS + 8 * 4096
    for one in (place, other):
        one.home.close()


def test_a_question_has_exactly_its_size(place: Place) -> None:
    parts = [encode(array, peers=3, bits=bits, limit=limit, decimals=None, draw=draw)
             for array, bits, limit in ((np.zeros(7), 31, 2.0), (np.arange(5), 61, None))]  # fmt: skip
    run = SumRun("ages", parts, place.books(), bytes(32), bytes(32))
    assert sum_bytes(codec.facts(run.question)) == size(part.vector for part in parts)


@pytest.mark.parametrize("facts", [{}, {"purpose": "sum"}, {"purpose": "sum", "vectors": [{"field": 7, "length": 1}]},
                                   {"purpose": "sum", "vectors": [{"field": 31, "length": -1}]},
                                   {"purpose": "sum", "vectors": 4}, {"purpose": "training", "field": 31},
                                   {"purpose": "training", "field": [], "parameters": 4},
                                   {"purpose": "training", "field": 31, "parameters": "4"}])  # fmt: skip
def test_a_configuration_that_says_no_size_has_none(facts: codec.Facts) -> None:
    assert sum_bytes(codec.facts(facts)) == 0
