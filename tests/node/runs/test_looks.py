"""Looks with noise: whoever is away, so many as were agreed on, and each charged to the held-out units before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.federation import SettingsDoNotFit
from p2pfl.errors.privacy_units import LooksOverspend, MeasureNotPrivate, UnitsMixed
from p2pfl.federation.federation import Federation
from p2pfl.node.progress import unseen
from p2pfl.node.runs import looks as looks_file
from p2pfl.node.runs import set_back
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.runs.looks import LOOKS_SPENT, MEASURED, NO_LOOK, Looks
from p2pfl.node.runs.passes import charge_forgotten
from p2pfl.node.runs.training import TrainingRun
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training.measures.measure import UNIT, Figure
from p2pfl.training.measures.private import PrivateBinary, PrivateJoint
from p2pfl.training.privacy.account import Account, Mechanism
from tests.federation.sample import CARDS, draft, peers_yaml
from tests.node.runs.homes import NAMES, Four, Place, applied, attempt_digest, places, times
from tests.training.settings import draw_of

JUDGE = PrivateJoint([PrivateBinary()])
NOISE, LOOKS, LIMIT = 5.0, 2, 1.5
SETTINGS = (
    f"measures.noise_multiplier={NOISE}",
    f"measures.looks={LOOKS}",
    f"measures.epsilon={LIMIT}",
    "rounds=3",
)


def counted() -> np.ndarray:
    """A thousand held-out records of each class, a good model's."""
    counts = np.zeros(JUDGE.size, np.int64)
    counts[2:8], counts[16 + 8 : 16 + 14] = 167 * UNIT, 167 * UNIT
    return counts


@dataclass
class Counter(Four):
    """Counts that noise can hide, of two held-out records."""

    held: np.ndarray = field(default_factory=counted)
    slots: int = JUDGE.slots
    owners: tuple[bytes, ...] = (b"a" * 32, b"b" * 32)

    @property
    def counts(self) -> int:
        return JUDGE.size

    def held_out_names(self) -> tuple[bytes, ...]:
        return self.owners

    def figures(self, total: np.ndarray, noise: float = math.nan) -> Mapping[str, Figure]:
        return JUDGE.figures(total, noise)


@pytest.fixture
def mine(tmp_path: Path) -> Place:
    found, _ = places(tmp_path, *SETTINGS)
    found.trainer, found.draw = Counter(), draw_of("looks")
    return found


def words_of(run: TrainingRun, number: int, base: int, survivors: tuple[str, ...] = NAMES) -> tuple[e.Vector, ...]:
    offer = run.propose(number, base)
    asked = e.Quantise(number, 0, attempt_digest(number), survivors, (offer.support,) * len(survivors))
    return run.words(asked)


def added(run: TrainingRun, number: int, base: int, survivors: tuple[str, ...] = NAMES) -> np.ndarray:
    """What this site adds to the sum of the counts."""
    scalars = words_of(run, number, base, survivors)[-1]
    return FIELDS[scalars.bits].centred(scalars.words)[: JUDGE.size]


def spent(place: Place) -> float:
    accounts = read_accounts(place.home, MEASURED)
    return max(accounts.epsilon(group.marks, 1e-5) for group in accounts.groups)


def after_round(run: TrainingRun, number: int, survivors: tuple[str, ...]) -> codec.Facts:
    """The outcome of a round over `survivors`, all of which add what this site adds."""
    offer = run.propose(number, number - 1)
    words = words_of(run, number, number - 1, survivors)
    total = times(words, len(survivors))
    given = applied(number, number - 1, total, survivors, offer.support, codec.facts(offer.configuration))
    return run.apply(given)[1]


@pytest.mark.claim("DP-11")
def test_a_look_works_while_a_site_is_away_and_says_that_it_is_private(mine: Place) -> None:
    run = mine.started()
    assert after_round(run, 1, NAMES)["unmeasured"] == NO_LOOK, "the first model is none that anybody needs to judge"
    assert after_round(run, 2, NAMES)["unmeasured"] == NO_LOOK
    outcome = after_round(run, 3, NAMES[:2])
    assert outcome["private"] is True
    value, low, high = (float(part) for part in outcome["figures"]["auc"])
    assert 0.85 < low <= value <= high <= 1.0
    assert run.propose(4, 3).configuration["unmeasured"] == "", "and the last model has a look"
    assert after_round(run, 4, NAMES[1:])["private"] is True
    assert run.counting.decide(5, 4, 3, ends=True) == LOOKS_SPENT
    assert run.configuration["looks"] == {"noise_multiplier": repr(NOISE), "looks": LOOKS, "slots": JUDGE.slots}


@pytest.mark.claim("DP-11")
def test_each_look_has_noise_of_its_own_as_wide_as_was_promised(mine: Place) -> None:
    """Two calls for the same round's words are two attempts: noise that came twice would cancel out."""
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    for number in (1, 2):
        after_round(run, number, NAMES)
    one, two = added(run, 3, 2), added(run, 3, 2)
    assert not np.any(one == two)
    quorums = run.federation.roster.quorums
    honest = quorums.q - quorums.c
    wide = np.concatenate([one, two]) - np.tile(counted(), 2)
    assert abs(wide.std() / UNIT / (NOISE / math.sqrt(honest)) - 1) < 0.35
    assert honest * looks.variance >= (NOISE * UNIT) ** 2 * JUDGE.slots, "what is left without the colluders' shares"


@pytest.mark.claim("DP-11")
def test_a_look_is_charged_to_the_held_out_before_they_are_counted(
    mine: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = mine.started(), list[float]()
    evaluate = mine.trainer.evaluate
    monkeypatch.setattr(mine.trainer, "evaluate", lambda model: (seen.append(spent(mine)), evaluate(model))[1])
    for number in (1, 2):
        after_round(run, number, NAMES)
    assert spent(mine) == 0.0 and read_accounts(mine.home).groups == []
    added(run, 3, 2)
    one_look = Account().after(Mechanism(NOISE * (1 - 1e-6), 1.0, 1), 1e-5)
    assert seen == [spent(mine)] == [one_look]


@pytest.mark.claim("DP-11")
def test_who_may_look_no_more_adds_noise_alone(mine: Place) -> None:
    """Of attempts that come to nothing, say: nobody can tell, and the others' look is none the worse."""
    run = mine.started()
    for number in (1, 2):
        after_round(run, number, NAMES)
    tries = [added(run, 3, 2) for _ in range(6)]
    assert spent(mine) <= LIMIT
    means = [float(one.sum()) / counted().sum() for one in tries]
    assert min(means[:2]) > 0.9
    assert abs(means[-1]) < 0.1, "of two thousand records nothing is left"


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize("passes", [True, False], ids=["passes too", "looks alone"])
def test_a_home_that_was_set_back_looks_no_more_with_what_it_forgot(mine: Place, passes: bool) -> None:
    """It looked since the backup, and no peer holds how often: a look has no proposal. The account began at nothing."""
    run = mine.started()
    said = 1.0 if passes else 0.0
    for _ in range(2):  # each start of a stopped home hears its peers again
        charge_forgotten(mine.federation, mine.home, run.logs, run.run, unseen, said)
    looks = run.counting.looks
    assert looks is not None
    assert looks.accounts.epsilon() == LIMIT
    set_back.heard(mine.home, mine.federation)
    counts = looks.look(3, 1, mine.draw, np.zeros(4, np.float32))
    assert abs(float(counts.sum()) / counted().sum()) < 0.1, "noise alone"
    later = Looks.of(mine.federation, mine.home, b"l" * 32, Counter(owners=(b"z" * 32,)))
    assert later is not None
    assert later.accounts.epsilon() == LIMIT, "which records were looked at is forgotten, too"


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize(("survivors", "charged"), [(NAMES, 1), (NAMES[1:], 0)], ids=["with it", "without it"])
def test_a_look_that_the_ledger_holds_and_this_home_forgot_is_charged(
    mine: Place, survivors: tuple[str, ...], charged: int
) -> None:
    """It was restored to between its pass and its look: its place in the run was the same, and no peer found it."""
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    plain = {"round": 2, "survivors": list(NAMES), "outcome": {"unmeasured": NO_LOOK}}
    record = {"round": 3, "survivors": list(survivors), "outcome": {"metric": "auc"}}
    for _ in range(2):
        looks.charge_forgotten([plain, record], 1)
        assert looks.accounts.passes == charged


def test_the_same_held_out_records_pay_in_every_study(mine: Place) -> None:
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    other = Looks.of(run.federation, mine.home, b"o" * 32, Counter(owners=(b"b" * 32, b"c" * 32)))
    assert other is not None
    looks.look(3, 1, mine.draw, np.zeros(4, np.float32))
    assert other.accounts.epsilon() == looks.accounts.epsilon() > 0
    third = Looks.of(run.federation, mine.home, b"p" * 32, Counter(owners=(b"c" * 32,)))
    assert third is not None and third.accounts.epsilon() == 0.0
    patients = Federation.parse(_of_patients(*SETTINGS, "privacy.unit=patient"))
    with pytest.raises(UnitsMixed):
        Looks.of(patients, mine.home, b"q" * 32, Counter())


def _of_patients(*settings: str) -> bytes:
    table = b"columns:\n  age: {number: years, low: 0, high: 120, centre: 50, scale: 30}\nlabel:\n"
    table += (
        b'  ill: {binary: ["no", "yes"], positive: ["yes"]}\nmodel: linear\nlearning_rate: 0.1\nexpected_batch: 4\n'
    )
    lines = draft.description_lines(table + b"patient: person\n", "task.yaml")
    return draft.peers_file("trial", [card.member for card in CARDS], lines, settings)


def test_what_cannot_be_looked_at_is_refused_at_the_start(mine: Place, tmp_path: Path) -> None:
    with pytest.raises(MeasureNotPrivate, match="trainer"):
        Looks.of(mine.federation, mine.home, b"r" * 32, Four())
    many = Federation.parse(peers_yaml(*SETTINGS[:1], "measures.looks=60", SETTINGS[2]))
    with pytest.raises(LooksOverspend, match=r"the limit is 1\.5") as caught:
        Looks.of(many, mine.home, b"r" * 32, Counter())
    assert "60 looks" in caught.value.evidence
    assert Looks.of(Federation.parse(peers_yaml()), mine.home, b"r" * 32, Four()) is None
    client = peers_yaml("privacy=none", SETTINGS[0]).decode()
    start, end = client.index("  table:"), client.index("\nrounds")
    with pytest.raises(SettingsDoNotFit, match="no bound"):
        Federation.parse(
            (client[:start] + "  client: sklearn\n  first: zeros\n  metrics: [auc]\n" + client[end:]).encode()
        )


@pytest.mark.parametrize(("rounds", "most", "due"), [(8, 4, [2, 4, 6, 8]), (3, 2, [2, 3]), (2, 9, [1, 2]), (5, 1, [5])])
def test_looks_are_spread_over_the_rounds(mine: Place, rounds: int, most: int, due: list[int]) -> None:
    settings = (SETTINGS[0], f"rounds={rounds}", f"measures.looks={most}", "measures.epsilon=9")
    looks = Looks.of(Federation.parse(peers_yaml(*settings)), mine.home, b"s" * 32, Counter())
    assert looks is not None
    taken, seen = 0, []
    for trained in range(rounds + 1):
        if not looks.reason(trained, taken, ends=trained == rounds):
            taken += 1
            seen.append(trained)
    assert seen == due
    assert looks.reason(rounds, most, ends=True) == looks_file.LOOKS_SPENT
