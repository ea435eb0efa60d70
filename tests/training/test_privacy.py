"""The account: charged whole and before, never refunded, never smaller, and no pass that would overspend."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.training import AccountUnreadable, PassNotCharged, PassWouldOverspend
from p2pfl.training.privacy.account import Account, Mechanism, decimal_epsilon
from tests.examples import examples
from tests.training.settings import PRIVACY, privacy


def test_nothing_spent_is_zero_and_a_step_without_noise_is_infinite() -> None:
    assert Account().epsilon(1e-5) == 0.0
    assert Account([Mechanism(0.0, 0.02, 1)]).epsilon(1e-5) == math.inf


@pytest.mark.claim("DP-5")
@pytest.mark.parametrize(
    ("rate", "steps", "reference"),
    [(0.01, 1000, 1.515), (0.016, 625, 2.006), (0.016, 6250, 6.872)],  # ε by dp-accounting's PLD
)
def test_epsilon_is_an_upper_bound_within_two_hundredths_of_another_accountant(
    rate: float, steps: int, reference: float
) -> None:
    found = Account([Mechanism(1.1, rate, steps)]).epsilon(1e-5)
    assert reference <= found <= reference + 0.02


@pytest.mark.claim("DP-5")
def test_studies_that_charge_by_turns_cost_what_they_cost_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, and in no longer a composition, however often they took turns."""
    from p2pfl.training.privacy import account, accountant

    one, other, asked = Mechanism(1.1, 0.02, 80), Mechanism(2.0, 0.1, 3), list[list[tuple[float, float, int]]]()
    bound = accountant.upper_bound

    def seen(history: list[tuple[float, float, int]], delta: float) -> float:
        asked.append(history)
        return bound(history, delta)

    monkeypatch.setattr(accountant, "upper_bound", seen)
    account._composed.cache_clear()
    by_turns, in_order = Account([one, other] * 3), Account([other] * 3 + [one] * 3)
    assert by_turns.epsilon(1e-5) == in_order.epsilon(1e-5)
    assert asked == [[(1.1, 0.02, 240), (2.0, 0.1, 9)]]
    assert len(by_turns.history) == 6, "what was charged stays as it was charged"


def test_the_renyi_bound_steps_in_where_the_prv_accountant_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pfl.training.privacy.accountant import PRVAccountant

    def fails(self: object, delta: float, **options: float) -> float:
        raise ValueError("no grid")

    monkeypatch.setattr(PRVAccountant, "get_epsilon", fails)
    assert Account([Mechanism(1.1, 0.016, 626)]).epsilon(1e-5) == pytest.approx(2.255, abs=0.01)


@pytest.mark.claim("DP-5")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "history",
    [
        [(1.1, 0.02, 80)],
        [(1.1, 0.02, 1600)],
        [(4.0, 0.02, 9600)],
        [(8.0, 1.0, 50)],
        [(60.0, 0.02, 5)],
        [(1.1, 0.02, 80), (2.0, 0.1, 3)],
    ],
)
def test_a_grid_of_a_power_of_two_gives_the_bound_of_opacus_own(history: list[tuple[float, float, int]]) -> None:
    from opacus.accountants import PRVAccountant

    theirs = PRVAccountant()
    theirs.history = list(history)
    assert Account([Mechanism(*row) for row in history]).epsilon(1e-5) == pytest.approx(
        float(theirs.get_epsilon(1e-5)), abs=1e-6
    )


LOADS = """
import sys
from p2pfl.training.privacy.accountant import upper_bound
heavy = {"scipy.signal", "scipy.stats", "torch"}
kinds = [(1.1, 0.05, 20), (1.3, 0.05, 10)]
print(repr(upper_bound(kinds[:1], 1e-5)), sorted(heavy & set(sys.modules)))
print(repr(upper_bound(kinds, 1e-5)), sorted(heavy & set(sys.modules)))
"""


def test_passes_of_one_kind_load_no_more_of_scipy_than_they_need() -> None:
    """Every process that trains computes ε before it begins; half of its time went into what none of it uses."""
    from p2pfl.training.privacy import accountant

    said = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True).stdout
    kinds = [(1.1, 0.05, 20), (1.3, 0.05, 10)]
    one, both = (repr(accountant.upper_bound(history, 1e-5)) for history in (kinds[:1], kinds))
    assert said.splitlines() == [f"{one} []", f"{both} ['scipy.signal', 'scipy.stats']"]


def test_whatever_the_history_a_grid_has_a_power_of_two_points_within_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few sizes: scipy keeps a plan for each, and those of other sizes weigh many times the grid."""
    from p2pfl.training.privacy import accountant

    seen: list[int] = []
    made = accountant.PowerOfTwoAccountant._get_domain

    def spy(self: accountant.PowerOfTwoAccountant, **given: object) -> accountant.Any:
        domain = made(self, **given)
        seen.append(domain.size)
        return domain

    monkeypatch.setattr(accountant.PowerOfTwoAccountant, "_get_domain", spy)
    monkeypatch.setattr(accountant, "MOST_POINTS", 1 << 16)
    bounds = [accountant.upper_bound([(4.0, 0.02, steps)], 1e-5) for steps in (4, 100, 1000, 5000, 9600)]
    assert bounds == sorted(bounds)
    assert all(size & (size - 1) == 0 and size <= 1 << 16 for size in seen)
    assert len(seen) == len(bounds)


def test_a_history_that_needs_too_fine_a_grid_gets_a_coarser_bound_never_a_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from p2pfl.training.privacy import accountant

    history = [(4.0, 0.02, 9600)]
    fine = accountant.upper_bound(history, 1e-5)
    for most in (1 << 16, 1 << 14, 1 << 8):  # the last has no grid at all: Rényi
        monkeypatch.setattr(accountant, "MOST_POINTS", most)
        coarse = accountant.upper_bound(history, 1e-5)
        assert fine < coarse < fine + 0.3


def test_one_pass_is_composed_once_however_often_its_epsilon_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pfl.training.privacy import accountant

    composed: list[object] = []
    plain = accountant.upper_bound

    def spy(history: list[tuple[float, float, int]], delta: float) -> float:
        composed.append(history)
        return plain(history, delta)

    monkeypatch.setattr(accountant, "upper_bound", spy)
    account = Account([Mechanism(1.3, 0.02, 7)])
    for _ in range(3):
        before = account.epsilon(PRIVACY.delta)
        account.check_next_pass(PRIVACY)
        account.charge(PRIVACY)
        assert account.epsilon(PRIVACY.delta) > before
    assert len(composed) == 4


def test_an_accounts_memory_does_not_grow_with_its_passes() -> None:
    """It grew by hundreds of megabytes, as each composition stayed; of 10 histories a few numbers are kept."""
    tracemalloc.start()
    try:
        for steps in range(1, 12):
            Account([Mechanism(1.3, 0.02, steps)]).epsilon(PRIVACY.delta)
            if steps == 1:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1 << 20


def test_epsilon_never_decreases_and_defaults_leave_two_passes() -> None:
    """From pass to pass; the defaults leave two spare passes."""
    account, spent = Account(), [0.0]
    for _ in range(10):
        account.charge(PRIVACY)
        spent.append(account.epsilon(PRIVACY.delta))
    assert spent == sorted(spent)
    assert spent[8] < 2.65
    assert account.passes == 10
    with pytest.raises(PassWouldOverspend):
        account.charge(PRIVACY)


@pytest.mark.claim("DP-4")
def test_a_pass_that_would_overspend_is_refused_before_anything_is_charged() -> None:
    account = Account()
    account.charge(privacy(max_epsilon=1.2))
    before = account.to_bytes()
    with pytest.raises(PassWouldOverspend) as caught:
        account.charge(privacy(max_epsilon=1.2))
    assert account.to_bytes() == before
    assert caught.value.exit_status == 4
    assert "1.2" in caught.value.happened


def test_a_pass_without_noise_is_always_refused() -> None:
    with pytest.raises(PassWouldOverspend):
        Account().charge(privacy(noise_multiplier=0.0, max_epsilon=1e9))


@pytest.mark.claim("DP-5")
def test_the_account_is_the_same_after_a_restart_in_the_middle() -> None:
    account = Account()
    account.charge(PRIVACY)
    account.charge(privacy(noise_multiplier=2.0))
    again = Account.from_bytes(account.to_bytes())
    assert again.to_bytes() == account.to_bytes()
    assert (again.epsilon(1e-5), again.passes, again.history) == (account.epsilon(1e-5), 2, account.history)
    again.charge(PRIVACY)
    assert again.epsilon(1e-5) > account.epsilon(1e-5)


@given(st.lists(st.tuples(st.floats(0.3, 30), st.floats(1e-4, 1), st.integers(1, 10**6)), max_size=5))
def test_any_history_comes_back_from_its_bytes_exactly(rows: list[tuple[float, float, int]]) -> None:
    account = Account([Mechanism(*row) for row in rows], passes=len(rows))
    assert Account.from_bytes(account.to_bytes()).history == account.history


def test_an_account_in_another_spelling_than_its_own_is_refused() -> None:
    data = Account([Mechanism(1.5, 0.1, 2)], passes=1).to_bytes()
    for other in (data.replace(b'"1.5"', b'"01.5"'), data.replace(b'"passes":1', b'"passes":true')):
        assert other != data
        with pytest.raises(AccountUnreadable):
            Account.from_bytes(other)


@pytest.mark.claim("DP-5")
@given(st.binary(max_size=60))
@examples(200)
def test_bytes_that_are_no_account_are_an_error_and_never_an_empty_account(data: bytes) -> None:
    with pytest.raises(AccountUnreadable) as caught:
        Account.from_bytes(data)
    assert caught.value.exit_status == 5


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"passes": -1},
        {"history": [{"mechanism": "laplace"}]},
        {"more": 1},
        {"largest": {"2.0": "1.0"}},
        {"largest": []},
    ],
)
def test_an_account_of_a_later_version_is_unsupported_not_skipped(change: dict[str, object]) -> None:
    row = json.loads(Account([Mechanism(1.1, 0.02, 80)], 1).to_bytes()) | change
    with pytest.raises(AccountUnreadable):
        Account.from_bytes(json.dumps(row, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.claim("DP-5")
def test_epsilon_is_the_largest_figure_so_far_where_the_bound_sinks() -> None:
    """PRV says less after five such passes than after four; the ledger would say that the site took something back."""
    settings = privacy(noise_multiplier=60.0, steps_per_round=1, max_epsilon=1.0)
    plain = [Account([replace(Mechanism.of_pass(settings), steps=passes)]) for passes in range(1, 8)]
    bounds = [account.epsilon(settings.delta) for account in plain]
    assert bounds != sorted(bounds), "the accountant's own figure sinks here"
    account, said = Account(), [0.0]
    for _ in bounds:
        foreseen = account.after(Mechanism.of_pass(settings), settings.delta)
        account.charge(settings)
        said.append(account.epsilon(settings.delta))
        assert foreseen == said[-1]
        account = Account.from_bytes(account.to_bytes())
        assert account.epsilon(settings.delta) == said[-1], "over a restart too"
    assert said == sorted(said)
    assert said[-1] == max(bounds)


@pytest.mark.claim("DP-5")
def test_another_release_of_the_accountant_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account()
    account.charge(PRIVACY)
    spent = account.epsilon(PRIVACY.delta)
    monkeypatch.setattr("p2pfl.training.privacy.account._composed", lambda history, delta: spent / 2)
    again = Account.from_bytes(account.to_bytes())
    assert (again.epsilon(PRIVACY.delta), again.after(Mechanism.of_pass(PRIVACY), PRIVACY.delta)) == (spent, spent)


def test_a_charge_serves_once_and_only_its_own_kind_of_pass() -> None:
    charge = Account().charge(PRIVACY)
    with pytest.raises(PassNotCharged):
        charge.use(Mechanism.of_pass(privacy(steps_per_round=81)))
    charge.use(Mechanism.of_pass(PRIVACY))
    with pytest.raises(PassNotCharged):
        charge.use(Mechanism.of_pass(PRIVACY))


def test_a_second_delta_of_the_same_history_is_another_epsilon() -> None:
    account = Account([Mechanism(1.1, 0.02, 80)])
    assert account.epsilon(1e-3) < account.epsilon(1e-5)


def test_the_epsilon_of_a_record_is_rounded_up() -> None:
    assert decimal_epsilon(1.0000001) == "1.000001"
    assert decimal_epsilon(math.inf) == "inf"


def test_importing_the_account_loads_no_torch() -> None:
    """Nor does asking it for ε."""
    names = ("compression.nomination", "tasks.heart_records", "task", "model.checkpoint")
    rooms = ", ".join(f"p2pfl.training.{name}" for name in names)
    asked = "account.Account([account.Mechanism(1.1, 0.02, 80)]).epsilon(1e-5)"
    loaded = "sys.exit(bool({'torch', 'pandas', 'opacus'} & set(sys.modules)))"
    code = f"import sys, {rooms}; from p2pfl.training.privacy import account; {asked}; {loaded}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
