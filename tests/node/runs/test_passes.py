"""A pass is charged once, whatever dies: repeated from its sealed seed, or another one with a charge of its own.

On a real home with real logs; a process dies by an exception that nothing catches, and the next one reads the disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.codec import Pieces
from p2pfl.errors.training import PassNotCharged
from p2pfl.keys import Secret
from p2pfl.ledger.verify import verify
from p2pfl.node.progress import unseen
from p2pfl.node.runs import accounts, making, passes, training
from p2pfl.node.runs.accounts import StudyAccounts
from p2pfl.node.runs.models import BEGUN
from p2pfl.node.runs.passes import ACCOUNT, PASS, PENDING, BegunPass, Passes, charge_forgotten, most_said, read_begun
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.source import Offer
from p2pfl.training.privacy.account import Account, decimal_epsilon
from tests.node.runs.homes import (
    ME,
    OTHERS,
    FourOf,
    Killed,
    Place,
    by_others,
    charges,
    finished,
    masked,
    places,
    recorded,
    row,
)

DELTA = 1e-5


@pytest.fixture
def place(both: tuple[Place, Place]) -> Place:
    """A home whose seeds come from the system, as a site's do."""
    return replace(both[0], draw=os.urandom)


def cut_short(place: Place, number: int = 1, base: int = 0) -> TrainingRun:
    """A process that dies in the middle of its pass for that round."""
    run = place.started()
    place.trainer.dies = True
    with pytest.raises(Killed):
        run.propose(number, base)
    place.trainer.dies = False
    return run


def dying_at(place: Place, monkeypatch: pytest.MonkeyPatch, verb: str, item: str) -> None:
    """A process dies before it writes, or removes, that item."""
    done: Callable[..., None] = getattr(place.home, verb)

    def dies(wanted: str, *given: bytes | Pieces) -> None:
        if wanted == item:
            raise Killed
        done(wanted, *given)

    run = place.started()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(place.home, verb, dies)
        run.propose(1, 0)


# ── the same pass ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize("deaths", [1, 4])
def test_a_pass_that_was_cut_short_is_repeated_from_its_seed_and_charged_once(place: Place, deaths: int) -> None:
    for _ in range(deaths):
        cut_short(place)
    run = place.started()
    offer = run.propose(1, 0)
    assert len(place.trainer.seeds) == deaths + 1
    assert len(set(place.trainer.seeds)) == 1, "one charge, one seed"
    assert (run.account.passes, len(charges(run))) == (1, 1)
    assert offer.epsilon == charges(run)[0]["after"]


def test_were_the_seed_not_kept_each_start_would_cost_a_pass(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "read_begun", lambda home: None)
    for _ in range(3):
        cut_short(place)
    assert place.started().account.passes == 3


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize(
    ("verb", "item"),
    [("replace", PASS), ("replace", ACCOUNT), ("replace", PENDING), ("remove", PASS)],
    ids=["before its seed", "before its charge", "before its update", "before its seed is destroyed"],
)
def test_a_process_that_dies_beside_a_pass_leaves_one_charge_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, verb: str, item: str
) -> None:
    dying_at(place, monkeypatch, verb, item)
    run = place.started()
    run.propose(1, 0)
    assert (run.account.passes, len(charges(run))) == (1, 1)
    assert len({seed for number, seed in place.trainer.seeds if number == 1}) == 1
    assert place.home.read(PASS) is None


@pytest.mark.claim("DP-4")
def test_the_seed_is_gone_when_the_update_is_on_the_disk(place: Place) -> None:
    run = cut_short(place)
    assert place.home.read(PASS) is not None
    run = place.started()
    run.propose(1, 0)
    assert place.home.read(PASS) is None
    assert run.passes.begun is None


@pytest.mark.claim("DP-3")
def test_no_two_charges_have_a_seed_in_common(place: Place) -> None:
    run = place.started()
    for number in (1, 2, 3):
        masked(run, number, run.propose(number, 0))
    numbers, seeds = zip(*place.trainer.seeds, strict=True)
    assert (numbers, len(set(seeds))) == ((1, 2, 3), 3)


@pytest.mark.claim("DP-3")
def test_a_seed_whose_words_have_left_is_used_by_no_call_that_was_made_before(place: Place) -> None:
    """It was read as the call was made, in the midst of the pass of another; behind that pass it was gone."""
    cut_short(place)
    later, first = place.started(), place.started()
    masked(first, 1, first.propose(1, 0))
    later.propose(2, 0)
    numbers = [number for number, _ in place.trainer.seeds]
    assert (numbers, len(set(place.trainer.seeds)), len(charges(later))) == ([1, 1, 2], 2, 2)


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize("deaths_later", [0, 2])
def test_a_round_that_went_on_meanwhile_changes_nothing_of_a_begun_pass(place: Place, deaths_later: int) -> None:
    """As for a site that is only slow: its update, from the model that it began with, is in the next sum."""
    cut_short(place)
    run = place.started()
    first = run.model
    finished(place, run, 1, *by_others(run, 1, 0), survivors=list(OTHERS))
    assert not np.array_equal(run.model, first)
    for _ in range(deaths_later):
        cut_short(place, 2, 1)
    run = place.started()
    run.propose(2, 1)
    assert len(set(place.trainer.seeds)) == 1
    assert all(np.array_equal(model, first) for model in place.trainer.trained)
    assert set(place.trainer.rounds_before) == {0}, "its learning rates are those of the round in which it began"
    assert (run.account.passes, place.home.read(BEGUN), place.home.read(PASS)) == (1, None, None)


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize("here", [True, False], ids=["beside the older one", "still to be fetched"])
def test_a_death_between_a_rounds_entry_and_its_model_loses_no_begun_pass(place: Place, here: bool) -> None:
    """The next process finds the round in the ledger, and has to put its model in the place of an older one."""
    run = place.started()
    finished(place, run, 1, *by_others(run, 1, 0), survivors=list(OTHERS))
    charged = cut_short(place, 2, 1).account.passes
    run = place.started()
    first = run.model
    after, outcome = by_others(run, 2, 1)
    fetched = bytes(run.models.applied[2].wire)
    if here:
        run.models.write_next(2)
    recorded(place, run, 2, after, outcome, survivors=list(OTHERS))
    run = place.started()
    if not here:
        assert run.models.lacking
        run.models.accept_fetched(fetched, 2, OTHERS[0])
        run = place.started()
    assert not np.array_equal(run.model, first)
    run.propose(3, 2)
    assert len(set(place.trainer.seeds)) == 1
    assert all(np.array_equal(model, first) for model in place.trainer.trained)
    assert (run.account.passes, place.home.read(BEGUN), place.home.read(PASS)) == (charged, None, None)


def test_a_pass_from_a_model_that_only_memory_holds_is_repeated_too(place: Place) -> None:
    """It rests on a round that is not final: the next process has that model only once the sum is applied again."""
    run = place.started()
    masked(run, 1, run.propose(1, 0))
    by_others(run, 1, 0)
    place.trainer.dies = True
    with pytest.raises(Killed):
        run.propose(2, 1)
    place.trainer.dies = False
    run = place.started()
    run.propose(2, 0)
    assert [number for number, _ in place.trainer.seeds] == [1, 2, 2]
    assert np.array_equal(place.trainer.trained[1], place.trainer.trained[2])
    assert run.account.passes == 2


# ── another pass ──────────────────────────────────────────────────────────────────────────────────────────────


def other_records(place: Place, patch: pytest.MonkeyPatch) -> None:
    place.trainer.records = b"one record more"


def other_version(place: Place, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(making, "__version__", "another")


def unrepeatable(place: Place, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(type(place.trainer), "inputs", lambda self, model, rounds_before: b"")


@pytest.mark.claim("DP-3")
@pytest.mark.parametrize("change", [other_records, other_version, unrepeatable])
def test_over_anything_else_the_seed_is_destroyed_and_the_pass_charged_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch, change: Callable[[Place, pytest.MonkeyPatch], None]
) -> None:
    """The same noise over other gradients would cancel out of the difference of the two."""
    cut_short(place)
    change(place, monkeypatch)
    run = place.started()
    run.propose(1, 0)
    (first, old), (second, new) = place.trainer.seeds
    assert (first, second) == (1, 2)
    assert old != new
    assert (run.account.passes, len(charges(run)), place.home.read(PASS)) == (2, 2, None)


def set_back(place: Place) -> TrainingRun:
    """A home that is set back into its pass, after the sum that the update is in; then it catches up."""
    cut_short(place)
    begun = place.home.read(PASS) or b""
    run = place.started()
    model, offer = run.models._as_file(run.models.current, 0), run.propose(1, 0)
    masked(run, 1, offer)
    finished(place, run, 1, *by_others(run, 1, 0), epsilon={ME: offer.epsilon})  # the ledger has this site in it
    place.home.replace(PASS, begun)
    place.home.replace(BEGUN, model)
    place.home.remove(PENDING)
    run = place.started()
    run.propose(2, 1)
    return run


@pytest.mark.claim("SUM-12")
def test_a_pass_whose_update_is_summed_is_not_repeated_by_a_set_back_home(place: Place) -> None:
    run = set_back(place)
    assert place.trainer.seeds[-1][1] != place.trainer.seeds[0][1]
    assert run.account.passes == 2


def test_were_the_ledger_not_asked_a_summed_pass_would_be_repeated(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Passes, "_summed_since", lambda self, number: False)
    set_back(place)
    assert len(set(place.trainer.seeds)) == 1


# ── what others know of the account ───────────────────────────────────────────────────────────────────────────


def test_what_a_home_can_have_said_is_what_its_finished_passes_cost(place: Place) -> None:
    run = place.started()
    assert most_said(place.home, run.logs, run.run, DELTA) == 0.0
    run = cut_short(place)
    assert most_said(place.home, run.logs, run.run, DELTA) == 0.0, "charged, and not proposed"
    run = place.started()
    offer = run.propose(1, 0)
    assert most_said(place.home, run.logs, run.run, DELTA) == float(offer.epsilon) > 0.0


@pytest.mark.claim("DP-4")
def test_what_the_ledger_knows_and_an_older_home_forgot_is_charged_to_it(place: Place) -> None:
    """As many passes as explain the figure: what the next one costs is counted on top of them."""
    whole = Account()
    for _ in range(4):
        whole.charge(place.federation.privacy)
    said = decimal_epsilon(whole.epsilon(DELTA))
    run = place.started()
    masked(run, 1, run.propose(1, 0))
    after, outcome = by_others(run, 1, 0)
    record, signatures = row(run, place.identities, 1, after, outcome, epsilon={ME: said})
    run.models.write_next(1)
    run.logs.finish(record, signatures)
    run.models.make_current(1)
    run = place.started()
    whole.charge(place.federation.privacy)
    assert run.propose(2, 1).epsilon == decimal_epsilon(whole.epsilon(DELTA))
    assert run.account.history == whole.history
    steps = place.federation.privacy.steps_per_round
    assert [entry["mechanism"]["steps"] for entry in charges(run)] == [steps, 3 * steps, steps]
    assert place.started().account.history == whole.history, "the site log has an entry for each"


@pytest.mark.claim("DP-4")
def test_a_pass_that_began_never_runs_on_the_charge_of_one_that_its_home_forgot(place: Place) -> None:
    """A restored home died between the seed and the charge; then its peers told it of a pass that it had forgotten."""
    run, whole = place.started(), Account()
    whole.charge(place.federation.privacy)
    model = run.digest_of(run.model)
    begun = BegunPass(run.run, 1, 1, "0.000000", 0, model, run.maker.inputs(run.model, 0), Secret(bytes(32)))
    place.home.replace(PASS, begun.to_bytes())
    charge_forgotten(place.federation, place.home, run.logs, run.run, unseen, float(said_of(whole)))
    assert len(charges(run)) == 1
    whole.charge(place.federation.privacy)
    assert place.started().propose(1, 0).epsilon == said_of(whole)


def test_a_pass_that_begins_as_its_home_is_found_to_be_older_is_not_made_uncharged(place: Place) -> None:
    """A hello comes between its seed and its charge, and what that shows is charged first, in another thread."""
    run, whole = place.started(), Account()
    whole.charge(place.federation.privacy)
    begun = run.passes.begin(1, 0, bytes(32), b"inputs", place.draw)
    charge_forgotten(place.federation, place.home, run.logs, run.run, unseen, float(said_of(whole)))
    with pytest.raises(PassNotCharged):
        run.passes.charge(begun)
    assert read_begun(place.home) is None


def test_nobody_looks_between_a_charge_and_its_entry(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever did would make up for the entry, and with one too many no process of the home could read its account."""
    run, free = place.started(), list[bool]()
    done = StudyAccounts.charge

    def charge(self: StudyAccounts, number: int, time: int) -> Any:
        found = done(self, number, time)
        other = threading.Thread(target=lambda: free.append(run.logs.charging.acquire(blocking=False)))
        other.start()
        other.join()
        return found

    monkeypatch.setattr(StudyAccounts, "charge", charge)
    run.propose(1, 0)
    assert free == [False]


def said_of(account: Account) -> str:
    return decimal_epsilon(account.epsilon(DELTA))


@pytest.mark.claim("DP-5")
def test_what_one_release_of_the_accountant_said_stands_under_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later release says more, in a round without a charge; the one after it less."""
    run = place.started()
    first = float(run.propose(1, 0).epsilon)
    with monkeypatch.context() as later:
        later.setattr("p2pfl.training.privacy.account._epsilon", lambda history, delta: first + 0.25)
        said = place.started().propose(1, 0).epsilon
    assert float(said) == pytest.approx(first + 0.25, abs=1e-5)
    run = place.started()
    assert most_said(place.home, run.logs, run.run, DELTA) == float(said)
    assert run.propose(1, 0).epsilon == said


# ── which records ─────────────────────────────────────────────────────────────────────────────────────────────


OLD, NEW = (b"old 1", b"old 2"), (b"new 1", b"new 2")


def trained_on(place: Place, *records: bytes, number: int = 1) -> tuple[TrainingRun, Offer]:
    """A process that brings those records, and offers its update of that round."""
    run = place.started(FourOf(brings=records))
    offer = run.propose(number, 0)
    masked(run, number, offer)
    return run, offer


@pytest.mark.claim("DP-9")
def test_a_new_file_with_an_old_record_goes_on_where_that_stands(place: Place) -> None:
    first = trained_on(place, *OLD)[1].epsilon
    run, offer = trained_on(place, *NEW, OLD[1], number=2)
    before, after = (one["before"] for one in charges(run)), [one["after"] for one in charges(run)]
    assert list(before) == ["0.000000", first]
    assert after == [first, offer.epsilon]
    assert float(offer.epsilon) > float(first)
    run.logs.close()
    assert verify(place.home).verified


@pytest.mark.claim("DP-9")
def test_other_records_have_a_budget_of_their_own_and_what_was_told_does_not_sink(place: Place) -> None:
    """The sites are told what the worst of the records has spent that ever took part here."""
    first = trained_on(place, *OLD)[1].epsilon
    run, offer = trained_on(place, *NEW, number=2)
    noted = charges(run)
    assert [one["before"] for one in noted] == ["0.000000", "0.000000"]
    assert noted[0]["data"] != noted[1]["data"]
    assert offer.epsilon == first == noted[1]["after"]
    run, offer = trained_on(place, *NEW, number=3)
    assert float(offer.epsilon) > float(first), "the second pass over the new ones"
    run.logs.close()
    assert verify(place.home).verified


def accounts_of_a_file(patch: pytest.MonkeyPatch) -> None:
    """As if each file had an account of its own, whatever is in it."""
    plain = accounts.brought
    patch.setattr(training, "brought", lambda home, trainer: plain(home, FourOf(brings=(b"".join(trainer.names()),))))


def test_were_the_account_of_a_file_a_longer_copy_would_spend_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts_of_a_file(monkeypatch)
    trained_on(place, *OLD)
    run, _ = trained_on(place, *OLD, *NEW, number=2)
    assert [one["before"] for one in charges(run)] == ["0.000000", "0.000000"]


def test_a_repeated_pass_of_one_run_is_no_business_of_another(tmp_path: Path) -> None:
    place, other = places(tmp_path)
    cut_short(place)
    begun = read_begun(place.home)
    assert begun is not None
    place.home.replace(PASS, replace(begun, run=bytes(32)).to_bytes())
    run = place.started()
    run.propose(1, 0)
    assert run.account.passes == 2
    for home in (place.home, other.home):
        home.close()


def test_the_ledger_of_a_home_that_repeats_its_passes_verifies(place: Place) -> None:
    for _ in range(3):
        cut_short(place)
    run = place.started()
    run.propose(1, 0)
    run.logs.close()
    assert verify(place.home).verified
