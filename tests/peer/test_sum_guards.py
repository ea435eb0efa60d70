"""What keeps a sum from telling more than it should: each guard with the attack that it stops, and that without it.

Three real sites. Two of them are honest, and the first does no more than it may: it subtracts what it put in itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.round import SumBeyondLimit, TooFewContribute
from p2pfl.node.runs.sums import SALT_WORDS, Encoded, salt
from p2pfl.peer import sums
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.peer.sums import Sums
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import total_digest
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.fixed_point import FixedPoint
from tests.federation.sample import TASK
from tests.peer.sites import NAMES, Sites


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path, TASK)


def rounds_of(peer: BlockingPeer) -> list[codec.Facts]:
    """The records of all rounds in this site's ledger."""
    held = (codec.read_facts(entry.record) for entry in peer.peer.node.logs.federation.records())
    return [facts for facts in held if facts["kind"] == "round"]


# ── of too few ────────────────────────────────────────────────────────────────────────────────────────────────

AT_TWO_SITES = ((61, 58, 70), (44, 39, 41, 52, 36), ())
OF_FOUR_RECORDS = ((61, 58), (44,), (50,))


def asked(sites: Sites, columns: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Each site's sum and count of its column, as `p2pfl sum --csv` asks for them; what it was told, or its error."""

    def asks(values: Sequence[int]) -> Callable[[BlockingPeer], Any]:
        def ask(peer: BlockingPeer) -> Any:
            try:
                return peer.sum([sum(values), len(values)], name="age", data=values, records=len(values)).total.tolist()
            except TooFewContribute as error:
                return error, [record["configuration"]["name"] for record in rounds_of(peer)]

        return ask

    return sites.all({name: asks(values) for name, values in zip(NAMES, columns, strict=True)})


def unguarded(monkeypatch: pytest.MonkeyPatch, seen: Callable[[Any], object] = lambda totals: None) -> None:
    """As it was: the column is summed at once, over whoever is there; its program holds what `seen` is shown."""

    async def at_once(peer: Sums, asked: Any, records: int, parts: Any, data: Any, patience_s: float) -> Any:
        found = await peer._sum(asked, parts, data, patience_s)
        seen(found.totals)
        return found

    monkeypatch.setattr(Sums, "_counted", at_once)


@pytest.mark.claim("SUM-19")
@pytest.mark.parametrize("columns", [AT_TWO_SITES, OF_FOUR_RECORDS])
def test_of_too_few_sites_or_records_nothing_is_opened_but_that_they_are_too_few(
    sites: Sites, columns: tuple[tuple[int, ...], ...]
) -> None:
    for told in asked(sites, columns).values():
        error, opened = told
        assert isinstance(error, TooFewContribute)
        assert opened == ["age: who has values"]


def test_were_sites_not_counted_one_of_two_with_values_would_know_the_others(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    unguarded(monkeypatch)
    total, count = asked(sites, AT_TWO_SITES)["ada"]
    assert (total - sum(AT_TWO_SITES[0]), count - 3) == (sum(AT_TWO_SITES[1]), 5), "the sum of ben's five patients"


def test_were_records_not_counted_the_sum_of_two_patients_would_be_told(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    unguarded(monkeypatch)
    total, count = asked(sites, OF_FOUR_RECORDS)["ada"]
    assert (total - sum(OF_FOUR_RECORDS[0]), count - 2) == (44 + 50, 2)


WEIGHED = ((61.0, 3), (47.0, 2), (0.0, 0))  # each site's own mean, and of how many it is: the third has none


def weighed(sites: Sites) -> dict[str, Any]:
    def asks(mean: float, weight: int) -> Callable[[BlockingPeer], Any]:
        def ask(peer: BlockingPeer) -> Any:
            try:
                return peer.mean([mean], weight=weight, decimals=2, name="age")
            except TooFewContribute as error:
                return error, [record["configuration"]["name"] for record in rounds_of(peer)]

        return ask

    return sites.all({name: asks(*own) for name, own in zip(NAMES, WEIGHED, strict=True)})


@pytest.mark.claim("SUM-19")
def test_of_a_mean_in_which_two_sites_have_a_weight_nothing_else_is_opened(sites: Sites) -> None:
    for error, opened in weighed(sites).values():
        assert isinstance(error, TooFewContribute) and "2 sites with a value" in error.happened
        assert opened == ["age: who has values"]


def test_were_weights_not_counted_one_of_two_sites_would_know_the_others_mean(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    unguarded(monkeypatch, opened.append)
    assert set(weighed(sites).values()) == {(Decimal("55.4"),)}
    (total,), (weights,) = opened[0]
    assert ((total - 61 * 3) / (weights - 3), weights - 3) == (47, 2), "ben's"


# ── beyond what its sites may put in ──────────────────────────────────────────────────────────────────────────

LIMIT, OWN = 100, 10


def lied(sites: Sites, words: int) -> dict[str, Any]:
    """Two sites put in 10 under a limit of 100, and the third whatever it likes, as if it were within the limit."""

    def asks(peer: BlockingPeer) -> Any:
        try:
            return int(peer.sum(np.array([OWN]), limit=LIMIT).total[0])
        except SumBeyondLimit:
            return rounds_of(peer)[-1]["outcome"]

    def lies(peer: BlockingPeer) -> Any:
        field = FIELDS[61]
        honest = peer.peer._encode(np.array([OWN]), LIMIT, None)
        liars = replace(honest, words=lambda out=None: field.encode(np.array([words], np.int64)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer.peer, "_encode", lambda *of: liars)
            return asks(peer)

    return sites.all({**dict.fromkeys(NAMES[:2], asks), NAMES[2]: lies})


@pytest.mark.claim("SUM-17")
def test_a_liar_moves_no_sum_beyond_what_all_of_its_sites_may_put_in(sites: Sites) -> None:
    for told in lied(sites, 10**6).values():
        assert told["refused"].startswith("the sum lies beyond")


def test_were_the_bound_of_a_sum_not_held_a_liar_would_make_it_any_number(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FixedPoint, "within", lambda grid, words, survivors: True)
    assert lied(sites, 10**6) == dict.fromkeys(NAMES, 10**6 + 2 * OWN)


def test_one_sites_part_is_not_seen_alone_and_may_be_as_large_as_the_whole_bound(sites: Sites) -> None:
    """Said in docs/attacks.md, of what there is no good answer to: three times what one site may put in."""
    assert lied(sites, 3 * LIMIT - 2 * OWN) == dict.fromkeys(NAMES, 3 * LIMIT)


# ── a number that is guessed ──────────────────────────────────────────────────────────────────────────────────


def guessed(sites: Sites, beds: tuple[int, int, int]) -> list[int]:
    """All small numbers of which the ledger's digest of the sum is one, tried by whoever is shown a ledger."""

    def ask(number: int) -> Callable[[BlockingPeer], str]:
        def asks(peer: BlockingPeer) -> str:
            peer.sum(np.array([number]), name="beds")
            return str(rounds_of(peer)[-1]["total"])

        return asks

    found = sites.all({name: ask(number) for name, number in zip(NAMES, beds, strict=True)})
    (total,) = {str(one) for one in found.values()}
    no_salt = e.Vector(61, np.zeros(SALT_WORDS, np.uint64))

    def of(number: int) -> str:
        return total_digest((e.Vector(61, FIELDS[61].encode(np.array([number]))), no_salt)).hex()

    return [number for number in range(2000) if of(number) == total]


@pytest.mark.claim("SUM-18")
def test_no_number_that_is_tried_has_the_ledgers_digest_of_a_sum(sites: Sites) -> None:
    assert guessed(sites, (310, 280, 190)) == []


def test_without_words_of_salt_in_the_sum_its_number_would_be_found_by_trying(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsalted(draw: Any) -> Encoded:
        return salt(bytes)

    monkeypatch.setattr(sums, "salt", unsalted)
    assert guessed(sites, (310, 280, 190)) == [780]
