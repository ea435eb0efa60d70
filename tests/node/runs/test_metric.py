"""Exact counts of held-out records are summed over everybody or not at all, so that no two sums differ by one site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.node.runs import metric
from p2pfl.node.runs.metric import MEASURED_BEFORE, NOT_ALL_THERE, OTHER_SITES
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.source import Offer
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training.measures.classification import BINS, Binary
from tests.node.runs.homes import NAMES, OTHERS, Place, agreed, applied, attempt_digest, finished, places

VICTIM = NAMES[2]
COUNTS = Binary.size


def counts_of(run: TrainingRun, offer: Offer, number: int, survivors: tuple[str, ...]) -> np.ndarray:
    """What this site puts into the sum of the counts of an attempt over `survivors`."""
    asked = e.Quantise(number, 0, attempt_digest(number), survivors, (offer.support,) * len(survivors))
    scalars = run.words(asked)[-1]
    return FIELDS[scalars.bits].centred(scalars.words)[:COUNTS]


def subtracted(place: Place, run: TrainingRun) -> np.ndarray:
    """The attack: one round over everybody, one without the victim; all sites hold the same counts."""
    place.trainer.held[3], place.trainer.held[BINS + 90] = 5, 2
    first = run.propose(1, 0)
    everybody = len(NAMES) * counts_of(run, first, 1, NAMES)
    second = run.propose(2, 0)
    return everybody - len(OTHERS) * counts_of(run, second, 2, NAMES[:2])


@pytest.mark.claim("SUM-16")
def test_two_rounds_that_differ_by_a_site_do_not_open_its_counts(place: Place) -> None:
    found = subtracted(place, place.started())
    assert not np.array_equal(found, place.trainer.held)
    assert np.array_equal(found, 3 * place.trainer.held), "of the second round nothing came at all"


def test_without_the_whole_roster_as_a_condition_they_would(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "why_unmeasured", lambda agreed, survivors, names: agreed)
    assert np.array_equal(subtracted(place, place.started()), place.trainer.held)


@pytest.mark.claim("SUM-16")
def test_a_round_without_a_site_says_why_it_measures_nothing_and_holds_no_count(place: Place) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    total = (e.Vector(31, np.zeros(4, np.uint32)), e.Vector(61, FIELDS[61].encode(np.full(COUNTS + 1, 7))))
    _, outcome = run.apply(applied(1, 0, total, NAMES[:2], b"", codec.facts(offer.configuration)))
    assert outcome["unmeasured"] == NOT_ALL_THERE
    assert outcome["figures"] == {}
    _, outcome = run.apply(applied(1, 0, total, NAMES, b"", codec.facts(offer.configuration)))
    assert outcome.keys() == {"model", "metric", "figures", "private", "clipped"}, "and the others a figure, no count"


@pytest.mark.claim("SUM-16")
def test_a_model_that_stayed_is_not_measured_again(tmp_path: Path) -> None:
    """A liar's vector out of bound leaves the model as it is; the next round would measure it over another set."""
    place, other = places(tmp_path, "sharing.clip=1.0")
    run = place.started()
    offer = run.propose(1, 0)
    assert offer.configuration["unmeasured"] == ""
    beyond = np.full(4, run.updates.quantiser.field.p // 2, run.updates.quantiser.field.dtype)
    total = (e.Vector(run.federation.sharing.field, beyond), e.Vector(61, np.zeros(COUNTS + 1, np.uint64)))
    model, outcome = run.apply(applied(1, 0, total, NAMES, b"", agreed(run)))
    assert "refused" in outcome
    assert run.propose(2, 1).configuration["unmeasured"] == MEASURED_BEFORE, "from what this process applied"
    run.models.retract(0)
    assert run.propose(2, 0).configuration["unmeasured"] == "", "of a branch that does not count"
    run.apply(applied(1, 0, total, NAMES, b"", agreed(run)))
    finished(place, run, 1, model, outcome)
    again = place.started()
    assert again.propose(2, 0).configuration["unmeasured"] == MEASURED_BEFORE, "from the ledger"
    assert not counts_of(again, again.propose(2, 0), 2, NAMES).any()
    for home in (place.home, other.home):
        home.close()


@pytest.mark.claim("SUM-16")
def test_a_roster_with_another_site_measures_nothing_at_the_newcomer_either(place: Place) -> None:
    """Its counts would be the difference of the totals before and after it came."""
    run = place.started()
    model = run.digest_of(run.model)
    assert metric.unmeasurable(run.logs, run.run, NAMES, model, ()) == ""
    for names in ((*NAMES, "newcomer"), NAMES[:2], (*NAMES[:2], "newcomer")):
        assert metric.unmeasurable(run.logs, run.run, names, model, ()) == OTHER_SITES
