"""benchmarks/batch_schedule.py: schedules that see as many records, and one account of all their stages."""

from __future__ import annotations

import pytest

from benchmarks import batch_schedule
from benchmarks.batch_schedule import GROWING, SCHEDULES, Schedule, Study, least_noise, spent, stages, trained
from p2pfl.errors.training import PassWouldOverspend
from p2pfl.training.privacy.accountant import upper_bound
from p2pfl.training.records.records import Records
from tests.training.settings import arrays


def tiny() -> Study:
    """Three sites' random pictures, four rounds of one step."""
    sites = {f"site-{place}": Records(arrays(24, (1, 28, 28), f"site {place}")) for place in range(3)}
    return Study(sites, batch_schedule.Pictures, 2.0, 18.0, 4, 1, (0.1,))


def test_every_schedule_draws_as_many_records_as_the_first() -> None:
    of = tiny()
    drawn = {sum(batch for batch, _ in stages(of, one, 1.0, 3.0)) for one in SCHEDULES}
    assert {round(one, 9) for one in drawn} == {of.batch * of.rounds}


def test_the_account_of_a_schedule_is_that_of_its_stages_composed() -> None:
    of, growing = tiny(), Schedule("growing", GROWING, (1.0, 1.0, 0.5, 0.5))
    rates = [2.0 * batch / 18.0 for batch in GROWING]
    history = [(noise, rate, 1) for noise, rate in zip((2.0, 2.0, 1.0, 1.0), rates, strict=True)]
    assert spent(of, growing, 2.0) == upper_bound(sorted(history), 1e-5)  # in whatever order they were made
    assert spent(of, growing, 2.0) < sum(upper_bound([one], 1e-5) for one in history)


def test_the_least_noise_is_what_a_training_may_spend_and_less_is_refused() -> None:
    of, growing = tiny(), SCHEDULES[1]
    noise = least_noise(of, growing, 2.0)
    assert spent(of, growing, noise) <= 2.0 < spent(of, growing, noise - 0.001)
    assert 0.0 <= trained(of, growing, noise, 2.0, 0.1, 0) <= 1.0
    with pytest.raises(PassWouldOverspend):
        trained(of, growing, noise - 0.001, 2.0, 0.1, 0)
